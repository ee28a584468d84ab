"""How a store is opened: one constructor for each kind of storage, with the ancestor's names and arguments."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from modelstore import addresses, opening
from modelstore.exceptions import InvalidArgumentError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.cloud.storage import Client as GCSClient
    from typing_extensions import Self, Unpack

    from modelstore.storage.base import Storage


class StoreOptions(TypedDict, total=False):
    """What every constructor takes, by keyword; see `ModelStore`."""

    cache_directory: str | os.PathLike[str] | None
    allow_pickle: bool | None
    timeout: float | None
    progress: bool | None


class Connections:
    """The constructors. None of them asks the storage anything: what is wrong is said at the first use.

    Arguments that are left out are taken from environment variables. Each takes the options of `ModelStore` too
    (`cache_directory`, `allow_pickle`, `timeout`, `progress`).
    """

    def __init__(self, storage: Storage, **options: Unpack[StoreOptions]) -> None:
        """Overridden by `ModelStore`."""

    @classmethod
    def from_file_system(
        cls,
        root_directory: str | os.PathLike[str] | None = None,
        create_directory: bool = False,
        **options: Unpack[StoreOptions],
    ) -> Self:
        """A store in a local or mounted folder.

        Args:
            root_directory: the folder (default: `MODEL_STORE_ROOT_PREFIX`).
            create_directory: make the folder if it is not there; the one above it must be.
            **options: see `ModelStore`.

        Raises:
            InvalidArgumentError: no folder was named.
            StoreNotFoundError: there is no such folder.
            NotAFolderError: it is a file.
        """
        return cls(opening.file_system(root_directory, create_directory), **options)

    @classmethod
    def from_aws_s3(
        cls,
        bucket_name: str | None = None,
        region: str | None = None,
        root_prefix: str | None = None,
        *,
        endpoint: str | None = None,
        session: Any = None,
        client: Any = None,
        kms_key: str | None = None,
        storage_class: str | None = None,
        requester_pays: bool = False,
        unsafe_concurrent_writes: bool = False,
        **options: Unpack[StoreOptions],
    ) -> Self:
        """A store in a bucket of S3, or of anything that speaks as S3 does. The bucket must exist.

        Args:
            bucket_name: default: `MODEL_STORE_AWS_BUCKET`.
            region: default: `MODEL_STORE_REGION`, else boto3's own settings.
            root_prefix: where in the bucket (default: `MODEL_STORE_AWS_ROOT_PREFIX`, else its top).
            endpoint: URL of another service than AWS (default: boto3's own settings, such as `AWS_ENDPOINT_URL`).
            session: a `boto3.Session` to take credentials and settings from.
            client: a ready-made S3 client of boto3; such a store cannot be pickled.
            kms_key: encrypt what is written with this key of KMS (id, ARN or alias).
            storage_class: of the archives, such as `STANDARD_IA`.
            requester_pays: agree to be billed for requests to somebody else's bucket.
            unsafe_concurrent_writes: write to a service that ignores `If-None-Match`. Whatever two writers do at the
                same time can then be lost: only for a store with one writer.
            **options: see `ModelStore`.

        Raises:
            InvalidArgumentError: no bucket was named.
            MissingDependencyError: boto3 is not installed.
        """
        storage = addresses.s3(
            bucket_name, region, root_prefix, endpoint=endpoint, session=session, client=client, kms_key=kms_key,
            storage_class=storage_class, requester_pays=requester_pays,
            unsafe_concurrent_writes=unsafe_concurrent_writes, proofs=_proofs(options),
        )  # fmt: skip
        return cls(storage, **options)

    @classmethod
    def from_minio(
        cls,
        endpoint: str | None = None,
        access_key: str | None = None,
        secret_key: str | None = None,
        bucket_name: str | None = None,
        root_prefix: str | None = None,
        secure: bool = True,
        *,
        unsafe_concurrent_writes: bool = False,
        **options: Unpack[StoreOptions],
    ) -> Self:
        """A store in a bucket of MinIO, or of another service with keys of its own. The bucket must exist.

        Args:
            endpoint: host and port, or a URL (default: `MINIO_ENDPOINT`, else `s3.amazonaws.com`).
            access_key: default: `MINIO_ACCESS_KEY`.
            secret_key: default: `MINIO_SECRET_KEY`.
            bucket_name: default: `MODEL_STORE_MINIO_BUCKET`.
            root_prefix: where in the bucket (default: `MODEL_STORE_MINIO_ROOT_PREFIX`, else its top).
            secure: whether to speak HTTPS, where `endpoint` does not say.
            unsafe_concurrent_writes: see `from_aws_s3`.
            **options: see `ModelStore`.

        Raises:
            InvalidArgumentError: the bucket or a key is missing.
            MissingDependencyError: boto3 is not installed.
        """
        storage = addresses.minio(
            endpoint, access_key, secret_key, bucket_name, root_prefix, secure,
            unsafe_concurrent_writes=unsafe_concurrent_writes, proofs=_proofs(options),
        )  # fmt: skip
        return cls(storage, **options)

    @classmethod
    def from_backblaze(
        cls,
        bucket_name: str | None = None,
        key_id: str | None = None,
        application_key: str | None = None,
        endpoint: str | None = None,
        region: str | None = None,
        root_prefix: str | None = None,
        *,
        unsafe_concurrent_writes: bool = False,
        **options: Unpack[StoreOptions],
    ) -> Self:
        """A store in a bucket of Backblaze B2, through its S3 interface. The bucket must exist.

        Args:
            bucket_name: default: `MODEL_STORE_B2_BUCKET`.
            key_id: default: `B2_APPLICATION_KEY_ID`.
            application_key: default: `B2_APPLICATION_KEY`.
            endpoint: URL (default: `MODEL_STORE_B2_ENDPOINT`, else that of the region).
            region: default: `MODEL_STORE_B2_REGION`, else `us-west-004`.
            root_prefix: where in the bucket (default: `MODEL_STORE_B2_ROOT_PREFIX`, else its top).
            unsafe_concurrent_writes: see `from_aws_s3`.
            **options: see `ModelStore`.

        Raises:
            InvalidArgumentError: the bucket or a key is missing.
            MissingDependencyError: boto3 is not installed.
        """
        storage = addresses.backblaze(
            bucket_name, key_id, application_key, endpoint, region, root_prefix,
            unsafe_concurrent_writes=unsafe_concurrent_writes, proofs=_proofs(options),
        )  # fmt: skip
        return cls(storage, **options)

    @classmethod
    def from_gcloud(
        cls,
        project_name: str | None = None,
        bucket_name: str | None = None,
        root_prefix: str | None = None,
        *,
        client: GCSClient | None = None,
        credentials: Credentials | None = None,
        endpoint: str | None = None,
        kms_key: str | None = None,
        storage_class: str | None = None,
        user_project: str | None = None,
        **options: Unpack[StoreOptions],
    ) -> Self:
        """A store in a bucket of Google Cloud Storage. The bucket must exist.

        Args:
            project_name: default: `MODEL_STORE_GCP_PROJECT`, else that of the credentials. Without a project and
                credentials the bucket is read as anybody may.
            bucket_name: default: `MODEL_STORE_GCP_BUCKET`.
            root_prefix: where in the bucket (default: `MODEL_STORE_GCP_ROOT_PREFIX`, else its top).
            client: a ready-made `google.cloud.storage.Client`; such a store cannot be pickled.
            credentials: of `google.auth` (default: Application Default Credentials).
            endpoint: URL of another service (default: `STORAGE_EMULATOR_HOST`, else Google's).
            kms_key: encrypt what is written with this key of Cloud KMS (its full resource name).
            storage_class: of the archives, such as `NEARLINE`.
            user_project: the project to be billed for requests to a requester-pays bucket.
            **options: see `ModelStore`.

        Raises:
            InvalidArgumentError: no bucket was named.
            MissingDependencyError: google-cloud-storage is not installed.
        """
        storage = addresses.gcs(
            project_name, bucket_name, root_prefix, client=client, credentials=credentials, endpoint=endpoint,
            kms_key=kms_key, storage_class=storage_class, user_project=user_project,
        )  # fmt: skip
        return cls(storage, **options)

    @classmethod
    def from_azure(
        cls,
        container_name: str | None = None,
        root_prefix: str | None = None,
        *,
        connection_string: str | None = None,
        account_url: str | None = None,
        credential: Any = None,
        client: Any = None,
        access_tier: str | None = None,
        encryption_scope: str | None = None,
        **options: Unpack[StoreOptions],
    ) -> Self:
        """A store in a container of Azure Blob Storage. The container must exist.

        Args:
            container_name: default: `MODEL_STORE_AZURE_CONTAINER`.
            root_prefix: where in the container (default: `MODEL_STORE_AZURE_ROOT_PREFIX`, else its top).
            connection_string: default: `AZURE_STORAGE_CONNECTION_STRING`, else an account.
            account_url: such as `https://name.blob.core.windows.net`, with a SAS or without (default: that of
                `AZURE_ACCOUNT_NAME`).
            credential: an account key, a SAS, or a credential of azure-identity (default: `AZURE_ACCESS_KEY`, else
                `DefaultAzureCredential`).
            client: a ready-made `BlobServiceClient`; such a store cannot be pickled.
            access_tier: of the archives, such as `Cool`.
            encryption_scope: encrypt what is written under this scope.
            **options: see `ModelStore`.

        Raises:
            InvalidArgumentError: no container or account was named.
            MissingDependencyError: azure-storage-blob is not installed.
        """
        storage = addresses.azure(
            container_name, root_prefix, connection_string=connection_string, account_url=account_url,
            credential=credential, client=client, access_tier=access_tier, encryption_scope=encryption_scope,
        )  # fmt: skip
        return cls(storage, **options)

    @classmethod
    def from_hdfs(
        cls,
        root_prefix: str | None = None,
        create_directory: bool = False,
        *,
        url: str | None = None,
        **options: Unpack[StoreOptions],
    ) -> Self:
        """A store in a folder of HDFS.

        Args:
            root_prefix: the folder (default: `MODEL_STORE_HDFS_ROOT_PREFIX`, else the user's home folder).
            create_directory: make the folder if it is not there.
            url: `hdfs://host:port` of the name node (default: that of Hadoop's configuration, `HADOOP_CONF_DIR`).
            **options: see `ModelStore`.

        Raises:
            StoreNotFoundError: there is no such folder.
            MissingDependencyError: hdfs-native is not installed.
        """
        return cls(addresses.hdfs(root_prefix, create_directory, url), **options)

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        create_directory: bool = False,
        storage_options: Mapping[str, Any] | None = None,
        **options: Unpack[StoreOptions],
    ) -> Self:
        """A store at a URL: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`,
        `abfss://container@account.dfs.core.windows.net/prefix`, `hdfs://host:port/folder`, `file:///folder` or a plain
        path, `memory://name`, and what fsspec reaches (`sftp://user@host/folder`, `webdav://…`).

        Credentials and accounts come from the same environment variables as with the other constructors.

        Args:
            url: what stands in its query (`?endpoint=http://localhost:9000&region=eu-west-1`) is taken as
                `storage_options`.
            create_directory: make the folder, where the storage has folders.
            storage_options: keyword arguments of the storage's class, such as `{"kms_key": …}` for S3, or those of
                the fsspec file system.
            **options: see `ModelStore`.

        Raises:
            InvalidArgumentError: the URL or an option cannot be used.
            MissingDependencyError: a package that it needs is not installed.
        """
        return cls(addresses.from_url(url, storage_options or {}, create_directory, _proofs(options)), **options)

    @classmethod
    def from_env(cls, *, create_directory: bool = False, **options: Unpack[StoreOptions]) -> Self:
        """The store that the environment names: `MODEL_STORE_URL`, else `MODEL_STORE_STORAGE` (`aws-s3`, `minio`,
        `backblaze-b2`, `google-cloud-storage`, `azure-container`, `hdfs` or `filesystem`) with the variables of the
        constructor for that storage.

        Raises:
            InvalidArgumentError: it names none, or not all that it takes. Otherwise as that constructor.
        """
        url = os.environ.get(addresses.URL_VARIABLE)
        if url:
            return cls.from_url(url, create_directory=create_directory, **options)
        named = os.environ.get(addresses.STORAGE_VARIABLE)
        constructors: dict[str | None, Callable[..., Self]] = {
            "aws-s3": cls.from_aws_s3,
            "minio": cls.from_minio,
            "backblaze-b2": cls.from_backblaze,
            "google-cloud-storage": cls.from_gcloud,
            "azure-container": cls.from_azure,
        }
        if named in constructors:
            return constructors[named](**options)
        if named == "filesystem":
            return cls.from_file_system(create_directory=create_directory, **options)
        if named == "hdfs":
            return cls.from_hdfs(create_directory=create_directory, **options)
        known = ", ".join([*map(str, constructors), "hdfs", "filesystem"])
        problem = f"{addresses.STORAGE_VARIABLE}={named} is not known" if named else "the environment names no store"
        raise InvalidArgumentError(
            addresses.STORAGE_VARIABLE,
            f"{problem}: set {addresses.URL_VARIABLE} (s3://bucket/prefix), or {addresses.STORAGE_VARIABLE} to one of "
            f"{known} and the variables that go with it",
        )


def _proofs(options: StoreOptions) -> Path | None:
    """Where S3 storages remember which endpoints refuse to create what is there already."""
    folder = opening.cache_folder(options.get("cache_directory"))
    return None if folder is None else folder / "proofs"
