"""The command line: what it prints where, and with which exit code it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from modelstore import ModelStore, ModelStoreError, __version__
from modelstore.cli import main

PLAIN_DOMAIN = "fraud"
ODD_DOMAIN = "../Betrug & Söhne/2026"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> ModelStore:
    return ModelStore.from_file_system(root, create_directory=True)


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(b"weights")
    return path


def run(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m modelstore` in a process of its own, in `cwd`."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment}
    return subprocess.run(
        [sys.executable, "-m", "modelstore", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
    )


def all_files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its name."""
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("domain", [PLAIN_DOMAIN, ODD_DOMAIN])
def test_up_and_down_as_the_ancestor_did(domain: str, root: Path, model_file: Path, tmp_path: Path) -> None:
    """With its environment variables: `upload` prints the id alone on stdout, `download` brings the file back."""
    root.mkdir()
    settings = {"MODEL_STORE_STORAGE": "filesystem", "MODEL_STORE_ROOT_PREFIX": str(root)}
    up = run("upload", domain, model_file, cwd=tmp_path, **settings)
    assert (up.returncode, up.stdout.count("\n")) == (0, 1), up.stderr
    model_id = up.stdout.strip()
    assert ModelStore.from_file_system(root).list_models(domain) == [model_id]

    target = tmp_path / "here"
    down = run("download", domain, model_id, target, cwd=tmp_path, **settings)
    assert down.returncode == 0, down.stderr
    folder = Path(down.stdout.strip())
    assert folder.name == model_id
    assert folder.parent.parent == target
    assert all_files(folder)["model.bin"] == b"weights"


def test_a_plain_domain_is_the_name_of_the_folder(store: ModelStore, model_file: Path, tmp_path: Path) -> None:
    """`download` writes to PARENT_DIR/DOMAIN/ID, without PARENT_DIR below the current folder."""
    model_id = store.upload(PLAIN_DOMAIN, "v1", model=model_file).model_id
    down = run("download", PLAIN_DOMAIN, model_id, "--store", tmp_path / "store", cwd=tmp_path)
    assert Path(down.stdout.strip()) == tmp_path / "fraud" / "v1"
    assert all_files(tmp_path / "fraud" / "v1")["model.bin"] == b"weights"


def test_no_domain_leads_out_of_the_folder(
    store: ModelStore, root: Path, model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A domain and an id of dots and slashes become one folder each, inside PARENT_DIR."""
    store.upload(ODD_DOMAIN, "../../..", model=model_file)
    target = tmp_path / "here"
    assert main(["download", ODD_DOMAIN, "../../..", str(target), "--store", str(root)]) == 0
    folder = Path(capsys.readouterr().out.rstrip("\n"))
    assert folder.parent.parent == target
    assert folder.resolve().is_relative_to(target.resolve())


def test_upload_makes_the_store_only_when_told_to(
    root: Path, model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistyped --store must not become a new, empty store."""
    with pytest.raises(SystemExit) as stopped:
        main(["upload", PLAIN_DOMAIN, str(model_file), "--store", str(root)])
    assert stopped.value.code == 2
    assert "--create" in capsys.readouterr().err
    assert not root.exists()
    assert main(["upload", PLAIN_DOMAIN, str(model_file), "--store", str(root), "--create"]) == 0
    assert ModelStore.from_file_system(root).list_domains() == [PLAIN_DOMAIN]


def test_list_shows_domains_then_models_newest_first(
    store: ModelStore, root: Path, model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a domain the domains, with one its models, one a line under a heading."""
    store.upload(PLAIN_DOMAIN, "old", model=model_file)
    store.upload(PLAIN_DOMAIN, "new", model=model_file, metrics={"auc": 0.5})
    store.upload(ODD_DOMAIN, "other", model=model_file)
    assert main(["list", "--store", str(root)]) == 0
    assert capsys.readouterr().out.splitlines() == store.list_domains()

    assert main(["--store", str(root), "list", PLAIN_DOMAIN]) == 0
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split() == ["ID", "CREATED", "LIBRARY", "CLASS", "METRICS"]
    assert [row.split()[0] for row in rows] == ["new", "old"]
    assert "auc=0.5" in rows[0]
    assert "model_file" in rows[1]


def test_list_takes_a_state(
    store: ModelStore, root: Path, model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--state` leaves those that are in it; one that nobody created is an error."""
    store.create_model_state("production")
    for model_id in ("a", "b"):
        store.upload(PLAIN_DOMAIN, model_id, model=model_file)
    store.set_model_state(PLAIN_DOMAIN, "a", "production")
    assert main(["list", PLAIN_DOMAIN, "--state", "production", "--json", "--store", str(root)]) == 0
    assert [record["model"]["model_id"] for record in json.loads(capsys.readouterr().out)] == ["a"]
    assert main(["list", PLAIN_DOMAIN, "--state", "prodction", "--store", str(root)]) == 1
    assert "did you mean 'production'" in capsys.readouterr().err


def test_info_as_json_is_the_record(
    store: ModelStore, root: Path, model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`info --json` prints what `get_model_info` returns; without an id, the latest model's."""
    store.upload(PLAIN_DOMAIN, "a", model=model_file)
    latest = store.upload(PLAIN_DOMAIN, "b", model=model_file, extra_metadata={"ticket": 42})
    assert main(["info", PLAIN_DOMAIN, "--json", "--store", str(root)]) == 0
    assert json.loads(capsys.readouterr().out) == latest
    assert main(["info", PLAIN_DOMAIN, "a", "--json", "--store", str(root)]) == 0
    assert json.loads(capsys.readouterr().out) == store.get_model_info(PLAIN_DOMAIN, "a")


def test_info_in_words(store: ModelStore, root: Path, model_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One fact a line; what is stored can move neither the cursor nor a line."""
    store.create_model_state("production")
    record = store.upload(PLAIN_DOMAIN, "a", model=model_file, note="first\x1b[2J\nsecond", tags={"team": "x"})
    store.set_model_state(PLAIN_DOMAIN, "a", "production")
    assert main(["info", PLAIN_DOMAIN, "--store", str(root)]) == 0
    out = capsys.readouterr().out
    facts = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert facts["id"] == "a"
    assert facts["states"] == "production"
    assert facts["tags"] == "team=x"
    assert facts["created"] == record["code"]["created"]
    assert facts["note"] == "first [2J second"


@pytest.mark.parametrize(
    "arguments", [["info", "no such domain"], ["download", "fraud", "no such id"], ["list", "no such domain"]]
)
def test_an_error_of_the_library_is_one_line_and_exit_code_1(
    arguments: list[str], store: ModelStore, root: Path, model_file: Path, tmp_path: Path
) -> None:
    """`error: …` on stderr, no traceback, nothing on stdout, no folder left behind."""
    store.upload(PLAIN_DOMAIN, model=model_file)
    done = run(*arguments, "--store", root, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / PLAIN_DOMAIN).exists()


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ([], "COMMAND"),
        (["upload", "fraud", "no such file"], "no such file"),
        (["list", "--state", "production", "--store", "."], "DOMAIN"),
        (["list"], "MODEL_STORE_STORAGE"),
        (["list", "--store", "no such folder"], "no such folder"),
    ],
)
def test_what_is_not_understood_is_exit_code_2(
    arguments: list[str], hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The usage and what is wrong, on stderr."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({"MODEL_STORE_STORAGE": "floppy"}, "filesystem"),
        ({"MODEL_STORE_STORAGE": "filesystem"}, "MODEL_STORE_ROOT_PREFIX"),
    ],
)
def test_settings_that_name_no_store_are_exit_code_2(
    settings: dict[str, str], hint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown storage, or one without its folder, is said before anything is opened."""
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stopped:
        main(["list"])
    assert stopped.value.code == 2
    assert hint in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_error(
    store: ModelStore, root: Path, model_file: Path, tmp_path: Path
) -> None:
    """`modelstore info --json | head -1` ends quietly."""
    store.upload(PLAIN_DOMAIN, model=model_file, extra_metadata=["x" * 100] * 2000)
    command = [sys.executable, "-m", "modelstore", "info", PLAIN_DOMAIN, "--json", "--store", str(root)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints the library's."""
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"modelstore {__version__}\n"


def test_only_errors_of_the_library_are_told_without_a_traceback(
    store: ModelStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug must show where it is, not as a polite line."""

    def broken(self: ModelStore) -> list[str]:
        raise ZeroDivisionError

    monkeypatch.setattr(ModelStore, "list_domains", broken)
    assert not issubclass(ZeroDivisionError, ModelStoreError)
    with pytest.raises(ZeroDivisionError):
        main(["list", "--store", str(root)])
