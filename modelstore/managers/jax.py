"""JAX: exported functions as the StableHLO bytes that `jax.export` writes, which need neither code nor pickle."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers.base import LoadRequest, ObjectManager, Saved, class_name

EXPORTED = "exported.jax"

_EXPORTED_CLASS = "jax._src.export._export:Exported"

_CUSTOM_CALL = re.compile(r'stablehlo\.custom_call\s+@(?:"([^"]+)"|([\w.$-]+))|call_target_name\s*=\s*"([^"]+)"')

_ADVICE = (
    "it has no graph before it is called: export it for its arguments' shapes, "
    'jax.export.export(jax.jit(function))(*arguments), and upload that, or pass manager="python" to pickle it'
)


class JaxManager(ObjectManager):
    """Stores `jax.export.Exported`; claims compiled functions to say how to store them."""

    name = "jax"
    title = "JAX"
    exactness = (
        "the same program; XLA compiles it anew in each process, so last digits may differ where another library has "
        "set up the processor otherwise (TensorFlow in the same process: 1e-7)"
    )
    claims = (
        _EXPORTED_CLASS,
        "jaxlib._jax:PjitFunction",
        "jaxlib.xla_extension:PjitFunction",
        "jax._src.custom_derivatives:custom_jvp",
        "jax._src.custom_derivatives:custom_vjp",
        "jax._src.stages:Lowered",
        "jax._src.stages:Compiled",
    )
    options = ("vjp_order",)
    distributions = ("jax", "jaxlib", "flatbuffers", "numpy")
    extra = "jax"
    restores_as = "`jax.export.Exported`; call it by `.call`"
    limits = (
        "Jitted and compiled functions are refused: they have no graph apart from the arguments of a call. Export them "
        "for their arguments' shapes (`jax.export`), which may be symbolic.",
        "`upload(…, vjp_order=1)` keeps derivatives of that order; without it the loaded function has none.",
        "An exported function runs on the platforms that it was exported for.",
        "Custom calls that JAX does not promise to keep (callbacks into Python, a library of your own) are refused: "
        "they mean code or memory of the process that exported.",
        "Arguments of classes that are registered as trees have to be registered with `jax.export`, too, before saving "
        "and before loading.",
    )

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write what `Exported.serialize` gives.

        Raises:
            UnsupportedObjectError: it is not exported, calls code of this process, or holds what cannot be serialized.
        """
        if class_name(obj) != _EXPORTED_CLASS:
            name = getattr(obj, "__name__", type(obj).__name__)
            raise UnsupportedObjectError(
                f"{name!r} cannot be stored as a {type(obj).__name__}: {_ADVICE}", class_name(obj)
            )
        foreign = _foreign_calls(obj)
        if foreign:
            raise UnsupportedObjectError(
                f"the exported function {obj.fun_name!r} calls {', '.join(foreign)}, which is code of this process: "
                "take callbacks and custom calls out of it before exporting",
                class_name(obj),
            )
        order = options.get("vjp_order", 0)
        try:
            data = obj.serialize(vjp_order=order)
        except Exception as error:  # of many kinds: no derivatives, unregistered classes, a type without a name
            raise UnsupportedObjectError(
                f"JAX cannot serialize the exported function {obj.fun_name!r} (vjp_order={order!r}): {error}",
                class_name(obj),
            ) from error
        folder.add_buffers(EXPORTED, [data])
        return Saved("stablehlo", {"function": obj.fun_name, "vjp_order": order})

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Deserialize it.

        Raises:
            IntegrityError: the file is missing or damaged, or calls what could not have been stored.
        """
        from jax import export

        subject = "the exported function"
        try:
            exported = export.deserialize(bytearray((folder / EXPORTED).read_bytes()))
            foreign = _foreign_calls(exported)
        except ModuleNotFoundError:
            raise
        except Exception as error:  # flatbuffers and MLIR raise whatever they like
            raise IntegrityError(subject, EXPORTED, f"it cannot be read: {error!r:.300}") from error
        if foreign:
            raise IntegrityError(subject, EXPORTED, f"it calls {', '.join(foreign)}, which no stored function may")
        return exported

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """The shapes that it takes and gives, its platforms, and the version of its calling convention."""
        return {
            "function": obj.fun_name,
            "arguments": [str(aval) for aval in obj.in_avals],
            "results": [str(aval) for aval in obj.out_avals],
            "platforms": list(obj.platforms),
            "devices": obj.nr_devices,
            "calling_convention": obj.calling_convention_version,
        }


def _foreign_calls(exported: Any) -> list[str]:
    """The custom calls of a function, and of its derivatives, that JAX does not promise to keep, sorted."""
    from jax._src.export import _export

    stable = _export._CUSTOM_CALL_TARGETS_GUARANTEED_STABLE
    found = {next(filter(None, match)) for match in _CUSTOM_CALL.findall(exported.mlir_module())}
    return sorted(found - set(stable))
