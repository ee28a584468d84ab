"""Hugging Face Diffusers: models, schedulers, whole pipelines.

The folder `model` has the layout that `save_pretrained` writes (weights as safetensors), so that `from_pretrained` of
Diffusers alone opens it too. It is not loaded by that: the record names the classes, and each part is built by its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError
from modelstore.folder import ModelFolder
from modelstore.managers._diffusers.parts import load_part, pipeline_of, save_part, save_pipeline
from modelstore.managers.base import LoadRequest, ObjectManager, Saved
from modelstore.managers.classes import ClassBook, ClassShelf

MODEL = "model"


class DiffusersManager(ObjectManager):
    """Stores `DiffusionPipeline`, `ModelMixin`, and what else is made from a configuration, schedulers above all."""

    name = "diffusers"
    title = "Hugging Face Diffusers"
    claims = (
        "diffusers.models.modeling_utils:ModelMixin",
        "diffusers.pipelines.pipeline_utils:DiffusionPipeline",
        "diffusers.schedulers.scheduling_utils:SchedulerMixin",
        "diffusers.configuration_utils:ConfigMixin",
        # Before release 0.13 and 0.17.
        "diffusers.modeling_utils:ModelMixin",
        "diffusers.pipeline_utils:DiffusionPipeline",
    )
    load_options = ("device",)
    distributions = ("diffusers", "torch", "transformers", "accelerate", "tokenizers", "safetensors", "pillow", "numpy")
    extra = "diffusers"
    restores_as = "the same class, with the same components; a scheduler at the start of its schedule"
    exactness = (
        "weights and outputs bit for bit; of a model whose weights lay unaligned in memory, kernels may round "
        "differently (5e-7 was seen)"
    )
    limits = (
        "Models with LoRA layers are refused, as their files would lead to other adapters: `fuse_lora()`, then "
        "`unload_lora_weights()`; or keep the adapter's own file beside the model with `extra_files=`.",
        "Weights on the meta device or on disk (offloading, `device_map=`), quantized, and sharded ones are refused.",
        "A scheduler's steps (`set_timesteps`) are not stored: every call of a pipeline sets them anew.",
        "Switches of a running pipeline (attention slicing, VAE tiling, progress bar) are not stored.",
        "Modular pipelines and components of other libraries (ONNX) are refused: upload the components.",
    )

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write the object by its own `save_pretrained`, a pipeline by its components'."""
        book = ClassBook()
        saved = Saved("")
        state = save_pipeline(obj, folder, MODEL, book, saved) or save_part(obj, folder, MODEL, book, saved)
        saved.state = state
        saved.merge(book.save(folder))
        return saved

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Build the object by the recorded class, without asking any hub.

        Raises:
            PickleNotAllowedError: a class is from a notebook.
        """
        from modelstore.managers._torch.devices import checked_device

        shelf, device = ClassShelf(folder, request.policy), checked_device(request.device)
        try:
            if state["kind"] == "pipeline":
                return pipeline_of(folder, MODEL, state, shelf, device)
            return load_part(folder, MODEL, state, shelf, device)
        except (KeyError, TypeError, AttributeError) as error:
            raise IntegrityError("the record", "diffusers", f"its state cannot be read: {error!r}") from error

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """The configuration; of a pipeline, the classes of its components, too."""
        return {
            name: value if not isinstance(value, (tuple, list)) or len(value) < 100 else f"{len(value)} values"
            for name, value in dict(getattr(obj, "config", {})).items()
            if not name.startswith("_")
        }
