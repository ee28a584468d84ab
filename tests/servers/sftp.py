"""SFTP: OpenSSH's server, run by this user for this user, with a key made for the occasion."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelstore.storage.fsspec import FsspecStorage
from tests.servers import process

_PLACES = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
_SFTP_SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server")
_numbers = itertools.count()


class Server:
    """OpenSSH at `port`, which shows this machine's whole file system; storages lie below `served`."""

    def __init__(self, port: int, served: Path, key: Path) -> None:
        self.port = port
        self.served = served
        self.key = key

    def storage(self, port: int | None = None, *, key: Path | None = None, **arguments: Any) -> FsspecStorage:
        """A storage over a new empty folder.

        Args:
            port: of a proxy in front.
            key: another private key than the one that lets in.
            **arguments: the storage's own.
        """
        root = self.served / f"test-{os.getpid()}-{next(_numbers)}"
        root.mkdir()
        options = {"key_filename": str(key or self.key), "look_for_keys": False, "allow_agent": False}
        options |= {"host_key_policy": "auto_add"}
        return FsspecStorage(
            f"sftp://{_user()}@127.0.0.1:{port or self.port}{root}", storage_options=options, **arguments
        )


def available() -> bool:
    """Whether OpenSSH's server and the client are here."""
    here = _sshd() and _sftp_server() and shutil.which("ssh-keygen")
    packages = all(importlib.util.find_spec(package) is not None for package in ("fsspec", "paramiko"))
    return process.found("sftp", bool(here) and packages)


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """Run OpenSSH for as long as the context lasts, over a folder below `folder`."""
    port = process.free_port()
    served = folder / "sftp"
    served.mkdir()
    key = make_key(folder / "client")
    shutil.copy(f"{key}.pub", folder / "authorized")
    (folder / "sshd").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {make_key(folder / 'host')}\n"
        f"AuthorizedKeysFile {folder / 'authorized'}\nPidFile none\nStrictModes no\nUsePAM no\nUseDNS no\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
        # Many tests connect at once, which looks like an attack.
        f"MaxStartups 200\nMaxSessions 100\nSubsystem sftp {_sftp_server()}\n"
    )
    if os.geteuid() == 0:
        os.makedirs(
            "/run/sshd", mode=0o755, exist_ok=True
        )  # where it wants to lock itself up as long as nobody logs in
    with process.running([str(_sshd()), "-D", "-e", "-f", str(folder / "sshd")], port, folder / f"sshd-{port}.log"):
        yield Server(port, served, key)


def make_key(path: Path) -> Path:
    """A new key without a passphrase; the public one lies beside it."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def _user() -> str:
    import getpass

    return getpass.getuser()


def _sshd() -> str | None:
    return shutil.which("sshd", path=_PLACES)  # which wants to be called by its whole path


def _sftp_server() -> str | None:
    return next((path for path in _SFTP_SERVERS if os.path.exists(path)), None)
