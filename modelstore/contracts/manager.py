"""The promises of a manager, each as a test: what it saves here loads in a process that knows nothing of it.

::

    from modelstore.testing import Case, ManagerContract

    def build() -> dict[str, object]:
        return {"model": Estimator().fit(X, y)}

    def probe(model: object) -> object:
        return model.predict(X)

    class TestMyManager(ManagerContract):
        manager = MyManager()

        def cases(self) -> dict[str, Case]:
            return {"fitted": Case(build, probe)}
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from modelstore.contracts.difference import difference
from modelstore.exceptions import PickleNotAllowedError
from modelstore.folder import FolderContents, ModelFolder
from modelstore.managers.base import Manager, Saved, class_name
from modelstore.managers.bundle import Bundle, load_bundle
from modelstore.managers.detection import Managers, all_managers
from modelstore.managers.pickling import PicklePolicy
from modelstore.records import json_safe


@dataclass(frozen=True)
class Case:
    """One upload: how to build its objects, and what must be the same after loading."""

    build: Callable[[], Mapping[str, Any]]
    """Gives the objects by keyword of `upload`. Runs in the test's own process."""
    probe: Callable[[Any], Any]
    """What to observe of a `load`'s result, such as predictions: builtin values, bytes and arrays, in lists, tuples
    and dicts. A function of a module, as the other process imports it."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further keywords of `upload`, see `Manager.options`."""


@dataclass
class Outcome:
    """What became of one case."""

    objects: Mapping[str, Any]
    saved: Saved
    entries: list[dict[str, Any]]
    folder: Path
    before: dict[str, Any]
    """What the original objects show: class, parameters, probe."""
    after: dict[str, Any]
    """What the loaded ones show, or `error` with a traceback; `strict` is the outcome without pickles."""
    unchanged: bool
    """Whether the folder is what it was."""


def write_folder(contents: FolderContents, target: Path) -> Path:
    """Write what a manager has saved to the folder `target`, which gets made; returns it."""
    target.mkdir(parents=True, exist_ok=True)
    for file in contents.files:
        path = target / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as out:
            for piece in file.source.read(0, file.size):
                out.write(piece)
    for name in contents.empty_folders:
        (target / name).mkdir(parents=True, exist_ok=True)
    return target


class ManagerContract:
    """Subclass it with `manager` and `cases`. All cases are loaded in one fresh process."""

    manager: ClassVar[Manager]
    """The manager under test; an importable class without arguments."""
    tolerance: ClassVar[float] = 0.0
    """By how much numbers of a probe may differ, relatively; 0 means bit for bit."""
    named: ClassVar[bool] = False
    """Whether detection leaves these objects alone, so that `upload(…, manager=)` has to name the manager."""
    timeout_s: ClassVar[float] = 900
    """How long the other process may take."""

    def cases(self) -> Mapping[str, Case]:
        """The uploads to test, by name."""
        raise TypeError(f"{type(self).__name__} must define cases()")

    def result(self, objects: Mapping[str, Any]) -> Any:
        """What `load` is to give for these objects; override it where that is not the object or a mapping."""
        return next(iter(objects.values())) if len(objects) == 1 else dict(objects)

    def objects(self, result: Any, keywords: tuple[str, ...]) -> Mapping[str, Any]:
        """The inverse of `result`, for comparing parameters."""
        return {keywords[0]: result} if len(keywords) == 1 else result

    def test_the_same_comes_back_in_another_process(self, tmp_path_factory: Any) -> None:
        """Class, parameters and probes of what a fresh process loads are those of what was saved here."""
        for name, outcome in self._outcomes(tmp_path_factory).items():
            assert "error" not in outcome.after, f"{name}: {outcome.after['error']}"
            for aspect in ("class", "parameters", "probe"):
                found = difference(outcome.before[aspect], outcome.after[aspect], self.tolerance)
                assert found is None, f"{name}: {aspect}{found}"

    def test_loading_leaves_the_folder_alone(self, tmp_path_factory: Any) -> None:
        """Neither loading nor using what was loaded writes to the shared folder."""
        for name, outcome in self._outcomes(tmp_path_factory).items():
            assert outcome.unchanged, name

    def test_pickled_files_are_named_and_refused(self, tmp_path_factory: Any) -> None:
        """Without pickles, a case loads if it names no pickled file, and is refused if it names one."""
        for name, outcome in self._outcomes(tmp_path_factory).items():
            for file in outcome.saved.pickled:
                assert (outcome.folder / file).is_file(), f"{name}: there is no {file}"
            wanted = "refused" if outcome.saved.pickled else "loaded"
            assert outcome.after.get("strict") == wanted, f"{name}: {outcome.after.get('strict')}, not {wanted}"

    def test_what_it_tells_is_json(self, tmp_path_factory: Any) -> None:
        """What a manager tells of a case survives JSON, and fits into a record."""
        for name, outcome in self._outcomes(tmp_path_factory).items():
            text = json.dumps(outcome.entries, allow_nan=False)
            assert json.loads(text) == outcome.entries, name
            assert len(text) < 64 * 1024, f"{name}: {len(text)} bytes of state belong into a file"
            assert outcome.saved.format, name

    def test_detection_finds_the_manager_and_imports_nothing(self, tmp_path_factory: Any) -> None:
        """The class names of each object lead to this manager, among all installed ones, without an import; to none if
        it has to be named.
        """
        managers = _with(self.manager)
        for name, outcome in self._outcomes(tmp_path_factory).items():
            for keyword, value in outcome.objects.items():
                loaded = set(sys.modules)
                found = managers.find(managers.unwrap(value)[0])
                new = set(sys.modules) - loaded
                wanted = None if self.named else self.manager.name
                assert getattr(found, "name", None) == wanted, f"{name}: {keyword}= goes to {found}, not to {wanted}"
                assert not new, f"{name}, {keyword}=: {sorted(new)}"

    def test_claims_name_classes(self) -> None:
        """Every claimed module that this framework version has holds the claimed class."""
        held = []
        for claim in (*self.manager.claims, *self.manager.wrappers):
            module, _, qualname = claim.partition(":")
            try:
                found: Any = __import__(module, fromlist=["_"])
            except ImportError:
                continue
            for part in qualname.split("."):
                found = getattr(found, part, None)
            if found is not None:
                assert isinstance(found, type), claim
                held.append(claim)
        assert held or not self.manager.claims, f"none of {self.manager.claims} is a class here"

    def _outcomes(self, tmp_path_factory: Any) -> dict[str, Outcome]:
        """Save all cases here and load them there, once for all tests of a class."""
        cls = type(self)
        if "_known_outcomes" not in vars(cls):
            cls._known_outcomes = self._run(tmp_path_factory.mktemp("manager"))  # type: ignore[attr-defined]
        known: dict[str, Outcome] = cls._known_outcomes  # type: ignore[attr-defined]
        return known

    def _run(self, root: Path) -> dict[str, Outcome]:
        cases = self.cases()
        saved = {name: self._save(case, root / f"case{at}") for at, (name, case) in enumerate(cases.items())}
        prints = {name: _fingerprint(outcome.folder) for name, outcome in saved.items()}
        jobs = {
            name: {"entries": outcome.entries, "folder": str(outcome.folder), "probe": _importable(cases[name].probe)}
            for name, outcome in saved.items()
        }
        job = {"contract": _importable(type(self)), "manager": class_name(self.manager), "cases": jobs}
        (root / "job.json").write_text(json.dumps(job))
        _run_elsewhere(root, self.timeout_s)
        with open(root / "seen.pkl", "rb") as file:
            seen = pickle.load(file)
        for name, outcome in saved.items():
            outcome.after = seen[name]
            outcome.unchanged = _fingerprint(outcome.folder) == prints[name]
        return saved

    def _save(self, case: Case, folder: Path) -> Outcome:
        objects = case.build()
        with ModelFolder() as files:
            named = self.manager.name if self.named else None
            bundle = Bundle.of(Managers([self.manager]), {**objects, **case.options}, named)
            entries, parts = bundle.save(files)
            write_folder(files.contents(), folder)
        # Only now, as looking at an object may change it (a random state, for one).
        before = self._seen(self.result(objects), tuple(sorted(objects)), case.probe)
        return Outcome(objects, parts[0], entries, folder, before, {}, False)

    def _seen(self, result: Any, keywords: tuple[str, ...], probe: Callable[[Any], Any]) -> dict[str, Any]:
        objects = {
            keyword: Managers([self.manager]).unwrap(value)[0]
            for keyword, value in self.objects(result, keywords).items()
        }
        return {
            # cloudpickle does not keep in which function a class was defined.
            "class": {keyword: re.sub(r":.*<locals>\.", ":", class_name(value)) for keyword, value in objects.items()},
            "parameters": _without_addresses(json_safe(self.manager.parameters(objects))),
            "probe": probe(result),
        }


def load_elsewhere(root: Path) -> None:
    """The other process: load all cases, and only then import anything to look at them with."""
    job = json.loads((root / "job.json").read_text())
    manager = _imported(job["manager"])()
    managers = Managers([manager])
    results: dict[str, Any] = {}
    seen: dict[str, dict[str, Any]] = {}
    for name, case in job["cases"].items():
        seen[name] = {}
        try:
            results[name] = _load(managers, case, allow_pickle=True)
        except Exception:
            seen[name]["error"] = traceback.format_exc()
        try:
            _load(managers, case, allow_pickle=False)
            seen[name]["strict"] = "loaded"
        except PickleNotAllowedError:
            seen[name]["strict"] = "refused"
        except Exception:
            seen[name]["strict"] = traceback.format_exc()
    contract: ManagerContract = _imported(job["contract"])()
    for name, result in results.items():
        case = job["cases"][name]
        keywords = tuple(sorted(case["entries"][0]["objects"]))
        try:
            seen[name].update(contract._seen(result, keywords, _imported(case["probe"])))
        except Exception:
            seen[name]["error"] = traceback.format_exc()
    with open(root / "seen.pkl", "wb") as file:
        pickle.dump(seen, file)


def _load(managers: Managers, case: Mapping[str, Any], *, allow_pickle: bool) -> Any:
    policy = PicklePolicy(allow_pickle)
    return load_bundle(managers, case["entries"], Path(case["folder"]), policy, subject="the case")


def _run_elsewhere(root: Path, timeout_s: float) -> None:
    command = "import sys, pathlib; from modelstore.contracts.manager import load_elsewhere as run; "
    command += "run(pathlib.Path(sys.argv[1]))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", command, str(root)],
        env=environment, capture_output=True, text=True, timeout=timeout_s, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"the other process ended with {done.returncode}:\n{done.stderr[-4000:]}"


def _with(manager: Manager) -> Managers:
    known = all_managers().by_name
    # In its place among them, as the first that recognises a path has it.
    return Managers({**known, manager.name: manager}.values())


def _importable(named: Any) -> str:
    name = f"{named.__module__}:{named.__qualname__}"
    local = "<" in name or named.__module__ == "__main__"
    assert not local, f"{name} must be importable by another process"
    return name


def _imported(name: str) -> Any:
    module, _, qualname = name.partition(":")
    found: Any = __import__(module, fromlist=["_"])
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


def _fingerprint(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
            path.stat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
    }


def _without_addresses(value: Any) -> Any:
    return json.loads(re.sub(r" at 0x[0-9a-f]+", "", json.dumps(value)))
