"""Pickles: by value where nothing else would be found, and never loaded against the reader's will."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from modelstore.exceptions import PickleNotAllowedError, RuntimeMismatchError
from modelstore.managers import pickling
from modelstore.managers.pickling import PicklePolicy
from modelstore.managers.pieces import PieceWriter


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_nothing_is_read_before_the_policy_has_been_asked(tmp_path: Path) -> None:
    """A refused pickle runs no code, not even opens its stream; an allowed one does."""
    data, _ = pickling.dumps(Bomb(tmp_path / "boom"))
    file = io.BytesIO(data)
    with pytest.raises(PickleNotAllowedError, match="the model in x.pkl can run code"):
        pickling.load(file, "the model in x.pkl", PicklePolicy(False))
    assert file.tell() == 0
    assert not (tmp_path / "boom").exists()
    pickling.load(file, "the model in x.pkl", PicklePolicy(True))
    assert (tmp_path / "boom").exists()


def test_a_refusal_names_types_and_advice() -> None:
    """The error says what asked for code and what the reader can do."""
    with pytest.raises(PickleNotAllowedError, match=r"a\.B, c\.D.*import it first") as caught:
        PicklePolicy(False, advice="import it first").require("m", ["a.B", "c.D"])
    assert caught.value.types == ("a.B", "c.D")
    PicklePolicy(True).require("m", ["a.B"])


def test_importable_things_go_by_reference_and_are_named() -> None:
    """What an import finds is not copied into the pickle; its module is reported."""
    data, pickled = pickling.dumps([Path("a"), subprocess.run, PicklePolicy(True)])
    assert not pickled.by_value
    assert {"subprocess", "modelstore.managers.pickling"} <= pickled.modules
    assert pickle.loads(data)[2] == PicklePolicy(True)


def test_a_bound_method_of_an_importable_class_holds_no_byte_code() -> None:
    """The builtin types that no import finds under their own name, such as that of methods, are not code."""
    _, pickled = pickling.dumps(PicklePolicy(True).require)
    assert not pickled.by_value


@pytest.mark.parametrize("made", ["lambda", "local function", "local class", "instance of a local class"])
def test_what_no_import_finds_goes_by_value(made: str) -> None:
    """Lambdas, local functions and local classes are stored with their code, and that is reported."""
    factor = 3

    def triple(value: int) -> int:
        return value * factor

    class Local:
        def __call__(self, value: int) -> int:
            return value * factor

    thing = {
        "lambda": lambda value: value * factor,
        "local function": triple,
        "local class": Local,
        "instance of a local class": Local(),
    }[made]
    data, pickled = pickling.dumps(thing)
    assert pickled.by_value
    restored = pickle.loads(data)
    assert (restored() if made == "local class" else restored)(5) == 15


def test_a_class_under_a_name_that_means_another_goes_by_value() -> None:
    """A class whose module now holds a different class under its name is not looked up by that name."""
    module = types.ModuleType("reloaded_module")
    sys.modules["reloaded_module"] = module
    try:
        exec("class Thing:\n    mark = 'old'", vars(module))
        old = module.Thing
        exec("class Thing:\n    mark = 'new'", vars(module))
        assert not pickling.is_importable(old)
        assert pickling.is_importable(module.Thing)
        data, pickled = pickling.dumps(old)
        assert pickled.by_value
        assert pickle.loads(data).mark == "old"
    finally:
        del sys.modules["reloaded_module"]


def test_main_goes_by_value_and_runs_where_main_is_another(tmp_path: Path) -> None:
    """A function of a script, with what it refers to, runs in a process that has another script."""
    writer = """
import sys
from modelstore.managers import pickling
OFFSET = 4
def helper(x): return x + OFFSET
class Thing:
    def __call__(self, x): return helper(x) * 2
with open(sys.argv[1], "wb") as file:
    print(pickling.dump(Thing(), file).by_value)
"""
    reader = """
import sys
from modelstore.managers import pickling
with open(sys.argv[1], "rb") as file:
    print(pickling.load(file, "it", pickling.PicklePolicy(True))(1))
"""
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    said = []
    for at, code in enumerate((writer, reader)):
        script = tmp_path / f"script{at}.py"
        script.write_text(code)
        command = [sys.executable, str(script), str(tmp_path / "thing.pkl")]
        said.append(subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout)
    assert said == ["True\n", "10\n"]


def test_persistent_ids_reach_both_sides() -> None:
    """What `persistent_id` takes out is asked back by the same id; without a resolver the pickle is refused."""
    outside = {"weights": bytearray(b"1234")}
    data, _ = pickling.dumps([outside["weights"], "rest"], lambda obj: "weights" if obj is outside["weights"] else None)
    assert b"1234" not in data
    restored = pickling.load(io.BytesIO(data), "it", PicklePolicy(True), outside.__getitem__)
    assert restored[0] is outside["weights"]
    assert restored[1] == "rest"
    with pytest.raises(pickle.UnpicklingError):
        pickling.load(io.BytesIO(data), "it", PicklePolicy(True))


def test_byte_code_of_another_python_is_refused_with_both_versions() -> None:
    """A model that holds code of another minor version names the version it needs."""
    pickling.check_python(pickling.python_version(), "it")
    with pytest.raises(RuntimeMismatchError, match=r"Python 3\.1;.*with Python 3\.1"):
        pickling.check_python("3.1", "it")


def test_pieces_hold_large_buffers_without_a_copy() -> None:
    """A pickle written to pieces is the usual one, and a large buffer's own memory is one of them."""
    memory = bytearray(1_000_000)
    file = PieceWriter()
    pickling.dump([pickle.PickleBuffer(memory), "rest"], file)
    assert pickle.loads(b"".join(file.pieces)) == [memory, "rest"]
    (big,) = [piece for piece in file.pieces if piece.nbytes == len(memory)]
    memory[0] = 7
    assert big[0] == 7


def test_pieces_of_a_buffer_may_end_in_a_garbage_cycle() -> None:
    """The memory behind a written view is freed with the pieces, in whatever order garbage collection goes."""
    code = """
import gc
from modelstore.managers.pieces import PieceWriter
for _ in range(50):
    buffer = bytearray(100_000)
    view = memoryview(buffer)
    writer = PieceWriter()
    writer.write(view)
    writer.owner = [writer, view, buffer]
    del buffer, view, writer
    gc.collect()
print("alive")
"""
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "alive\n", "")
