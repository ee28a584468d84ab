"""What the S3 SDK raises, in terms of this library: what happened, to what, and what to do next."""

from __future__ import annotations

from typing import Any

from modelstore import deadline
from modelstore.exceptions import (
    AccessDeniedError,
    CredentialsError,
    ObjectNotFoundError,
    StorageError,
    StorageUnavailableError,
    StoreNotFoundError,
    ThrottledError,
)

RIGHTS = {
    "get_object": "s3:GetObject",
    "head_object": "s3:GetObject",
    "put_object": "s3:PutObject",
    "create_multipart_upload": "s3:PutObject",
    "upload_part": "s3:PutObject",
    "complete_multipart_upload": "s3:PutObject",
    "abort_multipart_upload": "s3:AbortMultipartUpload",
    "list_multipart_uploads": "s3:ListBucketMultipartUploads",
    "list_objects_v2": "s3:ListBucket",
    "delete_object": "s3:DeleteObject",
    "delete_objects": "s3:DeleteObject",
}
"""The permission that each request takes."""

_BAD_CREDENTIALS = frozenset(
    {
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidToken",
        "InvalidClientTokenId",
        "TokenRefreshRequired",
        "InvalidSecurity",
        "RequestExpired",
        "UnrecognizedClientException",
        "AuthFailure",
        "MissingSecurityHeader",
    }
)
_BAD_CREDENTIALS_ERRORS = frozenset(
    {
        "NoCredentialsError",
        "NoAuthTokenError",
        "PartialCredentialsError",
        "CredentialRetrievalError",
        "TokenRetrievalError",
        "UnknownTokenProviderError",
        "UnknownCredentialError",
        "ProfileNotFound",
        "ConfigNotFound",
        "ConfigParseError",
        "InvalidConfigError",
        "InfiniteLoopConfigError",
        "RefreshWithMFAUnsupportedError",
        "MetadataRetrievalError",
        "SSOError",
        "LoginError",
    }
)
_THROTTLED = frozenset(
    {
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestLimitExceeded",
        "TooManyRequests",
        "TooManyRequestsException",
        "BandwidthLimitExceeded",
        "ServiceUnavailable",
        "503",
        "429",
    }
)
_PASSING = frozenset(
    {"RequestTimeout", "IncompleteBody", "BadDigest", "XAmzContentSHA256Mismatch", "PriorRequestNotComplete"}
)
_ELSEWHERE = frozenset(
    {
        "PermanentRedirect",
        "TemporaryRedirect",
        "Redirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "IncorrectEndpoint",
        "301",
        "307",
    }
)
_CONNECTION_ERRORS = frozenset(
    {
        "HTTPClientError",
        "ConnectionError",
        "IncompleteReadError",
        "ResponseParserError",
        "ChecksumError",
        "FlexibleChecksumError",
        "HTTPError",
        "OSError",
    }
)


def code_of(error: BaseException) -> str:
    """The error code of an answer, its status where there is none; empty for what was no answer."""
    answer: dict[str, Any] = getattr(error, "response", None) or {}
    return str((answer.get("Error") or {}).get("Code") or status_of(error) or "")


def status_of(error: BaseException) -> int:
    """The HTTP status of an answer; 0 for what was no answer."""
    answer: dict[str, Any] = getattr(error, "response", None) or {}
    return int((answer.get("ResponseMetadata") or {}).get("HTTPStatusCode") or 0)


def as_client_error(told: dict[str, Any], operation: str) -> Exception:
    """What the SDK would have raised for an error that an answer tells of one object among many."""
    from botocore.exceptions import ClientError

    code = str(told.get("Code", ""))
    status = 403 if code in ("AccessDenied", "AllAccessDisabled") else 503 if code in _THROTTLED else 500
    return ClientError({"Error": told, "ResponseMetadata": {"HTTPStatusCode": status}}, operation)  # type: ignore[no-any-return]


class Translator:
    """Turns errors of the SDK into this library's, for one store.

    Args:
        address: the store, as messages name it.
        bucket: its bucket.
        region: the region that was asked for.
        kms_key: the key that objects are encrypted with, if one was given.
    """

    def __init__(self, address: str, bucket: str, region: str | None, kms_key: str | None) -> None:
        self.address = address
        self._bucket = bucket
        self._region = region
        self._kms_key = kms_key

    def __call__(self, error: BaseException, operation: str, doing: str, key: str | None = None) -> StorageError:
        """The error to raise.

        Args:
            error: what a request raised; a `StorageError` is returned as it is.
            operation: the request's name in boto3.
            doing: what was being done, such as "reading".
            key: the object it was done to, if it was one.
        """
        if isinstance(error, StorageError):
            return error
        where = f"{self.address.rstrip('/')}/{key or ''}"
        if not status_of(error):
            return self._without_answer(error, f"{doing} {where} failed", doing, key)
        return self._of_answer(error, f"{doing} {where} failed", operation, key)

    def _of_answer(self, error: BaseException, failed: str, operation: str, key: str | None) -> StorageError:
        code, status, said = code_of(error), status_of(error), _said(error)
        if code == "NoSuchBucket":
            return StoreNotFoundError(
                f"{failed}: there is no bucket {self._bucket!r} there; check its name and the endpoint, or create it",
                key,
            )
        if code in ("NoSuchKey", "NotFound", "404") and key is not None:
            return ObjectNotFoundError(key, self.address)
        if code in _BAD_CREDENTIALS:
            return CredentialsError(
                f"{failed}: the credentials are wrong or have expired ({said}); renew them, or pass others", key
            )
        if code == "RequestTimeTooSkewed":
            return StorageError(
                f"{failed}: this machine's clock is too far off the server's ({said}); set it right and try again",
                key,
            )
        if code in _ELSEWHERE or status in (301, 307):
            return self._elsewhere(error, failed, said, key)
        if code.startswith("KMS.") or ("kms:" in said.lower() and status in (400, 403)):
            return self._of_kms(failed, said, status, key)
        if code == "InvalidObjectState":
            return StorageError(
                f"{failed}: the object lies in a storage class that must be restored first ({said}); restore it", key
            )
        if status == 403 or code in ("AccessDenied", "AllAccessDisabled", "403"):
            right = RIGHTS.get(operation)
            return AccessDeniedError(
                f"{failed}: these credentials may not do that ({said}); they need {right or 'another right'} there, "
                "see policy() of the storage for all that a store needs",
                key,
                right,
            )
        if code in _THROTTLED or status in (429, 503):
            return ThrottledError(f"{failed}: the server asks for fewer requests ({said}); try again later", key)
        if (status >= 500 and status != 501) or code in _PASSING:
            return StorageUnavailableError(f"{failed}: the server could not do it ({said}); try again later", key)
        return StorageError(f"{failed}: the server refused it ({said})", key)

    def _elsewhere(self, error: BaseException, failed: str, said: str, key: str | None) -> StorageError:
        answer: dict[str, Any] = getattr(error, "response", {})
        told = answer.get("Error", {})
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        right = headers.get("x-amz-bucket-region") or told.get("Region") or told.get("Endpoint")
        asked = f"region {self._region!r}" if self._region else "the default region"
        advice = f"it is in {right!r}: pass that as region=" if right else "pass the right one as region= or endpoint="
        return StorageError(f"{failed}: bucket {self._bucket!r} is not in {asked} ({said}); {advice}", key)

    def _of_kms(self, failed: str, said: str, status: int, key: str | None) -> StorageError:
        which = f"the KMS key {self._kms_key!r}" if self._kms_key else "the bucket's KMS key"
        if status == 403:
            rights = "kms:GenerateDataKey and kms:Decrypt"
            return AccessDeniedError(
                f"{failed}: these credentials may not use {which} ({said}); they need {rights} on it", key, rights
            )
        return StorageError(f"{failed}: {which} cannot be used ({said}); see that it exists and is enabled", key)

    def _without_answer(self, error: BaseException, failed: str, doing: str, key: str | None) -> StorageError:
        kinds = {cls.__name__ for cls in type(error).__mro__}
        said = " ".join(str(error).split()) or type(error).__name__
        if kinds & _BAD_CREDENTIALS_ERRORS:
            return CredentialsError(
                f"{failed}: {said}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, log in, or pass access_key= and "
                "secret_key=",
                key,
            )
        if "CERTIFICATE_VERIFY_FAILED" in said:
            return StorageUnavailableError(
                f"{failed}: the server's certificate is not trusted ({said}); AWS_CA_BUNDLE names a file of those that "
                "are",
                key,
            )
        if kinds & _CONNECTION_ERRORS:
            over = deadline.exceeded(doing, key)
            if over is not None:
                return over
            return StorageUnavailableError(
                f"{failed}: the connection could not be made or broke off ({said}); see that the endpoint is right and "
                "can be reached, and try again",
                key,
            )
        return StorageError(f"{failed}: {said}; check the store's arguments and the configuration of the SDK", key)


def _said(error: BaseException) -> str:
    told = getattr(error, "response", {}).get("Error", {})
    code, message = code_of(error), str(told.get("Message") or "").strip()
    return f"{code}: {message}" if message and message != code else code
