"""What `Storage.create` and `Storage.write` promise, as tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest

from modelstore.exceptions import ObjectNotFoundError
from modelstore.folder import Buffer
from modelstore.storage.base import Created, ObjectInfo, Storage

MIB = 1 << 20


class WritingContract:
    """Part of `StorageContract`."""

    chunk_size = MIB
    """Bytes in a chunk; larger for a storage that sends larger pieces at a time."""
    held_chunks = 16
    """How many chunks may have been pulled from the iterator and not be sent yet, at most."""

    def test_create_makes_an_object(self, storage: Storage) -> None:
        """What `create` made can be read."""
        assert storage.create("a/b/1.json", b"one") is Created.MADE
        assert storage.read("a/b/1.json") == b"one"

    def test_create_refuses_and_changes_nothing(self, storage: Storage) -> None:
        """A second `create` is refused, and content and etag stay, even when the content is the same."""
        storage.create("a/1", b"first")
        before = only(storage, "a/")
        assert storage.create("a/1", b"second") is Created.REFUSED
        assert storage.create("a/1", b"first") is Created.REFUSED
        assert storage.read("a/1") == b"first"
        assert only(storage, "a/") == before

    def test_create_takes_an_empty_object(self, storage: Storage) -> None:
        """An object of no bytes is an object."""
        assert storage.create("empty", b"") is Created.MADE
        assert storage.create("empty", b"x") is Created.REFUSED
        assert storage.read("empty") == b""
        assert only(storage, "").size == 0

    def test_create_after_delete(self, storage: Storage) -> None:
        """A deleted key can be created again."""
        storage.create("a/1", b"first")
        storage.delete(["a/1"])
        assert storage.create("a/1", b"second") is Created.MADE
        assert storage.read("a/1") == b"second"

    def test_one_of_many_threads_makes_it(self, storage: Storage) -> None:
        """Of eight threads that create one key, exactly one is told MADE, and its content is what is there."""
        for turn in range(5):
            key, start = f"race/{turn}/1", threading.Barrier(8)
            contents = [f"thread {number}".encode() * 50 for number in range(8)]

            def create(content: bytes, key: str = key, start: threading.Barrier = start) -> Created:
                start.wait()
                return storage.create(key, content)

            with ThreadPoolExecutor(8) as pool:
                results = list(pool.map(create, contents))
            winners = [content for content, result in zip(contents, results, strict=True) if result is Created.MADE]
            assert results.count(Created.REFUSED) == 7
            assert [storage.read(key)] == winners

    def test_neighbours_do_not_disturb_each_other(self, storage: Storage) -> None:
        """Threads that create and delete different keys under one prefix all succeed."""

        def work(number: int) -> list[Created]:
            results = []
            for turn in range(10):
                results.append(storage.create(f"busy/{turn}/deep/{number}", b"x"))
                storage.delete([f"busy/{turn}/deep/{number}"])
            return results

        with ThreadPoolExecutor(4) as pool:
            results = [result for part in pool.map(work, range(4)) for result in part]
        assert set(results) == {Created.MADE}
        assert list(storage.list("")) == []

    def test_write_joins_chunks_in_order(self, storage: Storage) -> None:
        """Buffers of all kinds, empty ones among them, follow each other; the returned info is the listing's."""
        chunks: list[list[Buffer]] = [[b"ab", bytearray(b"c")], [], [b"", memoryview(b"xdex")[1:3]], [b"f"]]
        info = storage.write("big/object", iter(chunks))
        assert storage.read("big/object") == b"abcdef"
        assert info == only(storage, "big/")
        assert (info.key, info.size) == ("big/object", 6)

    def test_write_of_nothing(self, storage: Storage) -> None:
        """No chunks make an empty object."""
        assert storage.write("nothing", iter([])).size == 0
        assert storage.read("nothing") == b""

    def test_write_of_many_small_buffers(self, storage: Storage) -> None:
        """A chunk may have more buffers than the system takes in one call."""
        buffers = [number.to_bytes(4, "big") for number in range(5000)]
        storage.write("pieces", [buffers, buffers])
        assert storage.read("pieces") == b"".join(buffers) * 2

    def test_write_of_large_chunks(self, storage: Storage) -> None:
        """Twenty chunks of different content and odd length come back as they were."""
        chunks = [bytes([number]) * (self.chunk_size - number) for number in range(20)]
        info = storage.write("large", ([chunk[:1000], chunk[1000:]] for chunk in chunks))
        assert info.size == sum(map(len, chunks))
        assert storage.read("large") == b"".join(chunks)

    def test_write_replaces(self, storage: Storage) -> None:
        """An existing object is replaced by another length of content, with another etag."""
        first = storage.write("a/x", [[b"longer content"]])
        second = storage.write("a/x", [[b"short"]])
        assert storage.read("a/x") == b"short"
        assert first.etag != second.etag
        assert only(storage, "a/") == second

    def test_write_shows_nothing_before_its_end(self, storage: Storage) -> None:
        """While chunks come in, the key is not there, or still what it was."""
        seen: list[list[str]] = []
        old: list[bytes] = []

        def chunks(key: str) -> Iterator[Sequence[Buffer]]:
            for number in range(4):
                yield [bytes([number]) * self.chunk_size]
                seen.append([info.key for info in storage.list("")])
                if key == "second":
                    old.append(storage.read(key))

        storage.write("first", chunks("first"))
        assert seen == [[]] * 4
        storage.write("second", [[b"old"]])
        storage.write("second", chunks("second"))
        assert old == [b"old"] * 4

    @pytest.mark.parametrize("error", [ValueError("broken chunk"), OSError(28, "of the chunks"), KeyboardInterrupt()])
    @pytest.mark.parametrize("after", [0, 1, 7])
    def test_aborted_write_leaves_nothing(self, storage: Storage, after: int, error: BaseException) -> None:
        """When the chunks raise, that very error passes through, nothing is listed and nothing is left to sweep."""

        def chunks() -> Iterator[Sequence[Buffer]]:
            for _ in range(after):
                yield [bytes(self.chunk_size)]
            raise error

        with pytest.raises(type(error)) as caught:
            storage.write("a/aborted", chunks())
        assert caught.value is error
        assert list(storage.list("")) == []
        assert list(storage.list_children("")) == []
        assert storage.sweep("", datetime.now(timezone.utc) + timedelta(days=1)) == 0
        with pytest.raises(ObjectNotFoundError):
            storage.read("a/aborted")

    def test_aborted_write_keeps_what_was_there(self, storage: Storage) -> None:
        """When the chunks raise, an older object under the key stays as it was."""
        before = storage.write("kept", [[b"old"]])

        def chunks() -> Iterator[Sequence[Buffer]]:
            yield [b"new"]
            raise ValueError("broken chunk")

        with pytest.raises(ValueError, match="broken chunk"):
            storage.write("kept", chunks())
        assert storage.read("kept") == b"old"
        assert only(storage, "") == before

    def test_chunks_are_pulled_as_they_are_sent(self, storage: Storage) -> None:
        """No more than a few chunks are alive at a time, so that memory stays bounded."""
        alive = most = 0
        lock = threading.Lock()

        class Chunk(list[bytes]):
            def __init__(self, data: bytes) -> None:
                nonlocal alive, most
                super().__init__([data])
                with lock:
                    alive += 1
                    most = max(most, alive)

            def __del__(self) -> None:
                nonlocal alive
                with lock:
                    alive -= 1

        count = self.held_chunks + 4
        storage.write("pulled", (Chunk(bytes(self.chunk_size)) for _ in range(count)))
        assert most <= self.held_chunks
        assert only(storage, "").size == count * self.chunk_size


def only(storage: Storage, prefix: str, key: str | None = None) -> ObjectInfo:
    """The one object below a prefix, or the one with this key."""
    (info,) = (info for info in storage.list(prefix) if key is None or info.key == key)
    return info
