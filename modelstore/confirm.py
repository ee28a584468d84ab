"""Asking before something is deleted: in a terminal or a notebook, and nowhere else."""

from __future__ import annotations

import sys

from modelstore.exceptions import ConfirmationRequiredError


def confirm(action: str) -> bool:
    """Ask whether to do `action`; anything but yes is no.

    Raises:
        ConfirmationRequiredError: there is nobody to ask.
    """
    if not _somebody_is_there():
        raise ConfirmationRequiredError(action)
    try:
        answer = input(f"{action}? [y/N] ")
    except EOFError:
        return False
    return answer.strip().lower() in ("y", "yes")


def _somebody_is_there() -> bool:
    if sys.stdin is not None and sys.stdin.isatty():
        return True
    # A notebook's stdin is no terminal, but its kernel forwards input() to the page.
    kernel = sys.modules.get("ipykernel.kernelapp")
    return kernel is not None and bool(kernel.IPKernelApp.initialized())
