"""Writes the golden store of the present format: `python tests/golden/write.py FOLDER`.

Run once for a format version, never again: what lies in `tests/golden/<version>/` is what users of that version have,
and every later version must read it. It needs scikit-learn, skops and XGBoost.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from xgboost import XGBClassifier

from modelstore import ModelStore


def main(root: Path) -> None:
    """A store with every kind of event, both forms of archive, odd names and joined events."""
    store = ModelStore.from_file_system(root, create_directory=True)
    data, labels = load_iris(return_X_y=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "net"
        (folder / "empty").mkdir(parents=True)
        (folder / "weights.bin").write_bytes(bytes(range(256)) * 300)
        (folder / "Größe.json").write_text('{"layers": 3}\n', encoding="utf-8")
        noise = Path(scratch) / "noise.bin"
        noise.write_bytes(bytes((i * i * 2654435761 >> 7) & 255 for i in range(20_000)))
        store.create_model_state("production")
        store.create_model_state("staging")
        store.create_model_state("gone")
        store.delete_model_state("gone", skip_prompt=True)
        store.create_model_state("in shadow/á")
        store.upload("files", model_id="folder", model=str(folder), extra_files=str(noise), note="compressed")
        store.upload("files", model_id="noise", model=str(noise), tags={"form": "plain"})
        store.set_model_state("files", "folder", "production")
        store.set_model_state("files", "noise", "production")
        store.set_model_state("files", "noise", "staging")
        store.remove_model_state("files", "noise", "staging")
        store.upload("files", model_id="deleted", model=str(noise))
        store.delete_model("files", "deleted", skip_prompt=True)
        store.upload("files", model_id="purged", model=str(noise))
        store.delete_model("files", "purged", skip_prompt=True, purge=True)
        store.upload(
            "a/b ../ü", model_id=".. / id", model=str(noise), metrics={"auc": 0.5}, extra_metadata={"n": [1, None]}
        )
        for number in range(5):
            store.upload("many", model_id=f"m{number}", model=str(folder / "Größe.json"), metrics={"n": number})
        for _ in range(33):  # over 64 events, so that a segment gets joined
            store.set_model_state("many", "m2", "staging")
            store.remove_model_state("many", "m2", "staging")
        store.set_model_state("many", "m3", "staging")
    clf = LogisticRegression(max_iter=500).fit(data, labels)
    store.upload("iris", model_id="sklearn", model=clf, X_train=data, y_train=labels)
    booster = XGBClassifier(n_estimators=3, max_depth=2).fit(data, labels)
    store.upload("iris", model_id="both", model=booster, explainer=clf)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
