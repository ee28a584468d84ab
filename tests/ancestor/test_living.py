"""Both libraries at one store: the old one writes in an environment of its own, and reads it again afterwards.

`MODELSTORE_TEST_ANCESTOR` names the Python of that environment, which requirements/ancestor.txt describes.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from modelstore import ModelStore
from modelstore.exceptions import ModelDeletedException
from tests.ancestor.test_golden_store import GOLDEN, LIBRARIES, contents

PYTHON = os.environ.get("MODELSTORE_TEST_ANCESTOR", "")

pytestmark = pytest.mark.skipif(not PYTHON, reason="MODELSTORE_TEST_ANCESTOR names no environment of the ancestor's")

READ = """
import json, sys, tempfile
from modelstore import ModelStore
import modelstore
assert modelstore.__version__ == "0.0.82"
store = ModelStore.from_file_system(sys.argv[1])
found = {}
for domain in [*store.list_domains(), "emea/credit risk"]:
    for model_id in store.list_models(domain):
        with tempfile.TemporaryDirectory() as scratch:
            store.download(scratch, domain, model_id)
        info = store.get_model_info(domain, model_id)
        loads = info["model"]["model_type"]["library"] not in ("model_file", "onnx")
        kind = type(store.load(domain, model_id)).__name__ if loads else ""
        found[f"{domain}/{model_id}"] = [kind, sorted(store.get_model_states(domain, model_id))]
print(json.dumps(found))
"""

WRITE = """
import sys
from modelstore import ModelStore
store = ModelStore.from_file_system(sys.argv[1])
with open(sys.argv[2], "w") as file:
    file.write("later")
store.upload("fraud", "later", model=sys.argv[2])
store.set_model_state("fraud", "later", "production")
store.remove_model_state("fraud", "m1", "production")
store.delete_model("fraud", "m4", skip_prompt=True)
"""


def old(*arguments: str) -> Any:
    """Run the old library; what it prints, as JSON."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [PYTHON, "-I", "-W", "ignore", *arguments], capture_output=True, text=True, env=clean, timeout=250, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else None


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A store that the old library has just written, and what its models predict."""
    folder = tmp_path_factory.mktemp("old") / "store"
    return folder, old(str(GOLDEN / "write.py"), str(folder))


@pytest.mark.filterwarnings("ignore:Trying to unpickle")
def test_both_libraries(written: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """Adopted, every model loads and predicts as it did; the old library finds all as it left it, and may go on."""
    numpy = pytest.importorskip("numpy")
    folder, expected = written
    before, seen = contents(folder), old("-c", READ, str(folder))
    store = ModelStore.from_file_system(folder, cache_directory=tmp_path / "cache")
    report = store.adopt()
    assert report.problems == ()

    loaded = 0
    for domain in store.list_domains():
        for model_id in store.list_models(domain):
            assert store.load(domain, model_id) is not None
            assert sorted(store.get_model_states(domain, model_id)) == seen[f"{domain}/{model_id}"][1]
            loaded += 1
    assert loaded == len(seen)
    assert len(expected) >= 2
    for name, predictions in expected.items():
        domain, library = name.split("/")
        assert numpy.allclose(LIBRARIES[library](store.load(domain, library)), predictions, atol=1e-5), name
    assert store.load("fraud").read_text() == "second", "the latest that is still there"

    assert contents(folder) == before
    assert old("-c", READ, str(folder)) == seen
    old("-c", WRITE, str(folder), str(tmp_path / "model.bin"))
    report = store.adopt()
    assert (report.models, report.deleted, report.moves, report.problems) == (1, 1, 2, ())
    assert store.load("fraud").read_text() == "later"
    assert sorted(store.list_models("fraud", "production")) == ["later", "m2"]
    with pytest.raises(ModelDeletedException):
        store.get_model_info("fraud", "m4")
    assert str(store.adopt()).endswith("nothing that is new")
