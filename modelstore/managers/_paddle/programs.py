"""Programs: what `paddle.jit.save` makes of a layer. They hold operations and weights, and no Python."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers.base import Saved, class_name
from modelstore.managers.pickling import PicklePolicy

FOLDER = "program"
PROGRAM = "model.json"
_NAMES = {PROGRAM, "model.pdiparams"}

_RISKY = frozenset({"save", "load", "save_combine", "load_combine", "py_func", "run_program"})
"""Operations that touch files or call Python."""


def is_program(layer: Any) -> bool:
    """Whether a layer is what `paddle.jit.load` gives."""
    return any(base.__name__ in ("TranslatedLayer", "PirTranslatedLayer") for base in type(layer).__mro__)


def save_program(layer: Any, folder: ModelFolder, input_spec: Sequence[Any] | None) -> Saved:
    """Write the layer's `forward` as a program.

    Raises:
        UnsupportedObjectError: Paddle cannot save it.
    """
    import paddle

    training = layer.training
    if is_program(layer):
        methods = sorted(layer._program_holder_dict)
        if methods != ["forward"]:
            raise UnsupportedObjectError(
                f"this {class_name(layer)} has the methods {', '.join(methods)}, and Paddle can save forward alone; "
                "upload the layer that it was made of, or the files that it was loaded from as model='FOLDER'",
                class_name(layer),
            )
        input_spec = input_spec or layer._input_spec()
    path = folder.path(f"{FOLDER}/{PROGRAM}").with_suffix("")
    try:
        paddle.jit.save(layer, str(path), input_spec=input_spec)
    except Exception as error:
        raise UnsupportedObjectError(
            f"Paddle cannot save this {class_name(layer)} as a program: {error}", class_name(layer)
        ) from error
    finally:
        layer.train() if training else layer.eval()
    if {file.name for file in path.parent.iterdir()} != _NAMES:
        raise UnsupportedObjectError(
            "Paddle has written a program in its old format, which cannot be read without a pickle; unset "
            "FLAGS_enable_pir_api=0",
            class_name(layer),
        )
    risky = _risky(path.parent / PROGRAM)
    return Saved(
        "paddle program",
        {"kind": "program", "training": training},
        pickled=[f"{FOLDER}/{PROGRAM}"] if risky else [],
    )


def load_program(folder: Path, training: bool, policy: PicklePolicy) -> Any:
    """What `paddle.jit.load` gives.

    Raises:
        PickleNotAllowedError: the program reads or writes files or calls Python, and the policy refuses.
        IntegrityError: a file is missing or damaged, or one of the old format lies there, which Paddle unpickles.
    """
    import paddle

    path = folder / FOLDER
    names = {file.name for file in path.iterdir()} if path.is_dir() else set()
    if names != _NAMES:
        raise IntegrityError("the Paddle program", FOLDER, f"{sorted(names ^ _NAMES)} should (not) lie there")
    risky = _risky(path / PROGRAM)
    if risky:
        policy.require(f"the Paddle program in {FOLDER}/{PROGRAM}", risky)
    try:
        layer = paddle.jit.load(str((path / PROGRAM).with_suffix("")))
    except Exception as error:
        raise IntegrityError("the Paddle program", FOLDER, f"Paddle cannot load it: {error}") from error
    layer.train() if training else layer.eval()
    return layer


def _risky(path: Path) -> list[str]:
    """The operations of a program that can do more than compute."""
    try:
        program = json.loads(path.read_bytes())
        # Names are written as "1.save", where the number stands for the dialect.
        return sorted({name for name in _operations(program) if name.partition(".")[2].rstrip("_") in _RISKY})
    except (ValueError, RecursionError) as error:
        raise IntegrityError("the Paddle program", path.name, f"it is not JSON: {error}") from error


def _operations(value: Any) -> Iterator[str]:
    level = [value]
    while level:
        value = level.pop()
        if isinstance(value, dict):
            if isinstance(value.get("#"), str):
                yield value["#"]
            level.extend(value.values())
        elif isinstance(value, list):
            level.extend(value)
