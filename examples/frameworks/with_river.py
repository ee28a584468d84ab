"""river, up and back: `python examples/frameworks/with_river.py [FOLDER]`.

A model that learns from a stream is stored half way, and goes on learning after it was loaded.
"""

from __future__ import annotations

import itertools
import sys

from river import compose, datasets, ensemble, metrics, preprocessing, tree

from modelstore import ModelStore


def main(folder: str = "models") -> None:
    forest = ensemble.BaggingClassifier(tree.HoeffdingTreeClassifier(grace_period=20), n_models=3, seed=1)
    model = compose.Pipeline(preprocessing.StandardScaler(), forest)
    stream = list(datasets.Phishing())
    accuracy = metrics.Accuracy()
    for x, y in itertools.islice(stream, 600):
        accuracy.update(y, model.predict_one(x))
        model.learn_one(x, y)

    store = ModelStore.from_file_system(folder, create_directory=True)
    info = store.upload("phishing", model=model, metrics={"accuracy": accuracy.get()})

    loaded = store.load("phishing", info.model_id, allow_pickle=True)
    for x, y in stream[600:]:
        # The random numbers of bagging are part of the model, so both learn the same.
        if loaded.predict_proba_one(x) != model.predict_proba_one(x):
            raise SystemExit("the loaded model predicts something else")
        loaded.learn_one(x, y)
        model.learn_one(x, y)
    print(f"{info.library}: {info.model_id} loads and learns on with equal predictions")


if __name__ == "__main__":
    main(*sys.argv[1:2])
