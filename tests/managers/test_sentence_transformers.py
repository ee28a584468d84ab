"""Sentence Transformers: every model and module comes back with equal embeddings, without code of the folder."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sentence_transformers")

os.environ["HF_HUB_OFFLINE"] = "1"

import sentence_transformers as st
import torch
from sentence_transformers.sentence_transformer import modules

from modelstore import ModelStore
from modelstore.contracts.manager import Case, write_folder
from modelstore.exceptions import IntegrityError, InvalidArgumentError, PickleNotAllowedError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers.base import LoadRequest, Saved
from modelstore.managers.pickling import PicklePolicy
from modelstore.managers.sentence_transformers import SentenceTransformersManager
from tests.managers import hf_parts, st_parts
from tests.managers.contract import BuiltinContract
from tests.managers.st_parts import PAIRS, SIZE, TEXTS, embedder, words


def observe(model: Any) -> Any:
    """Outputs, weights, modes, prompts, limits and the card."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return {
        "outputs": _outputs(model),
        "tensors": {
            name: [str(tensor.dtype), list(tensor.stride()), tensor.requires_grad,
                   hashlib.sha256(_bytes(tensor)).hexdigest()]
            for name, tensor in named
        },
        "training": [name for name, part in model.named_modules() if part.training],
        "modules": repr(model),
        "prompts": [model.prompts, model.default_prompt_name],
        "limits": [getattr(model, name, None) for name in ("max_seq_length", "truncate_dim", "max_active_dims")],
        "similarity": getattr(model, "similarity_fn_name", None),
        "card": [model.model_card_data.language, model.model_card_data.license, model._model_card_text],
        "activation": repr(getattr(model, "activation_fn", None)),
        "device": str(model.device),
    }  # fmt: skip


def _outputs(model: Any) -> Any:
    quiet = {"show_progress_bar": False}
    if isinstance(model, st.CrossEncoder):
        found = [model.predict(PAIRS, **quiet)]
    elif isinstance(model, st.MultiVectorEncoder):
        found = [*model.encode_query(TEXTS, **quiet), *model.encode_document(TEXTS, **quiet)]
    else:
        names = [None, *model.prompts] if any(model.prompts.values()) else [None]
        found = [model.encode(TEXTS, prompt_name=name, convert_to_tensor=True, **quiet) for name in names]
        if isinstance(model[0], modules.Router):
            found += [model.encode_query(TEXTS, convert_to_tensor=True, **quiet)]
    tensors = [torch.as_tensor(each) for each in found]
    return [[list(each.shape), str(each.dtype), _bytes(each.to_dense())] for each in tensors]


def _bytes(tensor: Any) -> bytes:
    return bytes(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()) if tensor.numel() else b""


def built(build: Callable[..., Any], *arguments: Any, **settings: Any) -> Callable[[], Mapping[str, Any]]:
    """What an upload would be given, in evaluation mode unless the builder says otherwise."""
    return lambda: {"model": build(*arguments, **settings)}


def with_everything() -> Any:
    """Prompts, a default one, similarity, dimensions, a card."""
    model = embedder(
        modules.Normalize(), prompts={"query": "the quick ", "document": "", "other": "fox "}, truncate_dim=8,
        default_prompt_name="query", similarity_fn_name="dot",
    )  # fmt: skip
    model.max_seq_length = 7
    model.model_card_data.language, model.model_card_data.license = ["en"], "apache-2.0"
    model._model_card_text = "---\nlicense: apache-2.0\n---\n# Foxes\n"
    return model


def own_class() -> Any:
    """A model and a module of one's own classes."""
    model = st_parts.Loud(modules=[*embedder(st_parts.Scaled(2.5))], device="cpu")
    return model.eval()


SOFTMAX = torch.nn.Softmax(-1)
STATIC = functools.partial(
    lambda seed: modules.StaticEmbedding(
        hf_parts.word_tokenizer(), torch.randn(len(hf_parts.WORDS), SIZE, generator=torch.Generator().manual_seed(seed))
    ),
    11,
)


@pytest.mark.filterwarnings("ignore:Importing from:DeprecationWarning")
@pytest.mark.timeout(900)  # minutes where several processes share a core
class TestSentenceTransformers(BuiltinContract):
    """Models of every kind, every module, dtypes and modes."""

    manager = SentenceTransformersManager()

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        pooling = {
            f"pooling {mode}": built(embedder, pooling=mode)
            for mode in (*modules.Pooling.POOLING_MODES, ("mean", "max", "cls"))
        }
        dense = {
            "dense": built(lambda: embedder(modules.Dense(SIZE, 8), modules.Normalize())),
            "dense of another activation": built(
                lambda: embedder(modules.Dense(SIZE, 8, bias=False, activation_function=torch.nn.GELU()))
            ),
            "dense with arguments": built(
                lambda: embedder(modules.Dense(SIZE, 8, activation_function=torch.nn.LeakyReLU(0.3)))
            ),
            "dense of one's own": built(lambda: embedder(modules.Dense(SIZE, 8, activation_function=st_parts.double))),
            "residual": built(lambda: embedder(modules.Dense(SIZE, SIZE, use_residual=True), modules.LayerNorm(SIZE))),
            "dropout": built(lambda: embedder(modules.Dropout(0.4))),
            "several layers": built(
                lambda: st.SentenceTransformer(
                    modules=[
                        st_parts.transformer(config_kwargs={"output_hidden_states": True}),
                        modules.WeightedLayerPooling(SIZE, 2, 1), modules.Pooling(SIZE),
                    ],
                    device="cpu",
                )
            ),
        }  # fmt: skip
        of_words = {
            "word embeddings": lambda: words(st_parts.word_embeddings(), modules.Pooling(SIZE)),
            "word weights": lambda: words(
                st_parts.word_embeddings(), modules.WordWeights([*hf_parts.WORDS], {"fox": 2.5, "dog": 0.3}, 0.7),
                modules.Pooling(SIZE, "weightedmean"),
            ),
            "cnn": lambda: words(
                st_parts.word_embeddings(), modules.CNN(SIZE, out_channels=4, kernel_sizes=[1, 3]), modules.Pooling(8)
            ),
            "lstm": lambda: words(st_parts.word_embeddings(), modules.LSTM(SIZE, 6, num_layers=2), modules.Pooling(12)),
            "bag of words": lambda: words(
                modules.BoW([*hf_parts.WORDS], {"fox": 2.5}, cumulative_term_frequency=False),
                modules.Dense(len(hf_parts.WORDS), 8),
            ),
            "static": lambda: words(STATIC(), modules.Normalize()),
            "router": st_parts.routed,
        }  # fmt: skip
        others = {
            "everything": with_everything,
            "cross-encoder": st_parts.cross_encoder,
            "cross-encoder of classes": functools.partial(
                st_parts.cross_encoder, 3, activation_fn=torch.nn.Softmax(-1)
            ),
            "cross-encoder of answers": st_parts.ranker,
            "splade": functools.partial(st_parts.splade, max_active_dims=6),
            "sparse static": st_parts.sparse_static,
            "sparse auto-encoder": st_parts.sparse_coder,
            "multi-vector": st_parts.late,
            "bf16": functools.partial(st_parts.half, torch.bfloat16),
            "fp16": functools.partial(st_parts.half, torch.float16),
            "fp64": functools.partial(st_parts.half, torch.float64),
            "partly frozen": st_parts.partly_frozen,
            "own classes": own_class,
        }
        found = {name: Case(built(build), observe) for name, build in {**of_words, **others}.items()}
        return {**{name: Case(build, observe) for name, build in {**pooling, **dense}.items()}, **found}

    def test_only_odd_activations_are_pickled(self, tmp_path_factory: Any) -> None:
        """Modules of the library, and classes that another process can import, need no pickle."""
        outcomes = self._outcomes(tmp_path_factory)
        pickled = {name for name, outcome in outcomes.items() if outcome.saved.pickled}
        assert pickled == {"dense with arguments", "dense of one's own", "cross-encoder of classes"}

    def test_every_module_is_tried(self, tmp_path_factory: Any) -> None:
        """The cases hold every module class that the library exports, but those that only rename one."""
        from sentence_transformers.cross_encoder import modules as of_cross
        from sentence_transformers.multi_vector_encoder import modules as of_multi
        from sentence_transformers.sparse_encoder import modules as of_sparse

        public = {name for each in (modules, of_cross, of_multi, of_sparse) for name in each.__all__}
        seen = {
            type(part).__name__
            for outcome in self._outcomes(tmp_path_factory).values()
            for part in outcome.objects["model"].modules()
        }
        bases = {"Module", "InputModule", "BaseTokenPooling"}
        assert public - seen - bases <= {"Asym", "CLIPModel", "MLMTransformer", *TOKEN_POOLING}


TOKEN_POOLING = {"TokenPooling", "HierarchicalTokenPooling", "LambdaTokenPooling"}


def save(obj: Any, folder: Path) -> Saved:
    """Save one object to a folder."""
    with ModelFolder() as files:
        saved = SentenceTransformersManager().save({"model": obj}, files, {})
        write_folder(files.contents(), folder)
    return saved


def load(folder: Path, state: Any, allow_pickle: bool = False, device: str | None = None) -> Any:
    """Load what lies in the folder."""
    request = LoadRequest(folder, json.loads(json.dumps(state)), ("model",), PicklePolicy(allow_pickle), device=device)
    return SentenceTransformersManager().load(request)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: Any) -> tuple[Path, Any]:
    """A model with a Dense module, on disk."""
    folder = tmp_path_factory.mktemp("stored")
    return folder, save(embedder(modules.Dense(SIZE, 8)), folder).state


def test_the_folder_opens_with_sentence_transformers_alone(stored: tuple[Path, Any]) -> None:
    """`SentenceTransformer(folder)` takes the folder `model` as it lies in the archive."""
    alone = st.SentenceTransformer(str(stored[0] / "model"), device="cpu", local_files_only=True)
    assert (alone.encode(TEXTS) == load(*stored).encode(TEXTS)).all()


def test_uploading_leaves_the_model_alone(tmp_path: Path) -> None:
    """Neither modes, nor random numbers, nor the card change by an upload."""
    model = embedder().train()
    before, card = torch.random.get_rng_state(), repr(model.model_card_data)
    save(model, tmp_path)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert model.training
    assert repr(model.model_card_data) == card


def change(folder: Path, name: str, alter: Callable[[Any], None]) -> None:
    """Write a JSON file anew."""
    content = json.loads((folder / name).read_text(encoding="utf-8"))
    alter(content)
    (folder / name).unlink()
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


HOSTILE: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "another class": ("modules.json", lambda each: each[2].update(type="tests.managers.st_parts.Scaled")),
    "a function": ("modules.json", lambda each: each[2].update(type="os.system")),
    "another folder": ("modules.json", lambda each: each[2].update(path="../2_Dense")),
    "no type": ("modules.json", lambda each: each[2].pop("type")),
    "a function of torch": ("2_Dense/config.json", lambda each: each.update(activation_function="torch.hub.list")),
    "an activation elsewhere": ("2_Dense/config.json", lambda each: each.update(activation_function="os.abort")),
    "code at the hub": ("config.json", lambda each: each.update(auto_map={"AutoModel": "x--y.Z"})),
    "trust": ("sentence_bert_config.json", lambda each: each.update(model_args={"trust_remote_code": True})),
    "a tokenizer elsewhere": ("tokenizer_config.json", lambda each: each.update(tokenizer_class="os.path.Join")),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_folder_is_refused_before_it_is_read(name: str, stored: tuple[Path, Any], tmp_path: Path) -> None:
    """Names of code in the folder's JSON files are checked before the loader sees them."""
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(stored[0], folder)
    file, alter = HOSTILE[name]
    change(folder / "model", file, alter)
    with pytest.raises(IntegrityError):
        load(folder, stored[1], allow_pickle=True)


@pytest.mark.parametrize("name", ["modeling.py", "pytorch_model.bin", "adapter_config.json", "1_Pooling/weights.pt"])
def test_files_that_can_run_code_are_refused(name: str, stored: tuple[Path, Any], tmp_path: Path) -> None:
    """Code, pickles and adapters in the folder are named and not read."""
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(stored[0], folder)
    (folder / "model" / name).write_bytes(b"{}")
    with pytest.raises(IntegrityError, match="run code"):
        load(folder, stored[1], allow_pickle=True)


def test_a_damaged_folder_is_an_error(stored: tuple[Path, Any], tmp_path: Path) -> None:
    """Missing files and weights are named."""
    import shutil

    needed = ["model/modules.json", "model/model.safetensors", "settings.json", "model.rest.json",
              "model/2_Dense/model.safetensors"]  # fmt: skip
    for at, name in enumerate(needed):
        folder = tmp_path / str(at)
        shutil.copytree(stored[0], folder)
        (folder / name).unlink()
        with pytest.raises(IntegrityError):
            load(folder, stored[1])


@pytest.mark.parametrize(
    "alter",
    [
        lambda state: state["class"].update({"class": "subprocess:Popen"}),
        lambda state: state["class"].update({"class": "torch.nn.modules.linear:Linear"}),
        lambda state: state["modules"].update({"os.system": {"class": "os:system"}}),
        lambda state: state["modules"].update({"a.B": {"class": "torch.nn.modules.linear:Linear"}}),
        lambda state: state.pop("modules"),
        lambda state: state.update(dtype="load"),
    ],
    ids=["another class", "no model", "a function", "under another name", "no modules", "no dtype"],
)
def test_a_record_cannot_name_other_classes(alter: Any, stored: tuple[Path, Any]) -> None:
    """Model and module classes of a record are checked before they are called."""
    state = json.loads(json.dumps(stored[1]))
    alter(state)
    with pytest.raises(IntegrityError):
        load(stored[0], state, allow_pickle=True)


class Demanding(st.SentenceTransformer):
    """A class whose constructor takes something else."""

    def __init__(self, parts: Any) -> None:
        super().__init__(modules=parts, device="cpu")


def exported() -> Any:
    """A model that says it runs on ONNX."""
    model = embedder()
    model.get_backend = lambda: "onnx"
    return model


def on_meta() -> Any:
    """A model without values."""
    return embedder().to("meta")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (st_parts.adapted, "merge_and_unload"),
        (exported, "runs on onnx"),
        (lambda: Demanding([*embedder()]), "__init__"),
        (on_meta, "meta"),
    ],
)
def test_what_would_not_come_back_is_refused(build: Callable[[], Any], message: str, tmp_path: Path) -> None:
    """Adapters, other backends, classes with other constructors, and empty weights are refused with advice."""
    with pytest.raises(UnsupportedObjectError, match=message):
        save(build(), tmp_path)


def test_a_device_is_heeded(stored: tuple[Path, Any]) -> None:
    """`device=` says where the weights go; one that is not here is refused, and a recorded one forgotten."""
    assert load(*stored, device="cpu").device.type == "cpu"
    with pytest.raises(InvalidArgumentError, match="cannot use the device"):
        load(*stored, device="cuda:7")


def test_a_device_of_the_upload_that_is_not_here_is_forgotten(stored: tuple[Path, Any], tmp_path: Path) -> None:
    """What was on a GPU loads on the CPU of a machine without one."""
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(stored[0], folder)
    change(folder, "model.rest.json", lambda each: each.update(device="cuda:99"))
    assert load(folder, stored[1]).device.type == "cpu"


def test_training_goes_on_after_a_load(stored: tuple[Path, Any]) -> None:
    """A step of training changes the loaded model as it changes a second one, and no file."""
    before = hashlib.sha256((stored[0] / "model" / "model.safetensors").read_bytes()).hexdigest()
    results = []
    for model in (load(*stored), load(*stored)):
        output = model(model.preprocess(TEXTS))["sentence_embedding"]
        output.sum().backward()
        torch.optim.SGD(model.parameters(), lr=1.0).step()
        results.append(model.encode(TEXTS))
    assert (results[0] == results[1]).all()
    assert not (results[0] == load(*stored).encode(TEXTS)).all()
    assert hashlib.sha256((stored[0] / "model" / "model.safetensors").read_bytes()).hexdigest() == before


def test_through_a_store(store: ModelStore) -> None:
    """`upload` finds the manager and records modules and dimensions; `load` needs no pickle."""
    model = embedder(modules.Dense(SIZE, 8))
    info = store.upload("texts", model=model)
    assert info.library == "sentence_transformers"
    assert info["model"]["parameters"]["dimensions"] == 8
    loaded = store.load("texts", info.model_id, allow_pickle=False)
    assert (loaded.encode(TEXTS) == model.encode(TEXTS)).all()


SCRIPT = """
    import sys
    import torch
    from sentence_transformers.sentence_transformer import modules
    from modelstore import ModelStore
    from tests.managers import st_parts

    class Squared(modules.Normalize):
        def forward(self, features):
            features["sentence_embedding"] = features["sentence_embedding"] ** 2
            return super().forward(features)

    torch.set_num_threads(1)
    model = st_parts.embedder(Squared())
    ModelStore.from_file_system(sys.argv[1], create_directory=True).upload("texts", model_id="a", model=model)
    print(model.encode(["the fox"]).tobytes().hex())
"""


def test_a_module_of_a_notebook_loads_elsewhere(tmp_path: Path) -> None:
    """A module class from `__main__` is stored by value, and loads where nobody knows it, if pickles are allowed."""
    script = tmp_path / "notebook.py"
    script.write_text(textwrap.dedent(SCRIPT))
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "models")],
        capture_output=True, text=True, check=False, timeout=280,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    reader = ModelStore.from_file_system(tmp_path / "models")
    with pytest.raises(PickleNotAllowedError):
        reader.load("texts", "a", allow_pickle=False)
    torch.set_num_threads(1)
    loaded = reader.load("texts", "a")
    assert loaded.encode(["the fox"]).tobytes().hex() == done.stdout.split()[-1]
