"""Keras and TensorFlow objects come back as themselves, bit for bit, in a process that has never seen them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("tensorflow")

import keras
import numpy as np
import tensorflow as tf

from modelstore.exceptions import IntegrityError, InvalidArgumentError, PickleNotAllowedError, UnsupportedObjectError
from modelstore.managers.detection import all_managers
from modelstore.managers.pickling import PicklePolicy
from modelstore.managers.tensorflow import TensorflowManager
from modelstore.testing import Case
from tests.managers import tf_cases, tf_layers, tf_parts, tf_probes
from tests.managers.contract import BuiltinContract
from tests.managers.tf_cases import CASES, TABLE, TARGET
from tests.managers.tf_helpers import entry, fingerprint, keep, outputs, read_elsewhere, read_inputs, restore, run

if TYPE_CHECKING:
    from modelstore import ModelStore


class TestTensorflow(BuiltinContract):
    """Every public layer, optimizer, loss and metric, and models of many kinds."""

    manager = TensorflowManager()

    def cases(self) -> Mapping[str, Case]:
        """See `tf_cases` and `tf_layers`; what is trained there is trained on before and after."""
        return tf_probes.cases()

    def test_every_public_layer_is_among_the_cases(self) -> None:
        """Whatever `keras.layers` exports is stored here, but for what is left out by name."""
        exported = [getattr(keras.layers, name) for name in dir(keras.layers)]
        listed = {cls for cls in exported if isinstance(cls, type) and issubclass(cls, keras.layers.Layer)}
        assert {cls.__name__ for cls in listed - tf_layers.covered()} == set()

    def test_only_code_of_ones_own_takes_trust(self, tmp_path_factory: Any) -> None:
        """Of all cases, those with a lambda or a function of one's own are pickled, and no others."""
        outcomes = self._outcomes(tmp_path_factory)
        pickled = {name for name, outcome in outcomes.items() if outcome.saved.pickled}
        assert pickled == {"lambda", "loss of one's own", "subclassed"}


def test_what_a_script_defines_comes_back_bit_for_bit(tmp_path: Path) -> None:
    """Classes of `__main__` load as themselves; their code is pickled, and comes back only with the reader's leave."""
    expected = run("tests.managers.tf_script", str(tmp_path))
    paths = [tmp_path / name for name in expected]
    build, inputs, targets = CASES["a graph"]
    graph = build()
    paths.append(keep(tmp_path / "a graph", inputs, targets, model=graph))
    expected["a graph"] = json.loads(json.dumps(fingerprint(graph, inputs, targets)))
    found = dict(zip(expected, read_elsewhere(*paths), strict=True))
    assert found == expected
    assert found["trained"]["class"] == "__main__:Net"
    for name in ("functional", "trained"):
        assert entry(tmp_path / name)["pickled"] == ["classes.pkl"]
        with pytest.raises(PickleNotAllowedError):
            restore(tmp_path / name, False)


def test_adaptations_of_low_rank_are_merged(tmp_path: Path) -> None:
    """Keras' file holds the sum of a kernel and its adaptation: outputs are equal, and the adaptation starts anew."""
    model = tf_layers.with_lora()
    loaded = restore(keep(tmp_path / "a", model=model), False)
    assert outputs(loaded, [TABLE]) == outputs(model, [TABLE])
    assert loaded.layers[0].lora_enabled
    assert not np.any(loaded.layers[0].lora_kernel_b)


def test_a_layer_that_refers_to_this_disk_is_refused(tmp_path: Path) -> None:
    """A TFSMLayer names a folder that no other machine has."""
    tf.saved_model.save(tf_parts.Graph(), str(tmp_path / "saved"))
    start = keras.Input((2,))
    model = keras.Model(start, keras.layers.TFSMLayer(str(tmp_path / "saved"), call_endpoint="serving_default")(start))
    with pytest.raises(UnsupportedObjectError, match="SavedModel on the disk"):
        keep(tmp_path / "a", model=model)


def test_a_layer_that_keras_cannot_read_again_is_refused(tmp_path: Path) -> None:
    """A RandomShear of one number writes a configuration that it does not take itself."""
    model = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.RandomShear(0.1, 0.1)])
    with pytest.raises(UnsupportedObjectError, match="RandomShear.*configuration"):
        keep(tmp_path / "a", model=model)


def test_an_optimizer_that_would_lose_its_state_is_refused(tmp_path: Path) -> None:
    """Patterns of a MultiOptimizer that fit other paths after loading are told at the upload."""
    model = tf_layers.optimized("MultiOptimizer", "dense/.*")
    with pytest.raises(UnsupportedObjectError, match="MultiOptimizer.*paths of variables"):
        keep(tmp_path / "a", model=model)


def test_keras_own_classes_and_installed_ones_need_no_pickle(tmp_path: Path) -> None:
    """Models of Keras' layers load without pickle, and so do classes of Keras' kinds that an import finds."""
    for name in ("conv2d", "adam", "nested", "a vectorization"):
        build, inputs, _ = CASES[name]
        obj = build()
        path = keep(tmp_path / name, inputs, model=obj)
        assert entry(path)["pickled"] == []
        assert outputs(restore(path, False), inputs) == outputs(obj, inputs)


def test_functions_by_name_take_trust(tmp_path: Path) -> None:
    """A record may not call any function that is installed: it takes allow_pickle or trusted_types."""
    path = keep(tmp_path / "a", model=CASES["loss of one's own"][0]())
    with pytest.raises(PickleNotAllowedError, match="squares"):
        restore(path, False)
    trusting = PicklePolicy(False, trusted_types=frozenset({"tests.managers.tf_parts:squares"}))
    assert restore(path, trusting).loss is tf_parts.squares


def test_lambdas_count_as_pickle(tmp_path: Path) -> None:
    """Byte code in a `.keras` file loads with the reader's leave only."""
    build, inputs, _ = CASES["lambda"]
    path = keep(tmp_path / "a", inputs, model=build())
    assert entry(path)["pickled"] == ["model.keras"]
    assert "python" in entry(path)
    with pytest.raises(PickleNotAllowedError):
        restore(path, False)


def test_another_backend_saves_and_loads_the_same_way(tmp_path: Path) -> None:
    """A model of Keras on JAX comes back on JAX, and on TensorFlow with a warning; JAX becomes a requirement."""
    pytest.importorskip("jax")
    found = run("tests.managers.tf_backend", str(tmp_path), KERAS_BACKEND="jax")
    assert found["backend"] == "jax"
    assert found["after"] == found["before"]
    assert found["modules"] == ["jax"]
    with pytest.warns(UserWarning, match="saved with Keras on jax and is loaded on tensorflow"):
        loaded = restore(tmp_path / "model")
    assert [weight.tolist() for weight in loaded.get_weights()] == found["weights"]
    inputs, _ = read_inputs(tmp_path / "model")
    assert loaded(inputs[0]).shape == (6, 1)


def test_several_objects_come_back_by_keyword(tmp_path: Path) -> None:
    """A model and its preprocessing layer, uploaded together, are told apart by their keywords."""
    model, words = CASES["dense"][0](), CASES["a vectorization"][0]()
    path = keep(tmp_path / "a", model=model, preprocessor=words)
    loaded = restore(path, False)
    assert outputs(loaded["model"], [TABLE]) == outputs(model, [TABLE])
    assert outputs(loaded["preprocessor"], [tf_cases.TEXTS]) == outputs(words, [tf_cases.TEXTS])


def test_a_loaded_module_can_be_uploaded_again(tmp_path: Path) -> None:
    """What came from a SavedModel is an object of this manager, too."""
    first = restore(keep(tmp_path / "a", model=tf_parts.Graph()))
    second = restore(keep(tmp_path / "b", model=first))
    inputs = [TABLE[:, :2]]
    assert outputs(second, inputs) == outputs(tf_parts.Graph(), inputs)


def test_untraced_functions_are_told(tmp_path: Path) -> None:
    """A function that was never called, and says no signature, is named; once called, it comes back."""
    module = tf_parts.Graph()
    with pytest.warns(UserWarning, match="twice"):
        keep(tmp_path / "a", model=module)
    module.twice(tf.constant([1.0]))
    assert restore(keep(tmp_path / "b", model=module)).twice(tf.constant([4.0])).numpy().tolist() == [8.0]


def test_into_fills_what_the_caller_built(tmp_path: Path) -> None:
    """Weights are copied into a model, layer or module of the caller's, whatever code the stored one needs."""
    stored = tf_cases.sequential()
    path = keep(tmp_path / "model", model=stored)
    mine = tf_cases.sequential()
    mine.set_weights([weight + 1 for weight in mine.get_weights()])
    assert restore(path, False, into=mine) is mine
    assert outputs(mine, [TABLE]) == outputs(stored, [TABLE])

    path = keep(tmp_path / "tower", model=CASES["subclassed"][0]())
    tower = tf_parts.Tower(6)
    tower(TABLE)
    assert outputs(restore(path, False, into=tower), [TABLE]) == outputs(restore(path), [TABLE])

    path = keep(tmp_path / "two", model=stored, preprocessor=CASES["a dense layer"][0]())
    mine = tf_cases.sequential()
    loaded = restore(path, into={"model": mine})
    assert loaded["model"] is mine
    assert isinstance(loaded["preprocessor"], keras.layers.Dense)
    with pytest.raises(InvalidArgumentError, match="mapping"):
        restore(path, into=mine)

    module = tf_parts.Graph()
    module.weight.assign_add([[1.0, 1.0], [1.0, 1.0]])
    path = keep(tmp_path / "module", model=module)
    assert outputs(restore(path, into=tf_parts.Graph()), [TABLE[:, :2]]) == outputs(module, [TABLE[:, :2]])


def wider() -> Any:
    model = keras.Sequential([keras.layers.Dense(5), keras.layers.Dense(1)])
    model(TABLE)
    return model


def turned() -> Any:
    """Another model with as many weights and numbers."""
    model = keras.Sequential([keras.layers.Dense(1), keras.layers.Dense(4), keras.layers.Dense(1)])
    model(TABLE)
    return model


@pytest.mark.parametrize(
    ("into", "message"),
    [
        (wider, "other weights"),
        (turned, "other weights"),
        (lambda: keras.Sequential([keras.layers.Dense(4)]), "has not been built"),
        (lambda: tf_parts.Graph(), "Graph"),
    ],
    ids=["wider", "turned", "not built", "another kind"],
)
def test_into_refuses_what_does_not_fit(tmp_path: Path, into: Callable[[], Any], message: str) -> None:
    """A model with other weights than the stored ones is refused."""
    path = keep(tmp_path / "a", model=tf_cases.sequential())
    with pytest.raises(InvalidArgumentError, match=message):
        restore(path, into=into())


def test_into_refuses_a_module_with_other_variables(tmp_path: Path) -> None:
    """A variable that is not among the stored ones is named."""
    path = keep(tmp_path / "a", model=tf_parts.Graph())
    more = tf_parts.Graph()
    more.extra = tf.Variable(1.0)
    with pytest.raises(InvalidArgumentError, match="does not fit"):
        restore(path, into=more)


def forgetful() -> Any:
    model = tf_parts.Forgetful(layers=2)
    model(TABLE)
    return model


def undescribed() -> Any:
    class Undescribed(keras.Model):
        def __init__(self, parts: list[Any]) -> None:
            super().__init__()
            self.parts = parts

        def call(self, inputs: Any) -> Any:
            return self.parts[0](inputs)

    model = Undescribed([keras.layers.Dense(2)])
    model(TABLE)
    return model


def two_of_one_name() -> Any:
    def make(factor: float) -> Any:
        class Same(keras.layers.Layer):
            def call(self, inputs: Any) -> Any:
                return inputs * factor

        return Same()

    start = keras.Input((4,))
    return keras.Model(start, make(2.0)(make(3.0)(start)))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: keras.Sequential([keras.layers.Dense(2)]), "has not been built"),
        (forgetful, "weights"),
        (undescribed, "get_config|cannot load"),
        (two_of_one_name, "both be called 'Same'"),
        (tf_parts.Bare, "tf.function"),
    ],
    ids=["not built", "forgetful", "undescribed", "two of one name", "no graph"],
)
def test_what_could_not_be_loaded_is_refused_at_the_upload(
    tmp_path: Path, build: Callable[[], Any], message: str
) -> None:
    """What would not come back is refused before anything is stored, with advice."""
    with pytest.raises(UnsupportedObjectError, match=message):
        keep(tmp_path / "a", model=build())


def test_training_a_loaded_model_leaves_the_files_alone(tmp_path: Path) -> None:
    """The stored file is not what a loaded model is trained on."""
    path = keep(tmp_path / "a", model=CASES["adam"][0]())
    before = (path / "files" / "model.keras").read_bytes()
    restore(path).train_on_batch(TABLE, TARGET)
    assert (path / "files" / "model.keras").read_bytes() == before


def test_a_damaged_record_is_an_error(tmp_path: Path) -> None:
    """A record whose state lacks what loading needs, or names no class, does not raise anything unexpected."""
    path = keep(tmp_path / "a", model=CASES["a layer of one's own"][0]())
    whole = entry(path)
    for change in (
        {"kind": "other"},
        {"kind": "keras"},
        {**whole["state"], "custom": {"Scaled": {"class": "nonsense"}}},
    ):
        (path / "entries.json").write_text(json.dumps([{**whole, "state": change}]))
        with pytest.raises(IntegrityError):
            restore(path)


def test_a_record_cannot_name_other_code(tmp_path: Path) -> None:
    """A record that names a function outside Keras is refused where pickles are."""
    path = keep(tmp_path / "a", model=CASES["a layer of one's own"][0]())
    found = entry(path)
    found["state"]["custom"]["Scaled"]["class"] = "os:system"
    (path / "entries.json").write_text(json.dumps([found]))
    with pytest.raises(PickleNotAllowedError, match="os:system"):
        restore(path, False)


def test_detection_finds_this_manager() -> None:
    """Keras models, layers and TensorFlow modules are this manager's among all managers."""
    for obj in (CASES["dense"][0](), keras.layers.Dense(2), tf_parts.Graph(), tf_parts.Scaled(1.0)):
        found = all_managers().find(obj)
        assert found is not None
        assert found.name == "tensorflow"


@pytest.mark.parametrize(
    "make",
    [lambda: keras.Variable([1.0]), lambda: tf.Variable([1.0]), lambda: keras.optimizers.Adam(), keras.metrics.Mean],
    ids=["keras.Variable", "tf.Variable", "optimizer", "metric"],
)
def test_a_part_of_a_model_is_no_model(make: Callable[[], Any], store: ModelStore) -> None:
    """A bare variable, optimizer or metric is refused, and nothing is stored."""
    with pytest.raises(UnsupportedObjectError, match="manager|tf.function"):
        store.upload("part", model=make())
    assert store.list_domains() == []


def test_parameters_tell_optimizer_configuration_and_size() -> None:
    """They are JSON, and an uncompiled model, a layer, a module and a class without a configuration have some, too."""
    manager = TensorflowManager()
    found = manager.parameters({"model": CASES["adam"][0]()})
    assert found["optimizer"]["learning_rate"] == pytest.approx(0.01)
    assert found["weights"] == {"arrays": 4, "numbers": 25, "trainable": 25}
    assert found["config"]["layers"]
    others = [CASES["dense"][0](), keras.layers.Dense(2), undescribed(), tf_parts.Graph(), CASES["sgd"][0]()]
    for obj in others:
        parameters = manager.parameters({"model": obj})
        assert json.loads(json.dumps(parameters, allow_nan=False)) == parameters
        assert parameters
    assert manager.parameters({"model": tf_parts.Graph()})["numbers"] == 5


def test_the_file_opens_with_keras_alone(tmp_path: Path) -> None:
    """`keras.saving.load_model` takes `model.keras` as it lies in the archive."""
    model = tf_cases.sequential()
    path = keep(tmp_path / "a", model=model)
    loaded = keras.saving.load_model(path / "files" / "model.keras")
    assert np.array_equal(loaded.predict(TABLE, verbose=0), model.predict(TABLE, verbose=0))
