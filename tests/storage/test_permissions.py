"""Stores opened with credentials that lack a right: what is left works, the rest says which right is missing."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from modelstore import AccessDeniedError, ModelStore
from tests.servers import backends

if TYPE_CHECKING:
    from modelstore.storage.base import Storage

READ = ("read", "list")
WRITE = ("create", "write")
_S3 = {
    "read": ["s3:GetObject"],
    "list": ["s3:ListBucket", "s3:ListBucketMultipartUploads"],
    "create": ["s3:PutObject"],
    "write": ["s3:AbortMultipartUpload"],
    "delete": ["s3:DeleteObject"],
}
_SAS = {"read": "r", "list": "l", "create": "c", "write": "w", "delete": "d"}
_NUMBERS = itertools.count(1)

Grant = Callable[..., "Storage"]
"""A storage that may do what is named, at the place of `owner`."""


class Place:
    """A place in a bucket: `owner` may do everything there, `granted(…)` what is named."""

    def __init__(self, owner: Storage, grant: Grant, denied: Callable[[Any], None] | None = None) -> None:
        self.owner = ModelStore(owner)
        self.denied = denied
        """Sees that a storage of `granted` really may not list the whole bucket."""
        self._grant = grant

    def granted(self, *rights: str) -> ModelStore:
        """A store with these rights alone, below the store's prefix alone."""
        return ModelStore(self._grant(rights))

    def objects(self) -> list[Any]:
        return [(info.key, info.etag) for info in self.owner.storage.list("")]


@contextlib.contextmanager
def on_ceph(folder: Path) -> Iterator[Callable[[], Place]]:
    """Users of a gateway, and what a bucket's policy allows them."""
    from modelstore.storage.s3 import S3Storage
    from tests.servers import ceph

    with ceph.serve(folder) as server:

        def place() -> Place:
            bucket = server.bucket()
            owner = server.storage(bucket=bucket, root_prefix="store")

            def grant(rights: tuple[str, ...]) -> Storage:
                name = f"user{next(_NUMBERS)}"
                access, secret = server.user(name)
                # What the storage itself asks its administrator for, less what is not to be granted.
                policy = json.loads(owner.policy())
                allowed = {action for right in rights for action in _S3[right]}
                for statement in policy["Statement"]:
                    statement["Principal"] = {"AWS": [f"arn:aws:iam:::user/{name}"]}
                    actions = statement["Action"]
                    actions = [actions] if isinstance(actions, str) else actions
                    statement["Action"] = [action for action in actions if action in allowed]
                policy["Statement"] = [statement for statement in policy["Statement"] if statement["Action"]]
                server.client().put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
                return S3Storage(bucket, "store", endpoint=server.endpoint, access_key=access, secret_key=secret)

            def denied(storage: S3Storage) -> None:
                root: Any = S3Storage(**{**storage._arguments, "root_prefix": None})
                with pytest.raises(AccessDeniedError):
                    list(root.list(""))

            return Place(owner, grant, denied)

        yield place


@contextlib.contextmanager
def on_azurite(folder: Path) -> Iterator[Callable[[], Place]]:
    """Tokens (SAS) for a container of Azure's."""
    from tests.servers import azurite

    with azurite.serve(folder) as server:

        def place() -> Place:
            container = server.container().container_name

            def grant(rights: tuple[str, ...]) -> Storage:
                return server.storage(container=container, sas="".join(_SAS[right] for right in rights))

            return Place(server.storage(container=container), grant)

        yield place


_KINDS = {"s3-ceph": on_ceph, "azure-azurite": on_azurite}


@pytest.fixture(scope="module", params=backends.named(*_KINDS))
def places(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Place]]:
    """Makes a place with rights on each server that has any."""
    with _KINDS[request.param.name](tmp_path_factory.mktemp("rights")) as make:
        yield make


@pytest.fixture
def place(places: Callable[[], Place]) -> Place:
    return places()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(b"weights")
    return path


def test_read_only(place: Place, model: Path, tmp_path: Path) -> None:
    """Who may only read and list can do all that changes nothing, and hears at everything else what is missing."""
    place.owner.create_model_state("production")
    place.owner.upload("d", "one", model=model)
    place.owner.set_model_state("d", "one", "production")
    store, before = place.granted(*READ), place.objects()

    assert store.list_domains() == ["d"]
    assert store.list_models("d") == store.list_models("d", "production") == ["one"]
    assert store.load("d", state="production").read_bytes() == b"weights"
    assert Path(store.download(tmp_path / "out", "d"), "model.bin").read_bytes() == b"weights"
    assert store.get_model_info("d", "one") == place.owner.get_model_info("d", "one")
    assert [file.name for file in store.files("d")]
    assert store.get_model_states("d", "one") == store.list_model_states() == ["production"]
    assert not store.model_exists("d", "two")
    assert store.gc(dry_run=True).garbage == ()

    refused: list[Callable[[], object]] = [
        lambda: store.upload("d", "two", model=model),
        lambda: store.upload("new", model=model),
        lambda: store.create_model_state("staging"),
        lambda: store.remove_model_state("d", "one", "production"),
        lambda: store.delete_model("d", "one", skip_prompt=True),
    ]
    for attempt in refused:
        with pytest.raises(AccessDeniedError) as caught:
            attempt()
        assert caught.value.right
        assert caught.value.right in str(caught.value)
    assert place.objects() == before

    diagnosis = store.doctor()
    assert diagnosis.summary.startswith("read-only")
    assert {"create", "write", "delete"} <= {check.name for check in diagnosis.checks if not check.ok}
    assert {"read", "list"} <= {check.name for check in diagnosis.checks if check.ok}
    assert diagnosis.policy in str(diagnosis)


def test_no_delete(place: Place, model: Path) -> None:
    """Who may not delete can do everything but free bytes; a model can still be deleted, which is an event."""
    store = place.granted(*READ, *WRITE)
    store.create_model_state("production")
    store.upload("d", "one", model=model)
    store.upload("d", "two", model=model)
    store.set_model_state("d", "one", "production")
    assert store.load("d", state="production").read_bytes() == b"weights"
    store.delete_model("d", "one", skip_prompt=True)
    assert store.list_models("d") == ["two"]
    with pytest.raises(AccessDeniedError):
        store.delete_model("d", "two", skip_prompt=True, purge=True)
    with pytest.raises(AccessDeniedError):
        store.gc()
    diagnosis = store.doctor()
    assert diagnosis.summary.startswith("no deletion")
    assert [check.name for check in diagnosis.checks if not check.ok] == ["delete"]

    full = place.granted(*READ, *WRITE, "delete")  # not the owner, who on Ceph may not read what others have written
    assert full.list_models("d") == []
    assert [item.reason for item in full.gc().garbage] == ["purged"]


def test_all_rights(place: Place, model: Path) -> None:
    """The rights that the others lack are all that it takes: with them everything works, from the first upload on."""
    store = place.granted(*READ, *WRITE, "delete")
    assert store.doctor().ok, str(store.doctor())
    assert store.list_domains() == []
    store.upload("d", "one", model=model)
    store.delete_model("d", "one", skip_prompt=True, purge=True)
    assert store.gc().garbage == ()


def test_nothing_outside_of_the_prefix_is_listed(place: Place, model: Path) -> None:
    """With rights below the prefix alone a store works, an empty one too: it asks for nothing beside it."""
    store = place.granted(*READ, *WRITE, "delete")
    assert store.list_domains() == []
    assert not store.model_exists("d", "one")
    store.upload("d", "one", model=model)
    assert store.load("d", "one").read_bytes() == b"weights"
    if place.denied is not None:  # a token for a container of Azure's knows no prefixes
        place.denied(store.storage)
