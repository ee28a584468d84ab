"""Writes a store with operatorai/modelstore: `python write.py FOLDER`, in an environment of requirements/ancestor.txt.

What lies in `tests/golden/ancestor/store/` was written by this with version 0.0.82, once. It holds a model of each
library that the environment has, and what its stores come to look like with time: states, a deleted model, a "latest"
that is gone, an id that was used again, names with slashes and spaces. With `--s3` FOLDER is the name of a bucket.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from modelstore import ModelStore

DATA = np.array([[float(i % 7), float(i % 3), float(i * i % 11)] for i in range(40)])
LABELS = np.array([int(row[0] + row[1] > 4) for row in DATA])


def main(store: ModelStore) -> None:
    """Fill a store; prints the domain, id and predictions of each of its models as JSON."""
    expected: dict[str, Any] = {}
    for library in ("sklearn", "xgboost", "lightgbm", "annoy", "statsmodels", "onnx"):
        if importlib.util.find_spec(library) is not None:
            expected[f"libraries/{library}"] = globals()[f"_{library}"](store)
    _life(store)
    print(json.dumps(expected))


def _sklearn(store: ModelStore) -> Any:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=300).fit(DATA, LABELS)
    with tempfile.TemporaryDirectory() as scratch:
        extra = Path(scratch) / "Größe.txt"
        extra.write_text("an extra file\n", encoding="utf-8")
        metadata = {"team": "fincrime", "auc": 0.9}
        store.upload(
            "libraries", "sklearn", model=model, extra_files=str(extra), extra_metadata=metadata,
            X_train=DATA, y_train=LABELS.reshape(-1, 1),
        )  # fmt: skip
    return model.predict_proba(DATA).tolist()


def _xgboost(store: ModelStore) -> Any:
    import xgboost

    model = xgboost.XGBClassifier(n_estimators=3, max_depth=2).fit(DATA, LABELS)
    store.upload("libraries", "xgboost", model=model)
    store.upload("libraries", "xgboost-booster", model=model.get_booster())
    return model.predict_proba(DATA).tolist()


def _lightgbm(store: ModelStore) -> Any:
    import lightgbm

    parameters = {"objective": "binary", "num_leaves": 3, "min_data_in_leaf": 3, "verbose": -1, "num_threads": 1}
    model = lightgbm.train(parameters, lightgbm.Dataset(DATA, LABELS), 3)
    store.upload("libraries", "lightgbm", model=model)
    return model.predict(DATA).tolist()


def _annoy(store: ModelStore) -> Any:
    from annoy import AnnoyIndex

    model = AnnoyIndex(3, "euclidean")
    model.set_seed(1)
    for number, row in enumerate(DATA[:10]):
        model.add_item(number, row)
    model.build(2)
    store.upload("libraries", "annoy", model=model, metric="euclidean", num_trees=2)
    return model.get_nns_by_item(0, 3)


def _statsmodels(store: ModelStore) -> Any:
    import statsmodels.api as sm

    model = sm.OLS(LABELS, DATA).fit()
    store.upload("libraries", "statsmodels", model=model)
    return np.asarray(model.predict(DATA)).tolist()


def _onnx(store: ModelStore) -> Any:
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 3]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    store.upload("libraries", "onnx", model=model)
    return np.maximum(DATA, 0).tolist()


def _life(store: ModelStore) -> None:
    with tempfile.TemporaryDirectory() as scratch:

        def upload(domain: str, model_id: str, text: str) -> None:
            path = Path(scratch) / "model.bin"
            path.write_text(text, encoding="utf-8")
            store.upload(domain, model_id, model=str(path))

        for state in ("production", "staging", "in shadow", "gone"):
            store.create_model_state(state)
        for number in (1, 2, 3, 4):
            upload("fraud", f"m{number}", f"fraud {number}")
        store.set_model_state("fraud", "m1", "production")
        store.set_model_state("fraud", "m2", "production")
        store.set_model_state("fraud", "m2", "staging")
        store.set_model_state("fraud", "m3", "in shadow")
        store.remove_model_state("fraud", "m2", "staging")
        store.set_model_state("fraud", "m3", "gone")
        store.delete_model_state("gone", skip_prompt=True)  # its copies of the metadata stay behind
        upload("fraud", "again", "first")
        store.delete_model("fraud", "again", skip_prompt=True)
        upload("fraud", "again", "second")
        store.set_model_state("fraud", "m4", "staging")
        upload("fraud", "latest", "deleted, and still the latest")
        store.delete_model("fraud", "latest", skip_prompt=True)
        upload("emea/credit risk", "r1", "a domain with a slash and a space")
        upload("größe", "ü", "letters")
        upload("all gone", "only", "deleted")
        store.delete_model("all gone", "only", skip_prompt=True)


def _opened(arguments: argparse.Namespace) -> ModelStore:
    if arguments.s3:
        return ModelStore.from_aws_s3(bucket_name=arguments.place, root_prefix=arguments.prefix)
    os.makedirs(arguments.place, exist_ok=True)
    return ModelStore.from_file_system(root_directory=arguments.place)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("place")
    parser.add_argument("--s3", action="store_true")
    parser.add_argument("--prefix", default="")
    main(_opened(parser.parse_args()))
