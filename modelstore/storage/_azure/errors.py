"""What the Azure SDK raises, in terms of this library: what happened, to what, and what to do next."""

from __future__ import annotations

import re

from modelstore import deadline
from modelstore.exceptions import (
    AccessDeniedError,
    CredentialsError,
    ModelStoreError,
    ObjectNotFoundError,
    StorageError,
    StorageUnavailableError,
    StoreNotFoundError,
    ThrottledError,
)

_BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
READ = f"{_BLOBS}/read"
"""The data action that reading takes, and listing too."""
WRITE = f"{_BLOBS}/write"
DELETE = f"{_BLOBS}/delete"

_LETTERS = {"reading": "r", "listing": "l", "creating": "w", "writing": "w", "deleting": "d"}
"""What each verb takes in a SAS token."""

_NO_CONTAINER = {"ContainerNotFound", "ContainerBeingDeleted", "ContainerDisabled", "ResourceNotFound"}
_BAD_CREDENTIALS = {
    "AuthenticationFailed",
    "InvalidAuthenticationInfo",
    "KeyBasedAuthenticationNotPermitted",
    "NoAuthenticationInformation",
    "PublicAccessNotPermitted",
}
_ARCHIVED = {"BlobArchived", "BlobBeingRehydrated"}
_IMMUTABLE = {"BlobImmutableDueToPolicy", "BlobImmutableDueToLegalHold"}
_TAKEN = {"BlobAlreadyExists", "ResourceAlreadyExists", "UnauthorizedBlobOverwrite", "LeaseIdMissing"} | _IMMUTABLE
"""What a creation hears only where there is a blob."""

_SECRET = re.compile(r"((?:sig|se|sp|sv|sr|skoid|sktid|AccountKey)=)[^&;\s'\"]+", re.IGNORECASE)

_REASON = re.compile(r"Operation returned an invalid status '(.*)'")


def code_of(error: BaseException) -> str:
    """The service's error code; empty for what was no answer of it."""
    code = getattr(error, "error_code", None)
    if not code:
        headers = getattr(getattr(error, "response", None), "headers", None) or {}
        code = headers.get("x-ms-error-code")
    return str(getattr(code, "value", code) or "")


def status_of(error: BaseException) -> int:
    """The HTTP status of an answer; 0 for what was no answer, or one that broke off."""
    status = int(getattr(error, "status_code", None) or 0)
    return status if status >= 300 else 0


def is_taken(error: BaseException) -> bool:
    """Whether a creation was refused because there is a blob of that name."""
    code = code_of(error)
    return code in _TAKEN or (status_of(error) == 412 and code in ("ConditionNotMet", ""))


def never_sent(error: BaseException) -> bool:
    """Whether an attempt that ended so certainly did not reach the service."""
    from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError
    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ProxyError

    if isinstance(error, ModelStoreError):  # the deadline, before anything was sent
        return True
    if isinstance(error, ClientAuthenticationError) and not code_of(error):  # no credentials to send it with
        return True
    # The SDK calls more than this unsent, such as a TLS connection that broke in the middle of an answer.
    inner = getattr(error, "inner_exception", None)
    if isinstance(error, ServiceRequestError):
        told = str(inner)
        reason = getattr(inner, "args", (None,))[0] if getattr(inner, "args", ()) else None
        unsent = (ConnectTimeoutError, NewConnectionError, ProxyError)
        return isinstance(inner, unsent) or isinstance(reason, unsent) or "CERTIFICATE_VERIFY_FAILED" in told
    return False


def did_nothing(error: BaseException) -> bool:
    """Whether what a request raised says that it had no effect."""
    return never_sent(error) or (400 <= status_of(error) < 500 and status_of(error) != 408)


def answer_of(error: Exception) -> Exception:
    """The service's answer where the SDK stumbled over it, as it does over one without a message; else the error."""
    from azure.core.exceptions import AzureError, HttpResponseError

    behind: BaseException | None = error
    while behind is not None and not isinstance(behind, (AzureError, OSError)):
        behind = behind.__context__
    return behind if isinstance(behind, HttpResponseError) else error


class Translator:
    """Turns errors of the SDK into this library's, for one store.

    Args:
        address: the store, as messages name it.
        container: its container.
    """

    def __init__(self, address: str, container: str) -> None:
        self._address = address
        self._container = container

    def __call__(self, error: Exception, doing: str, key: str | None, right: str) -> StorageError:
        """The error to raise.

        Args:
            error: what a call of the SDK raised.
            doing: what was being done, such as "reading".
            key: the object it was done to, if it was one.
            right: the data action that it takes.
        """
        failed = f"{doing} {self._address}/{key or ''} failed"
        from azure.core.exceptions import ClientAuthenticationError

        # Whoever hands out tokens answers too, and that is not the service.
        tokens = isinstance(error, ClientAuthenticationError) and not code_of(error)
        if status_of(error) and not tokens:
            return self._of_answer(error, failed, doing, key, right)
        return self._without_answer(error, failed, doing, key)

    def _of_answer(self, error: Exception, failed: str, doing: str, key: str | None, right: str) -> StorageError:
        code, status, said = code_of(error), status_of(error), _said(error)
        if code in _NO_CONTAINER:
            return StoreNotFoundError(
                f"{failed}: there is no container {self._container!r} in that account, or it is hidden from whoever "
                f"has no credentials ({said}); check its name and the account, or create it",
                key,
            )
        if status == 404 and key is not None:
            return ObjectNotFoundError(key, self._address)
        if status == 401 or code in _BAD_CREDENTIALS or "failed to authenticate" in said:
            return CredentialsError(
                f"{failed}: the credentials are missing, wrong or have expired ({said}); renew the SAS token or the "
                "key, log in (az login), or pass others as connection_string= or credential=",
                key,
            )
        if code in _IMMUTABLE:
            return AccessDeniedError(
                f"{failed}: an immutability policy or a legal hold protects it ({said}); wait until it ends, or have "
                "it lifted",
                key,
                right,
            )
        if status == 403:
            return AccessDeniedError(
                f"{failed}: these credentials may not do that ({said}); they need {right} (in a SAS token "
                f"{_LETTERS[doing]!r}) there, and the account's firewall must let this machine in; see policy() of the "
                "storage for all that a store needs",
                key,
                right,
            )
        return self._of_state(failed, code, status, said, key)

    def _of_state(self, failed: str, code: str, status: int, said: str, key: str | None) -> StorageError:
        if code == "ServerBusy" or status in (429, 503):
            return ThrottledError(f"{failed}: the service asks for fewer requests ({said}); try again later", key)
        if status >= 500 or status == 408:
            return StorageUnavailableError(f"{failed}: the service could not do it ({said}); try again later", key)
        if code in _ARCHIVED:
            return StorageError(
                f"{failed}: the object lies in the archive tier ({said}); bring it back with "
                "`az storage blob set-tier --tier Hot`, which takes hours, and try again then",
                key,
            )
        if code.startswith("Lease"):
            return StorageError(f"{failed}: somebody holds a lease on it ({said}); have it released or broken", key)
        if code == "SnapshotsPresent":
            return StorageError(
                f"{failed}: somebody made snapshots of it ({said}); delete them first "
                "(az storage blob delete --delete-snapshots only)",
                key,
            )
        if status == 412:
            return StorageError(f"{failed}: the object was replaced in the meantime ({said}); read it anew", key)
        if code.startswith("Encryption") or "encryptionscope" in said.lower().replace(" ", ""):
            return StorageError(f"{failed}: its encryption scope cannot be used ({said}); see encryption_scope=", key)
        return StorageError(f"{failed}: the service refused it ({said})", key)

    def _without_answer(self, error: Exception, failed: str, doing: str, key: str | None) -> StorageError:
        from azure.core.exceptions import AzureError, ClientAuthenticationError, DecodeError

        said = _said(error)
        if isinstance(error, ClientAuthenticationError):  # of azure-identity, or a key that is no Base64
            return CredentialsError(
                f"{failed}: no usable credentials were found ({said}); log in (az login), set AZURE_CLIENT_ID and what "
                "belongs to it, or pass connection_string= or credential=",
                key,
            )
        if "CERTIFICATE_VERIFY_FAILED" in said:
            return StorageUnavailableError(
                f"{failed}: the server's certificate is not trusted ({said}); REQUESTS_CA_BUNDLE names a file of those "
                "that are",
                key,
            )
        if isinstance(error, (AzureError, OSError)) and not isinstance(error, DecodeError):
            return deadline.exceeded(doing, key) or StorageUnavailableError(
                f"{failed}: the connection could not be made or broke off ({said}); see that the account's name is "
                "right and can be reached, and try again",
                key,
            )
        return StorageError(f"{failed}: the SDK could not go on ({said}); is this a blob service's address?", key)


def _said(error: Exception) -> str:
    """What it says in one line, without secrets."""
    lines = (getattr(error, "message", None) or str(error)).strip().splitlines()
    said = _SECRET.sub(r"\1…", lines[0].strip() if lines else "") or type(error).__name__
    if reason := _REASON.fullmatch(said):
        said = reason[1]
    code = code_of(error)
    return f"{code}: {said}" if code and code not in said else said
