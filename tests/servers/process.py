"""A server in a process of its own, on a free port of the loopback interface."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

START_SECONDS = 60.0


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def accepts(port: int) -> bool:
    """Whether somebody listens on a port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def running(
    command: Sequence[str],
    ready: int | Callable[[], bool],
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the context is left, then stop it and all that it started.

    Args:
        command: what to run.
        ready: the port that it will listen on, or what tells whether it is ready.
        log: where its output goes; shown when it does not start.
        environment: variables in addition to those of this process.
    """
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,  # a process group of its own, which can be stopped as a whole
        )
    try:
        until = time.monotonic() + START_SECONDS
        while not (accepts(ready) if isinstance(ready, int) else ready()):
            if process.poll() is not None or time.monotonic() > until:
                said = log.read_text(errors="replace")[-4000:]
                raise RuntimeError(f"{command[0]} did not start (exit code {process.poll()}):\n{said}")
            time.sleep(0.05)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def found(name: str, here: bool) -> bool:
    """Whether a server is to be tested against: one of those that `MODELSTORE_TEST_SERVERS` names, which must be here;
    without that variable, any that is here.

    So that a continuous integration which should have installed a server cannot pass without it, and none that happens
    to be on a machine makes another of its parts slow.
    """
    named = os.environ.get("MODELSTORE_TEST_SERVERS")
    if named is None:
        return here
    wanted = name in named.replace(",", " ").split()
    if wanted and not here:
        raise RuntimeError(f"MODELSTORE_TEST_SERVERS names {name}, which is not installed here")
    return wanted


def program(name: str) -> str | None:
    """Where a program is: on PATH, or beside the Python that runs this, where pip puts those of packages."""
    return shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
