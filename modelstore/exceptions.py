"""Everything that modelstore raises, as one tree.

::

    ModelStoreError
    ├── DomainNotFoundException   (KeyError)             no such domain
    ├── ModelNotFoundException    (KeyError)             no such model in the domain
    ├── ModelDeletedException     (KeyError)             it was there and has been deleted
    ├── ModelExistsException      (ValueError)           the id is taken
    ├── StateNotFoundError        (ValueError)           no such model state
    ├── StateConflictError        (RuntimeError)         the state is not as the caller believes, or its rules forbid
    ├── ModelPinnedError          (PermissionError)      the model is pinned, so it is not deleted
    ├── InvalidNameError          (ValueError)           a domain, state or model id that cannot be used
    ├── InvalidArgumentError      (ValueError)           any other argument that cannot be used
    │   ├── NotJSONError          (TypeError)            what is to be recorded is not JSON
    │   └── QueryError                                   a search that cannot be understood
    ├── UnknownKeywordError       (TypeError)            upload(modle=…): no manager takes it
    ├── UnsupportedObjectError    (ValueError, TypeError)  no manager can store this object
    │   └── AmbiguousObjectError                         two managers could
    ├── RecordTooLargeError       (ValueError)           what is to be recorded does not fit into an event
    ├── FileChangedError          (RuntimeError)         a file changed while it was uploaded
    ├── MissingDependencyError    (ModuleNotFoundError)  a framework or SDK is not installed
    ├── PickleNotAllowedError     (PermissionError)      the reader's policy refuses this pickle
    ├── RuntimeMismatchError      (RuntimeError)         pickled code of another Python version
    ├── IntegrityError            (ValueError)           stored bytes are not what was written
    │   ├── UnsafeArchiveError                           an archive that nobody honest writes
    │   └── NewerFormatError                             written by a later modelstore: upgrade
    ├── StorageError              (OSError)              the storage failed
    │   ├── FilePullFailedException                      an object could not be read
    │   │   └── ObjectNotFoundError (FileNotFoundError)  there is no such object
    │   ├── StoreNotFoundError    (FileNotFoundError)    nothing to open at this address
    │   ├── NotAFolderError       (NotADirectoryError)   a file lies at this address
    │   ├── AccessDeniedError     (PermissionError)      the storage does not let these credentials do that
    │   │   └── CredentialsError                         there are none, or they are not valid
    │   ├── StorageUnavailableError (ConnectionError)    no connection, or the server failed: try again later
    │   │   └── ThrottledError                           too many requests
    │   ├── DeadlineExceededError (TimeoutError)         the time that `timeout=` gives is over
    │   └── UnsafeStorageError                           no atomic creation: refused for writing
    ├── CommitUnknownError        (OSError)              it may or may not have been committed
    ├── OfflineError              (ConnectionError)      not held locally, and offline was asked for
    └── ConfirmationRequiredError (RuntimeError)         nobody there to confirm a deletion

Each has its data as attributes, survives pickling (joblib, Spark and multiprocessing send errors between
processes) and has, beside the library's base, the builtin parent that a caller would expect.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


class ModelStoreError(Exception):
    """The base of every error that modelstore raises on purpose."""

    def __str__(self) -> str:
        # KeyError would show the repr of the message, OSError a tuple.
        return str(self.args[0]) if self.args else type(self).__name__

    def __reduce__(self) -> tuple[Any, ...]:
        # The constructors take data, not the message, so the default (cls, args) cannot rebuild them.
        return _rebuild, (type(self), self.args, dict(self.__dict__))


def _rebuild(cls: type[ModelStoreError], args: tuple[Any, ...], data: dict[str, Any]) -> ModelStoreError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(data)
    return error


class DomainNotFoundException(ModelStoreError, KeyError):
    """No model was ever uploaded to this domain."""

    def __init__(self, domain: str, known: Sequence[str] = ()) -> None:
        self.domain = domain
        hint = _did_you_mean(domain, known) or "list_domains() names those that exist"
        super().__init__(f"there is no domain {domain!r} in this store; {hint}")


class ModelNotFoundException(ModelStoreError, KeyError):
    """The domain has no model of this id; `model_id` is None when it has no model at all."""

    def __init__(self, domain: str, model_id: str | None = None, detail: str | None = None) -> None:
        self.domain = domain
        self.model_id = model_id
        if detail is None:
            what = "any model" if model_id is None else f"a model {model_id!r}"
            detail = f"domain {domain!r} does not hold {what}; list_models({domain!r}) gives the ids that it holds"
        super().__init__(detail)


class ModelDeletedException(ModelStoreError, KeyError):
    """The model was deleted; its id may be used again."""

    def __init__(self, domain: str, model_id: str) -> None:
        self.domain = domain
        self.model_id = model_id
        super().__init__(f"model {model_id!r} has been deleted from domain {domain!r}; its id is free for a new upload")


class ModelExistsException(ModelStoreError, ValueError):
    """The domain already holds a model of this id."""

    def __init__(self, domain: str, model_id: str) -> None:
        self.domain = domain
        self.model_id = model_id
        super().__init__(
            f"domain {domain!r} already holds a model {model_id!r}; leave model_id out to get a new id, "
            "or delete that model first"
        )


class StateNotFoundError(ModelStoreError, ValueError):
    """No such model state has been created, or not yet at the time that was asked about."""

    def __init__(self, state_name: str, known: Sequence[str] = (), at: str | None = None) -> None:
        self.state_name = state_name
        if at is not None:
            super().__init__(f"there was no model state {state_name!r} at {at}")
            return
        hint = _did_you_mean(state_name, known) or f"create it with create_model_state({state_name!r})"
        super().__init__(f"there is no model state {state_name!r}; {hint}")


class StateConflictError(ModelStoreError, RuntimeError):
    """A model was not put into a state: another one is in it than was expected, or the model lacks a required state.

    `actual` is the id of the model that is in the state (None: nobody), `expected` the one that was given; `missing`
    are the names of the states that the model would have to be in first.
    """

    def __init__(
        self,
        domain: str,
        state: str,
        expected: str | None = None,
        actual: str | None = None,
        missing: Sequence[str] = (),
    ) -> None:
        self.domain = domain
        self.state = state
        self.expected = expected
        self.actual = actual
        self.missing = tuple(missing)
        if missing:
            message = (
                f"model {actual!r} of {domain!r} cannot be put into {state!r}: it has to be in "
                f"{', '.join(map(repr, missing))} first"
            )
        else:
            held, wanted = (f"model {each!r}" if each is not None else "nobody" for each in (actual, expected))
            message = f"{held} of {domain!r} is in {state!r}, and not {wanted}: look again before you change it"
        super().__init__(message)


class ModelPinnedError(ModelStoreError, PermissionError):
    """The model is pinned, so nothing deletes it."""

    def __init__(self, domain: str, model_id: str) -> None:
        self.domain = domain
        self.model_id = model_id
        super().__init__(f"model {model_id!r} of {domain!r} is pinned; unpin_model() first if it may be deleted")


class InvalidNameError(ModelStoreError, ValueError):
    """A domain, model state or model id that cannot be used."""

    def __init__(self, what: str, name: object, reason: str) -> None:
        self.what = what
        self.name = name
        self.reason = reason
        super().__init__(f"{what} {name!r} cannot be used: {reason}")


class InvalidArgumentError(ModelStoreError, ValueError):
    """An argument that cannot be used; `argument` is its name."""

    def __init__(self, argument: str, message: str) -> None:
        self.argument = argument
        super().__init__(message)


class NotJSONError(InvalidArgumentError, TypeError):
    """What is to be recorded is not JSON."""


class QueryError(InvalidArgumentError):
    """A search that cannot be understood; `query` is its text."""

    def __init__(self, query: str, reason: str, argument: str = "where") -> None:
        self.query = query
        shown = query if len(query) <= 200 else query[:199] + "…"
        super().__init__(argument, f"{argument}={shown!r} cannot be understood: {reason}")


class UnknownKeywordError(ModelStoreError, TypeError):
    """`upload` was given a keyword that none of the managers takes."""

    def __init__(self, keyword: str, known: Sequence[str] = ()) -> None:
        self.keyword = keyword
        self.known = tuple(known)
        hint = _did_you_mean(keyword, known) or f"it takes {', '.join(known)}"
        super().__init__(f"upload() got an unexpected keyword {keyword!r}; {hint}")


class UnsupportedObjectError(ModelStoreError, ValueError, TypeError):
    """No manager can store this object, or its manager cannot store it as it is."""

    def __init__(self, message: str, object_type: str | None = None) -> None:
        self.object_type = object_type
        super().__init__(message)


class AmbiguousObjectError(UnsupportedObjectError):
    """Two managers claim unrelated parents of this object's class."""

    def __init__(self, object_type: str, managers: Sequence[str]) -> None:
        self.managers = tuple(managers)
        super().__init__(
            f"{object_type} is an object of {' and of '.join(managers)}; say which manager is to store it: "
            f"upload(…, manager={managers[0]!r})",
            object_type,
        )


class RecordTooLargeError(ModelStoreError, ValueError):
    """The record of a model does not fit into one log event."""

    def __init__(self, size: int, limit: int, largest: str) -> None:
        self.size = size
        self.limit = limit
        self.largest = largest
        super().__init__(
            f"the record of this model takes {size:,} bytes, and an event holds at most {limit:,}; the largest part "
            f"is {largest!r}: put large data into a file and pass it as extra_files="
        )


class FileChangedError(ModelStoreError, RuntimeError):
    """A file changed while it was read for an upload; nothing was committed."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"{path} changed while it was being uploaded; upload again once nothing writes to it")


class MissingDependencyError(ModelStoreError, ModuleNotFoundError):
    """A package that this needs is not installed; `command` installs it."""

    def __init__(self, package: str, purpose: str, command: str) -> None:
        self.package = package
        self.command = command
        super().__init__(f"{purpose} needs the package {package!r}, which is not installed: {command}")
        self.name = package


class PickleNotAllowedError(ModelStoreError, PermissionError):
    """Loading needs a pickle (or types that can run code), which the reader's policy refuses."""

    def __init__(self, subject: str, types: Iterable[str] = (), advice: str | None = None) -> None:
        self.subject = subject
        self.types = tuple(types)
        named = f" (types: {', '.join(self.types)})" if self.types else ""
        advice = advice or "if you trust whoever wrote it, load with allow_pickle=True"
        super().__init__(f"{subject} can run code when it is loaded{named}, and allow_pickle is off; {advice}")


class RuntimeMismatchError(ModelStoreError, RuntimeError):
    """The model holds what only the version that wrote it reads: byte code of Python, or a server's own format."""

    def __init__(self, saved: str, running: str, subject: str, message: str | None = None) -> None:
        self.saved = saved
        self.running = running
        super().__init__(
            message
            or f"{subject} holds code that was defined in a notebook or script and stored as byte code of Python "
            f"{saved}; this is Python {running}: load it with Python {saved}, or move the code into an installed "
            "package"
        )


class IntegrityError(ModelStoreError, ValueError):
    """Stored bytes are not those that were written; `subject` says which object and `part` which part of it."""

    def __init__(self, subject: str, part: str, detail: str) -> None:
        self.subject = subject
        self.part = part
        super().__init__(f"{subject} is damaged ({part}): {detail}")


class UnsafeArchiveError(IntegrityError):
    """An archive that asks for something no archive of ours does: a path outside, a link, a lying size."""


class NewerFormatError(IntegrityError):
    """Written in a format that this version cannot read."""

    def __init__(self, subject: str, part: str, detail: str) -> None:
        super().__init__(subject, part, detail)
        self.args = (f"{subject} was written by a newer modelstore ({detail}): pip install --upgrade modelstore",)


class StorageError(ModelStoreError, OSError):
    """The storage could not do what was asked; `key` says for which object."""

    def __init__(self, message: str, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


class FilePullFailedException(StorageError):
    """An object could not be read; `base_exception` is the reason."""

    def __init__(self, base_exception: Exception, message: str | None = None, key: str | None = None) -> None:
        super().__init__(message or f"an object could not be read: {base_exception}", key)
        self.base_exception = base_exception


class ObjectNotFoundError(FilePullFailedException, FileNotFoundError):
    """The storage holds no object under this key."""

    def __init__(self, key: str, address: str) -> None:
        missing = FileNotFoundError(key)
        super().__init__(missing, f"{address} holds no object {key!r}", key)
        self.address = address


class StoreNotFoundError(StorageError, FileNotFoundError):
    """There is nothing at the address of the store."""


class NotAFolderError(StorageError, NotADirectoryError):
    """The address of the store is a file."""


class AccessDeniedError(StorageError, PermissionError):
    """The storage knows who asks and refuses it to them; `right` is the missing permission, where it is known."""

    def __init__(self, message: str, key: str | None = None, right: str | None = None) -> None:
        super().__init__(message, key)
        self.right = right


class CredentialsError(AccessDeniedError):
    """The storage does not know who asks: no credentials were found, or they are wrong or have expired."""


class StorageUnavailableError(StorageError, ConnectionError):
    """There is no connection, it broke off, or the server failed; trying again later may help."""


class ThrottledError(StorageUnavailableError):
    """The storage refused to answer so many requests; trying again later will help."""


class DeadlineExceededError(StorageError, TimeoutError):
    """The time that was given with `timeout=` is over; `seconds` is what was given."""

    def __init__(self, seconds: float, doing: str = "", key: str | None = None) -> None:
        self.seconds = seconds
        while_doing = f" while {doing}" if doing else ""
        super().__init__(
            f"the {seconds:g} s that timeout= gives were over{while_doing}; give it more, or try again", key
        )


class UnsafeStorageError(StorageError):
    """The storage cannot create an object only if it is absent, so writers could lose each other's work."""


class CommitUnknownError(ModelStoreError, OSError):
    """The storage stopped answering during a commit: the change may or may not become visible."""

    def __init__(self, domain: str, number: int, detail: str) -> None:
        super().__init__(
            f"event {number} of {domain!r} was sent, but the storage never said whether it took it ({detail}); "
            "look whether the change is there once the storage answers again"
        )
        self.domain = domain
        self.number = number


class OfflineError(ModelStoreError, ConnectionError):
    """Offline was asked for, and this is not held locally."""


class ConfirmationRequiredError(ModelStoreError, RuntimeError):
    """A deletion wants a confirmation, and there is nobody to ask."""

    def __init__(self, action: str) -> None:
        self.action = action
        super().__init__(f"{action} asks for a confirmation, and there is no terminal to ask in: pass skip_prompt=True")


def _did_you_mean(name: str, known: Sequence[str]) -> str | None:
    import difflib  # only when something has gone wrong already

    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else None
