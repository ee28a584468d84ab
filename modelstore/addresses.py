"""Which storage the arguments and environment variables of a process name: the ancestor's variables, and one URL."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from modelstore import opening
from modelstore.exceptions import InvalidArgumentError, MissingDependencyError

if TYPE_CHECKING:
    from modelstore.storage.base import Storage

URL_VARIABLE = "MODEL_STORE_URL"
STORAGE_VARIABLE = "MODEL_STORE_STORAGE"


def value(argument: Any, name: str, variable: str) -> Any:
    """An argument that must be given, or else the environment variable.

    Raises:
        InvalidArgumentError: neither is there.
    """
    given = argument if argument is not None else os.environ.get(variable)
    if given is None or given == "":
        raise InvalidArgumentError(name, f"this store needs {name}=, or the environment variable {variable}")
    return given


def optional(argument: Any, variable: str, default: Any = None) -> Any:
    """An argument, or else the environment variable, or else a default."""
    if argument is not None:
        return argument
    return os.environ.get(variable) or default


def need(package: str, purpose: str, extra: str) -> None:
    """See that an SDK is installed, without importing it.

    Raises:
        MissingDependencyError: it is not; the error names the command that installs it.
    """
    try:
        there = importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # of the package around it
        there = False
    if not there:
        raise MissingDependencyError(package, purpose, f"pip install 'modelstore[{extra}]'")


def s3(bucket: str | None, region: str | None, root_prefix: str | None, **settings: Any) -> Storage:
    """S3 as AWS offers it; see `ModelStore.from_aws_s3`."""
    need("boto3", "a store on S3", "s3")
    from modelstore.storage.s3 import S3Storage

    return S3Storage(
        value(bucket, "bucket_name", "MODEL_STORE_AWS_BUCKET"),
        optional(root_prefix, "MODEL_STORE_AWS_ROOT_PREFIX"),
        region=optional(region, "MODEL_STORE_REGION"),
        **settings,
    )


def minio(
    endpoint: str | None,
    access_key: str | None,
    secret_key: str | None,
    bucket: str | None,
    root_prefix: str | None,
    secure: bool,
    **settings: Any,
) -> Storage:
    """MinIO, or what speaks S3 as it does; see `ModelStore.from_minio`."""
    need("boto3", "a store on MinIO", "s3")
    from modelstore.storage.s3 import S3Storage

    host = optional(endpoint, "MINIO_ENDPOINT", "s3.amazonaws.com")
    return S3Storage(
        value(bucket, "bucket_name", "MODEL_STORE_MINIO_BUCKET"),
        optional(root_prefix, "MODEL_STORE_MINIO_ROOT_PREFIX"),
        kind=f"minio:{host}",
        endpoint=host if "://" in host else f"{'https' if secure else 'http'}://{host}",
        access_key=value(access_key, "access_key", "MINIO_ACCESS_KEY"),
        secret_key=value(secret_key, "secret_key", "MINIO_SECRET_KEY"),
        **settings,
    )


def backblaze(
    bucket: str | None,
    key_id: str | None,
    application_key: str | None,
    endpoint: str | None,
    region: str | None,
    root_prefix: str | None,
    **settings: Any,
) -> Storage:
    """Backblaze B2 through its S3 interface; see `ModelStore.from_backblaze`."""
    need("boto3", "a store on Backblaze B2", "s3")
    from modelstore.storage.s3 import S3Storage

    region = optional(region, "MODEL_STORE_B2_REGION", "us-west-004")
    return S3Storage(
        value(bucket, "bucket_name", "MODEL_STORE_B2_BUCKET"),
        optional(root_prefix, "MODEL_STORE_B2_ROOT_PREFIX"),
        kind="backblaze:b2",
        region=region,
        endpoint=optional(endpoint, "MODEL_STORE_B2_ENDPOINT", f"https://s3.{region}.backblazeb2.com"),
        access_key=value(key_id, "key_id", "B2_APPLICATION_KEY_ID"),
        secret_key=value(application_key, "application_key", "B2_APPLICATION_KEY"),
        **settings,
    )


def gcs(project: str | None, bucket: str | None, root_prefix: str | None, **settings: Any) -> Storage:
    """Google Cloud Storage; see `ModelStore.from_gcloud`."""
    need("google.cloud.storage", "a store on Google Cloud Storage", "gcs")
    from modelstore.storage.gcs import GCSStorage

    return GCSStorage(
        value(bucket, "bucket_name", "MODEL_STORE_GCP_BUCKET"),
        optional(root_prefix, "MODEL_STORE_GCP_ROOT_PREFIX"),
        project=optional(project, "MODEL_STORE_GCP_PROJECT"),
        **settings,
    )


def azure(container: str | None, root_prefix: str | None, **settings: Any) -> Storage:
    """Azure Blob Storage; see `ModelStore.from_azure`."""
    need("azure.storage.blob", "a store on Azure", "azure")
    from modelstore.storage.azure import AzureStorage

    container = value(container, "container_name", "MODEL_STORE_AZURE_CONTAINER")
    if not any(settings.get(name) for name in ("client", "connection_string", "account_url")):
        settings |= _azure_account(settings.get("credential"))
    elif settings.get("account_url") and settings.get("credential") is None:
        settings["credential"] = _azure_key(settings["account_url"])
    return AzureStorage(container, optional(root_prefix, "MODEL_STORE_AZURE_ROOT_PREFIX"), **settings)


def _azure_account(credential: Any) -> dict[str, Any]:
    connection = os.environ.get("AZURE_STORAGE_CONNECTION_STRING")
    if connection and credential is None:
        return {"connection_string": connection}
    account = os.environ.get("AZURE_ACCOUNT_NAME")
    if account:
        key = credential if credential is not None else os.environ.get("AZURE_ACCESS_KEY")
        return {"account_url": f"https://{account}.blob.core.windows.net", "credential": key}
    raise InvalidArgumentError(
        "connection_string",
        "this store needs connection_string= or account_url=, or one of the environment variables "
        "AZURE_STORAGE_CONNECTION_STRING and AZURE_ACCOUNT_NAME (with AZURE_ACCESS_KEY, or a login of azure-identity)",
    )


def _azure_key(account_url: str) -> str | None:
    """The key of the environment, unless it is another account's, or the URL lets one in by itself."""
    url, account = urlsplit(account_url), os.environ.get("AZURE_ACCOUNT_NAME")
    if "sig=" in url.query or (account and account not in (url.netloc.partition(".")[0], url.path.strip("/"))):
        return None
    return os.environ.get("AZURE_ACCESS_KEY")


def hdfs(root_prefix: str | None, create_directory: bool, url: str | None = None, **settings: Any) -> Storage:
    """HDFS; see `ModelStore.from_hdfs`."""
    need("hdfs_native", "a store on HDFS", "hdfs")
    from modelstore.storage.hdfs import HDFSStorage

    root = optional(root_prefix, "MODEL_STORE_HDFS_ROOT_PREFIX", "")
    return HDFSStorage(root, url=url, create_directory=create_directory, **settings)


# -- URLs -------------------------------------------------------------------------------------------------------

Opener = Callable[[SplitResult, "dict[str, Any]", bool], "Storage"]


def from_url(url: str, settings: Mapping[str, Any], create_directory: bool, proofs: Path | None) -> Storage:
    """The storage at a URL.

    Args:
        url: see `ModelStore.from_url`.
        settings: keyword arguments of the storage's class.
        create_directory: make the root, where the storage has folders.
        proofs: where S3 storages remember which endpoints keep their promises.

    Raises:
        InvalidArgumentError: a setting that the storage does not have, or a URL without what it needs.
    """
    parts = _parsed(url)
    if not parts.scheme or len(parts.scheme) == 1:  # a path; "C:\\models" has a scheme of one letter
        return opening.file_system(url, create_directory)
    if parts.fragment or url.endswith("#"):
        raise InvalidArgumentError("url", f"in a URL of a store a '#' is written %23: {parts.scheme}://…%23…")
    chosen: dict[str, Any] = {**_query(parts), **settings}
    if parts.scheme in ("s3", "s3a"):
        chosen.setdefault("proofs", proofs)
    try:
        return _OPENERS.get(parts.scheme, _fsspec)(parts, chosen, create_directory)
    except TypeError as error:  # a keyword that is not the storage's
        if "keyword argument" not in str(error):
            raise
        raise InvalidArgumentError("storage_options", f"{parts.scheme}://: {error}") from error


def _parsed(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        if "://" not in url:  # a path with brackets in it
            return SplitResult("", "", url, "", "")
        raise InvalidArgumentError("url", f"this is no URL of a store: {error}") from error


def _bucket(parts: SplitResult) -> str:
    """The bucket's name, which becomes part of the address and of messages."""
    if "@" in parts.netloc:
        raise InvalidArgumentError(
            "url",
            f"{parts.scheme}:// is followed by the bucket alone: credentials come from the environment, or as "
            "storage_options=",
        )
    return parts.netloc


def _s3(parts: SplitResult, settings: dict[str, Any], create: bool) -> Storage:
    return s3(_bucket(parts), settings.pop("region", None), _path(parts), **settings)


def _gcs(parts: SplitResult, settings: dict[str, Any], create: bool) -> Storage:
    return gcs(settings.pop("project", None), _bucket(parts), _path(parts), **settings)


def _azure(parts: SplitResult, settings: dict[str, Any], create: bool) -> Storage:
    container, _, host = parts.netloc.partition("@")
    if host:  # abfss://container@account.dfs.core.windows.net/prefix
        settings.setdefault("account_url", f"https://{host.replace('.dfs.', '.blob.', 1)}")
    return azure(container, _path(parts), **settings)


def _hdfs(parts: SplitResult, settings: dict[str, Any], create: bool) -> Storage:
    return hdfs(unquote(parts.path), create, f"hdfs://{parts.netloc}" if parts.netloc else None, **settings)


def _file(parts: SplitResult, settings: dict[str, Any], create: bool) -> Storage:
    from urllib.request import url2pathname

    if parts.netloc not in ("", "localhost"):
        raise InvalidArgumentError("url", f"file://{parts.netloc}/…: a folder of this machine is file:///…")
    if settings:
        raise InvalidArgumentError("storage_options", f"a folder takes no {', '.join(settings)}")
    return opening.file_system(url2pathname(parts.path), create)


def _memory(parts: SplitResult, settings: dict[str, Any], create: bool) -> Storage:
    from modelstore.storage.memory import MemoryStorage

    if settings:
        raise InvalidArgumentError("storage_options", f"a store in memory takes no {', '.join(settings)}")
    return MemoryStorage(parts.netloc + parts.path or None)


def _fsspec(parts: SplitResult, settings: dict[str, Any], create: bool) -> Storage:
    from modelstore.storage.fsspec import FsspecStorage

    unsafe = bool(settings.pop("unsafe_concurrent_writes", False))
    url = parts._replace(query="").geturl()
    return FsspecStorage(url, storage_options=settings, unsafe_concurrent_writes=unsafe, create_directory=create)


_OPENERS: dict[str, Opener] = {
    "s3": _s3,
    "s3a": _s3,
    "gs": _gcs,
    "gcs": _gcs,
    "az": _azure,
    "abfs": _azure,
    "abfss": _azure,
    "hdfs": _hdfs,
    "file": _file,
    "memory": _memory,
}


def _path(parts: SplitResult) -> str:
    return unquote(parts.path).strip("/")  # empty rather than None: a URL says all, and no variable adds to it


_FLAGS = frozenset({"requester_pays", "path_style", "unsafe_concurrent_writes"})
_OBJECTS = frozenset({"client", "session", "credentials", "proofs"})
"""Settings that no text can be."""


def _query(parts: SplitResult) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        if not text:
            raise InvalidArgumentError(
                "url", f"{name!r} has no value: a '?' begins name=value, and one in a name is written %3F"
            )
        if name in _OBJECTS:
            raise InvalidArgumentError("storage_options", f"{name} cannot be written in a URL: pass storage_options=")
        found[name] = _word(name, text)
    return found


def _word(name: str, text: str) -> Any:
    word = opening.word(text)
    if name in _FLAGS and word is None:
        raise InvalidArgumentError("storage_options", f"{name}={text} is neither yes (1) nor no (0)")
    if name in _FLAGS or text.lower() in ("true", "false"):
        return word
    return text
