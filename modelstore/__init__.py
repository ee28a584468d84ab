"""modelstore: trained models in a folder or bucket, without a server.

    from modelstore import ModelStore

    store = ModelStore.from_file_system("models", create_directory=True)
    info = store.upload("fraud", model=classifier)
    classifier = store.load("fraud", info.model_id)

Names are imported when they are first asked for, so that importing this package costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelstore._version import __version__ as __version__

if TYPE_CHECKING:
    from modelstore.exceptions import (
        AccessDeniedError,
        AmbiguousObjectError,
        CommitUnknownError,
        ConfirmationRequiredError,
        CredentialsError,
        DeadlineExceededError,
        DomainNotFoundException,
        FileChangedError,
        FilePullFailedException,
        IntegrityError,
        InvalidArgumentError,
        InvalidNameError,
        MissingDependencyError,
        ModelDeletedException,
        ModelExistsException,
        ModelNotFoundException,
        ModelPinnedError,
        ModelStoreError,
        NewerFormatError,
        NotAFolderError,
        NotJSONError,
        ObjectNotFoundError,
        OfflineError,
        PickleNotAllowedError,
        QueryError,
        RecordTooLargeError,
        RuntimeMismatchError,
        StateConflictError,
        StateNotFoundError,
        StorageError,
        StorageUnavailableError,
        StoreNotFoundError,
        ThrottledError,
        UnknownKeywordError,
        UnsafeArchiveError,
        UnsafeStorageError,
        UnsupportedObjectError,
    )
    from modelstore.model_store import ModelStore
    from modelstore.records import ModelRecord

__all__ = [
    "AccessDeniedError",
    "AmbiguousObjectError",
    "CommitUnknownError",
    "ConfirmationRequiredError",
    "CredentialsError",
    "DeadlineExceededError",
    "DomainNotFoundException",
    "FileChangedError",
    "FilePullFailedException",
    "IntegrityError",
    "InvalidArgumentError",
    "InvalidNameError",
    "MissingDependencyError",
    "ModelDeletedException",
    "ModelExistsException",
    "ModelNotFoundException",
    "ModelPinnedError",
    "ModelRecord",
    "ModelStore",
    "ModelStoreError",
    "NewerFormatError",
    "NotAFolderError",
    "NotJSONError",
    "ObjectNotFoundError",
    "OfflineError",
    "PickleNotAllowedError",
    "QueryError",
    "RecordTooLargeError",
    "RuntimeMismatchError",
    "StateConflictError",
    "StateNotFoundError",
    "StorageError",
    "StorageUnavailableError",
    "StoreNotFoundError",
    "ThrottledError",
    "UnknownKeywordError",
    "UnsafeArchiveError",
    "UnsafeStorageError",
    "UnsupportedObjectError",
    "__version__",
]

_ELSEWHERE = {"ModelStore": "modelstore.model_store", "ModelRecord": "modelstore.records"}
"""Where a public name lives; all others are exceptions."""


if not TYPE_CHECKING:  # else a type checker would take every misspelt name for one of these

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import importlib

        value = getattr(importlib.import_module(_ELSEWHERE.get(name, "modelstore.exceptions")), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
