"""What `Storage.read`, `read_into`, `list` and `list_children` promise, as tests."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from modelstore.exceptions import ObjectNotFoundError, StorageError
from modelstore.storage.base import Storage
from modelstore.storage.objects import ObjectSource

MIB = 1 << 20


class ReadingContract:
    """Part of `StorageContract`."""

    many = 300
    """How many objects `test_list_of_many` makes; more than a page where listings have pages."""

    @pytest.mark.parametrize(
        ("start", "end"),
        [
            *[(0, None), (0, 4), (3, 7), (3, None), (0, 0), (5, 5), (9, 10), (9, 99), (10, None), (10, 12), (50, 60)],
            *[(-1, None), (-4, None), (-10, None), (-11, None), (-1000, None), (7, 3)],
        ],
    )
    def test_ranges(self, storage: Storage, start: int, end: int | None) -> None:
        """Ranges and suffixes are those of a Python slice; beyond the end there is nothing."""
        storage.create("ten", b"0123456789")
        expected = b"0123456789"[max(start, -10) : end]
        assert storage.read("ten", start, end) == expected
        assert ObjectSource(storage, "ten").read(start, end) == expected

    @pytest.mark.parametrize("start", [0, 3])
    def test_ranges_of_an_empty_object(self, storage: Storage, start: int) -> None:
        """Every range of an empty object is empty, and so is every suffix."""
        storage.create("empty", b"")
        assert storage.read("empty", start) == b""
        assert storage.read("empty", -5) == b""
        assert storage.read_into("empty", start, memoryview(bytearray(4))) == 0

    @pytest.mark.parametrize(("start", "length"), [(0, 10), (2, 4), (0, 0), (8, 2), (8, 6), (10, 3), (40, 3)])
    def test_read_into(self, storage: Storage, start: int, length: int) -> None:
        """A buffer is filled as far as there is something, and not touched beyond that."""
        storage.create("ten", b"0123456789")
        buffer = bytearray(b"." * length)
        expected = b"0123456789"[start : start + length]
        assert storage.read_into("ten", start, memoryview(buffer)) == len(expected)
        assert bytes(buffer) == expected + b"." * (length - len(expected))
        assert ObjectSource(storage, "ten").read_into(start, memoryview(bytearray(length))) == len(expected)

    def test_reads_from_many_threads(self, storage: Storage) -> None:
        """Ranges that threads read at the same time do not mix."""
        content = b"".join(number.to_bytes(4, "big") for number in range(MIB // 4))
        storage.write("shared", [[content]])

        def check(at: int) -> bool:
            buffer = bytearray(5000)
            count = storage.read_into("shared", at, memoryview(buffer))
            return storage.read("shared", at, at + 5000) == content[at : at + 5000] == bytes(buffer[:count])

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(check, range(0, MIB, MIB // 64)))

    def test_missing_objects_are_told_apart(self, storage: Storage) -> None:
        """Reading what is not there raises `ObjectNotFoundError` with the key, also below and above an object."""
        storage.create("there/object", b"x")
        for key in ("missing", "there", "there/other", "there/object/below", "there/object2"):
            for attempt in (_reader(storage, key), _into_reader(storage, key)):
                with pytest.raises(ObjectNotFoundError) as caught:
                    attempt()
                assert caught.value.key == key
                assert key in str(caught.value)

    def test_list_is_sorted_by_key(self, storage: Storage) -> None:
        """Keys come in the order of their whole text: `a-b/x` before `a/x`, since `-` sorts before `/`."""
        keys = ["a/x", "a-b/x", "a/y/z", "a.b", "a/y-1", "b", "a~", "A", "%2Ehidden/1", "a/y0", "10", "9"]
        for key in keys:
            storage.create(key, key.encode())
        assert [info.key for info in storage.list("")] == sorted(keys)
        assert [info.key for info in storage.list("a/")] == ["a/x", "a/y-1", "a/y/z", "a/y0"]
        assert [info.size for info in storage.list("a/")] == [3, 5, 5, 4]

    def test_list_takes_whole_parts(self, storage: Storage) -> None:
        """A prefix ends with a part: what only begins like it is not listed, and an unknown one lists nothing."""
        storage.create("ab/1", b"")
        storage.create("abc/1", b"")
        assert [info.key for info in storage.list("ab/")] == ["ab/1"]
        assert list(storage.list("a/")) == []
        assert list(storage.list("ab/1/")) == []

    def test_list_of_many(self, storage: Storage) -> None:
        """More objects than a page of a listing holds are all listed, once each."""
        keys = [f"many/{number:04}" for number in range(self.many)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: storage.create(key, b"x"), keys))
        assert [info.key for info in storage.list("many/")] == keys
        assert list(storage.list_children("")) == ["many"]

    def test_children(self, storage: Storage) -> None:
        """The children of a prefix are the next parts that lead to further keys, sorted, each once."""
        for key in ("a/b/1", "a/b/2/3", "a/c", "a/b-c/1", "a/%C3%A9/1", "z/1"):
            storage.create(key, b"")
        assert list(storage.list_children("a/")) == ["%C3%A9", "b", "b-c"]
        assert list(storage.list_children("")) == ["a", "z"]
        assert list(storage.list_children("a/b/")) == ["2"]
        assert list(storage.list_children("none/")) == []

    def test_children_without_objects_vanish(self, storage: Storage) -> None:
        """A child whose last object is deleted is no child any more."""
        storage.create("a/b/c/1", b"")
        storage.create("a/d/1", b"")
        storage.delete(["a/b/c/1"])
        assert list(storage.list_children("a/")) == ["d"]
        storage.delete(["a/d/1"])
        assert list(storage.list_children("")) == []

    def test_escaped_keys(self, storage: Storage) -> None:
        """Percent-escapes are plain text of a key: they are neither decoded nor escaped once more."""
        keys = ["d/%2F%2E%2E", "d/%252F", "d/a%20b", "d/a+b", "d/~_.-x", "d/" + "%F0%9F%9A%80" * 16]
        for key in keys:
            storage.create(key, key.encode())
        assert [info.key for info in storage.list("d/")] == sorted(keys)
        assert all(storage.read(key) == key.encode() for key in keys)
        storage.delete(keys)
        assert list(storage.list("")) == []

    @pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "a/../b", "..", "./a", "a/.hidden", "a\\b", "a\0b"])
    def test_what_is_no_key_is_refused(self, storage: Storage, key: str) -> None:
        """A key that could lead out of the store, or to a storage's own files, is an error for every verb."""
        verbs: list[Callable[[], object]] = [
            lambda: storage.create(key, b""),
            lambda: storage.write(key, [[b""]]),
            lambda: storage.read(key),
            lambda: storage.read_into(key, 0, memoryview(bytearray(1))),
            lambda: storage.delete([key]),
            lambda: list(storage.list(key + "/")),
            lambda: list(storage.list_children(key + "/")),
        ]
        for verb in verbs:
            with pytest.raises(StorageError) as caught:
                verb()
            assert not isinstance(caught.value, ObjectNotFoundError)


def _reader(storage: Storage, key: str) -> Callable[[], object]:
    return lambda: storage.read(key, 0, 4)


def _into_reader(storage: Storage, key: str) -> Callable[[], object]:
    return lambda: storage.read_into(key, 0, memoryview(bytearray(4)))
