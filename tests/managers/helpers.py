"""What tests of several managers share: one object up and back without a store, and a notebook's model in a service."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from modelstore.contracts.manager import write_folder
from modelstore.folder import ModelFolder
from modelstore.managers.base import LoadRequest, Manager, Saved
from modelstore.managers.pickling import PicklePolicy


def put(manager: Manager, model: Any, folder: Path, **options: Any) -> Saved:
    """Write a model to a folder."""
    with ModelFolder() as files:
        saved = manager.save({"model": model}, files, options)
        write_folder(files.contents(), folder)
    return saved


def get(manager: Manager, saved: Saved, folder: Path, *, allow_pickle: bool = False, **further: Any) -> Any:
    """Read it back; `further` are fields of `LoadRequest`."""
    request = {"state": saved.state, **further}
    return manager.load(LoadRequest(folder, keywords=("model",), policy=PicklePolicy(allow_pickle), **request))


SAVE = """
    {build}
    if True:
        import json, pathlib, pickle, sys
        from modelstore.contracts.manager import write_folder
        from modelstore.folder import ModelFolder
        from modelstore.managers.bundle import Bundle
        from modelstore.managers.detection import Managers
        from {module} import {manager}

        target = pathlib.Path(sys.argv[1])
        with ModelFolder() as files:
            entries, _ = Bundle.of(Managers([{manager}()]), {{"model": model}}).save(files)
            write_folder(files.contents(), target)
        (target / "entries.json").write_text(json.dumps(entries))
        (target / "expected.pkl").write_bytes(pickle.dumps({observe}))
        print(json.dumps(entries[0]["state"].get("pickle_because")))
"""

LOAD = """
    import json, pathlib, pickle, sys
    import numpy as np
    from modelstore.managers.bundle import load_bundle
    from modelstore.managers.detection import Managers
    from modelstore.managers.pickling import PicklePolicy
    from {module} import {manager}

    target = pathlib.Path(sys.argv[1])
    entries = json.loads((target / "entries.json").read_text())
    model = load_bundle(Managers([{manager}()]), entries, target, PicklePolicy(True), subject="it")
    assert pickle.dumps({observe}) == (target / "expected.pkl").read_bytes()
    print(type(model).__module__ + ":" + type(model).__qualname__)
"""


def from_a_notebook(manager: Manager, build: str, observe: str, folder: Path) -> tuple[str, str]:
    """Build and save a model in `__main__` of one process, and load it in another, where `observe` must give the same.

    Args:
        manager: an importable class's instance.
        build: code that leaves a model under the name `model`; `np` may be used in it.
        observe: an expression over `model`, which gives something to pickle.
        folder: an empty folder.

    Returns:
        What asked for a pickle, as JSON, and the loaded model's class.
    """
    cls = type(manager)
    names = {"module": cls.__module__, "manager": cls.__name__, "observe": observe}
    setup = textwrap.indent(textwrap.dedent("import numpy as np\n" + textwrap.dedent(build)), "    ").strip()
    because = _run(SAVE.format(build=setup, **names), folder / "notebook.py", folder / "model")
    return because, _run(LOAD.format(**names), folder / "service.py", folder / "model")


def _run(code: str, script: Path, *arguments: Path) -> str:
    script.write_text(textwrap.dedent(code))
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path), "PATH": ""}
    done = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        capture_output=True, text=True, env=environment, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]
