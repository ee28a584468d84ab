"""Annoy, up and back: `python examples/frameworks/with_annoy.py [FOLDER]`.

An index of pictures that finds similar ones. Its file holds neither the length of the vectors nor the metric; the
model's record does.
"""

from __future__ import annotations

import sys

import numpy as np
from annoy import AnnoyIndex

from modelstore import ModelStore


def pictures(number: int = 500, size: int = 8) -> np.ndarray:
    """Bright spots on a dark ground, one picture a row."""
    random = np.random.default_rng(0)
    places = random.uniform(0, size, (number, 2))
    rows, columns = np.mgrid[:size, :size]
    distances = (rows - places[:, 0, None, None]) ** 2 + (columns - places[:, 1, None, None]) ** 2
    return np.exp(-distances / 4).reshape(number, -1)


def main(folder: str = "models") -> None:
    vectors = pictures()
    index = AnnoyIndex(vectors.shape[1], "euclidean")
    index.set_seed(0)
    for item, vector in enumerate(vectors[:-1]):
        index.add_item(item, vector)

    store = ModelStore.from_file_system(folder, create_directory=True)
    # Not built yet, so num_trees= says how; a built index needs neither this nor metric=.
    info = store.upload("pictures", model=index, metric="euclidean", num_trees=10)

    loaded = store.load("pictures", info.model_id, allow_pickle=False)
    found = loaded.get_nns_by_vector(vectors[-1], 5, include_distances=True)
    if found != index.get_nns_by_vector(vectors[-1], 5, include_distances=True):
        raise SystemExit("the loaded index finds something else")
    print(f"{info.library}: {info.model_id} finds {found[0]}: equal predictions")


if __name__ == "__main__":
    main(*sys.argv[1:2])
