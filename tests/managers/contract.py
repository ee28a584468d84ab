"""`ManagerContract` for the managers that modelstore brings: what was tried is kept, for the page of frameworks.

`tests/managers/tried/<manager>.<contract>.json` says which classes of which version a contract has saved here and
loaded in a fresh process, in which format. `docs/frameworks.md` is made of these files. With MODELSTORE_TRIED=write in
the environment they are written instead of compared.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from modelstore.insight.environment import version
from modelstore.testing import ManagerContract

TRIED = Path(__file__).parent / "tried"


class BuiltinContract(ManagerContract):
    """A contract of a manager of modelstore's own."""

    def test_what_was_tried_is_what_the_page_of_frameworks_says(self, tmp_path_factory: Any) -> None:
        """The kept classes, formats and pickles are those seen here, if the framework has the version they are of."""
        seen = self._tried(tmp_path_factory)
        file = TRIED / f"{self.manager.name}.{type(self).__name__}.json"
        if os.environ.get("MODELSTORE_TRIED") == "write":
            TRIED.mkdir(exist_ok=True)
            file.write_text(json.dumps(seen, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
        kept = json.loads(file.read_text(encoding="utf-8"))
        assert kept["classes"]
        if kept["version"] == seen["version"]:
            names = {*kept["classes"], *seen["classes"]}
            pairs = {name: (kept["classes"].get(name), seen["classes"].get(name)) for name in names}
            assert {name: pair for name, pair in pairs.items() if pair[0] != pair[1]} == {}

    def _tried(self, tmp_path_factory: Any) -> dict[str, Any]:
        classes: dict[str, dict[str, Any]] = {}
        for outcome in self._outcomes(tmp_path_factory).values():
            for value in outcome.objects.values():
                cls = type(value)
                public = cls.__module__.partition(".")[0] not in ("tests", "builtins", "__main__")
                if public and not isinstance(value, (str, os.PathLike)):
                    entry = classes.setdefault(f"{cls.__module__}.{cls.__qualname__}", {"cases": 0, "pickled": 0})
                    entry["cases"] += 1
                    entry["pickled"] += bool(outcome.saved.pickled)
                    entry["formats"] = sorted({*entry.get("formats", ()), outcome.saved.format})
        installed = {name: version(name) for name in self.manager.distributions}
        named = next(((name, number) for name, number in installed.items() if number), ("", ""))
        return {"manager": self.manager.name, "version": " ".join(map(str, named)).strip(), "classes": classes}
