"""ONNX: a model as `onnx` holds it (`ModelProto`), and a session of onnxruntime.

Both lie in the archive as the model file that every ONNX runtime reads. A session cannot be written, so that its file
is the bytes or the file that it was made from, with the files that keep its tensors, and its options lie in the record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError, InvalidArgumentError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers._onnx.session import MODEL, load_session, save_session
from modelstore.managers.base import LoadRequest, ObjectManager, Saved, class_name
from modelstore.notices import warn

FOLDER = "model"
"""A folder of its own, as the files with tensors are called as they like."""
TENSORS = "modelstore-tensors.bin"
"""Where large tensors lie of a model that is too large for one message."""

_SESSION = "onnxruntime.capi.onnxruntime_inference_collection:InferenceSession"
_LARGEST = 2**31 - 1 - 2**16  # bytes of a protobuf message, with room for what is added to it
_DETACHED = 1024  # bytes; smaller tensors stay in the message


class OnnxManager(ObjectManager):
    """Stores `ModelProto` and `InferenceSession`."""

    name = "onnx"
    title = "ONNX and onnxruntime"
    claims = ("onnx.onnx_ml_pb2:ModelProto", "onnx.onnx_pb2:ModelProto", _SESSION)
    load_options = ("device",)
    distributions = ("onnx", "onnxruntime", "onnxruntime-gpu", "numpy", "protobuf")
    extra = "onnx"
    restores_as = "the same class; a subclass of `InferenceSession` as `InferenceSession`"
    exactness = "the same model; a session's results bit for bit with the same version, providers and machine"
    limits = (
        "a ModelProto whose tensors lie in other files: it does not tell in which folder, so load them with it",
        "a session made from a model package, or from a file that is gone",
        "a session's custom operators, added initializers and free dimensions, which onnxruntime does not tell",
        "options of a session or provider that load libraries or write files are not taken over",
    )

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write the model file, and the files with its tensors.

        Raises:
            UnsupportedObjectError: the model is not wholly there.
        """
        if hasattr(obj, "SerializeToString"):
            return _save_model(obj, folder.sub(FOLDER))
        if class_name(obj) != _SESSION:
            warn(f"this {class_name(obj)} comes back as an InferenceSession: onnxruntime's sessions cannot be pickled")
        return save_session(obj, folder.sub(FOLDER))

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Read the model file; of a session, make another with its options.

        Raises:
            InvalidArgumentError: `device=` is none that this machine has, or a ModelProto was to go there.
        """
        if state["of"] == "session":
            return load_session(folder / FOLDER, state, request.device)
        if request.device is not None:
            raise InvalidArgumentError("device", "a ModelProto lies in memory and on no device")
        return _load_model(folder / FOLDER, state)

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """Producer, inputs and outputs; of a model also its operator sets, of a session its providers."""
        if hasattr(obj, "SerializeToString"):
            opsets = {entry.domain or "ai.onnx": entry.version for entry in obj.opset_import}
            names = {"inputs": [put.name for put in obj.graph.input], "outputs": [put.name for put in obj.graph.output]}
            return {
                "producer": obj.producer_name, "graph": obj.graph.name, "ir_version": obj.ir_version,
                "opsets": opsets, "nodes": len(obj.graph.node), **names,
            }  # fmt: skip
        meta = obj.get_modelmeta()
        puts = {"inputs": obj.get_inputs(), "outputs": obj.get_outputs()}
        found = {name: {put.name: [put.type, *put.shape] for put in each} for name, each in puts.items()}
        return {"producer": meta.producer_name, "graph": meta.graph_name, **found, "providers": obj.get_providers()}


def _save_model(model: Any, folder: ModelFolder) -> Saved:
    import onnx

    tensors = list(_tensors(model))
    if any(onnx.external_data_helper.uses_external_data(tensor) for tensor in tensors):
        raise UnsupportedObjectError(
            "tensors of this ModelProto lie in other files, and it does not tell in which folder: load it with them "
            "(onnx.load does unless told otherwise), or pass the path of the whole folder as model=",
            class_name(model),
        )
    if model.ByteSize() <= _LARGEST:
        folder.add_bytes(MODEL, model.SerializeToString())
        return Saved("onnx", {"of": "model", "detached": False})
    with _detached(tensors) as pieces:
        folder.add_bytes(MODEL, model.SerializeToString())
    folder.add_buffers(TENSORS, pieces)
    return Saved("onnx", {"of": "model", "detached": True})


def _tensors(model: Any) -> Iterator[Any]:
    """All tensors that may be large; `onnx` has such a function too, but not as part of its interface."""
    graphs = [model.graph]
    nodes = [node for function in model.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes += graph.node
            continue
        for attribute in nodes.pop().attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            graphs += [attribute.g] if attribute.HasField("g") else []
            graphs += attribute.graphs


@contextmanager
def _detached(tensors: list[Any]) -> Iterator[list[bytes]]:
    """Within it, the tensors' data stands outside of the message, in ONNX's own way; afterwards it is back."""
    import onnx

    pieces: list[bytes] = []
    moved: list[tuple[Any, bytes]] = []
    at = 0
    try:
        for tensor in tensors:
            if len(data := tensor.raw_data) >= _DETACHED:
                moved.append((tensor, data))
                onnx.external_data_helper.set_external_data(tensor, TENSORS, at, len(data))
                tensor.ClearField("raw_data")
                pieces.append(data)
                at += len(data)
        yield pieces
    finally:
        for tensor, data in moved:
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
            tensor.raw_data = data


def _load_model(folder: Path, state: Mapping[str, Any]) -> Any:
    import onnx

    try:
        model = onnx.load_model_from_string((folder / MODEL).read_bytes())
        if state["detached"]:
            for tensor in _tensors(model):
                if onnx.external_data_helper.uses_external_data(tensor):
                    _attach(tensor, folder / TENSORS)
    except (OSError, ValueError, KeyError) as error:
        raise IntegrityError("the ONNX model", MODEL, f"it cannot be read: {error}") from error
    except Exception as error:  # protobuf's DecodeError, which derives from Exception alone
        raise IntegrityError("the ONNX model", MODEL, f"it is no ONNX model: {error}") from error
    return model


def _attach(tensor: Any, file: Path) -> None:
    where = {entry.key: entry.value for entry in tensor.external_data}
    # Of the name nothing is believed: it comes from the store.
    with open(file, "rb") as data:
        data.seek(int(where["offset"]))
        tensor.raw_data = data.read(int(where["length"]))
    if len(tensor.raw_data) != int(where["length"]):
        raise IntegrityError("the ONNX model", TENSORS, f"the data of {tensor.name!r} is not all there")
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
