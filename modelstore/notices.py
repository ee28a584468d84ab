"""Warnings that point at the line of the user's code that caused them, however deep in the library they arise."""

from __future__ import annotations

import os
import sys
import warnings
from types import FrameType

_PACKAGE = os.path.dirname(__file__) + os.sep


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn about the innermost call from outside of this package."""
    level = 1
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
        level += 1
    # No frame of the user's: a thread of ours. Then the outermost one.
    warnings.warn(message, category, stacklevel=level if frame is not None else level - 1)
