"""Where a model was made: Python, user, installed packages, and the state of the code in git."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from modelstore.notices import warn

_GIT_TIMEOUT = 2.0  # seconds; a status of 100,000 files takes half of that
_gave_up: set[Path] = set()  # repositories in which git has been too slow once: not waited for again


def runtime() -> str:
    """The running Python, such as `python:3.11.7`."""
    return "python:" + ".".join(map(str, sys.version_info[:3]))


def user() -> str:
    """The login name; in a container whose user has none, its number."""
    import getpass

    try:
        return getpass.getuser()
    except Exception:  # KeyError, ImportError or OSError, depending on the version of Python
        return f"uid:{os.getuid()}" if hasattr(os, "getuid") else "unknown"


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """The versions of those distributions that are installed, in the order given."""
    found = {name: version(name) for name in distributions}
    return {name: installed for name, installed in found.items() if installed is not None}


_versions: dict[str, str] = {}


def version(distribution: str) -> str | None:
    """The version of an installed distribution, `None` for others."""
    if distribution not in _versions:
        from importlib import metadata

        try:
            installed = metadata.version(distribution)
        except Exception:  # not installed, or metadata that cannot be read
            return None
        if not isinstance(installed, str):  # metadata without a version
            return None
        # Only what is found is remembered: a notebook installs packages while it runs.
        _versions[distribution] = installed
    return _versions[distribution]


def git_info(start_folder: str | os.PathLike[str] | None = None) -> dict[str, Any] | None:
    """The commit that is checked out in or above a folder (default: the working directory).

    Returns:
        `repository` (the last part of the remote's URL, empty without a remote), `sha` (`None` before the first
        commit), `local_changes` (to files that git tracks) and `branch` (`None` when detached); `None` where there is
        no repository and, with a warning, where git does not answer.
    """
    try:
        root = _repository(Path.cwd() if start_folder is None else Path(start_folder).absolute())
        if root is None or root in _gave_up:
            return None
        lines = _git(root, "status", "--porcelain=v2", "--branch", "-uno").splitlines()
        headers = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# branch."))
        sha, branch = headers["branch.oid"], headers["branch.head"]
        return {
            "repository": repository_name(_remote(root)),
            "sha": None if sha == "(initial)" else sha,
            "local_changes": any(not line.startswith("#") for line in lines),
            "branch": None if branch == "(detached)" else branch,
        }
    except Exception as error:
        warn(f"the state of the code in git is not recorded: {_reason(error)}")
        return None


def repository_name(url: str) -> str:
    """The last part of a remote's URL, without `.git` and without whatever else the URL holds, passwords among it."""
    if "://" in url:
        path = url.split("://", 1)[1].partition("/")[2].split("?")[0].split("#")[0]
    else:
        path = url.rpartition(":")[2]  # user@host:path, or a path
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2].removesuffix(".git")


def _repository(folder: Path) -> Path | None:
    # A file called .git is that of a worktree or submodule.
    return next((parent for parent in (folder, *folder.parents) if (parent / ".git").exists()), None)


@lru_cache(maxsize=64)
def _remote(root: Path) -> str:
    """The URL of the remote `origin`, else of the first one, else an empty text."""
    lines = _git(root, "config", "--get-regexp", r"^remote\..*\.url$", may_fail=True).splitlines()
    urls = dict(line.split(" ", 1) for line in lines if " " in line)
    return urls.get("remote.origin.url") or next(iter(urls.values()), "")


def _git(root: Path, *arguments: str, may_fail: bool = False) -> str:
    import subprocess

    # Variables that name another repository are left out: a git hook sets them.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # No lock that a commit of the user's would run into, no prompt, no translated answer.
    environment = {**inherited, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    # No file system monitor: it is a program that the repository names.
    command = ["git", "--no-pager", "-c", "core.fsmonitor=false", "-C", str(root), *arguments]
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=_GIT_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        _gave_up.add(root)
        raise
    if done.returncode and not may_fail:
        raise RuntimeError(done.stderr.decode(errors="replace").strip() or f"git ended with {done.returncode}")
    return done.stdout.decode(errors="replace")


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError) and error.filename == "git":
        return "git is not installed"
    text = str(error).strip() or repr(error)
    return text.splitlines()[0]
