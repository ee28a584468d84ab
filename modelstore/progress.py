"""Bars for what takes long, where somebody sees them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from modelstore.folder import Buffer

SMALLEST = 64 << 20
"""Bytes below which a transfer shows no bar."""

Advance = Callable[[int], None]
"""Called with how many more bytes are done, from any thread."""


def wanted(given: bool | None) -> bool:
    """Whether to show bars: unless the call, the store or `MODELSTORE_PROGRESS` says no, or nobody would see them."""
    from modelstore.opening import flag

    if given is False or not flag("MODELSTORE_PROGRESS", True):
        return False
    return _in_notebook() or (sys.stderr is not None and sys.stderr.isatty())


@contextmanager
def bar(doing: str, size: int, show: bool) -> Iterator[Advance]:
    """Show how much of `size` bytes is done, until the context is left; nothing for little or with `show` off."""
    if not show or size < SMALLEST:
        yield lambda count: None
        return
    lock = threading.Lock()  # tqdm's own one is for drawing: two threads could lose a count
    with _tqdm(total=size, desc=doing, unit="B", unit_scale=True, unit_divisor=1024) as shown:

        def advance(count: int) -> None:
            with lock:
                shown.update(count)

        yield advance
        shown.total = shown.n  # fewer than expected where compression helped


def counted(chunks: Iterator[Sequence[Buffer]], advance: Advance) -> Iterator[Sequence[Buffer]]:
    """The chunks as they are; each is counted when the next one is asked for, since by then it is on its way."""
    for chunk in chunks:
        yield chunk
        advance(sum(memoryview(buffer).nbytes for buffer in chunk))


def _tqdm(**settings: Any) -> Any:
    from tqdm.auto import tqdm  # the notebook's bar in a notebook

    return tqdm(**settings)


def _in_notebook() -> bool:
    # A notebook's stderr is no terminal, yet somebody sees it. A script that a kernel starts is another process.
    kernel = sys.modules.get("ipykernel.kernelapp")
    return kernel is not None and bool(kernel.IPKernelApp.initialized())
