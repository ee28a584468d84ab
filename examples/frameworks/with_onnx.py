"""ONNX, up and back: `python examples/frameworks/with_onnx.py [FOLDER]`.

A small net as an ONNX model, and a session of onnxruntime that runs it. Each comes back as what it was.
"""

from __future__ import annotations

import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from modelstore import ModelStore


def net(inputs: int = 4, hidden: int = 16) -> onnx.ModelProto:
    """Two layers with weights of chance, as a converter would write them."""
    random = np.random.default_rng(0)
    shapes = {"first": (inputs, hidden), "second": (hidden, 1)}
    weights = [
        numpy_helper.from_array(random.normal(size=shape).astype("float32"), name) for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("MatMul", ["rows", "first"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("MatMul", ["active", "second"], ["answer"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
        for name, size in (("rows", inputs), ("answer", 1))
    ]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def main(folder: str = "models") -> None:
    model = net()
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    store = ModelStore.from_file_system(folder, create_directory=True)
    as_model = store.upload("nets", model=model)
    as_session = store.upload("nets", model=session)

    rows = np.random.default_rng(1).normal(size=(10, 4)).astype("float32")
    loaded = store.load("nets", as_session.model_id, allow_pickle=False)
    if not np.array_equal(loaded.run(None, {"rows": rows})[0], session.run(None, {"rows": rows})[0]):
        raise SystemExit("the loaded session computes something else")
    if store.load("nets", as_model.model_id, allow_pickle=False) != model:
        raise SystemExit("the loaded model is another one")
    print(f"{as_session.library}: {as_session.model_id} loads with equal predictions")


if __name__ == "__main__":
    main(*sys.argv[1:2])
