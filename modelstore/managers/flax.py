"""Flax: linen modules and their variables, nnx modules, training states; trees of JAX's arrays of any library.

Arrays go as a safetensors file, what holds them as JSON that names Flax' classes and functions. A user's own functions
and notebook classes are pickled beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import InvalidArgumentError
from modelstore.folder import ModelFolder
from modelstore.managers._flax.arrays import ArrayReader
from modelstore.managers._flax.decode import Decoder, read_structure
from modelstore.managers._flax.encode import Encoder
from modelstore.managers._flax.fill import fill
from modelstore.managers._flax.trees import describe, is_tree_of_arrays
from modelstore.managers.base import SUBJECTS, LoadRequest, ObjectManager, Saved


class FlaxManager(ObjectManager):
    """Flax, and trees of JAX's arrays."""

    name = "flax"
    title = "Flax"
    claims = (
        "flax.linen.module:Module",
        "flax.nnx.pytreelib:Pytree",
        "flax.nnx.object:Object",
        "flax.nnx.statelib:State",
        "flax.struct:PyTreeNode",
        "flax.core.frozen_dict:FrozenDict",
    )
    keywords = (*SUBJECTS, "variables", "params", "opt_state", "optimizer")
    load_options = ("into", "device")
    distributions = ("flax", "jax", "jaxlib", "ml-dtypes", "numpy", "cloudpickle")
    extra = "flax"
    restores_as = (
        "the same class, on JAX's default device or `device=`; a linen module and its variables (`upload(…, "
        "model=module, variables=variables)`) as a mapping by keyword"
    )
    limits = (
        "A linen module that is bound to variables is refused: `unbind()` gives the two objects to upload.",
        "Arrays that are spread over several processes are refused; save those as an Orbax checkpoint. Arrays that are "
        "spread over the devices of one process are gathered, and load on one device (`into=` spreads them again).",
        "A dict is taken for variables if there is an array of JAX's in it; pass `manager=\"flax\"` for one of numpy's "
        "alone.",
        "Functions and classes of your own that do not derive from Flax' are named or pickled, which takes "
        "`allow_pickle` to load; so do functions that optax or JAX make in ways that no name tells.",
        "Optimizers of optax are rebuilt by the code of the optax that is installed: load them with the pinned "
        "version, or fill a training state of yours with `into=`.",
    )

    def recognises(self, obj: Any) -> bool:
        """Whether this is a tree of containers in which there is an array of JAX's."""
        return is_tree_of_arrays(obj)

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write structure, arrays and what has to be pickled."""
        return Encoder().save(obj, folder)

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Build the object, or fill `into`.

        Raises:
            PickleNotAllowedError: it has code of the user's, and the policy refuses.
            InvalidArgumentError: `into` does not fit, or there is no such device.
        """
        arrays = ArrayReader(folder, request.device)
        if request.into is None:
            return Decoder(folder, arrays, request.policy).load()
        structure = read_structure(folder)
        if isinstance(structure, dict) and structure.get("") == "linen":
            raise InvalidArgumentError("into", "a linen module holds no arrays: fill its variables")
        return fill(request.into, structure, arrays, place=request.device is None)

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """The fields of a module; how many arrays and numbers there are, by collection or kind of variable."""
        return describe(obj)
