"""Where a model was made: what is found out, and that not finding out harms nothing."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from modelstore.insight import environment


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit on the branch `main`, away from the settings of whoever runs the tests."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / "train.py").write_text("print(1)\n")
    git(folder, "add", "train.py")
    git(folder, "commit", "--quiet", "-m", "first")
    return folder


def git(folder: Path, *arguments: str) -> str:
    """Run git as a person would."""
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.com")
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_runtime_names_the_python() -> None:
    """The runtime is written as the ancestor writes it."""
    assert environment.runtime() == f"python:{sys.version_info[0]}.{sys.version_info[1]}.{sys.version_info[2]}"


def test_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user is the login name; without one (a container that runs under a bare number) it is the number."""
    monkeypatch.setenv("LOGNAME", "ada")
    assert environment.user() == "ada"

    def no_user() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr(getpass, "getuser", no_user)
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert environment.user() == "uid:4711"


def test_versions_are_those_of_installed_distributions() -> None:
    """What is not installed is left out, and nothing is imported to find out."""
    before = set(sys.modules)
    found = environment.versions(["pytest", "no-such-distribution-4711"])
    assert found == {"pytest": pytest.__version__}
    assert not {name for name in set(sys.modules) - before if name.startswith("pytest")}


def test_a_package_installed_later_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook may install a package after an upload: that it was missing is not remembered."""
    assert environment.version("late-package-4711") is None
    info = tmp_path / "late_package_4711-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: late-package-4711\nVersion: 1.5\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert environment.version("late-package-4711") == "1.5"


def test_a_clean_repository(repository: Path) -> None:
    """Commit, branch and the absence of changes are told from a folder below, files that git does not track aside."""
    (repository / "deep" / "er").mkdir(parents=True)
    (repository / "untracked.txt").write_text("")
    git(repository, "remote", "add", "other", "https://example.com/not/this.git")
    git(repository, "remote", "add", "origin", "https://ada:secret@example.com/team/churn-model.git")
    assert environment.git_info(repository / "deep" / "er") == {
        "repository": "churn-model",
        "sha": git(repository, "rev-parse", "HEAD"),
        "local_changes": False,
        "branch": "main",
    }


@pytest.mark.parametrize("staged", [True, False])
def test_local_changes(repository: Path, staged: bool) -> None:
    """A changed file that git tracks counts, staged or not; without a remote the repository has no name."""
    (repository / "train.py").write_text("print(2)\n")
    if staged:
        git(repository, "add", "train.py")
    found = environment.git_info(repository)
    assert found is not None
    assert (found["local_changes"], found["repository"]) == (True, "")


def test_a_detached_head_has_no_branch(repository: Path) -> None:
    """A commit that is checked out by its number has no branch."""
    git(repository, "checkout", "--quiet", "--detach")
    found = environment.git_info(repository)
    assert found is not None
    assert found["branch"] is None
    assert found["sha"] == git(repository, "rev-parse", "HEAD")


def test_before_the_first_commit(tmp_path: Path) -> None:
    """A repository without a commit has a branch and no number."""
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    found = environment.git_info(tmp_path)
    assert found == {"repository": "", "sha": None, "local_changes": False, "branch": "main"}


def test_a_worktree(repository: Path, tmp_path: Path) -> None:
    """In a worktree, where `.git` is a file, the worktree's branch counts."""
    git(repository, "worktree", "add", "--quiet", "-b", "trial", str(tmp_path / "tree"))
    found = environment.git_info(tmp_path / "tree")
    assert found is not None
    assert found["branch"] == "trial"


def test_no_repository_is_no_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of any repository there is nothing to tell, no warning, and git is not even started."""
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: pytest.fail("git was started"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert environment.git_info(tmp_path) is None


def test_variables_of_another_repository_are_not_followed(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a git hook GIT_DIR names the hook's repository; the folder's own is the one that is told."""
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    found = environment.git_info(repository)
    assert found is not None
    assert found["branch"] == "main"


def test_git_that_is_missing_is_a_warning(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without git on this machine the upload goes on, with a warning that says why the field is missing."""
    monkeypatch.setenv("PATH", "")
    with pytest.warns(UserWarning, match="git is not installed"):
        assert environment.git_info(repository) is None


def test_a_broken_repository_is_a_warning(repository: Path) -> None:
    """What git itself says is in the warning."""
    (repository / ".git" / "HEAD").write_text("nonsense")
    with pytest.warns(UserWarning, match="not a git repository"):
        assert environment.git_info(repository) is None


def test_slow_git_is_waited_for_once(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git that takes longer than the limit is a warning, and later uploads from that repository do not wait again."""
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", str(slow.parent), prepend=os.pathsep)
    monkeypatch.setattr(environment, "_GIT_TIMEOUT", 0.05)
    with pytest.warns(UserWarning, match="timed out"):
        assert environment.git_info(repository) is None
    before = time.monotonic()
    monkeypatch.setattr(environment, "_GIT_TIMEOUT", 60)
    assert environment.git_info(repository) is None
    assert time.monotonic() - before < 30


def test_a_working_directory_that_is_gone_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default folder is the working directory, which may have been deleted."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.warns(UserWarning, match="No such file"):
        assert environment.git_info() is None


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://example.com/team/project.git", "project"),
        ("https://user:token@example.com/team/project", "project"),
        ("https://token@example.com", ""),
        ("https://example.com/project.git?access_token=secret", "project"),
        ("git@example.com:team/project.git", "project"),
        ("git@example.com:project.git", "project"),
        ("ssh://git@example.com:2222/team/project.git/", "project"),
        ("/srv/git/project.git", "project"),
        ("../project", "project"),
        ("C:\\code\\project", "project"),
        ("file:///srv/project.github.io", "project.github.io"),
        ("", ""),
    ],
)
def test_the_name_of_a_repository(url: str, name: str) -> None:
    """Only the last part of a remote's URL is told, so that no password is recorded."""
    assert environment.repository_name(url) == name
