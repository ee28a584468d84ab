"""JAX' exported functions give the same results in a process that has never seen their code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("jax")

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from modelstore.contracts.manager import Case, write_folder
from modelstore.exceptions import IntegrityError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers.base import LoadRequest, Saved
from modelstore.managers.detection import all_managers
from modelstore.managers.jax import EXPORTED, JaxManager
from modelstore.managers.pickling import PicklePolicy
from tests.managers import jax_parts as parts
from tests.managers.contract import BuiltinContract
from tests.managers.jax_parts import ARGUMENTS, TABLE, dense, of

if TYPE_CHECKING:
    from modelstore import ModelStore


class TestJax(BuiltinContract):
    """Functions of arrays, trees and keys, with symbolic shapes, derivatives, and for several platforms."""

    manager = JaxManager()
    # XLA compiles the program anew in each process, and rounds otherwise where TensorFlow was imported before.
    tolerance = 1e-5

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        return {
            **{
                name: Case(lambda name=name: {"model": of(getattr(parts, name), *ARGUMENTS[name])}, parts.observe)
                for name in ARGUMENTS
            },
            "any batch": Case(lambda: {"model": parts.of_any_batch()}, parts.observe),
            "derivatives": Case(lambda: {"model": of(dense, TABLE)}, parts.observe_slope, {"vjp_order": 1}),
            "several platforms": Case(
                lambda: {"model": of(dense, TABLE, platforms=["cpu", "cuda", "tpu"])}, parts.observe
            ),
            "two": Case(lambda: {"model": of(dense, TABLE), "preprocessor": of(parts.half, TABLE)}, observe_two),
        }


def observe_two(result: Any) -> Any:
    """Both functions."""
    return {keyword: parts.observe(exported) for keyword, exported in result.items()}


def keep(folder: Path, exported: Any, **options: Any) -> Saved:
    """Save a function as `upload` would."""
    with ModelFolder() as files:
        saved = JaxManager().save({"model": exported}, files, options)
        write_folder(files.contents(), folder)
    return saved


def restore(folder: Path) -> Any:
    """Load it, as `load` would."""
    return JaxManager().load(LoadRequest(folder, {}, ("model",), PicklePolicy(False)))


def test_an_exported_function_goes_through_a_store(store: ModelStore) -> None:
    """It is detected, stored, and loads where pickles are refused."""
    info = store.upload("jax", model=of(dense, TABLE), vjp_order=1)
    assert info["model"]["model_type"]["library"] == "jax"
    assert info["model"]["parameters"]["arguments"] == ["float32[3,4]"]
    loaded = store.load("jax", info.model_id, allow_pickle=False)
    assert np.array_equal(loaded.call(TABLE), jax.jit(dense)(TABLE))


def test_the_file_opens_with_jax_alone(tmp_path: Path) -> None:
    """The file is what `jax.export.deserialize` takes."""
    keep(tmp_path, of(dense, TABLE))
    loaded = export.deserialize(bytearray((tmp_path / EXPORTED).read_bytes()))
    assert np.array_equal(loaded.call(TABLE), jax.jit(dense)(TABLE))


@jax.custom_jvp
def bent(values: Any) -> Any:
    return values * 2


@pytest.mark.parametrize(
    "build",
    [
        lambda: jax.jit(dense),
        lambda: jax.jit(dense).lower(TABLE),
        lambda: jax.jit(dense).lower(TABLE).compile(),
        lambda: bent,
    ],
    ids=["jitted", "lowered", "compiled", "derivative"],
)
def test_functions_that_are_not_exported_are_refused(build: Any, tmp_path: Path) -> None:
    """The manager of a compiled function is this one, which says how to export it."""
    function = build()
    found = all_managers().find(function)
    assert found is not None
    assert found.name == "jax"
    with pytest.raises(UnsupportedObjectError, match=r"jax\.export"):
        keep(tmp_path, function)


def test_calls_of_other_code_are_refused(tmp_path: Path) -> None:
    """A function that calls a library of this process could not do so in another, nor may a stored one."""

    def calling(values: Any) -> Any:
        return jax.ffi.ffi_call("of_ones_own", jax.ShapeDtypeStruct((3, 4), jnp.float32))(values)

    exported = of(calling, TABLE, disabled_checks=[export.DisabledSafetyCheck.custom_call("of_ones_own")])
    with pytest.raises(UnsupportedObjectError, match="of_ones_own"):
        keep(tmp_path, exported)
    (tmp_path / EXPORTED).write_bytes(exported.serialize())
    with pytest.raises(IntegrityError, match="of_ones_own"):
        restore(tmp_path)


@pytest.mark.parametrize("data", [None, b"", b"\0" * 64], ids=["missing", "empty", "zeros"])
def test_a_damaged_file_is_an_error(data: bytes | None, tmp_path: Path) -> None:
    """It is named, and nothing else is raised."""
    keep(tmp_path, of(dense, TABLE))
    (tmp_path / EXPORTED).unlink() if data is None else (tmp_path / EXPORTED).write_bytes(data)
    with pytest.raises(IntegrityError, match=EXPORTED):
        restore(tmp_path)


def test_an_order_of_derivatives_that_jax_refuses_is_an_error(tmp_path: Path) -> None:
    """A function without derivatives has none to keep."""
    keep(tmp_path / "a", of(dense, TABLE))
    loaded = restore(tmp_path / "a")
    with pytest.raises(UnsupportedObjectError, match="vjp_order=1"):
        keep(tmp_path / "b", loaded, vjp_order=1)
