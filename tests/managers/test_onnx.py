"""ONNX: models are the same message, sessions compute the same with the options that they had."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import modelstore.managers.onnx as module
from modelstore import ModelStore
from modelstore.contracts.manager import Case
from modelstore.exceptions import IntegrityError, InvalidArgumentError, UnsupportedObjectError
from modelstore.managers._onnx.options import CPU, options_of, providers_of
from modelstore.managers._onnx.session import MODEL
from modelstore.managers._onnx.wire import external_files
from modelstore.managers.onnx import FOLDER, TENSORS, OnnxManager
from tests.managers.contract import BuiltinContract
from tests.managers.helpers import get, put

SIZE = 32
ROWS = np.random.RandomState(0).normal(size=(5, SIZE)).astype("float32")


class Own(onnxruntime.InferenceSession):  # type: ignore[misc]
    """A user's session in an importable module."""


def model(branches: bool = False) -> Any:
    """Two layers; with branches, some of the weights lie in the graphs of an `If`."""
    random = np.random.RandomState(1)
    weights = [numpy_helper.from_array(random.normal(size=(SIZE, SIZE)).astype("float32"), f"w{at}") for at in (0, 1)]
    rows = helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", SIZE])
    answer = helper.make_tensor_value_info("answer", TensorProto.FLOAT, None)
    nodes = [helper.make_node("MatMul", ["rows", "w0"], ["hidden"]), helper.make_node("Tanh", ["hidden"], ["h"])]
    if branches:
        inner = helper.make_node("MatMul", ["h", "w1"], ["inner"])
        out = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
        each = [helper.make_graph([inner], name, [], [out], [weights[1]]) for name in ("yes", "no")]
        nodes += [
            helper.make_node("Constant", [], ["flag"], value=numpy_helper.from_array(np.array(True), "flag")),
            helper.make_node("If", ["flag"], ["answer"], then_branch=each[0], else_branch=each[1]),
        ]
    else:
        nodes.append(helper.make_node("MatMul", ["h", "w1"], ["answer"]))
    graph = helper.make_graph(nodes, "layers", [rows], [answer], weights[: 1 if branches else 2])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9, producer_name="tests")
    made.metadata_props.add(key="origin", value="here")
    return made


def file(folder: Path | None = None, **how: Any) -> Path:
    """A model file with its weights in two files beside it, one of them in a folder below."""
    folder = folder or Path(tempfile.mkdtemp())
    made = model(**how)
    for at, tensor in enumerate(made.graph.initializer):
        onnx.external_data_helper.set_external_data(tensor, location=("weights/first.bin", "second.bin")[at])
    (folder / "weights").mkdir()
    onnx.save(made, str(folder / "net.onnx"))
    return folder / "net.onnx"


def session(source: Any = None, cls: Any = onnxruntime.InferenceSession, **options: Any) -> Any:
    """A session of a file's path, or of bytes."""
    given = onnxruntime.SessionOptions()
    given.intra_op_num_threads = 1
    for name, value in options.items():
        setattr(given, name, value)
    return cls(model().SerializeToString() if source is None else source, given, providers=[CPU])


def observe(found: Any) -> Any:
    """The whole message."""
    return found.SerializeToString(deterministic=True)


def run(found: Any) -> Any:
    """What a session computes, how, and what it tells of itself."""
    given, meta = found.get_session_options(), found.get_modelmeta()
    return {
        "answer": found.run(None, {"rows": ROWS})[0],
        "threads": [given.intra_op_num_threads, given.inter_op_num_threads],
        "level": given.graph_optimization_level.name,
        "mode": given.execution_mode.name,
        "memory": [given.enable_mem_pattern, given.enable_cpu_mem_arena],
        "providers": found.get_providers(),
        "puts": [[put.name, put.type, put.shape] for put in [*found.get_inputs(), *found.get_outputs()]],
        "meta": [meta.producer_name, meta.graph_name, meta.custom_metadata_map],
    }


def observe_entry(found: Any) -> Any:
    """One entry of a session's configuration."""
    return [run(found), found.get_session_options().get_session_config_entry("session.disable_prepacking")]


def _with_entry() -> Any:
    given = onnxruntime.SessionOptions()
    given.add_session_config_entry("session.disable_prepacking", "1")
    return {"model": onnxruntime.InferenceSession(model().SerializeToString(), given)}


def _of_ort_format() -> Any:
    path = Path(tempfile.mkdtemp()) / "net.ort"
    session(optimized_model_filepath=str(path))
    return {"model": session(str(path))}


class TestOnnx(BuiltinContract):
    """Messages and sessions, of bytes and of files."""

    manager = OnnxManager()

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        mode = onnxruntime.ExecutionMode.ORT_PARALLEL
        return {
            "model": Case(lambda: {"model": model()}, observe),
            "model with branches": Case(lambda: {"model": model(branches=True)}, observe),
            "model read from several files": Case(lambda: {"model": onnx.load(str(file()))}, observe),
            "empty model": Case(lambda: {"model": onnx.ModelProto()}, observe),
            "session of bytes": Case(lambda: {"model": session()}, run),
            "session of a file": Case(lambda: {"model": session(_saved())}, run),
            "session of a file with others beside it": Case(lambda: {"model": session(file())}, run),
            "session with branches": Case(lambda: {"model": session(model(branches=True).SerializeToString())}, run),
            "session of onnxruntime's own format": Case(_of_ort_format, run),
            "session with options": Case(
                functools.partial(
                    _options, graph_optimization_level=level, execution_mode=mode, enable_mem_pattern=False
                ),
                run,
            ),
            "session with an entry": Case(_with_entry, observe_entry),
            "two": Case(lambda: {"model": session(), "preprocessor": model()}, observe_two),
        }


def _options(**options: Any) -> Any:
    return {"model": session(inter_op_num_threads=2, **options)}


def _saved() -> str:
    path = Path(tempfile.mkdtemp()) / "plain.onnx"
    onnx.save(model(), str(path))
    return str(path)


def observe_two(found: Mapping[str, Any]) -> Any:
    """A session and a model of one upload."""
    return [run(found["model"]), observe(found["preprocessor"])]


def test_a_model_beyond_the_limit_of_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tensors lie in a second file in ONNX's own way; the original stays as it is, and the same comes back."""
    monkeypatch.setattr(module, "_LARGEST", 2000)
    made = model(branches=True)
    before = observe(made)
    saved = put(OnnxManager(), made, tmp_path)
    assert observe(made) == before
    assert (tmp_path / FOLDER / MODEL).stat().st_size < 2000
    assert (tmp_path / FOLDER / TENSORS).stat().st_size == 3 * SIZE * SIZE * 4
    assert observe(get(OnnxManager(), saved, tmp_path)) == before
    assert onnxruntime.InferenceSession(str(tmp_path / FOLDER / MODEL)).run(None, {"rows": ROWS})
    (tmp_path / FOLDER / TENSORS).write_bytes(b"cut")
    with pytest.raises(IntegrityError, match="not all there"):
        get(OnnxManager(), saved, tmp_path)


def test_the_files_of_a_session_are_taken_along(tmp_path: Path) -> None:
    """They lie beside the model under their own names, and the session runs when the originals are gone."""
    path = file()
    made = session(path)
    saved = put(OnnxManager(), made, tmp_path)
    names = sorted(str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*") if each.is_file())
    assert names == ["model/model.onnx", "model/second.bin", "model/weights/first.bin"]
    loaded = get(OnnxManager(), saved, tmp_path)
    assert np.array_equal(loaded.run(None, {"rows": ROWS})[0], made.run(None, {"rows": ROWS})[0])
    put(OnnxManager(), loaded, tmp_path / "again")
    (path.parent / "second.bin").unlink()
    with pytest.raises(UnsupportedObjectError, match="'second.bin', and no such file"):
        put(OnnxManager(), made, tmp_path / "third")
    path.unlink()
    with pytest.raises(UnsupportedObjectError, match="make the session from bytes"):
        put(OnnxManager(), made, tmp_path / "third")


def test_a_model_without_its_tensors_is_refused(tmp_path: Path) -> None:
    """A message does not tell in which folder its files lie; the error says what to do."""
    with pytest.raises(UnsupportedObjectError, match="load it with them"):
        put(OnnxManager(), onnx.load(str(file()), load_external_data=False), tmp_path)


def test_a_session_without_a_source_is_refused(tmp_path: Path) -> None:
    """As of a model package, which leaves neither bytes nor a path."""
    made = session()
    made._model_bytes = None
    with pytest.raises(UnsupportedObjectError, match="neither bytes nor a file"):
        put(OnnxManager(), made, tmp_path)


def test_a_session_of_a_subclass_comes_back_as_its_parent(tmp_path: Path) -> None:
    """With a warning at upload, as a session cannot be pickled."""
    with pytest.warns(UserWarning, match="comes back as an InferenceSession"):
        saved = put(OnnxManager(), session(cls=Own), tmp_path)
    assert type(get(OnnxManager(), saved, tmp_path)) is onnxruntime.InferenceSession


def test_device_chooses_the_provider(tmp_path: Path) -> None:
    """`cpu` is everywhere; another device has to be here, and a message lies on none."""
    saved = put(OnnxManager(), session(), tmp_path)
    assert get(OnnxManager(), saved, tmp_path, device="cpu").get_providers() == [CPU]
    with pytest.raises(InvalidArgumentError, match="none of cpu, cuda"):
        get(OnnxManager(), saved, tmp_path, device="tpu")
    saved = put(OnnxManager(), model(), tmp_path / "model")
    with pytest.raises(InvalidArgumentError, match="lies in memory"):
        get(OnnxManager(), saved, tmp_path / "model", device="cpu")


def test_providers_of_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are here are used in their order, with harmless options, and the CPU's comes last."""
    gpu = "CUDAExecutionProvider"
    options = {"device_id": 1, "ep_library": "/tmp/evil.so"}
    described = {"providers": [["TensorrtExecutionProvider", {}], [gpu, options], [CPU, {}]]}
    assert providers_of(described, None) == [(CPU, {})]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [gpu, CPU])
    assert providers_of(described, None) == [(gpu, {"device_id": "1"}), (CPU, {})]
    assert providers_of(described, "cuda:3") == [(gpu, {"device_id": "3"}), (CPU, {})]
    assert providers_of(described, "cpu") == [(CPU, {})]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    with pytest.raises(InvalidArgumentError, match="takes onnxruntime's CUDAExecutionProvider"):
        providers_of(described, "cuda")


def test_options_that_write_files_are_not_taken_from_a_record() -> None:
    """A record sets what is listed, and nothing else."""
    forged = {"options": {"optimized_model_filepath": "/tmp/x", "enable_profiling": True}, "entries": {"ep.x": "1"}}
    options = options_of(forged)
    assert options.optimized_model_filepath == ""
    assert options.enable_profiling is False
    with pytest.raises(RuntimeError):
        options.get_session_config_entry("ep.x")


@pytest.mark.parametrize("name", ["../secret.bin", "/etc/passwd", "a/../../b", "C:\\x", "", "a:b"])
def test_a_model_that_reads_other_files_is_refused(name: str, tmp_path: Path) -> None:
    """Before onnxruntime sees it, whatever its version checks by itself."""
    made = model()
    saved = put(OnnxManager(), session(), tmp_path)
    tensor = made.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, location="x", offset=0, length=4096)
    tensor.ClearField("raw_data")
    tensor.external_data[0].value = name
    (tmp_path / FOLDER / MODEL).write_bytes(made.SerializeToString())
    with pytest.raises(IntegrityError, match="outside of its folder"):
        get(OnnxManager(), saved, tmp_path, state={**saved.state, "from": "path"})


def test_names_of_other_files_are_found_wherever_tensors_are() -> None:
    """In graphs of branches, attributes, sparse tensors and functions, as `onnx` itself finds them."""
    made = model(branches=True)
    branch = made.graph.node[-1].attribute[0].g.initializer[0]
    constant = made.graph.node[2].attribute[0].t
    sparse = made.graph.sparse_initializer.add().values
    function = made.functions.add(name="f", domain="d").node.add(op_type="Constant").attribute.add(name="value").t
    for at, tensor in enumerate((branch, constant, sparse, function)):
        tensor.raw_data = b"1234"
        onnx.external_data_helper.set_external_data(tensor, location=f"{at}.bin")
    left = made.graph.initializer[0]
    left.external_data.add(key="location", value="../unused")  # the data lies in the message nevertheless
    assert external_files(memoryview(made.SerializeToString())) == ["0.bin", "1.bin", "2.bin", "3.bin"]


@pytest.mark.parametrize(
    "data",
    [b"\xff" * 20, b"\x3a\x7f", b"\x3b", b"\x3a\x04\x2a\x7f", b"\x80" * 12, b"\x3a\x06" * 300],
    ids=["number", "end", "group", "inner end", "long number", "nest"],
)
def test_what_is_no_message_is_damage(data: bytes, tmp_path: Path) -> None:
    """Bytes that are no model are reported as such, of a session and of a model."""
    for made in (session(), model()):
        saved = put(OnnxManager(), made, tmp_path)
        (tmp_path / FOLDER / MODEL).write_bytes(data)
        with pytest.raises(IntegrityError):
            get(OnnxManager(), saved, tmp_path)


@pytest.mark.parametrize(
    "wrong", [{"file": "../x"}, {"options": 3}, {"providers": [1]}, {"of": "session", "file": None}]
)
def test_a_forged_record_is_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    """Fields of the record are read as data."""
    saved = put(OnnxManager(), session(), tmp_path)
    with pytest.raises(IntegrityError):
        get(OnnxManager(), saved, tmp_path, state={**saved.state, **wrong})


def test_through_the_store(store: ModelStore) -> None:
    """One line up, one line back, without a pickle; the record names the library, inputs and outputs."""
    made = session()
    info = store.upload("nets", model=made)
    assert info.library == "onnx"
    assert info["model"]["parameters"]["inputs"] == {"rows": ["tensor(float)", "n", SIZE]}
    loaded = store.load("nets", allow_pickle=False, device="cpu")
    assert np.array_equal(loaded.run(None, {"rows": ROWS})[0], made.run(None, {"rows": ROWS})[0])
    info = store.upload("nets", model=model())
    assert info["model"]["parameters"]["opsets"] == {"ai.onnx": 17}
    assert observe(store.load("nets", allow_pickle=False)) == observe(model())
