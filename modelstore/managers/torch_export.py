"""Exported programs: what `torch.export.export` gives, in the `.pt2` archive that `torch.export.save` writes.

The archive takes no class of the user's. Its loader unpickles (tensors of unusual kinds, custom objects) and evaluates
the text of symbolic shapes, and torch warns of archives from strangers: it counts as a pickle.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError, InvalidArgumentError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers.base import LoadRequest, ObjectManager, Saved, class_name

MODEL = "model.pt2"

_SPECS = 100


class TorchExportManager(ObjectManager):
    """Stores `ExportedProgram`; `.module()` of what is loaded can be called."""

    name = "torch_export"
    title = "torch.export"
    claims = ("torch.export.exported_program:ExportedProgram",)
    load_options = ("device",)
    distributions = ("torch", "numpy")
    extra = "torch"
    limits = (
        "a program that was exported on a GPU names that device in its graph and loads only where there is one; "
        "move it by `torch.export.passes.move_to_device_pass(program, 'cpu')` before the upload",
        "classes of inputs and outputs that the user has registered with pytree must be registered before the load",
    )

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write `model.pt2`.

        Raises:
            UnsupportedObjectError: torch cannot save it.
        """
        import torch

        file = io.BytesIO()
        try:
            torch.export.save(obj, file)
        except Exception as error:  # its serializer raises whatever it likes
            raise UnsupportedObjectError(
                f"torch.export.save cannot save this program: {type(error).__name__}: {error}", class_name(obj)
            ) from error
        folder.add_buffers(MODEL, [file.getbuffer()])
        tensors = [value for value in (*obj.state_dict.values(), *obj.constants.values()) if _is_tensor(value)]
        return Saved("pt2", {"devices": sorted({str(tensor.device) for tensor in tensors})}, [MODEL])

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Read `model.pt2`.

        Raises:
            PickleNotAllowedError: the policy refuses.
            InvalidArgumentError: it was exported on, or is asked for on, a device that is not here.
            IntegrityError: it is missing or damaged.
        """
        import torch

        from modelstore.managers._torch.devices import absent_devices, checked_device, devices

        device = checked_device(request.device)
        request.policy.require(f"the exported program in {MODEL}")
        if absent := absent_devices(state):
            raise InvalidArgumentError(
                "device",
                f"this program was exported on {', '.join(absent)}, which its graph names; here there are "
                f"{', '.join(devices())}",
            )
        try:
            program = torch.export.load(folder / MODEL)
        except (RuntimeError, ValueError, OSError, KeyError, AssertionError, zipfile.BadZipFile) as error:
            raise IntegrityError("the exported program", MODEL, f"torch cannot load it: {error!r}") from error
        if device is None:
            return program
        from torch.export.passes import move_to_device_pass

        return move_to_device_pass(program, device)

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """Numbers of parameters, the signature, and the ranges of symbolic shapes."""
        from modelstore.managers._torch.summary import describe_object

        signature = obj.graph_signature
        return {
            **describe_object(dict(obj.state_dict)),
            "inputs": list(signature.user_inputs)[:_SPECS],
            "outputs": [str(name) for name in signature.user_outputs][:_SPECS],
            "ranges": {str(name): str(values) for name, values in list(obj.range_constraints.items())[:_SPECS]},
        }


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)
