"""All objects of one upload, saved by their managers and loaded back: one result, or a mapping by library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelstore.exceptions import (
    IntegrityError,
    InvalidArgumentError,
    MissingDependencyError,
    ModelStoreError,
    NewerFormatError,
)
from modelstore.folder import ModelFolder
from modelstore.managers.base import LoadRequest, Manager, Saved, class_name, no_other_model
from modelstore.managers.detection import Managers
from modelstore.managers.pickling import PicklePolicy, check_python, python_version
from modelstore.notices import warn

MULTIPLE = "multiple-models"
"""`model_type.library` of an upload that several managers share (the ancestor's name for it)."""


@dataclass
class Bundle:
    """The objects of one upload, by manager."""

    objects: dict[Manager, dict[str, Any]]
    options: dict[str, Any] = field(default_factory=dict)
    wrappers: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, managers: Managers, given: Mapping[str, Any], manager: str | None = None) -> Bundle:
        """Sort what `upload` was given; see `Managers.group` for what it raises."""
        return cls(*managers.group(given, manager))

    def save(self, folder: ModelFolder) -> tuple[list[dict[str, Any]], list[Saved]]:
        """Let each manager fill its folder; returns the record's `managers` and what the managers told."""
        entries, parts = [], []
        for manager, objects in self._ordered():
            prefix = manager.name if len(self.objects) > 1 else ""
            options = {name: value for name, value in self.options.items() if name in manager.options}
            saved = manager.save(objects, folder.sub(prefix) if prefix else folder, options)
            entries.append(self._entry(manager, objects, prefix, saved))
            parts.append(saved)
        return entries, parts

    def _entry(self, manager: Manager, objects: Mapping[str, Any], prefix: str, saved: Saved) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "name": manager.name,
            "folder": prefix,
            "objects": {keyword: class_name(obj) for keyword, obj in sorted(objects.items())},
            "format": saved.format,
            "state": saved.state,
            "pickled": saved.pickled,
        }
        wrappers = {keyword: names for keyword, names in self.wrappers.items() if keyword in objects}
        if wrappers:
            entry["wrappers"] = wrappers
        if saved.by_value:
            entry["python"] = python_version()
        if saved.references:
            entry["references"] = [{"domain": domain, "model_id": model_id} for domain, model_id in saved.references]
        return entry

    def model_type(self) -> dict[str, Any]:
        """The record's `model_type`, in the ancestor's shape."""
        types = [
            {"library": manager.name, "type": _type_name(objects), "models": None}
            for manager, objects in self._ordered()
        ]
        return types[0] if len(types) == 1 else {"library": MULTIPLE, "type": None, "models": types}

    def parameters(self) -> dict[str, Any] | None:
        """The parameters; of several managers, a mapping by library. What cannot be learnt is a warning."""
        found = {}
        for manager, objects in self._ordered():
            try:
                found[manager.name] = manager.parameters(objects)
            except Exception as error:
                warn(f"the parameters of the {manager.name} model are not recorded: {error!r}")
        if len(self.objects) > 1:
            return found
        return next(iter(found.values()), None)

    @property
    def managers(self) -> list[Manager]:
        """The managers that take part, sorted by name."""
        return [manager for manager, _ in self._ordered()]

    def _ordered(self) -> list[tuple[Manager, dict[str, Any]]]:
        return sorted(self.objects.items(), key=lambda item: item[0].name)


def _type_name(objects: Mapping[str, Any]) -> str:
    first = objects.get("model", next(iter(objects.values())))
    return type(first).__name__


def load_bundle(
    managers: Managers,
    entries: list[dict[str, Any]],
    folder: Path,
    policy: PicklePolicy,
    *,
    subject: str,
    manager: str | None = None,
    with_optimizer: bool = False,
    into: Any = None,
    device: str | None = None,
    load_model: Callable[[Mapping[str, Any]], Any] | None = None,
) -> Any:
    """What was uploaded: one manager's result, or a mapping by library name where there were several.

    Args:
        managers: the known managers.
        entries: `model.managers` of the record.
        folder: the unpacked archive.
        policy: whether pickles may be loaded.
        subject: the model, for errors.
        manager: the name of the manager that is to load it, instead of the recorded one.
        with_optimizer: see `ModelStore.load`.
        into: see `ModelStore.load`.
        device: see `ModelStore.load`.
        load_model: loads another model of the same store, given one of an entry's `references`.

    Raises:
        NewerFormatError: a manager is not known here.
        IntegrityError: the entries cannot be read.
        InvalidArgumentError: an option means nothing to these managers.
        MissingDependencyError: a package is not installed.
        PickleNotAllowedError, RuntimeMismatchError: what is pickled may not be, or cannot be, loaded here.
    """
    try:
        plan = [(entry, _owner(managers, manager or entry["name"], subject)) for entry in entries]
        requests = [
            LoadRequest(
                folder=_within(folder, entry["folder"], subject),
                state=entry["state"],
                keywords=tuple(sorted(entry["objects"])),
                policy=policy,
                with_optimizer=with_optimizer,
                into=into,
                device=device,
                load_model=_linked(entry, load_model, subject),
            )
            for entry, _ in plan
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(subject, "record", f"its managers cannot be read: {error!r}") from error
    owners = [owner for _, owner in plan]
    asked = {"into": into is not None, "with_optimizer": with_optimizer, "device": device is not None}
    _check_load_options(owners, subject, **asked)
    results = {}
    for (entry, owner), request in zip(plan, requests, strict=True):
        python = entry.get("python")
        # into= takes the weights alone, so the byte code stays where it is.
        if python is not None and into is None:
            policy.require(subject)
            check_python(python, subject)
        try:
            results[entry["name"]] = owner.load(request)
        except ModuleNotFoundError as error:
            if isinstance(error, ModelStoreError):
                raise
            raise _missing(error, owner, subject, folder) from error
    return next(iter(results.values())) if len(results) == 1 else results


def _linked(
    entry: Mapping[str, Any], load_model: Callable[[Mapping[str, Any]], Any] | None, subject: str
) -> Callable[[str, str], Any]:
    """What a manager is given to load other models by: those that the record refers to, and no others."""
    references = {(each["domain"], each["model_id"]): each for each in entry.get("references", ())}

    def load(domain: str, model_id: str) -> Any:
        if (domain, model_id) not in references:
            raise IntegrityError(subject, "record", f"it does not refer to the model {model_id!r} of {domain!r}")
        if load_model is None:
            return no_other_model(domain, model_id)
        return load_model(references[domain, model_id])

    return load


def _within(folder: Path, name: str, subject: str) -> Path:
    # A record is no more trusted than an archive: it must not lead to files of this machine.
    if "/" in name or "\\" in name or name.startswith("."):
        raise IntegrityError(subject, "record", f"its folder {name!r} does not lie in the archive")
    return folder / name


def _check_load_options(owners: list[Manager], subject: str, **asked: bool) -> None:
    for option in (name for name, given in asked.items() if given):
        names = ", ".join(owner.name for owner in owners)
        if not any(option in owner.load_options for owner in owners):
            raise InvalidArgumentError(option, f"{option}= means nothing to what {subject} was stored by ({names})")
        if option == "into" and len(owners) > 1:
            raise InvalidArgumentError("into", f"{subject} holds objects of {names}: into= fills one; load it whole")


def _owner(managers: Managers, name: str, subject: str) -> Manager:
    if name not in managers.by_name:
        raise NewerFormatError(
            subject, "record", f"stored by the manager {name!r}, which is not known here: is a plugin missing?"
        )
    return managers.by_name[name]


def _missing(error: ModuleNotFoundError, owner: Manager, subject: str, folder: Path) -> MissingDependencyError:
    """Name the pinned requirement from the archive where there is one, else the extra."""
    module = (error.name or str(error)).partition(".")[0]
    wanted = {_spelled(name) for name in (module, *owner.distributions)}
    try:
        lines = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    pins = [line for line in lines if _spelled(line) in wanted]
    # Packages need not be called as their modules are, and a part of the model may be another library's.
    if not any(_spelled(pin) == _spelled(module) for pin in pins):
        pins = [line for line in lines if "==" in line and not line.startswith("modelstore==")]
    if pins:
        command = "pip install " + " ".join(f"'{pin}'" for pin in pins)
    elif owner.extra:
        command = f"pip install 'modelstore[{owner.extra}]'"
    else:
        command = f"pip install {module}"
    return MissingDependencyError(module, f"loading {subject}", command)


def _spelled(requirement: str) -> str:
    """The name in a line of requirements.txt, in one spelling."""
    return requirement.partition("==")[0].strip().lower().replace("_", "-")
