"""How stores are opened: the ancestor's arguments and environment variables, URLs, and one variable for all."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelstore import InvalidArgumentError, MissingDependencyError, ModelStore, ModelStoreError, StoreNotFoundError

AZURE_KEY = "a2V5"
CONNECTION = f"DefaultEndpointsProtocol=https;AccountName=acc;AccountKey={AZURE_KEY};EndpointSuffix=core.windows.net"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the variables that this machine may have, and credentials that nothing is asked with."""
    for name in list(os.environ):
        if name.startswith(("MODEL_STORE_", "AWS_", "AZURE_", "MINIO_", "B2_", "GOOGLE_", "STORAGE_EMULATOR")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def where(store: ModelStore) -> dict[str, Any]:
    """What records of this store say about where a model lies."""
    return {name: value for name, value in store.storage.location("key").items() if value is not None}


def set_all(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("open_store", "package", "extra"),
    [
        (lambda: ModelStore.from_aws_s3("b"), "boto3", "s3"),
        (lambda: ModelStore.from_minio("m", "a", "s", "b"), "boto3", "s3"),
        (lambda: ModelStore.from_backblaze("b", "i", "k"), "boto3", "s3"),
        (lambda: ModelStore.from_gcloud("p", "b"), "google.cloud.storage", "gcs"),
        (lambda: ModelStore.from_azure("c", connection_string=CONNECTION), "azure.storage.blob", "azure"),
        (lambda: ModelStore.from_hdfs("/models"), "hdfs_native", "hdfs"),
        (lambda: ModelStore.from_url("s3://b"), "boto3", "s3"),
    ],
)
def test_a_missing_sdk_is_named(
    open_store: Callable[[], ModelStore], package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an SDK is not installed, opening the store says which command installs it."""
    monkeypatch.setitem(sys.modules, package, None)  # what makes an import fail, installed or not
    with pytest.raises(MissingDependencyError) as caught:
        open_store()
    assert caught.value.package == package
    assert f"pip install 'modelstore[{extra}]'" in str(caught.value)


class TestS3:
    """The constructors over boto3."""

    @pytest.fixture(autouse=True)
    def sdk(self) -> None:
        pytest.importorskip("boto3")

    def test_aws_takes_arguments_in_the_ancestors_order(self) -> None:
        """from_aws_s3(bucket, region, prefix)."""
        store = ModelStore.from_aws_s3("bucket", "eu-west-1", "team/models")
        assert where(store) == {"type": "aws:s3", "bucket": "bucket", "prefix": "team/models/key"}
        assert store.storage.address == "s3://bucket/team/models/"

    def test_aws_takes_the_ancestors_variables(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is left out comes from the environment; what is given goes before it."""
        set_all(monkeypatch, MODEL_STORE_AWS_BUCKET="b", MODEL_STORE_REGION="r", MODEL_STORE_AWS_ROOT_PREFIX="p")
        assert where(ModelStore.from_aws_s3()) == {"type": "aws:s3", "bucket": "b", "prefix": "p/key"}
        assert where(ModelStore.from_aws_s3("other", root_prefix=""))["prefix"] == "key"

    def test_minio(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """from_minio speaks S3 to the endpoint, over HTTP or HTTPS as `secure` says."""
        store = ModelStore.from_minio("localhost:9000", "access", "secret", "bucket", "p", secure=False)
        assert where(store) == {"type": "minio:localhost:9000", "bucket": "bucket", "prefix": "p/key"}
        assert "http://localhost:9000/bucket" in store.storage.address
        set_all(
            monkeypatch, MINIO_ENDPOINT="m.example.org", MINIO_ACCESS_KEY="a", MINIO_SECRET_KEY="hidden",
            MODEL_STORE_MINIO_BUCKET="b", MODEL_STORE_MINIO_ROOT_PREFIX="r",
        )  # fmt: skip
        store = ModelStore.from_minio()
        assert "https://m.example.org/b/r/" in store.storage.address
        assert "hidden" not in store.storage.address + repr(store)

    def test_backblaze(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """from_backblaze knows the endpoint of a region."""
        store = ModelStore.from_backblaze("bucket", "id", "key", region="eu-central-003")
        assert where(store) == {"type": "backblaze:b2", "bucket": "bucket", "prefix": "key"}
        assert "s3.eu-central-003.backblazeb2.com" in store.storage.address
        set_all(
            monkeypatch, MODEL_STORE_B2_BUCKET="b", B2_APPLICATION_KEY_ID="i", B2_APPLICATION_KEY="k",
            MODEL_STORE_B2_ROOT_PREFIX="r", MODEL_STORE_B2_ENDPOINT="https://b2.example.org",
        )  # fmt: skip
        assert "https://b2.example.org/b/r/" in ModelStore.from_backblaze().storage.address

    @pytest.mark.parametrize(
        ("constructor", "missing"),
        [
            ("from_aws_s3", "MODEL_STORE_AWS_BUCKET"),
            ("from_minio", "MODEL_STORE_MINIO_BUCKET"),
            ("from_backblaze", "MODEL_STORE_B2_BUCKET"),
        ],
    )
    def test_without_a_bucket(self, constructor: str, missing: str) -> None:
        """The error names the argument and the variable."""
        with pytest.raises(InvalidArgumentError, match=missing):
            getattr(ModelStore, constructor)()

    def test_urls(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """s3:// says bucket and prefix, its query the endpoint; the variables of other constructors add nothing."""
        set_all(monkeypatch, MODEL_STORE_AWS_ROOT_PREFIX="not-this", MODEL_STORE_AWS_BUCKET="nor-this")
        assert ModelStore.from_url("s3://bucket/a/b%20c").storage.address == "s3://bucket/a/b c/"
        assert ModelStore.from_url("s3://bucket").storage.address == "s3://bucket/"
        store = ModelStore.from_url("s3://bucket/p?endpoint=http://localhost:9000&region=x&requester_pays=true")
        assert "http://localhost:9000/bucket/p/" in store.storage.address
        store = ModelStore.from_url("s3://bucket/p", storage_options={"endpoint": "http://localhost:9001"})
        assert "http://localhost:9001/bucket/p/" in store.storage.address
        with pytest.raises(InvalidArgumentError):
            ModelStore.from_url("s3://")
        with pytest.raises(InvalidArgumentError, match="endpiont"):
            ModelStore.from_url("s3://bucket?endpiont=http://x")

    @pytest.mark.parametrize("text", ["0", "no", "false", "False", "FALSE", "off"])
    def test_no_means_no(self, text: str) -> None:
        """Whatever way a URL says no to unsafe writes, the store refuses a server that would lose work."""
        store = ModelStore.from_url(f"s3://bucket?unsafe_concurrent_writes={text}&requester_pays={text}")
        assert not store.storage._arguments["unsafe_concurrent_writes"]  # type: ignore[attr-defined]
        assert not store.storage._arguments["requester_pays"]  # type: ignore[attr-defined]
        with pytest.raises(InvalidArgumentError, match="perhaps"):
            ModelStore.from_url("s3://bucket?unsafe_concurrent_writes=perhaps")

    @pytest.mark.parametrize(
        "url",
        [
            "s3://bucket/runs#2/models",  # not the store in runs
            "s3://bucket/what?/models",
            "s3://bucket/p?region=",
            "s3://[bucket/p",
            "s3://bucket?client=x",
            "s3://bucket?proofs=x",
            "gs://bucket/p#",
            "file:///tmp/a#b",
            "file:///tmp/a?b",
        ],
    )
    def test_what_a_url_cannot_say(self, url: str) -> None:
        """A URL of which a part would be dropped, or that cannot be read, opens no other store instead."""
        with pytest.raises(InvalidArgumentError):
            ModelStore.from_url(url)

    def test_a_secret_in_a_url_goes_nowhere(self) -> None:
        """Keys before the bucket's name are refused, and not repeated: addresses and messages would hold them."""
        for scheme in ("s3", "gs"):
            with pytest.raises(InvalidArgumentError) as caught:
                ModelStore.from_url(f"{scheme}://KEYID:hidden@bucket/p")
            assert "hidden" not in str(caught.value)

    @pytest.mark.parametrize("endpoint", ["https://me:hidden@host", "me:hidden@host:9000"])
    def test_a_password_in_an_endpoint_is_not_repeated(self, endpoint: str) -> None:
        """It is refused by a message that does not hold it."""
        pytest.importorskip("google.cloud.storage")
        openers: list[Callable[[], ModelStore]] = [
            lambda: ModelStore.from_aws_s3("bucket", endpoint=endpoint),
            lambda: ModelStore.from_minio(endpoint, "a", "s", "bucket"),
            lambda: ModelStore.from_gcloud("project", "bucket", endpoint=endpoint),
        ]
        for open_store in openers:
            with pytest.raises(InvalidArgumentError) as caught:
                open_store()
            assert "hidden" not in str(caught.value)

    def test_nothing_is_asked(self) -> None:
        """Opening a store sends nothing: an endpoint where nobody listens is found out at the first use."""
        store = ModelStore.from_url("s3://bucket?endpoint=http://127.0.0.1:1", timeout=5)
        with pytest.raises(ModelStoreError):
            store.list_domains()

    def test_from_env(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """MODEL_STORE_STORAGE takes the ancestor's names; MODEL_STORE_URL goes before it."""
        set_all(monkeypatch, MODEL_STORE_STORAGE="aws-s3", MODEL_STORE_AWS_BUCKET="b")
        assert ModelStore.from_env().storage.address == "s3://b/"
        set_all(monkeypatch, MODEL_STORE_URL="s3://other/prefix")
        assert ModelStore.from_env().storage.address == "s3://other/prefix/"
        monkeypatch.delenv("MODEL_STORE_URL")
        set_all(
            monkeypatch, MODEL_STORE_STORAGE="minio", MODEL_STORE_MINIO_BUCKET="m", MINIO_ACCESS_KEY="a",
            MINIO_SECRET_KEY="s",
        )  # fmt: skip
        assert where(ModelStore.from_env())["type"] == "minio:s3.amazonaws.com"
        set_all(
            monkeypatch, MODEL_STORE_STORAGE="backblaze-b2", MODEL_STORE_B2_BUCKET="m", B2_APPLICATION_KEY_ID="i",
            B2_APPLICATION_KEY="k",
        )  # fmt: skip
        assert where(ModelStore.from_env())["type"] == "backblaze:b2"

    def test_options_reach_the_store(self, tmp_path: Path) -> None:
        """Each constructor takes the store's own options; what it does not know is a TypeError."""
        with pytest.raises(InvalidArgumentError, match="timeout"):
            ModelStore.from_aws_s3("bucket", timeout=-1)
        with pytest.raises(TypeError, match="regoin"):
            ModelStore.from_aws_s3("bucket", regoin="eu-west-1")  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="cache_dir"):
            ModelStore.from_aws_s3("bucket", cache_dir=tmp_path)  # type: ignore[call-arg]


class TestGoogleCloud:
    """The constructor over google-cloud-storage."""

    @pytest.fixture(autouse=True)
    def sdk(self) -> None:
        pytest.importorskip("google.cloud.storage")

    def test_arguments_and_variables(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """from_gcloud(project, bucket, prefix), as in the ancestor, and its URL."""
        store = ModelStore.from_gcloud("project", "bucket", "p")
        assert where(store) == {"type": "google:cloud-storage", "bucket": "bucket", "prefix": "p/key"}
        set_all(monkeypatch, MODEL_STORE_GCP_PROJECT="x", MODEL_STORE_GCP_BUCKET="b", MODEL_STORE_GCP_ROOT_PREFIX="r")
        assert ModelStore.from_gcloud().storage.address == "gs://b/r/"
        set_all(monkeypatch, MODEL_STORE_STORAGE="google-cloud-storage")
        assert ModelStore.from_env().storage.address == "gs://b/r/"
        assert ModelStore.from_url("gs://bucket/p").storage.address == "gs://bucket/p/"

    def test_without_a_bucket(self) -> None:
        """The error names the argument and the variable."""
        with pytest.raises(InvalidArgumentError, match="MODEL_STORE_GCP_BUCKET"):
            ModelStore.from_gcloud("project")


class TestAzure:
    """The constructor over azure-storage-blob."""

    @pytest.fixture(autouse=True)
    def sdk(self) -> None:
        pytest.importorskip("azure.storage.blob")

    def test_arguments_and_variables(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """from_azure(container, prefix) with the connection string of the environment, as in the ancestor."""
        set_all(monkeypatch, AZURE_STORAGE_CONNECTION_STRING=CONNECTION)
        store = ModelStore.from_azure("container", "p")
        assert where(store) == {"type": "azure:blob-storage", "container": "container", "prefix": "p/key"}
        assert "acc.blob.core.windows.net/container/p" in store.storage.address
        assert AZURE_KEY not in store.storage.address
        set_all(monkeypatch, MODEL_STORE_AZURE_CONTAINER="c", MODEL_STORE_AZURE_ROOT_PREFIX="r")
        assert where(ModelStore.from_azure()) == {"type": "azure:blob-storage", "container": "c", "prefix": "r/key"}
        set_all(monkeypatch, MODEL_STORE_STORAGE="azure-container")
        assert where(ModelStore.from_env())["container"] == "c"

    def test_an_account_and_its_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The ancestor's AZURE_ACCOUNT_NAME and AZURE_ACCESS_KEY do without a connection string."""
        set_all(monkeypatch, AZURE_ACCOUNT_NAME="other", AZURE_ACCESS_KEY=AZURE_KEY)
        assert "other.blob.core.windows.net/container" in ModelStore.from_azure("container").storage.address

    def test_urls(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """az:// takes the account from the environment, abfss:// names it."""
        with pytest.raises(InvalidArgumentError, match="AZURE_STORAGE_CONNECTION_STRING"):
            ModelStore.from_url("az://container/p")
        set_all(monkeypatch, AZURE_STORAGE_CONNECTION_STRING=CONNECTION)
        assert "acc.blob.core.windows.net/container/p" in ModelStore.from_url("az://container/p").storage.address
        store = ModelStore.from_url(
            "abfss://container@acc2.dfs.core.windows.net/p", storage_options={"credential": AZURE_KEY}
        )
        assert "acc2.blob.core.windows.net/container/p" in store.storage.address

    def test_the_key_of_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """AZURE_ACCESS_KEY goes with a URL of that account too, but to no other account, and not beside a SAS."""

        def key(url: str) -> Any:
            return ModelStore.from_url(url).storage._access.credential  # type: ignore[attr-defined]

        set_all(monkeypatch, AZURE_ACCOUNT_NAME="mine", AZURE_ACCESS_KEY=AZURE_KEY)
        assert key("abfss://container@mine.dfs.core.windows.net/p") == AZURE_KEY
        assert key("abfss://container@theirs.dfs.core.windows.net/p") is None
        sas = "https://mine.blob.core.windows.net?sv=x&sig=y"
        store = ModelStore.from_azure("container", account_url=sas)
        assert store.storage._access.credential is None  # type: ignore[attr-defined]


class TestFolders:
    """URLs and variables that need no SDK."""

    def test_paths_and_file_urls(self, tmp_path: Path) -> None:
        """A path, a file:// URL with escapes and from_file_system name the same store."""
        folder = tmp_path / "a folder"
        folder.mkdir()
        stores = [
            ModelStore.from_url(str(folder)),
            ModelStore.from_url(folder.as_uri()),
            ModelStore.from_file_system(folder),
        ]
        assert {store.storage.address for store in stores} == {folder.as_uri()}

    def test_a_missing_folder(self, tmp_path: Path) -> None:
        """It is made only when that is asked for."""
        with pytest.raises(StoreNotFoundError):
            ModelStore.from_url((tmp_path / "none").as_uri())
        ModelStore.from_url((tmp_path / "none").as_uri(), create_directory=True)
        assert (tmp_path / "none").is_dir()

    def test_memory(self, tmp_path: Path) -> None:
        """Stores in memory share what lies under one name."""
        model = tmp_path / "model.bin"
        model.write_bytes(b"weights")
        store = ModelStore.from_url("memory://shared")
        store.upload("d", "one", model=model)
        assert ModelStore.from_url("memory://shared").list_models("d") == ["one"]
        assert ModelStore.from_url("memory://another").list_domains() == []

    @pytest.mark.parametrize("url", ["file://elsewhere/folder", "memory://x?size=3", "nothing-like-this://x/y"])
    def test_what_is_no_store(self, url: str) -> None:
        """A URL that cannot be opened is an error of ours that says why."""
        with pytest.raises(ModelStoreError):
            ModelStore.from_url(url)

    def test_from_env(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """`filesystem` with its root, a URL, and what names no store."""
        with pytest.raises(InvalidArgumentError, match="MODEL_STORE_URL"):
            ModelStore.from_env()
        set_all(monkeypatch, MODEL_STORE_STORAGE="filesystem", MODEL_STORE_ROOT_PREFIX=str(tmp_path))
        assert ModelStore.from_env().storage.address == tmp_path.as_uri()
        set_all(monkeypatch, MODEL_STORE_STORAGE="floppy")
        with pytest.raises(InvalidArgumentError, match=r"floppy.*aws-s3"):
            ModelStore.from_env()
        set_all(monkeypatch, MODEL_STORE_URL="memory://x")
        assert ModelStore.from_env().storage.address == "memory://x"
