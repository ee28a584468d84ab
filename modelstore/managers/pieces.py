"""A file that keeps what is written to it as pieces of memory, for `ModelFolder.add_buffers`."""

from __future__ import annotations

import pickle
from typing import Any


class PieceWriter:
    """Takes writes as `pickle` and skops make them, and copies none.

    A pickler hands over large arrays as views of their own memory, so a model is pickled without a second copy of it.
    Leave the arrays as they are until the pieces have been read.
    """

    def __init__(self) -> None:
        self.pieces: list[memoryview] = []

    def write(self, data: Any) -> int:
        """Keep `data`, which must not change afterwards."""
        if isinstance(data, pickle.PickleBuffer):
            # raw() flattens any layout; memoryview.cast would refuse empty and column-major arrays.
            piece = data.raw()
        else:
            # Not as a PickleBuffer too: one of a memoryview crashes the interpreter when it ends in a garbage cycle.
            piece = memoryview(data).cast("B")
        if piece.nbytes:
            self.pieces.append(piece)
        return piece.nbytes
