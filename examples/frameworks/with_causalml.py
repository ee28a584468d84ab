"""CausalML, up and back: `python examples/frameworks/with_causalml.py [FOLDER]`.

Whom does a letter move to buy? A learner with two models, one for those who got it and one for those who did not.
"""

from __future__ import annotations

import sys

import numpy as np
from causalml.inference.meta import BaseTRegressor
from sklearn.ensemble import GradientBoostingRegressor

from modelstore import ModelStore


def main(folder: str = "models") -> None:
    random = np.random.default_rng(0)
    people = random.normal(size=(600, 4))  # age, income, visits, distance; scaled
    letter = random.integers(0, 2, size=600)
    spent = 5 + people[:, 1] + letter * np.maximum(people[:, 0], 0) + random.normal(scale=0.3, size=600)
    model = BaseTRegressor(GradientBoostingRegressor(n_estimators=50, random_state=0))
    model.fit(people, letter, spent)

    store = ModelStore.from_file_system(folder, create_directory=True)
    effect = float(np.mean(model.predict(people)))
    info = store.upload("letters", model=model, metrics={"average effect": effect})

    loaded = store.load("letters", info.model_id, allow_pickle=False)
    if not np.array_equal(loaded.predict(people), model.predict(people)):
        raise SystemExit("the loaded model sees other effects")
    print(f"{info.library}: {info.model_id} loads with equal predictions")


if __name__ == "__main__":
    main(*sys.argv[1:2])
