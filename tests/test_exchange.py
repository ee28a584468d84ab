"""Models out of a store and into another: files, copies, the table of all records."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from modelstore import ModelStore
from modelstore.archive.headers import header
from modelstore.exceptions import (
    AccessDeniedError,
    DeadlineExceededError,
    IntegrityError,
    InvalidArgumentError,
    MissingDependencyError,
    ModelExistsException,
    ModelNotFoundException,
    NewerFormatError,
    OfflineError,
    PickleNotAllowedError,
    StorageError,
    UnsafeArchiveError,
    UnsupportedObjectError,
)
from modelstore.folder import Buffer
from modelstore.portable.arrival import check_links
from modelstore.storage.base import Created, ObjectInfo
from modelstore.storage.memory import MemoryStorage


@pytest.fixture
def other() -> ModelStore:
    """Another store, in another kind of storage."""
    return ModelStore(MemoryStorage())


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A folder that is taken for a model."""
    return str(folder_of(tmp_path / "model", 10_000))


@pytest.fixture
def exported(store: ModelStore, model: str, tmp_path: Path) -> Path:
    """A model with a life behind it, in a file."""
    store.create_model_state("production")
    store.upload("fraud", "a", model=model, metrics={"auc": 0.9}, tags={"team": "x"}, note="the first")
    store.add_metrics("fraud", "a", {"recall": 0.4})
    store.tag("fraud", "a", {"reviewed": "yes"})
    store.note("fraud", "isotonic calibration helps", model_id="a", kind="worked")
    store.set_model_state("fraud", "a", "production", reason="approved by risk")
    return Path(store.export_model("fraud", "a", tmp_path / "model.tar"))


def folder_of(folder: Path, size: int) -> Path:
    """Something that compresses, something that does not, and a name that is not ASCII."""
    (folder / "größe").mkdir(parents=True)
    (folder / "größe" / "weights.bin").write_bytes(os.urandom(size))
    (folder / "words.txt").write_bytes(b"all the same words\n" * (size // 10))
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def described(path: Path) -> dict[str, Any]:
    with tarfile.open(path) as tar:
        member = tar.extractfile("modelstore-export.json")
        assert member is not None
        found: dict[str, Any] = json.loads(member.read())
        return found


def rewritten(path: Path, change: Callable[[dict[str, Any]], object], *, name: str | None = None) -> Path:
    """The file with another description, laid out as ours."""
    data = described(path)
    with tarfile.open(path) as tar:
        second = tar.getmembers()[1]
        member = tar.extractfile(second)
        assert member is not None
        archive = member.read()
    change(data)
    raw = json.dumps(data).encode()
    out = path.with_name("changed.tar")
    with open(out, "wb") as file:
        file.write(header("modelstore-export.json", len(raw), folder=False) + raw + bytes(-len(raw) % 512))
        file.write(header(name or second.name, len(archive), folder=False) + archive + bytes(-len(archive) % 512))
        file.write(bytes(1024))
    return out


def is_untouched(store: ModelStore) -> bool:
    return not list(store.storage.list("archives/")) and store.list_domains() == []


# -- files ------------------------------------------------------------------------------------------------------


def test_a_model_comes_back_whole(exported: Path, other: ModelStore, model: str, tmp_path: Path) -> None:
    """What is exported here is imported there: files, record, what was added since, and where it comes from."""
    record = other.import_model(exported)
    assert files_of(Path(other.download(tmp_path / "out", "fraud", "a")) / "model" / "model") == files_of(Path(model))
    assert record == other.get_model_info("fraud", "a")
    assert record["model"]["metrics"] == {"auc": 0.9}
    assert record["added"]["metrics"] == {"recall": 0.4}
    assert record["added"]["tags"] == {"reviewed": "yes"}
    assert record["added"]["notes"] == [{"id": None, "kind": "worked", "text": "isotonic calibration helps"}]
    origin = described(exported)
    assert record["foreign"] is True
    assert {name: record["imported"][name] for name in ("store", "domain", "number", "content_digest")} == {
        name: origin[name] for name in ("store", "domain", "number", "content_digest")
    }
    assert other.search("metrics.recall == 0.4 and tags.reviewed == 'yes'").ids == ["a"]
    assert other.search(text="isotonic").ids == ["a"]
    assert other.list_model_states() == []


@pytest.mark.parametrize("random", [True, False])
def test_many_chunks(store: ModelStore, other: ModelStore, tmp_path: Path, random: bool) -> None:
    """An archive of several chunks, compressed or not, goes through a file and from store to store byte for byte."""
    (tmp_path / "m").mkdir()
    for name in "abc":
        (tmp_path / "m" / name).write_bytes(os.urandom(7 << 20) if random else b"words" * (5 << 20))
    record = store.upload("d", "m", model=str(tmp_path / "m"))
    assert record["storage"]["archive"]["compression"] == ("none" if random else "zstd")
    assert record["storage"]["archive"]["chunks"] > 3
    other.import_model(store.export_model("d", "m", tmp_path / "m.tar"))
    store.copy_model("d", "m", to=other, to_domain="copies")
    for domain in ("d", "copies"):
        assert files_of(Path(other.download(tmp_path / domain, domain)) / "m") == files_of(tmp_path / "m")


def test_its_history_is_told_and_not_forged(exported: Path, other: ModelStore) -> None:
    """What happened before the import stands in history and journal as imported; the log holds one event."""
    other.import_model(exported)
    entries = other.history("fraud", "a")
    assert [entry.kind for entry in entries] == ["imported"] * 5 + ["uploaded"]
    assert [entry.details["event"] for entry in entries[:-1]] == [
        *("uploaded", "described", "described", "noted", "state-set")
    ]
    assert entries[4].reason == "approved by risk"
    assert entries[4].details["state"] == "production"
    assert entries[4].state is None
    assert entries[0].details["domain"] == "fraud"
    assert entries[-1].details["imported"]["number"] == 1
    assert len(list(other.storage.list("domains/"))) == 1
    journal = other.journal("fraud")
    assert "approved by risk" in journal.to_markdown()
    assert "imported from a file of fraud/a" in journal.to_markdown()
    assert [entry.kind for entry in other.journal("fraud", text="isotonic")] == ["imported", "upload"]
    assert len(other.journal("fraud", kind="imported")) == 5


def test_tar_opens_the_file(exported: Path, tmp_path: Path) -> None:
    """The system's tar unpacks an exported file, and the archive within; a second export is equal to the byte."""
    out = tmp_path / "unpacked"
    out.mkdir()
    subprocess.run(["tar", "-xf", str(exported), "-C", str(out)], check=True)
    (archive,) = (path for path in out.iterdir() if path.name.startswith("artifacts.tar"))
    assert json.loads((out / "modelstore-export.json").read_text())["record"]["model"]["model_id"] == "a"
    assert archive.stat().st_size == described(exported)["archive"]["size"]


def test_exporting_again_gives_the_same_file(store: ModelStore, exported: Path, tmp_path: Path) -> None:
    """As long as nothing happens to a model, its file is the same to the byte; and no partial file stays."""
    again = store.export_model("fraud", "a", tmp_path / "again.tar")
    assert Path(again).read_bytes() == exported.read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_importing_twice_changes_nothing(exported: Path, store: ModelStore, other: ModelStore) -> None:
    """A second import, here or where the model came from, gives the same record and leaves no trace."""
    first = other.import_model(exported)
    before = [info.key for info in other.storage.list("")]
    assert other.import_model(exported) == first
    assert [info.key for info in other.storage.list("")] == before
    before = [info.key for info in store.storage.list("")]
    assert "foreign" not in store.import_model(exported)
    assert [info.key for info in store.storage.list("")] == before


def test_another_domain(exported: Path, other: ModelStore) -> None:
    """domain= says where to; the record there is of that domain."""
    record = other.import_model(exported, domain="abuse")
    assert (record["model"]["domain"], record["imported"]["domain"]) == ("abuse", "fraud")
    assert other.list_domains() == ["abuse"]


def test_an_id_that_is_taken(exported: Path, other: ModelStore, tmp_path: Path) -> None:
    """An id of another model is ModelExistsException, and no byte of the file stays; after a deletion it is free."""
    (tmp_path / "else.bin").write_bytes(b"else")
    other.upload("fraud", "a", model=str(tmp_path / "else.bin"))
    before = [info.key for info in other.storage.list("")]
    with pytest.raises(ModelExistsException):
        other.import_model(exported)
    assert [info.key for info in other.storage.list("")] == before
    other.delete_model("fraud", "a", skip_prompt=True)
    assert other.import_model(exported)["foreign"] is True


def test_on_to_a_third_store(exported: Path, other: ModelStore, tmp_path: Path) -> None:
    """An imported model is exported with all of its history, and stays foreign, also as a copy."""
    other.import_model(exported)
    further = other.export_model("fraud", "a", tmp_path / "further.tar")
    third = ModelStore(MemoryStorage())
    third.import_model(further)
    assert [entry.details.get("event") for entry in third.history("fraud", "a")] == [
        *("uploaded", "described", "described", "noted", "state-set", "uploaded", None)
    ]
    fourth = ModelStore(MemoryStorage())
    assert other.copy_model("fraud", "a", to=fourth)["foreign"] is True


def test_pickles_of_a_file_are_refused(store: ModelStore, other: ModelStore, tmp_path: Path) -> None:
    """A pickle that came in a file is loaded only if that is allowed expressly, on the call or the store."""
    pytest.importorskip("sklearn")
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    store.upload("d", "p", model=make_pipeline(FunctionTransformer(lambda values: values)))
    path = store.export_model("d", "p", tmp_path / "p.tar")
    store.load("d", "p")
    other.import_model(path)
    with pytest.raises(PickleNotAllowedError, match="came from a file"):
        other.load("d", "p")
    other.load("d", "p", allow_pickle=True)
    ModelStore(other.storage, allow_pickle=True).load("d", "p")
    store.copy_model("d", "p", to=other, to_domain="copies")
    other.load("copies", "p")


# -- files of an enemy ------------------------------------------------------------------------------------------


def swap(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda data: data.update({name: data[name][::-1]})


DESCRIPTIONS: dict[str, Callable[[dict[str, Any]], object]] = {
    "another content digest": swap("content_digest"),
    "both content digests": lambda data: (swap("content_digest")(data), swap("content_digest")(data["archive"])),
    "both archive digests": lambda data: (swap("archive_digest")(data), swap("archive_digest")(data["archive"])),
    "a larger archive": lambda data: data["archive"].update(size=data["archive"]["size"] + 512),
    "a huge archive": lambda data: data["archive"].update(size=1 << 61, raw_size=1 << 61),
    "a negative size": lambda data: data["archive"].update(size=-1),
    "more chunks": lambda data: data["archive"].update(chunks=1 << 40),
    "another table": lambda data: data["archive"]["table"].update(sha256="0" * 64),
    "a table elsewhere": lambda data: data["archive"]["table"].update(start=0),
    "another compression": lambda data: data["archive"].update(compression="../../x"),
    "no record": lambda data: data.pop("record"),
    "a record that is a list": lambda data: data.update(record=[]),
    "a record of another model": lambda data: data["record"]["model"].update(model_id="b"),
    "a record that calls itself adopted": lambda data: data["record"].update(adopted={}),
    "a record that says what was added": lambda data: data["record"].update(added={"notes": 3}),
    "an id that is no text": lambda data: (data.update(model_id=3), data["record"]["model"].update(model_id=3)),
    "an empty domain": lambda data: (data.update(domain=""), data["record"]["model"].update(domain="")),
    "half a character": lambda data: data["record"].update(extra="\ud800"),
    "no number": lambda data: data["record"].update(extra=float("nan")),
    "a history of no entries": lambda data: data.update(history=[3]),
    "a history without times": lambda data: data["history"][0].update(time="yesterday"),
    "a history with a state that is none": lambda data: data["history"][0].update(state={}),
    "other things added": lambda data: data.update(added={"archive": {}}),
    "tags that are none": lambda data: data.update(added={"tags": []}),
    "references that are none": lambda data: data["record"]["model"]["managers"][0].update(references=[3]),
    "no format": lambda data: data.pop("format"),
    "a history from before all times": lambda data: data["history"][0].update(time="0001-01-01T00:00:00+14:00"),
    "nested deeper than all readers read": lambda data: data["record"].update(extra=json.loads("[" * 99 + "]" * 99)),
    "nested a thousand times": lambda data: data.update(record=json.loads("[" * 900 + "]" * 900)),
}


@pytest.mark.parametrize("which", DESCRIPTIONS)
def test_descriptions_that_lie(exported: Path, other: ModelStore, which: str) -> None:
    """A description that is not that of its archive, or none at all, is an error, and nothing is to be seen or left."""
    with pytest.raises(IntegrityError):
        other.import_model(rewritten(exported, DESCRIPTIONS[which]))
    assert is_untouched(other)


def test_a_later_format(exported: Path, other: ModelStore) -> None:
    """A file of a later version asks for an upgrade."""
    with pytest.raises(NewerFormatError, match="pip install"):
        other.import_model(rewritten(exported, lambda data: data.update(format=2)))


@pytest.mark.parametrize("name", ["../artifacts.tar", "/etc/passwd", "artifacts.tar.gz", "x/../../artifacts.tar.zst"])
def test_names_that_lead_elsewhere(exported: Path, other: ModelStore, name: str) -> None:
    """The second member has the one name that it may have; no name of a file is ever used."""
    with pytest.raises(UnsafeArchiveError):
        other.import_model(rewritten(exported, lambda data: None, name=name))
    assert is_untouched(other)


def test_files_that_are_cut_or_longer(exported: Path, other: ModelStore) -> None:
    """Wherever a file ends early, or goes on, it is refused before anything is written."""
    whole = exported.read_bytes()
    for length in (0, 100, 512, 700, 5000, len(whole) // 2, len(whole) - 1024, len(whole) - 1):
        exported.write_bytes(whole[:length])
        with pytest.raises(IntegrityError):
            other.import_model(exported)
    exported.write_bytes(whole + bytes(512))
    with pytest.raises(IntegrityError):
        other.import_model(exported)
    assert is_untouched(other)


def test_one_wrong_byte(exported: Path, other: ModelStore) -> None:
    """A byte that is changed anywhere, in the description's frame, a chunk, the table or the trailer, is found."""
    whole = exported.read_bytes()
    begin = len(whole) - 1024 - described(exported)["archive"]["size"]
    for at in (3, 130, begin - 500, begin + 10, begin + 2000, len(whole) - 1024 - 2000, len(whole) - 5):
        exported.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(IntegrityError):
            other.import_model(exported)
    assert is_untouched(other)


def test_an_archive_whose_table_lies_about_its_files(store: ModelStore, other: ModelStore, tmp_path: Path) -> None:
    """Chunks with right digests are looked into: a tar that shows other files than its table is not taken in."""
    (tmp_path / "m.bin").write_bytes(os.urandom(1000))
    store.upload("d", "m", model=str(tmp_path / "m.bin"))
    path = Path(store.export_model("d", "m", tmp_path / "m.tar"))

    from modelstore.archive.info import NONE
    from modelstore.archive.limits import DEFAULT
    from modelstore.archive.opening import _describe, read_table
    from modelstore.archive.trailer import Trailer

    with tarfile.open(path) as tar:
        member = tar.extractfile(tar.getmembers()[1])
        assert member is not None
        archive = bytearray(member.read())

    class Bytes:
        def read(self, start: int, end: int | None) -> bytes:
            return bytes(archive[start:end])

        def read_into(self, start: int, buffer: memoryview) -> int:
            return io.BytesIO(archive[start:]).readinto(buffer)

    table, info = read_table(Bytes(), "it", None, DEFAULT)
    assert info.compression == NONE
    archive[archive.index(b"modelstore.json")] ^= 1  # in the first header of the tar
    chunks = []
    at = 0
    for chunk in table.chunks:
        chunks.append(chunk._replace(digest=hashlib.sha256(archive[at : at + chunk.stored]).digest()))
        at += chunk.stored
    forged = type(table)(tuple(chunks), table.entries)
    stored = forged.encode(DEFAULT)
    trailer = Trailer(NONE, at, len(stored), len(stored), hashlib.sha256(stored).digest())
    archive[at:] = stored + trailer.tail()
    described_info = _describe(forged, trailer)

    def change(data: dict[str, Any]) -> None:
        data.update(archive=described_info.to_dict(), archive_digest=described_info.archive_digest)

    out = rewritten(path, change)
    raw = out.read_bytes()
    out.write_bytes(raw[: len(raw) - 1024 - (len(archive) + -len(archive) % 512)] + archive)
    out.write_bytes(out.read_bytes() + bytes(-len(archive) % 512) + bytes(1024))
    with pytest.raises(UnsafeArchiveError, match="tar headers"):
        other.import_model(out)
    assert is_untouched(other)


def test_what_is_no_file(other: ModelStore, tmp_path: Path) -> None:
    """A path that leads nowhere, or to a folder, is a StorageError that names it."""
    for path in (tmp_path / "nowhere.tar", tmp_path):
        with pytest.raises(StorageError, match=str(path)):
            other.import_model(path)


# -- copies -----------------------------------------------------------------------------------------------------


def test_from_development_to_production(store: ModelStore, exported: Path, other: ModelStore, tmp_path: Path) -> None:
    """A copy has the same bytes and words; both logs tell of it, and a second copy changes neither."""
    record = other_record = store.copy_model("fraud", "a", to=other)
    assert record == other.get_model_info("fraud", "a")
    assert "foreign" not in record
    assert record["copied"]["address"] == store.storage.address
    assert record["copied"]["number"] == 1
    assert record["added"]["metrics"] == {"recall": 0.4}
    assert other.list_model_states() == []
    last = store.history("fraud", "a")[-1]
    assert (last.kind, last.details["to"]["domain"], last.details["to"]["number"]) == ("copied", "fraud", 1)
    assert last.details["to"]["address"] == other.storage.address
    assert "copied to fraud/a" in store.journal("fraud").to_markdown()
    assert "copied from fraud/a" in other.journal("fraud").to_markdown()
    here, there = (files_of(Path(each.download(tmp_path / each.storage.kind, "fraud"))) for each in (store, other))
    assert here == there

    before = [[info.key for info in each.storage.list("")] for each in (store, other)]
    assert store.copy_model("fraud", "a", to=other) == other_record
    assert [[info.key for info in each.storage.list("")] for each in (store, other)] == before


def test_under_another_name(store: ModelStore, exported: Path) -> None:
    """A copy may have another domain and id, in the same store too; the original stays as it was."""
    record = store.copy_model("fraud", "a", to=store, to_domain="live", to_model_id="a-1")
    assert (record["model"]["domain"], record["model"]["model_id"]) == ("live", "a-1")
    assert store.list_models("live") == ["a-1"]
    with pytest.raises(ModelNotFoundException):
        store.copy_model("fraud", "b", to=store)
    with pytest.raises(InvalidArgumentError, match="ModelStore"):
        store.copy_model("fraud", "a", to="s3://bucket")  # type: ignore[arg-type]


def test_copies_of_damaged_bytes(store: ModelStore, exported: Path, other: ModelStore) -> None:
    """A chunk that is not what was written is found on its way, and nothing is left there."""
    root = Path(store.storage.location("")["root"])
    (archive,) = root.rglob("artifacts.tar*")
    raw = bytearray(archive.read_bytes())
    raw[len(raw) // 2] ^= 1
    archive.chmod(0o644)
    archive.write_bytes(raw)
    with pytest.raises(IntegrityError):
        store.copy_model("fraud", "a", to=other)
    with pytest.raises(IntegrityError):
        store.export_model("fraud", "a", "x.tar")
    assert is_untouched(other)
    assert not Path("x.tar").exists()


class ReadOnly(MemoryStorage):
    """Takes nothing once it is closed."""

    closed = False

    def create(self, key: str, data: bytes) -> Created:
        if self.closed:
            raise AccessDeniedError("only reading is allowed", key)
        return super().create(key, data)


def test_a_source_that_may_only_be_read(model: str, other: ModelStore) -> None:
    """Whoever may only read the source gets the copy, and a warning that the source does not know of it."""
    storage = ReadOnly()
    source = ModelStore(storage)
    source.upload("d", "a", model=model)
    storage.closed = True
    with pytest.warns(UserWarning, match="cannot be told"):
        source.copy_model("d", "a", to=other)
    assert other.list_models("d") == ["a"]
    storage.closed = False
    source.copy_model("d", "a", to=other)
    assert [entry.kind for entry in source.history("d")] == ["uploaded", "copied"]


def test_a_race_for_one_id(exported: Path, store: ModelStore, model: str, tmp_path: Path) -> None:
    """If the same model arrives by another way while its bytes are written, it is there once, and so are its bytes."""

    class Slow(MemoryStorage):
        first = True

        def write(self, key: str, chunks: Iterable[Sequence[Buffer]], expected: int = 0) -> ObjectInfo:
            info = super().write(key, chunks, expected)
            if self.first:
                self.first = False
                ModelStore(self).import_model(exported)
            return info

    storage = Slow()
    record = ModelStore(storage).import_model(exported)
    assert record["foreign"] is True
    assert len(list(storage.list("archives/"))) == 1
    assert len(list(storage.list("domains/"))) == 1


def test_models_that_need_others(store: ModelStore, exported: Path, other: ModelStore) -> None:
    """A model that refers to another one comes only where that one is, by the same names, with the same content."""
    record = store.get_model_info("fraud", "a")
    reference = {"domain": "fraud", "model_id": "a", "content_digest": record["storage"]["archive"]["content_digest"]}
    adapter = {"model": {"model_id": "adapter", "managers": [{"references": [reference]}]}}
    with pytest.raises(ModelNotFoundException, match="bring that one there first"):
        check_links(other._registry, adapter)
    store.copy_model("fraud", "a", to=other)
    check_links(other._registry, adapter)
    reference["content_digest"] = "0" * 64
    with pytest.raises(ModelNotFoundException, match="bring that one there first"):
        check_links(other._registry, adapter)


def test_time_and_being_offline(
    store: ModelStore, exported: Path, other: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """timeout= ends each of the calls, which leave nothing; offline there is nothing to read from."""
    for call in (
        lambda: other.import_model(exported, timeout=1e-9),
        lambda: store.copy_model("fraud", "a", to=other, timeout=1e-9),
        lambda: store.export_model("fraud", "a", "late.tar", timeout=1e-9),
    ):
        with pytest.raises(DeadlineExceededError):
            call()
    assert is_untouched(other)
    assert not Path("late.tar").exists()
    monkeypatch.setenv("MODELSTORE_OFFLINE", "1")
    with pytest.raises(OfflineError):
        store.export_model("fraud", "a", "late.tar")


def test_an_adopted_model_stays_where_it_is(store: ModelStore, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ancestor's archives are not ours to pass on: the error says what to do instead."""
    monkeypatch.setattr("modelstore.portable.parcel.is_adopted", lambda archive: True)
    with pytest.raises(UnsupportedObjectError, match="upload"):
        store.export_model("fraud", "a", "old.tar")


# -- the table of all records -----------------------------------------------------------------------------------


def test_the_catalog(store: ModelStore, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row for each model of all domains, in several row groups, with types that hold what all of them have."""
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("modelstore.portable.catalog.ROWS", 2)
    file = tmp_path / "m.bin"
    file.write_bytes(b"m")
    store.create_model_state("production")
    for number, tags in enumerate(({"team": "x"}, {"team": 3}, {"seed": 7})):
        store.upload("fraud", f"m{number}", model=str(file), metrics={"auc": number / 2}, tags=tags)
    store.upload("Größe", "m", model=str(file), metrics={"loss": 3}, note="the other")
    store.set_model_state("fraud", "m1", "production")
    store.add_metrics("fraud", "m0", {"late": 1})
    assert store.export_catalog(tmp_path / "catalog.parquet") == 4
    table = parquet.read_table(tmp_path / "catalog.parquet")
    assert parquet.ParquetFile(tmp_path / "catalog.parquet").num_row_groups == 2
    rows = {(row["domain"], row["model_id"]): row for row in table.to_pylist()}
    assert rows["fraud", "m1"]["states"] == ["production"]
    assert rows["fraud", "m0"]["metrics.late"] == 1.0
    assert rows["fraud", "m2"]["tags.seed"] == 7
    assert [rows["fraud", f"m{number}"]["tags.team"] for number in range(3)] == ['"x"', "3", None]
    assert rows["Größe", "m"]["note"] == "the other"
    assert rows["Größe", "m"]["created"] == store.get_model_info("Größe", "m").created
    assert {str(table.schema.field(f"metrics.{name}").type) for name in ("auc", "loss", "late")} == {"double"}
    assert store.export_catalog(tmp_path / "one.parquet", domain="fraud") == 3
    assert {row["model_id"] for row in parquet.read_table(tmp_path / "one.parquet").to_pylist()} == {"m0", "m1", "m2"}


def test_the_catalog_of_nothing(other: ModelStore, tmp_path: Path) -> None:
    """An empty store gives a table without rows, with the columns that every one has."""
    parquet = pytest.importorskip("pyarrow.parquet")
    assert other.export_catalog(tmp_path / "catalog.parquet") == 0
    assert "model_id" in parquet.read_table(tmp_path / "catalog.parquet").column_names


def test_the_catalog_without_pyarrow(other: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pyarrow is missing, the error says how to get it."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match="modelstore\\[catalog\\]"):
        other.export_catalog(tmp_path / "catalog.parquet")
