"""Diffusers: models, schedulers and pipelines come back as they were, by the record's classes and no others."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

os.environ["HF_HUB_OFFLINE"] = "1"

import diffusers
import torch
import transformers as hf
from diffusers.image_processor import VaeImageProcessor

from modelstore import ModelStore
from modelstore.contracts.manager import Case, write_folder
from modelstore.exceptions import IntegrityError, InvalidArgumentError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers.base import LoadRequest, Saved
from modelstore.managers.diffusers import DiffusersManager
from modelstore.managers.pickling import PicklePolicy
from tests.managers import diffusers_parts as parts
from tests.managers.contract import BuiltinContract


def observe(obj: Any) -> Any:
    """Configuration, weights, modes and outputs, of a pipeline those of its components, too."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    seen: dict[str, Any] = {"config": _plain(getattr(obj, "config", {}))}
    if isinstance(obj, diffusers.DiffusionPipeline):
        seen["components"] = {name: _component(each) for name, each in obj.components.items()}
        seen["image"] = _run(obj)
    elif isinstance(obj, torch.nn.Module):
        seen |= _module(obj)
    elif isinstance(obj, diffusers.SchedulerMixin):
        seen["steps"] = _steps(obj)
    else:
        seen["image"] = _bytes(obj.preprocess(torch.linspace(0, 1, 192).reshape(1, 3, 8, 8)))
    return seen


def _plain(config: Any) -> Any:
    return json.loads(json.dumps(dict(config), default=str, sort_keys=True))


def _component(obj: Any) -> Any:
    if obj is None:
        return None
    seen = {"class": f"{type(obj).__module__}:{type(obj).__qualname__}"}
    return {**seen, **_module(obj, False)} if isinstance(obj, torch.nn.Module) else seen


def _module(obj: Any, run: bool = True) -> dict[str, Any]:
    named = [*obj.named_parameters(remove_duplicate=False), *obj.named_buffers(remove_duplicate=False)]
    seen = {
        "tensors": {
            name: [str(tensor.dtype), list(tensor.stride()), tensor.requires_grad,
                   hashlib.sha256(_bytes(tensor)).hexdigest()]
            for name, tensor in named
        },
        "training": [name for name, part in obj.named_modules() if part.training],
    }  # fmt: skip
    ask = parts.MODELS.get(type(obj).__name__, (None, None))[1]
    if run and ask is not None and obj.dtype == torch.float32 and not obj.training:
        with torch.no_grad():
            seen["output"] = _bytes(ask(obj))
    return seen


def _run(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        if isinstance(pipeline, parts.Steps):
            return _bytes(pipeline())
        how = {"num_inference_steps": 2, "generator": generator, "output_type": "np"}
        if isinstance(pipeline, (diffusers.DDPMPipeline, diffusers.DDIMPipeline)):
            return pipeline(**how).images
        return pipeline("the quick fox", height=16, width=16, **how).images


def _steps(scheduler: Any) -> Any:
    if not hasattr(scheduler, "set_timesteps"):
        return None
    try:
        scheduler.set_timesteps(4)
    except (ValueError, TypeError, KeyError) as error:  # some want a schedule of their own
        return str(error)
    return _bytes(torch.as_tensor(scheduler.timesteps)), _bytes(torch.as_tensor(getattr(scheduler, "sigmas", 0)))


def _bytes(tensor: Any) -> bytes:
    return bytes(tensor.detach().contiguous().flatten().view(torch.uint8).numpy()) if tensor.numel() else b""


def given(build: Callable[..., Any], *arguments: Any) -> Callable[[], Mapping[str, Any]]:
    """What an upload is given."""
    return lambda: {"model": build(*arguments)}


def half(dtype: torch.dtype) -> Any:
    """A model of this dtype throughout."""
    return parts.unet().to(dtype)


def mixed() -> Any:
    """A half-precision model with norms in single precision."""
    model = parts.conditioned().to(torch.bfloat16)
    model.conv_norm_out.to(torch.float32)
    return model


def partly_frozen() -> Any:
    """In training, one block frozen and in evaluation mode."""
    model = parts.unet().train()
    model.mid_block.eval().requires_grad_(False)
    return model


def channels_last() -> Any:
    """In the order of dimensions that convolutions like best."""
    return parts.unet().to(memory_format=torch.channels_last)


def from_somewhere() -> Any:
    """A model that remembers where it came from."""
    model = parts.vae()
    model.register_to_config(_name_or_path="somebody/something")
    return model


def own() -> Any:
    """A class of one's own, with a buffer that is not in its files."""
    model = parts.seeded(parts.Own)
    model.halves.mul_(3)
    return model


def unconditional() -> Any:
    """A pipeline of images from noise."""
    return diffusers.DDPMPipeline(parts.unet(), diffusers.DDPMScheduler(num_train_timesteps=20))


def steps() -> Any:
    """A pipeline of one's own class."""
    return parts.Steps(parts.unet(), diffusers.DDIMScheduler(num_train_timesteps=20), steps=2)


def with_controls() -> Any:
    """A pipeline whose component is two models."""
    whole = parts.painter().components
    whole = {name: each for name, each in whole.items() if name != "controlnet"}
    return diffusers.StableDiffusionControlNetPipeline(
        **whole, controlnet=parts.two_controls(), requires_safety_checker=False
    )


def in_half() -> Any:
    """A pipeline whose components have several dtypes."""
    pipeline = parts.painter()
    pipeline.unet.to(torch.bfloat16)
    pipeline.text_encoder.to(torch.float16)
    pipeline.vae.train()
    return pipeline


def observe_components(pipeline: Any) -> Any:
    """Components of a pipeline that is not run."""
    return {name: _component(each) for name, each in pipeline.components.items()}, _plain(pipeline.config)


@pytest.mark.timeout(900)  # minutes where several processes share a core
class TestDiffusers(BuiltinContract):
    """Models, every scheduler, pipelines."""

    manager = DiffusersManager()

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        models = {name: given(build) for name, (build, _) in parts.MODELS.items()}
        special = {
            "bf16": given(half, torch.bfloat16), "fp16": given(half, torch.float16), "fp64": given(half, torch.float64),
            "mixed": given(mixed), "partly frozen": given(partly_frozen), "channels last": given(channels_last),
            "named": given(from_somewhere), "own": given(own),
            "image processor": given(functools.partial(VaeImageProcessor, resample="nearest")),
        }  # fmt: skip
        schedules = {name: given(cls) for name, cls in parts.schedulers().items()}
        schedules["AmusedScheduler"] = given(functools.partial(diffusers.AmusedScheduler, mask_token_id=3))
        betas = torch.linspace(0.001, 0.02, 30).numpy()
        schedules["own betas"] = given(functools.partial(diffusers.DDPMScheduler, 30, trained_betas=betas))
        pipelines = {
            "unconditional": given(unconditional), "painter": given(parts.painter), "own pipeline": given(steps),
        }  # fmt: skip
        unrun = {"with controls": given(with_controls), "several dtypes": given(in_half)}
        return {
            **{name: Case(build, observe) for name, build in {**models, **special, **schedules, **pipelines}.items()},
            **{name: Case(build, observe_components) for name, build in unrun.items()},
        }

    def test_nothing_is_pickled(self, tmp_path_factory: Any) -> None:
        """Classes that another process can import need no pickle."""
        assert not any(outcome.saved.pickled for outcome in self._outcomes(tmp_path_factory).values())

    def test_every_scheduler_is_tried(self) -> None:
        """The public schedulers are among the cases."""
        assert len(set(parts.schedulers()) & set(self.cases())) > 30


def save(obj: Any, folder: Path) -> Saved:
    """Save one object to a folder."""
    with ModelFolder() as files:
        saved = DiffusersManager().save({"model": obj}, files, {})
        write_folder(files.contents(), folder)
    return saved


def load(folder: Path, state: Any, device: str | None = None) -> Any:
    """Load what lies in the folder."""
    state = json.loads(json.dumps(state))
    return DiffusersManager().load(LoadRequest(folder, state, ("model",), PicklePolicy(False), device=device))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: Any) -> tuple[Path, Any]:
    """A pipeline on disk."""
    folder = tmp_path_factory.mktemp("stored")
    return folder, save(unconditional(), folder).state


def test_the_folder_opens_with_diffusers_alone(stored: tuple[Path, Any], tmp_path: Path) -> None:
    """`from_pretrained` takes the folder `model` of a pipeline, a model and a scheduler as it lies in the archive."""
    alone = diffusers.DDPMPipeline.from_pretrained(stored[0] / "model", local_files_only=True)
    assert observe(alone)["image"].tobytes() == observe(load(*stored))["image"].tobytes()
    save(parts.vae(), tmp_path)
    assert (
        diffusers.AutoencoderKL.from_pretrained(tmp_path / "model", local_files_only=True).config.latent_channels == 4
    )


def test_a_loaded_model_equals_one_that_was_never_saved(tmp_path: Path) -> None:
    """Torch aligns what it allocates, and so does a load, which is why the outputs are equal and not only close."""
    from modelstore.managers.safetensors_file import ALIGNMENT

    model = parts.conditioned()
    loaded = load(tmp_path, save(model, tmp_path).state)
    assert all(tensor.data_ptr() % ALIGNMENT == 0 for each in (model, loaded) for tensor in each.parameters())
    assert observe(loaded)["output"] == observe(model)["output"]


def test_uploading_leaves_the_objects_alone(tmp_path: Path) -> None:
    """Neither configuration, nor modes, nor random numbers change by an upload."""
    pipeline = parts.painter()
    pipeline.unet.train()
    before = {name: dict(getattr(pipeline, name).config) for name in ("unet", "vae", "scheduler")}
    index, state = dict(pipeline.config), torch.random.get_rng_state()
    save(pipeline, tmp_path)
    assert dict(pipeline.config) == index
    assert pipeline.unet.training
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, config in before.items():
        assert dict(getattr(pipeline, name).config) == config


HOSTILE: dict[str, Callable[[Any], Any]] = {
    "another function": lambda state: state.update({"class": "os:system"}),
    "another kind": lambda state: state.update({"class": "diffusers.models.unets.unet_2d:UNet2DModel"}),
    "a component of another package": lambda state: state["parts"]["unet"].update({"class": "torch.nn:Linear"}),
    "a component of another kind": lambda state: state["parts"]["unet"].update({"kind": "tokenizer"}),
    "an unknown kind": lambda state: state["parts"]["unet"].update({"kind": "custom"}),
    "a modular pipeline": lambda state: state.update({"class": "diffusers:ModularPipeline"}),
    "another folder": lambda state: state["parts"].update({"../unet": state["parts"]["unet"]}),
    "no parts": lambda state: state.pop("parts"),
    "a part too few": lambda state: state["parts"].pop("scheduler"),
    "a part too many": lambda state: state["parts"].update({"more": None}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_record_is_refused(name: str, stored: tuple[Path, Any]) -> None:
    """Classes of a record are checked before they are called, and parts lie in the archive."""
    state = json.loads(json.dumps(stored[1]))
    HOSTILE[name](state)
    with pytest.raises(IntegrityError):
        load(stored[0], state)


def test_names_in_the_folder_are_not_followed(stored: tuple[Path, Any], tmp_path: Path) -> None:
    """What `model_index.json` names is not imported: the record's classes decide."""
    folder = tmp_path / "copy"
    shutil.copytree(stored[0], folder)
    index = folder / "model" / "model_index.json"
    index.unlink()
    index.write_text(json.dumps({"_class_name": ["x", "Y"], "unet": ["os", "system"]}))
    assert isinstance(load(folder, stored[1]), diffusers.DDPMPipeline)


def test_damaged_files_are_an_error(stored: tuple[Path, Any], tmp_path: Path) -> None:
    """Missing and damaged files, pickles instead of safetensors, and a way of quantizing are named."""
    weights = "model/unet/diffusion_pytorch_model.safetensors"
    needed = [weights, "model/unet/config.json", "model/unet.rest.json", "model/scheduler/scheduler_config.json"]
    for at, name in enumerate([*needed, *needed, "quantized", "pickle"]):
        folder = tmp_path / str(at)
        shutil.copytree(stored[0], folder)
        if name == "quantized":
            path = folder / "model/unet/config.json"
            content = {**json.loads(path.read_text()), "quantization_config": {"quant_method": "torchao"}}
            path.unlink()
            path.write_text(json.dumps(content))
        elif name == "pickle":
            (folder / weights).unlink()
            torch.save(parts.unet().state_dict(), folder / "model/unet/diffusion_pytorch_model.bin")
        else:
            (folder / name).unlink()
            if at >= len(needed):
                (folder / name).write_bytes(b"{ nothing")
        with pytest.raises(IntegrityError):
            load(folder, stored[1])


def adapted() -> Any:
    """A model with LoRA layers."""
    import peft

    model = parts.conditioned()
    model.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q"]))
    return model


def meta() -> Any:
    """A model without values."""
    return parts.unet().to("meta")


def with_an_odd_part() -> Any:
    """A pipeline with a component that has no class to build it."""
    pipeline = unconditional()
    return parts.Steps(torch.nn.Linear(2, 2), pipeline.scheduler)


@pytest.mark.parametrize(
    ("build", "message"),
    [(adapted, "unload_lora_weights"), (meta, "meta device"), (with_an_odd_part, "upload it by itself")],
)
def test_what_would_not_come_back_is_refused(build: Callable[[], Any], message: str, tmp_path: Path) -> None:
    """LoRA layers, weights without values, and components of other libraries are refused with advice."""
    with pytest.raises(UnsupportedObjectError, match=message):
        save(build(), tmp_path)


def test_a_device_is_heeded(stored: tuple[Path, Any], tmp_path: Path) -> None:
    """`device=` moves every component; one that is not here is refused, and a recorded one forgotten."""
    assert load(*stored, device="cpu").device.type == "cpu"
    with pytest.raises(InvalidArgumentError, match="cannot use the device"):
        load(*stored, device="cuda:7")
    folder = tmp_path / "copy"
    shutil.copytree(stored[0], folder)
    rest = folder / "model/unet.rest.json"
    text = rest.read_text().replace('"device": "cpu"', '"device": "cuda:99"')
    rest.unlink()
    rest.write_text(text)
    assert load(folder, stored[1]).device.type == "cpu"


def test_training_goes_on_after_a_load(stored: tuple[Path, Any]) -> None:
    """A step of training changes the loaded model as a second one, and no file."""
    results = []
    for unet in (load(*stored).unet, load(*stored).unet):
        unet.train()(parts.IMAGE, 3).sample.sum().backward()
        torch.optim.SGD(unet.parameters(), lr=0.1).step()
        results.append(hashlib.sha256(_bytes(unet.conv_in.weight)).hexdigest())
    assert results[0] == results[1]
    assert results[0] != hashlib.sha256(_bytes(load(*stored).unet.conv_in.weight)).hexdigest()


def test_through_a_store(store: ModelStore) -> None:
    """`upload` finds the manager and records the components; `load` needs no pickle; bare parts are found, too."""
    pipeline = parts.painter()
    info = store.upload("images", model=pipeline)
    assert info.library == "diffusers"
    assert info["model"]["parameters"]["unet"] == ["diffusers", "UNet2DConditionModel"]
    loaded = store.load("images", info.model_id, allow_pickle=False)
    assert isinstance(loaded.text_encoder, hf.CLIPTextModel)
    assert observe(loaded)["image"].tobytes() == observe(pipeline)["image"].tobytes()
    assert store.upload("schedules", model=diffusers.DDIMScheduler()).library == "diffusers"
