"""gensim, up and back: `python examples/frameworks/with_gensim.py [FOLDER]`.

Words that stand in the same company get similar vectors. The model is stored without a pickle, and learns on after a
load.
"""

from __future__ import annotations

import random
import sys

import numpy as np
from gensim.models import Word2Vec

from modelstore import ModelStore

SUBJECTS = {"kitchen": ["knife", "pan", "oven", "spoon"], "harbour": ["ship", "crane", "anchor", "sailor"]}


def sentences(number: int = 800) -> list[list[str]]:
    """Short texts, each about a kitchen or a harbour."""
    choice = random.Random(0)
    found = []
    for _ in range(number):
        place = choice.choice(sorted(SUBJECTS))
        found.append([place, *choice.sample(SUBJECTS[place], 3)])
    return found


def main(folder: str = "models") -> None:
    texts = sentences()
    model = Word2Vec(texts, vector_size=16, window=4, epochs=30, negative=2, workers=1, seed=1)

    store = ModelStore.from_file_system(folder, create_directory=True)
    info = store.upload("words", model=model)

    loaded = store.load("words", info.model_id, allow_pickle=False)
    if loaded.wv.most_similar("ship") != model.wv.most_similar("ship"):
        raise SystemExit("the loaded model finds other words")
    for each in (model, loaded):
        each.train(texts[:200], total_examples=200, epochs=1)
    if not np.array_equal(loaded.wv.vectors, model.wv.vectors):
        raise SystemExit("the loaded model learns something else")
    nearest = ", ".join(word for word, _ in loaded.wv.most_similar("ship", topn=3))
    print(f"{info.library}: {info.model_id} puts {nearest} near ship: equal predictions")


if __name__ == "__main__":
    main(*sys.argv[1:2])
