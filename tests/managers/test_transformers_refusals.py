"""What does not fit, or would not come back, is refused by the Transformers manager with advice; `into=` among it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers as hf

from modelstore.exceptions import IntegrityError, InvalidArgumentError, UnsupportedObjectError
from tests.managers import hf_cases, hf_helpers, hf_parts
from tests.managers.hf_helpers import keep, restore


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Sums are added up in the same order everywhere."""
    torch.set_num_threads(1)


def test_into_fills_a_model_without_pickle(tmp_path: Path) -> None:
    """The stored weights are copied into a model of the caller's, which comes back; also from experts' files."""
    for name in ("mixtral", "bert ForSequenceClassification", "llama tied"):
        build, inputs = hf_cases.CASES[name]
        model = build().eval()
        path = keep(tmp_path / name, model=model)
        mine = build().eval()
        with torch.no_grad():
            for parameter in mine.parameters():
                parameter.add_(1)
        loaded, config = restore(path, allow_pickle=False, into=mine)
        assert loaded is mine
        assert config is mine.config
        assert hf_helpers.outputs(mine, inputs) == hf_helpers.outputs(model, inputs)


@pytest.mark.parametrize(
    ("into", "message"),
    [
        (lambda: hf.BertForTokenClassification(hf.BertConfig(**hf_cases.SMALL)), "classifier"),
        (lambda: hf_cases.CASES["bert ForSequenceClassification"][0]().__class__(hf.BertConfig()), "fit"),
        (lambda: torch.nn.Linear(2, 2), "Linear"),
        (lambda: hf.BertForSequenceClassification(hf.BertConfig(**hf_cases.SMALL)).to("meta"), "meta"),
    ],
    ids=["another head", "another size", "another library", "no memory"],
)
def test_into_refuses_what_does_not_fit(tmp_path: Path, into: Callable[[], Any], message: str) -> None:
    """A model with other weights than the stored ones is refused, and named."""
    torch.manual_seed(7)
    model = hf.BertForSequenceClassification(hf.BertConfig(**hf_cases.SMALL, num_labels=5))
    path = keep(tmp_path / "a", model=model)
    with pytest.raises(InvalidArgumentError, match=message):
        restore(path, into=into())


def meta() -> Any:
    with torch.device("meta"):
        return hf_parts.classifier()


def with_another_head() -> Any:
    model = hf_parts.classifier()
    model.classifier = torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.Linear(8, 2))
    return model


def resized_behind_the_configuration() -> Any:
    model = hf_parts.classifier()
    model.classifier = torch.nn.Linear(16, 9)
    return model


def with_bad_generation_settings() -> Any:
    model = hf_cases.CASES["gpt2"][0]()
    model.generation_config.temperature = 0.5
    model.generation_config.do_sample = False
    return model


class Demanding(hf.DistilBertForSequenceClassification):
    """A class whose constructor takes more than a configuration."""

    def __init__(self, config: Any, more: int) -> None:
        super().__init__(config)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (meta, "meta device"),
        (with_another_head, "classifier.0.bias.*manager='pytorch'"),
        (resized_behind_the_configuration, "of another shape: classifier"),
        (lambda: Demanding(hf_parts.classifier().config, 1), "more"),
        (with_bad_generation_settings, "generation|temperature"),
    ],
    ids=["meta", "another head", "resized", "constructor", "generation"],
)
def test_what_could_not_be_loaded_is_refused_at_the_upload(
    tmp_path: Path, build: Callable[[], Any], message: str
) -> None:
    """A model that its class and configuration do not describe is refused before anything is stored, with advice."""
    with pytest.raises(UnsupportedObjectError, match=message):
        keep(tmp_path / "a", model=build())


def test_a_record_cannot_name_other_classes(tmp_path: Path) -> None:
    """A record that names something else than a class of transformers' kind is refused before it is called."""
    path = keep(tmp_path / "a", tokenizer=hf_parts.word_tokenizer())
    for name in ("subprocess:Popen", "os:system", "transformers:Trainer", "collections:Missing", "nonsense"):
        entries = json.loads((path / "entries.json").read_text())
        entries[0]["state"]["tokenizer"]["class"] = name
        (path / "entries.json").write_text(json.dumps(entries))
        with pytest.raises(IntegrityError):
            restore(path)


def test_into_needs_one_model(tmp_path: Path) -> None:
    """Where no model was uploaded there is nothing to fill."""
    path = keep(tmp_path / "a", tokenizer=hf_parts.word_tokenizer())
    with pytest.raises(InvalidArgumentError, match="one model"):
        restore(path, into=hf_parts.classifier())


def test_a_weight_without_a_place_is_an_error(tmp_path: Path) -> None:
    """A weight beside the file that its class no longer has is named; a computed buffer is left to the class."""
    model = hf_cases.CASES["llama"][0]()
    model.lm_head.weight = model.model.embed_tokens.weight
    path = keep(tmp_path / "a", model=model)
    file = path / "files" / "model.restore.json"
    whole = json.loads(file.read_text())
    assert [group["computed"] for group in whole["groups"]] == [False, True, True]
    file.chmod(0o644)
    for at, outcome in ((1, None), (0, IntegrityError)):
        changed = json.loads(json.dumps(whole))
        changed["groups"][at]["names"].append("elsewhere.weight")
        file.write_text(json.dumps(changed))
        if outcome is None:
            restore(path)
        else:
            with pytest.raises(outcome, match="elsewhere"):
                restore(path)


def test_missing_weights_are_an_error(tmp_path: Path) -> None:
    """Files that lack a weight do not load with random numbers in its place."""
    from safetensors.torch import load_file, save_file

    path = keep(tmp_path / "a", model=hf_parts.classifier())
    file = path / "files" / "model" / "model.safetensors"
    tensors = load_file(file)
    del tensors["classifier.bias"]
    file.unlink()
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(IntegrityError, match="missing: classifier.bias"):
        restore(path)
