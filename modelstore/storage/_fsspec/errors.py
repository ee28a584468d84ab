"""What the errors of fsspec's file systems mean for whoever keeps models on them."""

from __future__ import annotations

import errno

from modelstore.exceptions import (
    AccessDeniedError,
    CredentialsError,
    ModelStoreError,
    StorageError,
    StorageUnavailableError,
    ThrottledError,
)
from modelstore.storage import oserrors

# By name: what they belong to need not be installed.
_HOST_KEY = "BadHostKeyException"
_CREDENTIALS = "AuthenticationException"
_CONNECTION = frozenset(
    {
        *("SSHException", "SFTPError", "NoValidConnectionsError", "gaierror"),
        *("TransportError", "StreamError", "BadGatewayError"),
        *("error_temp", "ClientConnectionError", "ConnectTimeout", "ReadTimeout"),
    }
)
_NO_ANSWER = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN})


def explain(error: Exception, doing: str, key: str | None, address: str, alive: bool) -> Exception:
    """The error to raise instead; `FileNotFoundError` and `FileExistsError`, whose meaning depends on what was done,
    and errors of ours stay as they are.

    Args:
        error: of the file system or what is below it.
        doing: what failed, such as `writing`.
        key: to what; None: to the store as a whole.
        address: of the store.
        alive: whether the connection is still there.
    """
    if isinstance(error, (ModelStoreError, FileNotFoundError, FileExistsError)):
        return error
    names = {cls.__name__ for cls in type(error).__mro__}
    said = str(error) or type(error).__name__
    what = f"{doing} {key!r} in {address} failed ({said})" if key else f"{doing} {address} failed ({said})"
    status = _status(error)
    if "ResourceNotFound" in names:
        return FileNotFoundError(said)
    if "ResourceLocked" in names:
        status = 423
    if "InsufficientStorage" in names:
        status = 507
    if status is not None:
        return _of_status(status, what, key)
    if _HOST_KEY in names:
        return StorageError(
            f"{what}: the host's key is not the one in ~/.ssh/known_hosts; find out why before you remove that one", key
        )
    if _CREDENTIALS in names or "No authentication methods available" in said:
        return CredentialsError(
            f"{what}: see that user name, password or key (storage_options= username, password, key_filename) are "
            "right, and that the server takes them",
            key,
        )
    if "ForbiddenOperation" in names or isinstance(error, PermissionError):
        return AccessDeniedError(f"{what}: give this user the rights that policy() names", key)
    if names & _CONNECTION or _is_lost(error, alive):
        return StorageUnavailableError(f"{what}: see that the server can be reached, and try again later", key)
    if isinstance(error, NotImplementedError):
        return StorageError(f"{what}: this file system cannot do that; keep the store on another one", key)
    if isinstance(error, OSError) and error.errno:
        return oserrors.explain(error, doing, key or "the store", address)
    if isinstance(error, OSError):  # servers of SFTP say "Failure" to whatever has no number of its own
        return StorageError(
            f"{what}: see that the disk is not full, the quota not used up, and no file where a folder must be", key
        )
    return StorageError(f"{what}, a {type(error).__name__}: see that the store's URL and options are right", key)


def _is_lost(error: Exception, alive: bool) -> bool:
    if isinstance(error, (ConnectionError, TimeoutError, EOFError)):
        return True
    return isinstance(error, OSError) and (not alive or error.errno in _NO_ANSWER)


def _status(error: Exception) -> int | None:
    status = getattr(error, "status_code", None) or getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _of_status(status: int, what: str, key: str | None) -> StorageError:
    """What an answer of HTTP means."""
    if status in (401, 407):
        return CredentialsError(f"{what}: see that user name and password (storage_options= auth) are right", key)
    if status == 403:
        return AccessDeniedError(f"{what}: give this user the rights that policy() names", key)
    if status in (423, 429, 509):
        return ThrottledError(f"{what}: too much goes on there; try again later", key)
    if status == 408 or (status >= 500 and status != 507):
        return StorageUnavailableError(f"{what}: the server failed; try again later", key)
    return StorageError(f"{what}: {_ADVICE.get(status, 'see that the URL of the store is right')}", key)


_ADVICE = {
    405: "no WebDAV is spoken there; see that the URL of the store is right",
    411: "this server takes no file whose length it is not told beforehand; keep the store elsewhere",
    413: "this server takes no file of that size; have its limit raised",
    507: "the server is full, or its quota used up: free some space and try again",
}
