"""The promises of the `Storage` protocol, each as a test."""

from __future__ import annotations

import os
import pickle
import sys
import time
import warnings
from datetime import datetime, timedelta, timezone

import pytest

from modelstore.contracts.storage_reading import ReadingContract
from modelstore.contracts.storage_writing import MIB, WritingContract, only
from modelstore.exceptions import ObjectNotFoundError
from modelstore.storage.base import Created, Storage
from modelstore.storage.objects import ObjectSource


class StorageContract(WritingContract, ReadingContract):
    """Subclass it and provide the fixture `storage`: an empty storage, a new one for each test.

    The settings (`chunk_size`, `held_chunks`, `many`, `clock_tolerance`) fit storages that send small pieces and list
    small pages; change them where yours does not.
    """

    clock_tolerance = timedelta(minutes=10)
    """By how much the storage's clock may differ from this machine's."""
    same_content_seconds = 0.0
    """How long after an object the same content must be made again to have another etag; more than 0 where an etag is
    of the content, and only the time of writing tells the two apart."""

    @pytest.fixture
    def storage(self) -> Storage:
        """The storage under test."""
        raise TypeError(f"{type(self).__name__} must define the fixture `storage`")

    def test_etags(self, storage: Storage) -> None:
        """An etag stays while an object does, and is another once it is made again, with the same content too."""
        seen = []
        for _ in range(4):
            storage.create("a/1", b"same")
            storage.create("a/2", b"other")
            etag = only(storage, "a/", "a/1").etag
            storage.read("a/1")
            storage.delete(["a/2"])
            assert only(storage, "a/").etag == etag
            seen.append(etag)
            storage.delete(["a/1"])
            time.sleep(self.same_content_seconds)
        assert len(set(seen)) == 4

    def test_times(self, storage: Storage) -> None:
        """Objects are as old as the storage's clock says, which is near this machine's; both are in UTC."""
        storage.create("a/1", b"x")
        clock, modified = storage.clock(), only(storage, "a/").modified
        assert clock.utcoffset() == modified.utcoffset() == timedelta()
        assert abs(clock - modified) < timedelta(minutes=1)
        assert abs(clock - datetime.now(timezone.utc)) < self.clock_tolerance

    def test_delete(self, storage: Storage) -> None:
        """Keys are deleted, missing ones passed over, others left alone; a generator of keys will do."""
        for key in ("a/1", "a/2", "a/3", "b"):
            storage.create(key, b"")
        storage.delete(key for key in ("a/1", "missing", "a", "a/1/below", "none/at/all", "a/3", "a/1"))
        assert [info.key for info in storage.list("")] == ["a/2", "b"]
        storage.delete([])
        with pytest.raises(ObjectNotFoundError):
            storage.read("a/1")

    def test_sweep_leaves_objects_alone(self, storage: Storage) -> None:
        """Whole objects are never swept, however old."""
        storage.create("a/1", b"x")
        storage.write("a/2", [[b"y"]])
        assert storage.sweep("", datetime.now(timezone.utc) + timedelta(days=1)) == 0
        assert [info.key for info in storage.list("")] == ["a/1", "a/2"]

    def test_location(self, storage: Storage) -> None:
        """A location is plain JSON that names the kind of storage and where the key lies."""
        location = storage.location("a/b")
        assert location["type"] == storage.kind
        assert "a/b" in str(location.get("path") or location.get("prefix"))
        assert all(value is None or isinstance(value, str) for value in location.values())
        assert "://" in storage.address
        assert storage.streams >= 0

    def test_pickling(self, storage: Storage) -> None:
        """A pickled storage reads and writes the same objects."""
        storage.create("a/1", b"x")
        copy: Storage = pickle.loads(pickle.dumps(storage))
        assert copy.address == storage.address
        assert copy.read("a/1") == b"x"
        assert copy.create("a/1", b"y") is Created.REFUSED
        copy.create("a/2", b"y")
        assert storage.read("a/2") == b"y"

    def test_an_object_source_can_be_pickled(self, storage: Storage) -> None:
        """One object of a storage, as something to read from, goes to another process."""
        storage.create("a/1", b"0123")
        assert pickle.loads(pickle.dumps(ObjectSource(storage, "a/1"))).read(-2) == b"23"

    if sys.platform != "win32":

        def test_fork(self, storage: Storage) -> None:
            """A forked child reads, lists and creates with the storage that its parent has used before."""
            storage.create("a/1", b"x")
            storage.write("a/2", [[bytes(MIB * 2)], [bytes(MIB * 2)]])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on: an SDK may have threads
                child = os.fork()
            if child == 0:
                code = 1
                try:
                    assert storage.read("a/1") == b"x"
                    assert storage.create("a/1", b"") is Created.REFUSED
                    assert storage.create("a/3", b"y") is Created.MADE
                    assert storage.write("a/4", [[bytes(MIB * 2)], [bytes(MIB * 2)]]).size == MIB * 4
                    assert [info.key for info in storage.list("a/")] == ["a/1", "a/2", "a/3", "a/4"]
                    code = 0
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert storage.read("a/1") == b"x"
