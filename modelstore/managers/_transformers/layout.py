"""What a `PreTrainedModel`'s class builds from the configuration, compared with the model at hand.

`from_pretrained` builds that and fills it. Where the model is something else, it could be saved but not loaded, so the
difference has to be found at the upload.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from modelstore.exceptions import UnsupportedObjectError
from modelstore.managers.base import class_name

if TYPE_CHECKING:
    import torch

AS_PYTORCH = "or store it as it is, as a PyTorch module: upload(…, manager='pytorch')"


def refuse_what_has_no_weights(model: Any) -> None:
    """Refuse weights that are not here, and such as the configuration cannot describe.

    Raises:
        UnsupportedObjectError: naming the first of them and what to do.
    """
    for path, tensor in named_tensors(model):
        if tensor.is_meta:
            raise UnsupportedObjectError(
                f"{path} of this {type(model).__name__} lies on the meta device or on disk, so it has no values to "
                "store; load the model without device_map= or offloading, then upload it",
                class_name(model),
            )
        if type(tensor).__module__.startswith("torch.distributed"):
            raise UnsupportedObjectError(
                f"{path} of this {type(model).__name__} is one shard of a distributed tensor; gather the whole model "
                "on one process first",
                class_name(model),
            )
    if getattr(model, "_hf_peft_config_loaded", False):
        raise UnsupportedObjectError(
            f"this {type(model).__name__} carries adapters, which its configuration does not describe; merge them "
            "into its weights first (peft: merge_and_unload())",
            class_name(model),
        )


def skeleton(model: Any) -> tuple[Any, dict[str, bool]]:
    """What the model's class builds from its configuration, without memory; and with which arguments.

    Raises:
        UnsupportedObjectError: something else than this model.
    """
    cls = type(model)
    wanted = _shapes(model)
    problem: Exception | None = None
    closest = ""
    for arguments in _constructor_arguments(cls):
        try:
            built = _build(cls, model.config, arguments)
        except Exception as error:  # a constructor of the user's may raise anything
            problem = problem or error
            continue
        shapes = _shapes(built)
        if shapes == wanted:
            return built, arguments
        closest = closest or summary(
            {
                "not built by it": [path for path in wanted if path not in shapes],
                "missing in the model": [path for path in shapes if path not in wanted],
                "of another shape": [path for path in wanted if path in shapes and shapes[path] != wanted[path]],
            }
        )
    reason = closest or f"{type(problem).__name__}: {problem}"
    raise UnsupportedObjectError(
        f"{cls.__name__}(config) does not build this model, so from_pretrained could not load it ({reason}); put what "
        f"was changed into the configuration and the class, {AS_PYTORCH}",
        class_name(model),
    ) from problem


def _constructor_arguments(cls: Any) -> Iterator[dict[str, bool]]:
    """No arguments; then each switch of the constructor turned over, such as `add_pooling_layer=False`."""
    yield {}
    for parameter in list(inspect.signature(cls.__init__).parameters.values())[2:]:
        if isinstance(parameter.default, bool):
            yield {parameter.name: not parameter.default}


def _build(cls: Any, config: Any, arguments: Mapping[str, bool]) -> Any:
    import torch

    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return cls(copy.deepcopy(config), **arguments)
        except (RuntimeError, NotImplementedError):
            # A constructor that reads values, which the meta device has not.
            return cls(copy.deepcopy(config), **arguments)


def _shapes(model: Any) -> dict[str, Any]:
    return {key: tuple(value.shape) for key, value in model.state_dict().items() if hasattr(value, "shape")}


def named_tensors(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """All parameters and buffers; a tied one under each of its names."""
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def tensor_at(model: Any, path: str) -> Any:
    """The parameter or buffer of this name."""
    module, _, name = path.rpartition(".")
    return getattr(model.get_submodule(module), name)


def is_permuted(tensor: torch.Tensor) -> bool:
    """Whether it lies in memory in another order of its dimensions than the usual, such as channels last."""
    import torch

    usual = torch.empty(tensor.shape, device="meta").stride()
    # A copy keeps the order where the tensor is dense, which views with gaps or overlaps are not.
    return bool(tensor.stride() != usual and torch.empty_like(tensor, device="meta").stride() == tensor.stride())


def main_dtype(model: Any) -> Any:
    """The dtype of most of its memory."""
    import torch

    sizes: dict[Any, int] = {}
    for _, tensor in named_tensors(model):
        if tensor.is_floating_point():
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.nbytes
    return max(sizes, key=lambda dtype: sizes[dtype]) if sizes else torch.float32


def _groups(model: Any) -> dict[frozenset[str], Any]:
    """Which names mean one tensor."""
    names: dict[Any, list[str]] = {}
    tensors: dict[Any, Any] = {}
    for path, tensor in named_tensors(model):
        key: Any = id(tensor)
        if not tensor.is_meta and tensor.numel() and tensor.layout == _strided():
            key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        names.setdefault(key, []).append(path)
        tensors[key] = tensor
    return {frozenset(names[key]): tensor for key, tensor in tensors.items()}


def not_restored(model: Any, built: Any, dtype: Any) -> tuple[list[dict[str, Any]], set[str]]:
    """The tensors that `from_pretrained` would not restore as they are.

    Returns:
        Each with all its names, whether it is a parameter, and whether its class computes it (so that no file of
        transformers holds it); and the names of those that are tied in another way than the class ties them.
    """
    import torch

    built.tie_weights()
    usual = set(_groups(built))
    stored = set(model.state_dict()) - set(getattr(model, "_keys_to_ignore_on_save", None) or ())
    groups: list[dict[str, Any]] = []
    odd: set[str] = set()
    for names, tensor in _groups(model).items():
        if names not in usual:
            odd |= names
        other_dtype = tensor.is_floating_point() and tensor.dtype != dtype
        if names not in usual or other_dtype or not names & stored:
            is_parameter = isinstance(tensor, torch.nn.Parameter)
            groups.append({"names": sorted(names), "parameter": is_parameter, "computed": not names & stored})
    return sorted(groups, key=lambda group: group["names"]), odd


def summary(lists: Mapping[str, list[str]]) -> str:
    """The first names of each list, for a message; empty if the lists are."""

    def shown(names: list[str]) -> str:
        return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

    return "; ".join(f"{kind}: {shown(names)}" for kind, names in lists.items() if names)


def _strided() -> Any:
    import torch

    return torch.strided
