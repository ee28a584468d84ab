"""TorchScript: scripted and traced modules and functions, in the file that `torch.jit.save` writes.

The file takes neither the class of the module nor the code that it was made of. It is a zip of TorchScript's own code,
tensors, and pickles read by TorchScript's own unpickler, which builds no Python objects; torch says all the same that a
file from a stranger can run code while it is loaded, so that it counts as a pickle.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers.base import LoadRequest, ObjectManager, Saved, class_name

MODEL = "model.pt"


class TorchScriptManager(ObjectManager):
    """Stores what `torch.jit.script`, `trace`, `freeze` and `load` give."""

    name = "torchscript"
    title = "TorchScript"
    # The qualname of ScriptFunction, which is written in C++, holds the module's name again.
    claims = ("torch.jit._script:ScriptModule", "torch.jit:torch.jit.ScriptFunction")
    load_options = ("device",)
    distributions = ("torch", "numpy")
    extra = "torch"
    restores_as = "`RecursiveScriptModule`, as `torch.jit.load` gives; a function is one that is called like it"
    limits = (
        "TorchScript cannot save a module that calls Python (`@torch.jit.ignore`); such an upload is refused",
        "an optimizer uploaded beside it holds copies of the parameters, not the module's own: save its state dict",
    )

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write `model.pt`.

        Raises:
            UnsupportedObjectError: TorchScript cannot save it.
        """
        import torch

        file = io.BytesIO()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # the user chose TorchScript, not we
                torch.jit.save(obj, file)
        except Exception as error:  # TorchScript raises RuntimeError and its own exceptions
            raise UnsupportedObjectError(
                f"torch.jit.save cannot save this {class_name(obj)}: {error}", class_name(obj)
            ) from error
        folder.add_buffers(MODEL, [file.getbuffer()])
        return Saved("torchscript", {"devices": sorted({str(tensor.device) for tensor in _tensors(obj)})}, [MODEL])

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Read `model.pt`.

        Raises:
            PickleNotAllowedError: the policy refuses.
            IntegrityError: it is missing or damaged.
            InvalidArgumentError: the device that is asked for is not there.
        """
        import torch

        from modelstore.managers._torch.devices import absent_devices, checked_device

        device = checked_device(request.device)
        request.policy.require(f"the TorchScript model in {MODEL}")
        if device is None and absent_devices(state):
            device = "cpu"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                return torch.jit.load(folder / MODEL, map_location=device)
        except (RuntimeError, ValueError) as error:
            raise IntegrityError("the TorchScript model", MODEL, f"torch cannot load it: {error}") from error

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """Numbers of parameters by type, as of any module."""
        from modelstore.managers._torch.summary import describe_object

        return describe_object(obj)


def _tensors(obj: Any) -> list[Any]:
    return [*obj.parameters(), *obj.buffers()] if hasattr(obj, "parameters") else []
