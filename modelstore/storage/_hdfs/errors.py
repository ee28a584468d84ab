"""What hdfs-native's errors mean for whoever keeps models on HDFS."""

from __future__ import annotations

import re

from modelstore.exceptions import (
    AccessDeniedError,
    CredentialsError,
    DeadlineExceededError,
    InvalidArgumentError,
    StorageError,
    StorageUnavailableError,
)
from modelstore.storage.patience import GivenUpError

# hdfs-native shows errors for which Python has no class as a RuntimeError, with Rust's notation of them as the text.
_VARIANT = re.compile(r'^(\w+)(?:\("?(?P<java>[\w.$]*)"?)?')

_BUSY = frozenset(
    {
        "SafeModeException",
        "StandbyException",
        "RetriableException",
        "ObserverRetryOnActiveException",
        "NotReplicatedYetException",
        "ServerNotRunningYetException",
    }
)
_TRANSIENT = frozenset(
    {"DataTransferError", "ChecksumError", "BlocksNotFound", "OperationFailed", "InternalError", "FatalRPCError"}
)
_CREDENTIALS = frozenset({"SASLError", "GSSAPIError", "NoSASLMechanism", "SaslException", "InvalidToken"})
_ADVICE = {
    "NSQuotaExceededException": "the folder's quota of names is used up: ask for more (hdfs dfsadmin -setQuota)",
    "DSQuotaExceededException": "the folder's quota of space is used up: ask for more (hdfs dfsadmin -setSpaceQuota)",
    "QuotaByStorageTypeExceededException": "the folder's quota of this kind of disk is used up: ask for more",
    "PathComponentTooLongException": "the name is too long for this cluster: use shorter names",
    "ParentNotDirectoryException": "a file stands where the store needs a folder: something else has written there",
    "IllegalStateException": "a file stands where the store needs a folder: something else has written there",
    "LeaseExpiredException": "the temporary file was removed while it was written: try again",
}


class LostAnswerError(StorageUnavailableError):
    """The connection broke, so that nobody knows whether the request was carried out."""


class NotEmptyError(StorageError):
    """A folder that was to be removed holds something."""


def explain(error: BaseException, doing: str, key: str | None, address: str) -> BaseException:
    """The error to raise instead. A `FileNotFoundError`, a `FileExistsError` and a `NotImplementedError` of hdfs-native
    stay as they are, since what they mean depends on the call.
    """
    if isinstance(error, (StorageError, FileNotFoundError, FileExistsError, NotImplementedError)):
        return error
    said = _first_line(error)
    what = f"{doing} {key!r} in {address}" if key else f"{doing} {address}"
    if isinstance(error, OSError):
        # What the socket says: a refusal too, which hdfs-native has tried several times by now.
        return LostAnswerError(f"{what} failed ({said}): see that the NameNode runs there, and try again later", key)
    found = _VARIANT.match(str(error))
    variant = found[1] if found else ""
    java = (found["java"] or "").replace("$", ".").rpartition(".")[2] if found else ""
    if java in ("AccessControlException", "AuthorizationException"):
        return AccessDeniedError(
            f"{what} was refused ({said}): give this user the rights to the store's folder that policy() names", key
        )
    if variant in _CREDENTIALS or java in _CREDENTIALS:
        return CredentialsError(f"{what} failed ({said}): get a Kerberos ticket (kinit) or a token, and try again", key)
    if java == "PathIsNotEmptyDirectoryException":
        return NotEmptyError(f"{what} failed: the folder is not empty", key)
    if java in _BUSY:
        return StorageUnavailableError(f"{what} failed ({said}): the NameNode is not ready, try again later", key)
    if variant in _TRANSIENT:
        return LostAnswerError(f"{what} failed ({said}): try again later", key)
    if variant in ("InvalidArgument", "UrlParseError"):
        return InvalidArgumentError("url", f"{address} cannot be opened ({said}): pass url='hdfs://host:port'")
    return StorageError(f"{what} failed ({said}): {_ADVICE.get(java, 'see the log of the NameNode')}", key)


def is_lost(error: Exception) -> bool:
    """Whether the request that ended so may have been carried out, or may yet be."""
    return isinstance(error, (LostAnswerError, GivenUpError, DeadlineExceededError))


def _first_line(error: BaseException) -> str:
    """What the server said, without the trace of its Java code."""
    text = str(error) or type(error).__name__
    return re.split(r"\\n|\n", text)[0][:500].replace('\\"', '"')
