"""`ANYBODY`: what stands for whoever it may be, where None stands for nobody."""

from __future__ import annotations

from typing import Final


class Anybody:
    """The class of `ANYBODY`."""

    def __repr__(self) -> str:
        return "ANYBODY"

    def __reduce__(self) -> str:
        return "ANYBODY"


ANYBODY: Final = Anybody()
