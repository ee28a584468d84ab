"""PEFT: adapters of every kind come back on their base model, wherever that lies; the caller's own stays as it was."""

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

pytest.importorskip("peft")
pytest.importorskip("transformers")

os.environ["HF_HUB_OFFLINE"] = "1"

import peft
import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

from modelstore import ModelStore
from modelstore.contracts.manager import Case, write_folder
from modelstore.exceptions import (
    DomainNotFoundException,
    IntegrityError,
    InvalidArgumentError,
    ModelDeletedException,
    ModelNotFoundException,
    PickleNotAllowedError,
    UnsupportedObjectError,
)
from modelstore.folder import ModelFolder
from modelstore.managers.base import LoadRequest, Saved
from modelstore.managers.peft import PeftManager
from modelstore.managers.pickling import PicklePolicy
from tests.managers import peft_parts as parts
from tests.managers.contract import BuiltinContract


def observe(model: Any) -> Any:
    """The answer, all tensors, modes, active adapters and their configurations."""
    torch.set_num_threads(1)
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return {
        "answer": _bytes(parts.answer(model)),
        "tensors": {
            name: [str(tensor.dtype), list(tensor.stride()), tensor.requires_grad,
                   hashlib.sha256(_bytes(tensor)).hexdigest()]
            for name, tensor in named
        },
        "training": [name for name, part in model.named_modules() if part.training],
        "active": [str(model.active_adapter), list(model.active_adapters)],
        "configurations": {name: _plain(config) for name, config in model.peft_config.items()},
    }  # fmt: skip


def _plain(config: Any) -> Any:
    return {
        name: sorted(value) if isinstance(value, set) else getattr(value, "__qualname__", repr(value))
        for name, value in vars(config).items()
    }


def _bytes(tensor: Any) -> bytes:
    return bytes(tensor.detach().contiguous().flatten().view(torch.uint8).numpy()) if tensor.numel() else b""


@pytest.mark.timeout(900)  # minutes where several processes share a core
class TestPeft(BuiltinContract):
    """Every kind of adapter, classes for tasks, several adapters, dtypes, modes; each with its base model."""

    manager = PeftManager()

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        builders = {
            **{kind: functools.partial(parts.of_kind, kind) for kind in parts.KINDS if self._has(kind)},
            **parts.SPECIAL,
        }
        return {
            name: Case(functools.partial(_given, build), observe, {"bundle_base": True})
            for name, build in builders.items()
        }

    @staticmethod
    def _has(kind: str) -> bool:
        return kind in {each.value for each in PEFT_TYPE_TO_CONFIG_MAPPING}  # earlier releases have fewer

    def test_only_modules_of_the_users_are_pickled(self, tmp_path_factory: Any) -> None:
        """Adapters never are, and models of Transformers neither."""
        outcomes = self._outcomes(tmp_path_factory)
        pickled = {name: outcome.saved.pickled for name, outcome in outcomes.items() if outcome.saved.pickled}
        assert pickled == {name: ["base/skeleton.pkl"] for name in ("own module", "attention")}

    def test_every_kind_is_tried_or_refused(self) -> None:
        """PEFT's own table of kinds holds no other."""
        kinds = {each.value for each in PEFT_TYPE_TO_CONFIG_MAPPING}
        assert kinds <= {*parts.KINDS, *parts.REFUSED}

    def test_every_class_is_tried(self, tmp_path_factory: Any) -> None:
        """The public classes of models are among the cases."""
        seen = {type(outcome.objects["model"]) for outcome in self._outcomes(tmp_path_factory).values()}
        assert {peft.PeftModel, peft.PeftMixedModel, *peft.PeftModel.__subclasses__()} - {parts.Named} <= seen


def _given(build: Callable[[], Any]) -> Mapping[str, Any]:
    return {"model": build()}


def save(obj: Any, folder: Path, **options: Any) -> Saved:
    """Save one object to a folder."""
    with ModelFolder() as files:
        saved = PeftManager().save({"model": obj}, files, options)
        write_folder(files.contents(), folder)
    return saved


def load(folder: Path, state: Any, allow_pickle: bool = False, **how: Any) -> Any:
    """Load what lies in the folder."""
    state = json.loads(json.dumps(state))
    return PeftManager().load(LoadRequest(folder, state, ("model",), PicklePolicy(allow_pickle), **how))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: Any) -> tuple[Path, Any]:
    """A model with its base, on disk."""
    folder = tmp_path_factory.mktemp("stored")
    return folder, save(parts.several(), folder, bundle_base=True).state


def test_the_base_that_is_stored_is_the_clean_one(stored: tuple[Path, Any], tmp_path: Path) -> None:
    """No name of PEFT's is in its file, and its weights are those from before the adapter."""
    from safetensors.torch import load_file
    from transformers import LlamaForCausalLM

    file = load_file(stored[0] / "base" / "model.safetensors")
    clean = parts.llama().state_dict()
    assert file.keys() <= clean.keys()
    assert all(torch.equal(file[name], clean[name]) for name in file)
    alone = LlamaForCausalLM.from_pretrained(stored[0] / "base", local_files_only=True)
    assert torch.equal(alone(**parts.TEXT).logits, parts.llama().eval()(**parts.TEXT).logits)


def test_the_adapter_opens_with_peft_alone(stored: tuple[Path, Any]) -> None:
    """`PeftModel.from_pretrained` puts each adapter of the folder on a base model."""
    model = load(*stored)
    for name in ("first", "second", "third"):
        alone = peft.PeftModel.from_pretrained(parts.llama(), str(stored[0] / "adapter" / name), adapter_name=name)
        model.set_adapter(name)
        assert torch.equal(parts.answer(alone), parts.answer(model.eval()))


@pytest.mark.parametrize("name", ["several", "mixed", "training", "own module", "pissa", "tokens"])
def test_uploading_leaves_the_model_alone(name: str, tmp_path: Path) -> None:
    """Layers, configurations, modes and random numbers are the same objects and values after an upload."""
    model = parts.SPECIAL[name]()
    before, state, modules = observe(model), torch.random.get_rng_state(), [id(part) for part in model.modules()]
    save(model, tmp_path, bundle_base=True)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [id(part) for part in model.modules()] == modules
    assert observe(model) == before


def test_into_wraps_the_callers_base_model(tmp_path: Path) -> None:
    """An adapter without its base needs no more than `into=`; the whole lies around the caller's own object."""
    model = parts.several()
    with pytest.warns(UserWarning, match="only the adapter is stored"):
        state = save(model, tmp_path).state
    assert not (tmp_path / "base").exists()
    base = parts.llama()
    loaded = load(tmp_path, state, into=base)
    assert loaded.get_base_model() is base
    assert observe(loaded) == observe(model)


def test_an_adapter_without_a_base_says_what_to_do(tmp_path: Path) -> None:
    """Loading it alone names all three ways."""
    with pytest.warns(UserWarning, match="only the adapter"):
        state = save(parts.of_kind("LORA"), tmp_path).state
    with pytest.raises(InvalidArgumentError, match=r"(?s)into=.*base_model=.*bundle_base=True"):
        load(tmp_path, state)


@pytest.mark.parametrize(
    ("into", "message"),
    [
        (lambda: "a model", "torch.nn.Module"),
        (lambda: parts.of_kind("LORA"), "without adapters"),
        (lambda: parts.llama(hidden_size=32), "do not fit"),
        (parts.bert, "do not fit"),
        (lambda: parts.llama().to("meta"), "meta"),
    ],
    ids=["no module", "adapted", "another size", "another model", "no memory"],
)
def test_into_refuses_what_does_not_fit(into: Callable[[], Any], message: str, tmp_path: Path) -> None:
    """A base model that cannot take the adapter is refused, and named."""
    with pytest.warns(UserWarning, match="only the adapter"):
        state = save(parts.several(), tmp_path).state
    with pytest.raises(InvalidArgumentError, match=message):
        load(tmp_path, state, into=into())


def test_another_base_model_is_a_warning(tmp_path: Path) -> None:
    """A base model with other weights takes the adapter, but its predictions are others."""
    with pytest.warns(UserWarning, match="only the adapter"):
        state = save(parts.several(), tmp_path).state
    other = parts.llama()
    with torch.no_grad():
        other.lm_head.weight.add_(1)
    with pytest.warns(UserWarning, match="not the one"):
        load(tmp_path, state, into=other)


def test_options_are_checked(tmp_path: Path) -> None:
    """`base_model=` is a pair or a record, and excludes `bundle_base=True`."""
    model = parts.of_kind("LORA")
    for given in ("a", ("a",), ("a", 3), {"model": {}}):
        with pytest.raises(InvalidArgumentError, match="base_model"):
            save(model, tmp_path, base_model=given)
    with pytest.raises(InvalidArgumentError, match="one of them"):
        save(model, tmp_path, base_model=("a", "b"), bundle_base=True)
    assert save(model, tmp_path, base_model=("a", "b")).references == [("a", "b")]


def merged() -> Any:
    """Adapters that are part of the weights."""
    model = parts.several()
    model.merge_adapter()
    return model


def poly() -> Any:
    """An adapter of a kind that would not come back."""
    return peft.get_peft_model(parts.t5(), peft.PolyConfig(r=2, target_modules=["q"], task_type="SEQ_2_SEQ_LM"))


@pytest.mark.parametrize(
    ("build", "message"),
    [(merged, "unmerge_adapter"), (poly, "POLY"), (lambda: parts.of_kind("LORA").to("meta"), "meta")],
)
def test_what_would_not_come_back_is_refused(build: Callable[[], Any], message: str, tmp_path: Path) -> None:
    """Merged adapters, kinds that PEFT cannot build again, and empty weights are refused with advice."""
    with pytest.raises(UnsupportedObjectError, match=message):
        save(build(), tmp_path, bundle_base=True)


@pytest.mark.parametrize(
    "alter",
    [
        lambda state: state.update({"class": "os:system"}),
        lambda state: state.update({"class": "torch.nn.modules.linear:Linear"}),
        lambda state: state["base"].update({"class": "subprocess:Popen"}),
        lambda state: state["base"].update({"kind": "custom"}),
        lambda state: state["base"]["config"].update({"class": "os:system"}),
        lambda state: state.pop("base"),
    ],
    ids=["function", "no model", "base", "kind", "configuration", "nothing"],
)
def test_a_record_cannot_name_other_classes(alter: Any, stored: tuple[Path, Any]) -> None:
    """Classes of a record are checked before they are called."""
    state = json.loads(json.dumps(stored[1]))
    alter(state)
    with pytest.raises(IntegrityError):
        load(stored[0], state, allow_pickle=True)


def test_damaged_files_are_an_error(stored: tuple[Path, Any], tmp_path: Path) -> None:
    """Missing and damaged files, and names that lead out of the archive, are named; a pickle is not read instead."""
    weights = "adapter/first/adapter_model.safetensors"
    needed = [weights, "adapter/second/adapter_config.json", "adapter.json", "base.restore.json"]
    for at, name in enumerate([*needed, *needed[:3], "pickle", "leads out"]):
        folder = tmp_path / str(at)
        shutil.copytree(stored[0], folder)
        if name == "pickle":
            (folder / weights).unlink()
            torch.save({}, folder / "adapter/first/adapter_model.bin")
        elif name == "leads out":
            text = (folder / "adapter.json").read_text().replace('"first"', '"../first"')
            (folder / "adapter.json").unlink()
            (folder / "adapter.json").write_text(text)
        else:
            (folder / name).unlink()
            if at >= len(needed):
                (folder / name).write_bytes(b"{ nothing")
        with pytest.raises((IntegrityError, FileNotFoundError)):
            load(folder, stored[1])


def test_a_device_is_heeded(stored: tuple[Path, Any]) -> None:
    """`device=` says where all weights go; one that is not here is refused, and so is it with `into=`."""
    assert load(*stored, device="cpu").device.type == "cpu"
    with pytest.raises(InvalidArgumentError, match="cannot use the device"):
        load(*stored, device="cuda:7")
    with pytest.raises(InvalidArgumentError, match="wrapped where it lies"):
        load(*stored, device="cpu", into=parts.llama())


def test_training_goes_on_after_a_load(tmp_path: Path) -> None:
    """A step of training has the same effect on the loaded model as on the original, and none on the files."""
    model = parts.training()
    state = save(model, tmp_path, bundle_base=True).state
    loaded = load(tmp_path, state)
    before = hashlib.sha256((tmp_path / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest()
    for each in (model, loaded):
        torch.manual_seed(8)
        each(**parts.TEXT, labels=torch.tensor([1])).loss.backward()
        torch.optim.SGD([p for p in each.parameters() if p.requires_grad], lr=0.1).step()
    assert observe(loaded)["tensors"] == observe(model)["tensors"]
    assert hashlib.sha256((tmp_path / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest() == before


def test_a_base_in_another_domain(store: ModelStore) -> None:
    """An adapter that names its base model loads with it, from a pair and from a record; that is stored once."""
    base = parts.llama().eval()
    of_base = store.upload("bases", model_id="llama", model=base)
    model = parts.several()
    for at, reference in enumerate((("bases", "llama"), of_base)):
        info = store.upload("adapters", model_id=str(at), model=model, base_model=reference)
        assert info["model"]["managers"][0]["references"][0]["model_id"] == "llama"
        assert not any(file.name.startswith("base") for file in store.files("adapters", str(at)))
        assert observe(store.load("adapters", str(at), allow_pickle=False, device="cpu")) == observe(model)


def test_a_base_of_ones_own_module_needs_a_pickle(store: ModelStore) -> None:
    """The policy of the load holds for the base model, too."""
    store.upload("bases", model_id="own", model=parts.layers())
    store.upload("adapters", model_id="a", model=parts.SPECIAL["own module"](), base_model=("bases", "own"))
    with pytest.raises(PickleNotAllowedError):
        store.load("adapters", "a", allow_pickle=False)
    assert torch.equal(parts.answer(store.load("adapters", "a")), parts.answer(parts.SPECIAL["own module"]()))


def test_a_base_that_is_gone_or_another_is_an_error(store: ModelStore) -> None:
    """A base model that does not exist cannot be named; one that was deleted, or replaced, is never mistaken."""
    model = parts.of_kind("LORA")
    with pytest.raises(DomainNotFoundException):
        store.upload("adapters", model=model, base_model=("bases", "llama"))
    store.upload("bases", model_id="llama", model=parts.llama())
    with pytest.raises(ModelNotFoundException):
        store.upload("adapters", model=model, base_model=("bases", "another"))
    store.upload("adapters", model_id="a", model=model, base_model=("bases", "llama"))
    store.delete_model("bases", "llama", skip_prompt=True)
    with pytest.raises(ModelDeletedException):
        store.load("adapters", "a")
    store.upload("bases", model_id="llama", model=parts.llama().half())
    with pytest.raises(IntegrityError, match="another one by now"):
        store.load("adapters", "a")
    assert torch.equal(parts.answer(store.load("adapters", "a", into=parts.llama())), parts.answer(model))


def test_a_base_that_is_no_model_is_an_error(store: ModelStore, tmp_path: Path) -> None:
    """What the reference leads to has to be a module."""
    (tmp_path / "notes.txt").write_text("x")
    store.upload("bases", model_id="file", model=str(tmp_path / "notes.txt"))
    store.upload("adapters", model_id="a", model=parts.of_kind("LORA"), base_model=("bases", "file"))
    with pytest.raises(IntegrityError, match="base model"):
        store.load("adapters", "a")
