"""Safetensors files in an order that maps every tensor aligned.

transformers sorts tensors by name, so that one odd size shifts all that follow. Kernels of MKL round differently for
unaligned weights: predictions of the loaded model would differ in their last bits.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError
from modelstore.folder import ModelFolder, Piece
from modelstore.managers.safetensors_file import read_header, write_header


class FilePiece:
    """A range of a file on disk."""

    def __init__(self, path: Path, start: int, stop: int) -> None:
        self._path = path
        self._start = start
        self.nbytes = stop - start

    def read(self, start: int, stop: int) -> bytes:
        """Bytes start…stop of the range."""
        with open(self._path, "rb", buffering=0) as file:
            file.seek(self._start + start)
            return file.read(stop - start)


def align_files(folder: ModelFolder, name: str) -> None:
    """Give the safetensors files that were written to the sub-folder `name` a better order; nothing is copied."""
    for path in sorted(folder.path(name).glob("*.safetensors")):

        def piece(start: int, stop: int, path: Path = path) -> Piece:
            return FilePiece(path, start, stop)

        try:
            with open(path, "rb") as file:
                pieces = _aligned(file, path.stat().st_size, piece)
        except IntegrityError:
            continue  # types of numbers that only quantized models have: the file stays as transformers wrote it
        folder.add_buffers(f"{name}/{path.name}", pieces)  # takes the place of the file of that name


def add_tensors(folder: ModelFolder, name: str, tensors: Mapping[str, Any]) -> None:
    """Take in small tensors, which are copied, as a file."""
    import torch
    from safetensors.torch import save

    whole = {key: tensor.detach().clone(memory_format=torch.contiguous_format) for key, tensor in tensors.items()}
    data = memoryview(save(whole))
    folder.add_buffers(name, _aligned(io.BytesIO(data), len(data), lambda start, stop: data[start:stop]))


def _aligned(file: Any, size: int, piece: Callable[[int, int], Piece]) -> list[Piece]:
    entries = read_header(file, size, "a file that transformers wrote")
    header, ordered = write_header(entries.values())
    return [header, *(piece(entries[entry.name].start, entries[entry.name].stop) for entry in ordered)]
