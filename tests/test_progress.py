"""Bars: shown for large transfers where somebody sees them, and nowhere else."""

from __future__ import annotations

import functools
import io
import random
import sys
from pathlib import Path

import pytest

from modelstore import InvalidArgumentError, ModelStore, progress as bars

SIZE = 3 << 20


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal that remembers what was shown; bars begin at 2 MiB instead of 64."""
    shown = Terminal()
    monkeypatch.setattr(bars, "SMALLEST", 2 << 20)
    monkeypatch.delenv("MODELSTORE_PROGRESS", raising=False)

    class Seen:
        """`sys` with this terminal: pytest puts its own stderr in place between a fixture and its test."""

        stderr = shown
        modules = sys.modules

    monkeypatch.setattr(bars, "sys", Seen)
    monkeypatch.setattr(bars, "_tqdm", functools.partial(bars._tqdm, file=shown))
    return shown


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.bin"
    path.write_bytes(random.Random(0).randbytes(SIZE))  # which no compression makes small
    return path


def shown_by(terminal: Terminal) -> str:
    text = terminal.getvalue()
    terminal.truncate(0)
    terminal.seek(0)
    return text


def test_large_transfers_show_a_bar(store: ModelStore, large: Path, terminal: Terminal, tmp_path: Path) -> None:
    """An upload, a first load and a download of a large model each show one, with the model's id."""
    store.upload("d", "one", model=large)
    assert "uploading one" in shown_by(terminal)
    store.download(tmp_path / "out", "d", "one")
    assert "downloading one" in shown_by(terminal)
    store.load("d", "one")
    assert "loading one" in shown_by(terminal)
    store.load("d", "one")
    assert shown_by(terminal) == "", "from the cache nothing is transferred"


def test_models_on_their_way_show_a_bar(store: ModelStore, large: Path, terminal: Terminal, tmp_path: Path) -> None:
    """So do a file that is made, one that is read, and a copy, each once."""
    store.upload("d", "one", model=large)
    shown_by(terminal)
    store.export_model("d", "one", tmp_path / "one.tar")
    assert "exporting one" in shown_by(terminal)
    store.import_model(tmp_path / "one.tar", domain="e")
    assert "importing one" in shown_by(terminal)
    store.copy_model("d", "one", to=store, to_domain="f")
    assert "copying one" in shown_by(terminal)
    store.copy_model("d", "one", to=store, to_domain="f")
    store.export_model("d", "one", tmp_path / "one.tar", progress=False)
    assert not shown_by(terminal)


def test_a_bar_ends_where_the_transfer_does(store: ModelStore, large: Path, terminal: Terminal, tmp_path: Path) -> None:
    """What is counted adds up to the whole, so that the last thing seen is 100 %."""
    counted: list[int] = []
    with bars.bar("counting", SIZE, show=True) as advance:
        for part in bars.counted(iter([[bytes(SIZE // 3)], [bytes(SIZE // 3), memoryview(bytes(SIZE // 3))]]), advance):
            counted.append(sum(map(len, part)))
    assert sum(counted) == SIZE
    assert "100%" in shown_by(terminal)


def test_small_transfers_show_none(store: ModelStore, tmp_path: Path, terminal: Terminal) -> None:
    """What is done in no time shows nothing."""
    small = tmp_path / "small.bin"
    small.write_bytes(b"small")
    store.upload("d", "one", model=small)
    store.load("d", "one")
    assert shown_by(terminal) == ""


@pytest.mark.parametrize("switch", ["call", "store", "environment"])
def test_bars_can_be_switched_off(
    switch: str, tmp_path: Path, large: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the call, by the store, or by MODELSTORE_PROGRESS=0; each is enough."""
    if switch == "environment":
        monkeypatch.setenv("MODELSTORE_PROGRESS", "0")
    store = ModelStore.from_file_system(
        tmp_path / "s", create_directory=True, progress=False if switch == "store" else None
    )
    asked = False if switch == "call" else None
    store.upload("d", "one", model=large, progress=asked)
    store.load("d", "one", progress=asked)
    store.download(tmp_path / "out", "d", "one", progress=asked)
    assert shown_by(terminal) == ""


def test_a_call_goes_before_its_store(tmp_path: Path, large: Path, terminal: Terminal) -> None:
    """progress=True on a call shows a bar that the store does not want."""
    store = ModelStore.from_file_system(tmp_path / "s", create_directory=True, progress=False)
    store.upload("d", "one", model=large, progress=True)
    assert "uploading one" in shown_by(terminal)


def test_nothing_is_printed_without_a_terminal(store: ModelStore, large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a log file a bar would be thousands of lines, so there is none, not even when it is asked for."""
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(bars, "SMALLEST", 2 << 20)
    store.upload("d", "one", model=large, progress=True)
    store.load("d", "one", progress=True)
    assert log.getvalue() == ""


def test_a_process_without_stderr_works(store: ModelStore, large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As under pythonw, where sys.stderr is None."""
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(bars, "SMALLEST", 2 << 20)
    assert store.upload("d", "one", model=large).model_id == "one"


def test_a_setting_that_is_neither_yes_nor_no_is_refused(
    store: ModelStore, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MODELSTORE_PROGRESS=perhaps names the variable in its error."""
    monkeypatch.setenv("MODELSTORE_PROGRESS", "perhaps")
    with pytest.raises(InvalidArgumentError, match="MODELSTORE_PROGRESS"):
        store.upload("d", "one", model=large)
