"""What Google's SDK and the network raise, as the errors of this library: what happened, to what, what to do next."""

from __future__ import annotations

import http.client
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
from modelstore.storage._gcs.client import LOGIN

_RIGHT = re.compile(r"\b(?:storage|serviceusage)\.[A-Za-z]+\.[A-Za-z]+\b(?<!googleapis\.com)")
_BUCKET_IS_MISSING = re.compile(r"bucket does not exist|NoSuchBucket", re.IGNORECASE)
_OBJECT_IS_MISSING = re.compile(r"No such object|NoSuchKey", re.IGNORECASE)


class NotFoundError(Exception):
    """A 404 that does not say whether the object or the bucket is missing."""


class Explaining:
    """Makes the errors of one storage's requests.

    Args:
        bucket: its bucket.
        address: where the store is, for messages.
    """

    def __init__(self, bucket: str, address: str) -> None:
        self.bucket = bucket
        self.address = address

    @contextmanager
    def __call__(self, doing: str, key: str) -> Iterator[None]:
        """What happens in this context is one or several requests for a key; their errors leave it translated.

        Nothing but requests may happen in it: the errors of a caller's own code are not ours to change.

        Raises:
            NotFoundError: a 404 that leaves it open what is missing.
        """
        try:
            yield
        except (ModelStoreError, NotFoundError, MemoryError):
            raise
        except Exception as error:
            raise self.explain(error, doing, key) from error

    def explain(self, error: Exception, doing: str, key: str) -> Exception:
        """Our error for one of the SDK's, or for whatever it stumbled over."""
        cause = _cause(error)
        status = status_of(cause)
        if not _is_request_error(cause):
            said = f"{type(cause).__name__}: {_short(cause)}"
            return StorageError(
                f"{doing} {key!r} in {self.address} failed: the SDK could not go on ({said}); is this Google's?",
                key,
            )
        over = deadline.exceeded(f"{doing} {key!r} in {self.address}", key)
        if over is not None and (status is None or status == 408 or status >= 500 or cause is not error):
            return over
        what = f"{doing} {key!r} in {self.address} failed"
        if status is not None:
            said, reasons = _answer_of(cause)
            return self._for_status(status, _short(said), reasons, what, key)
        return self._without_answer(cause, what, key)

    def _for_status(self, status: int, said: str, reasons: set[str], what: str, key: str) -> Exception:
        if status == 404:
            if _BUCKET_IS_MISSING.search(said):
                return self.no_bucket(key)
            return ObjectNotFoundError(key, self.address) if _OBJECT_IS_MISSING.search(said) else NotFoundError(said)
        if status == 429 or reasons & {"rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded"}:
            return ThrottledError(f"{what}: too many requests ({said}); try again later, with fewer at a time", key)
        if "requester pays" in said or "userProjectMissing" in reasons:
            advice = "whoever asks pays for this bucket: pass user_project= with a project of yours that is billed"
            return AccessDeniedError(f"{what}: {advice} ({said})", key, "serviceusage.services.use")
        if status == 401:
            return CredentialsError(f"{what}: Google does not know who asks ({said}); {LOGIN}", key)
        if status == 403:
            return self._forbidden(said, what, key)
        if status == 408 or status >= 500:
            return StorageUnavailableError(f"{what}: the server answered {status} ({said}); try again later", key)
        return StorageError(f"{what}: the server answered {status}: {said}", key)

    def _forbidden(self, said: str, what: str, key: str) -> Exception:
        found = _RIGHT.search(said)
        right = found[0] if found else None
        if "billing" in said.lower():
            advice = "see that billing is enabled for the project that the bucket belongs to"
        elif "KMS" in said:
            advice = "grant roles/cloudkms.cryptoKeyEncrypterDecrypter on the key to the project's service agent of GCS"
        elif right == "serviceusage.services.use":
            advice = "grant roles/serviceusage.serviceUsageConsumer on the project that user_project= names"
        elif right is not None:
            advice = f"grant {right} on the bucket; the store's doctor prints all that it takes"
        else:
            advice = "the store's doctor prints the rights that it takes"
        return AccessDeniedError(f"{what}: access is denied ({said}); {advice}", key, right)

    def no_bucket(self, key: str) -> StoreNotFoundError:
        """The error for a bucket that does not exist."""
        return StoreNotFoundError(
            f"there is no bucket {self.bucket!r} ({self.address}): check its name, or make it with "
            f"`gcloud storage buckets create gs://{self.bucket}`",
            key,
        )

    def _without_answer(self, cause: Exception, what: str, key: str) -> Exception:
        from google.auth.exceptions import GoogleAuthError, TransportError

        said = _short(cause)
        if isinstance(cause, GoogleAuthError) and not isinstance(cause, TransportError):
            return CredentialsError(f"{what}: the credentials are not accepted or missing ({said}); {LOGIN}", key)
        if _is_bad_certificate(cause):
            return StorageUnavailableError(
                f"{what}: the server's certificate is not trusted here ({said}); check endpoint= and any proxy", key
            )
        return StorageUnavailableError(f"{what}: no answer ({said}); check the network, or try again later", key)


def _short(reason: object) -> str:
    text = str(reason)
    return text if len(text) <= 500 else f"{text[:500]} …"


def status_of(error: Exception) -> int | None:
    """The HTTP status that an error of the SDK's is about; None for those without an answer."""
    from google.api_core.exceptions import GoogleAPICallError
    from google.cloud.storage.exceptions import InvalidResponse

    cause = _cause(error)
    if isinstance(cause, GoogleAPICallError) and cause.code is not None:
        return int(cause.code)
    if isinstance(cause, InvalidResponse):
        return int(cause.response.status_code)
    return None


def leaves_it_open(error: Exception) -> bool:
    """Whether a request that ended so may have been carried out, or may yet be."""
    cause = _cause(error)
    if isinstance(cause, ModelStoreError):
        return False
    if not _is_request_error(cause):
        return True  # perhaps it is the answer that could not be understood
    status = status_of(cause)
    if status is not None:
        return status == 408 or status >= 500
    return not _was_never_sent(cause)


def _was_never_sent(cause: Exception) -> bool:
    import requests
    import urllib3
    from google.auth.exceptions import GoogleAuthError

    if isinstance(cause, (GoogleAuthError, requests.ConnectTimeout)):
        return True
    reason = _reason(cause)
    return isinstance(reason, urllib3.exceptions.NewConnectionError) or _is_bad_certificate(cause)


def _is_bad_certificate(cause: Exception) -> bool:
    inner: Any = _reason(cause)
    while isinstance(inner, Exception):
        if isinstance(inner, ssl.SSLCertVerificationError):
            return True
        inner = inner.args[0] if inner.args else None
    return False


def _reason(cause: Exception) -> Any:
    """What `requests` and urllib3 have wrapped."""
    wrapped = cause.args[0] if cause.args else None
    return getattr(wrapped, "reason", wrapped)


def _cause(error: Exception) -> Exception:
    """The last error of a request that was tried several times."""
    from google.api_core.exceptions import RetryError

    while isinstance(error, RetryError) and isinstance(error.cause, Exception):
        error = error.cause
    return error


def _answer_of(error: Exception) -> tuple[str, set[str]]:
    """What the server said, and its words for why; not from the error itself, which drops them for uploads."""
    response: Any = getattr(error, "response", None)
    try:
        told = response.json()["error"]
        return str(told["message"]), {str(entry["reason"]) for entry in told.get("errors", ())}
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError):  # no answer, or not Google's JSON
        text = getattr(response, "text", None)
        return str(text or error), set()


def _is_request_error(error: Exception) -> bool:
    import urllib3
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
    from requests import RequestException

    families = (GoogleAPIError, GoogleAuthError, InvalidResponse, DataCorruption, RequestException)
    return isinstance(error, (*families, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError))
