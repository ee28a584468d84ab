"""Any Transformers object comes back as itself, bit for bit, in a process that has never seen it."""

from __future__ import annotations

import copy
import functools
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers as hf

from modelstore.contracts.manager import Case
from modelstore.exceptions import InvalidArgumentError, PickleNotAllowedError, UnsupportedObjectError
from modelstore.managers.detection import all_managers
from modelstore.managers.transformers import TransformersManager
from tests.managers import hf_cases, hf_helpers, hf_parts
from tests.managers.contract import BuiltinContract
from tests.managers.hf_helpers import entry, fingerprint, keep, read_elsewhere, restore
from tests.managers.hf_special import SPECIAL

TEXT = {key: value.clamp(max=12) for key, value in hf_cases.TEXT.items()}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Sums are added up in the same order everywhere."""
    torch.set_num_threads(1)


def same(first: Any, second: Any) -> None:
    """Equal as JSON; names the first difference."""
    assert json.loads(json.dumps(first)) == json.loads(json.dumps(second))


def observe(result: Any) -> Any:
    """Class, head, weights, ties, dtypes, configuration and outputs of a model, and the configuration beside it."""
    torch.set_num_threads(1)
    model, config = result
    return json.loads(json.dumps(fingerprint((model, config), (hf_cases.INPUTS[type(model).__name__],))))


@pytest.mark.timeout(900)  # minutes where several processes share a core
class TestTransformers(BuiltinContract):
    """Every architecture with its head."""

    manager = TransformersManager()

    def cases(self) -> Mapping[str, Case]:
        """See `hf_cases`."""
        return {
            name: Case(functools.partial(_evaluated, build), observe) for name, (build, _) in hf_cases.CASES.items()
        }

    def result(self, objects: Mapping[str, Any]) -> Any:
        """A model comes with its configuration."""
        return objects["model"], objects["model"].config

    def objects(self, result: Any, keywords: tuple[str, ...]) -> Mapping[str, Any]:
        """The inverse."""
        return {"model": result[0]}

    def test_there_are_enough_of_them(self) -> None:
        """More than fifty architectures are tried, and many kinds of heads."""
        assert len(hf_cases.CASES) > 50
        assert len({name.partition("For")[2] for name in hf_cases.INPUTS}) > 15


def _evaluated(build: Any) -> Mapping[str, Any]:
    return {"model": build().eval()}


def test_a_device_is_heeded(tmp_path: Path) -> None:
    """`device=` says where a model or pipeline goes; one that is not here is refused; a recorded one forgotten."""
    model, words = hf_parts.classifier(), hf_parts.word_tokenizer()
    path = keep(tmp_path / "a", model=model)
    assert restore(path, device="cpu")[0].device.type == "cpu"
    with pytest.raises(InvalidArgumentError, match="cannot use the device"):
        restore(path, device="cuda:7")
    with pytest.raises(InvalidArgumentError, match="move it there"):
        restore(path, device="cpu", into=model)
    file = path / "files" / "model.restore.json"
    file.chmod(0o644)
    file.write_text(file.read_text().replace('"device": "cpu"', '"device": "cuda:99"'))
    assert restore(path)[0].device.type == "cpu"
    both = keep(tmp_path / "b", model=hf.pipeline("text-classification", model=model, tokenizer=words))
    assert restore(both, device="cpu").device.type == "cpu"


def test_a_trainer_is_refused(tmp_path: Path) -> None:
    """A trainer is a process; the error says what to upload instead."""
    trainer = hf.Trainer.__new__(hf.Trainer)
    with pytest.raises(UnsupportedObjectError, match="trainer.model"):
        keep(tmp_path / "a", model=trainer)


def test_what_from_pretrained_would_not_restore_is_restored(tmp_path: Path) -> None:
    """Dtypes, modes, frozen parameters, unusual ties, constructor switches, attention and names are kept."""
    inputs = {"input_ids": TEXT["input_ids"]}
    paths, expected = [], {}
    for name, build in SPECIAL.items():
        model = build()
        call = hf_cases.IMAGE if name == "channels last" else inputs
        call = {**inputs, "decoder_input_ids": inputs["input_ids"]} if name == "kept in fp32" else call
        paths.append(keep(tmp_path / name, call, model=model))
        expected[name] = fingerprint((model, model.config), (call,))
    found = dict(zip(expected, read_elsewhere(*paths), strict=True))
    for name in expected:
        assert found[name] == json.loads(json.dumps(expected[name])), name


def test_parts_come_back_by_themselves_and_together(tmp_path: Path) -> None:
    """A tokenizer, processor or configuration alone is itself; with a model it stands before the configuration."""
    model, words, pixels = hf_parts.classifier(), hf_parts.word_tokenizer(), hf_parts.image_processor()
    sounds = hf.Wav2Vec2FeatureExtractor(feature_size=1, sampling_rate=8000)
    both = hf.Wav2Vec2Processor(feature_extractor=sounds, tokenizer=hf_parts.word_tokenizer())
    other = copy.deepcopy(model.config)
    other.dropout = 0.3
    uploads: dict[str, tuple[Any, dict[str, Any]]] = {
        "words": (words, {"tokenizer": words}),
        "pairs": (hf_parts.bpe_tokenizer(), {"tokenizer": hf_parts.bpe_tokenizer()}),
        "bert": (hf_parts.bert_tokenizer(tmp_path), {"model": hf_parts.bert_tokenizer(tmp_path)}),
        "pixels": (pixels, {"processor": pixels}),
        "sounds": (sounds, {"preprocessor": sounds}),
        "config": (other, {"config": other}),
        "model and config": ((model, model.config), {"model": model, "config": model.config}),
        "model and tokenizer": ((model, words, model.config), {"model": model, "tokenizer": words}),
        "model and processor": ((model, pixels, model.config), {"model": model, "processor": pixels}),
        "all": (
            (model, words, pixels, model.config),
            {"model": model, "tokenizer": words, "processor": pixels, "config": model.config},
        ),
        "two": ({"processor": pixels, "tokenizer": words}, {"processor": pixels, "tokenizer": words}),
        "composed": (
            (model, both.tokenizer, both, model.config),
            {"model": model, "tokenizer": both.tokenizer, "processor": both},
        ),
    }
    expected = {}
    for name, (objects, given) in uploads.items():
        keep(tmp_path / name, **given)
        expected[name] = fingerprint(objects)
    found = dict(zip(expected, read_elsewhere(*(tmp_path / name for name in uploads)), strict=True))
    for name in expected:
        assert found[name] == json.loads(json.dumps(expected[name])), name
    _, tokenizer, processor, _ = restore(tmp_path / "composed")
    assert processor.tokenizer is tokenizer


def test_another_configuration_than_the_models_is_kept_beside_it(tmp_path: Path) -> None:
    """An explicit config= is stored and given back; the model keeps its own; a warning tells."""
    model = hf_parts.classifier()
    other = copy.deepcopy(model.config)
    other.dropout = 0.3
    with pytest.warns(UserWarning, match="differs"):
        keep(tmp_path / "a", model=model, config=other)
    loaded, config = restore(tmp_path / "a")
    assert (config.dropout, loaded.config.dropout) == (0.3, model.config.dropout)
    same(fingerprint(loaded), fingerprint(model))


def test_pipelines_come_back_as_pipelines(tmp_path: Path) -> None:
    """Task, class, model, tokenizer, processors and settings are kept, and so are the answers."""
    from PIL import Image

    torch.manual_seed(5)
    words = hf_parts.word_tokenizer()
    tokens = hf.DistilBertForTokenClassification(hf_parts.classifier().config).eval()
    vit = hf.ViTForImageClassification(hf.ViTConfig(**hf_cases.SEEING)).eval()
    model = hf_parts.classifier()
    pipelines = {
        "text": (hf.pipeline("text-classification", model=model, tokenizer=words, top_k=None), "the lazy dog"),
        "sigmoid": (
            hf.pipeline("text-classification", model=model, tokenizer=words, function_to_apply="sigmoid", batch_size=3),
            "the lazy dog",
        ),
        "tokens": (
            hf.pipeline("token-classification", model=tokens, tokenizer=words, aggregation_strategy="max"),
            "the quick fox",
        ),
        "image": (hf.pipeline("image-classification", model=vit, image_processor=hf_parts.image_processor()), None),
    }  # fmt: skip
    expected = {}
    for name, (pipeline, question) in pipelines.items():
        inputs = () if question is None else (question,)
        keep(tmp_path / name, *inputs, model=pipeline)
        expected[name] = fingerprint(pipeline, inputs)
    found = dict(zip(expected, read_elsewhere(*(tmp_path / name for name in pipelines)), strict=True))
    for name in expected:
        assert found[name] == json.loads(json.dumps(expected[name])), name
    loaded, image = restore(tmp_path / "image"), Image.new("RGB", (40, 40), (9, 99, 199))
    assert loaded(image) == pipelines["image"][0](image)


def test_classes_of_a_script_load_where_nobody_knows_them(tmp_path: Path) -> None:
    """Model, configuration, tokenizer and pipeline classes of `__main__` load as themselves in another process."""
    script = Path(hf_helpers.__file__).with_name("hf_script.py")
    environment = {**os.environ, "PYTHONPATH": str(hf_helpers.ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, str(script), str(tmp_path)], env=environment, check=True, capture_output=True)
    expected = json.loads((tmp_path / "found.json").read_text())
    found = dict(zip(expected, read_elsewhere(*(tmp_path / name for name in expected)), strict=True))
    assert found == expected
    assert found["head"][1]["class"] == "__main__:ScriptTokenizer"
    for name in expected:
        assert entry(tmp_path / name)["pickled"] == ["classes.pkl"]
        with pytest.raises(PickleNotAllowedError):
            restore(tmp_path / name, allow_pickle=False)


def test_classes_of_installed_modules_need_no_pickle(tmp_path: Path) -> None:
    """What an import finds is named, not pickled; and its module is told to whoever writes the requirements."""
    from modelstore.folder import ModelFolder

    torch.manual_seed(6)
    model = hf_parts.WiderBert(hf_parts.WiderConfig(**hf_cases.SMALL)).eval()
    tokenizer = hf_parts.LoudTokenizer(tokenizer_object=hf_parts.word_tokenizer().backend_tokenizer)
    path = keep(tmp_path / "a", TEXT, model=model, tokenizer=tokenizer)
    assert entry(path)["pickled"] == []
    same(read_elsewhere(path)[0], fingerprint((model, tokenizer, model.config), (TEXT,)))
    assert restore(path, allow_pickle=False)[1].shout("a") == "A"
    with ModelFolder(tmp_path) as folder:
        saved = TransformersManager().save({"model": model}, folder, {})
    assert "tests.managers.hf_parts" in saved.modules


def test_classes_of_remote_code_are_pickled(tmp_path: Path) -> None:
    """A class that came with a checkpoint exists in this process only: it loads elsewhere without the checkpoint."""
    code = tmp_path / "checkpoint"
    code.mkdir()
    (code / "modeling_far.py").write_text(
        "import torch, transformers\n"
        "class FarConfig(transformers.PretrainedConfig):\n"
        "    model_type = 'far'\n"
        "class FarModel(transformers.PreTrainedModel):\n"
        "    config_class = FarConfig\n"
        "    def __init__(self, config):\n"
        "        super().__init__(config)\n"
        "        self.layer = torch.nn.Linear(3, 3)\n"
        "        self.post_init()\n"
        "    def forward(self, values):\n"
        "        return {'values': self.layer(values)}\n"
    )
    auto = {"AutoConfig": "modeling_far.FarConfig", "AutoModel": "modeling_far.FarModel"}
    (code / "config.json").write_text(json.dumps({"model_type": "far", "auto_map": auto}))
    config = hf.AutoConfig.from_pretrained(code, trust_remote_code=True)
    model = hf.AutoModel.from_config(config, trust_remote_code=True).eval()
    inputs = {"values": torch.ones(1, 3)}
    path = keep(tmp_path / "a", inputs, model=model)
    found = read_elsewhere(path)[0]
    assert found[0]["tensors"] == json.loads(json.dumps(fingerprint(model)["tensors"]))
    assert found[0]["outputs"] == fingerprint(model, (inputs,))["outputs"]
    with pytest.raises(PickleNotAllowedError):
        restore(path, allow_pickle=False)


def test_safe_formats_load_without_pickle(tmp_path: Path) -> None:
    """A model, tokenizer and pipeline of transformers' own classes need no pickle."""
    pipeline = hf.pipeline("text-classification", model=hf_parts.classifier(), tokenizer=hf_parts.word_tokenizer())
    path = keep(tmp_path / "a", model=pipeline)
    assert entry(path)["pickled"] == []
    same(fingerprint(restore(path, allow_pickle=False), ("the dog",)), fingerprint(pipeline, ("the dog",)))


def test_the_folder_opens_with_transformers_alone(tmp_path: Path) -> None:
    """`from_pretrained` and `pipeline` of transformers take the folder `model` as it lies in the archive."""
    model, words = hf_parts.classifier(), hf_parts.word_tokenizer()
    folder = keep(tmp_path / "a", model=model, tokenizer=words) / "files" / "model"
    loaded = hf.AutoModelForSequenceClassification.from_pretrained(folder)
    assert torch.equal(loaded(**TEXT).logits, model(**TEXT).logits)
    assert hf.pipeline("text-classification", model=str(folder))("the dog")[0]["label"] in ("good", "bad")


def test_training_a_loaded_model_leaves_the_files_alone(tmp_path: Path) -> None:
    """Weights may be mapped from the cache: a step of training changes the model, not the files."""
    path = keep(tmp_path / "a", model=hf_parts.classifier().train())
    before = hf_helpers.digests(path)
    model, _ = restore(path)
    model(**TEXT, labels=torch.tensor([1])).loss.backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert hf_helpers.digests(path) == before
    assert fingerprint(model)["tensors"] != fingerprint(restore(path)[0])["tensors"]


def test_uploading_leaves_the_objects_alone(tmp_path: Path) -> None:
    """Neither the model's configuration nor its mode nor the random numbers of torch change by an upload."""
    model = hf_parts.classifier().train()
    config, state = dict(vars(model.config)), torch.random.get_rng_state()
    keep(tmp_path / "a", model=model)
    assert dict(vars(model.config)) == config
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), state)


def test_detection_finds_this_manager() -> None:
    """Models, tokenizers, processors, configurations and pipelines are this manager's among all managers."""
    model, words = hf_parts.classifier(), hf_parts.word_tokenizer()
    pipeline = hf.pipeline("text-classification", model=model, tokenizer=words)
    both = hf.Wav2Vec2Processor(feature_extractor=hf.Wav2Vec2FeatureExtractor(), tokenizer=words)
    for obj in (model, words, model.config, pipeline, hf_parts.image_processor(), both, both.feature_extractor):
        found = all_managers().find(obj)
        assert found is not None
        assert found.name == "transformers"


def test_parameters_are_the_configuration() -> None:
    """The configuration is recorded as JSON, of a pipeline its model's, and nothing of a tokenizer."""
    manager, model, words = TransformersManager(), hf_parts.classifier(), hf_parts.word_tokenizer()
    pipeline = hf.pipeline("text-classification", model=model, tokenizer=words)
    for objects in ({"model": model}, {"model": model, "config": model.config}, {"model": pipeline}):
        found = manager.parameters(objects)
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        assert found["dim"] == 16
    assert manager.parameters({"tokenizer": words}) == {}
