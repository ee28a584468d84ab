"""Transformers and Keras models through the facade: one line up, one line back, out of the shared cache."""

from __future__ import annotations

from typing import Any

import pytest

from modelstore import ModelStore


def test_a_transformers_model_with_its_tokenizer(store: ModelStore) -> None:
    """As the ancestor gave it: `(model, tokenizer, config)`; the head is kept, nothing is fetched or pickled."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tests.managers import hf_parts

    model, tokenizer = hf_parts.classifier(), hf_parts.word_tokenizer()
    info = store.upload("reviews", model=model, tokenizer=tokenizer, metrics={"f1": 0.5})
    assert info["model"]["model_type"] == {"library": "transformers", "type": type(model).__name__, "models": None}
    assert all(not part["pickled"] for part in info["model"]["managers"])
    for allow_pickle in (False, True):
        loaded, words, config = store.load("reviews", info.model_id, allow_pickle=allow_pickle)
        assert type(loaded) is type(model)
        assert type(words) is type(tokenizer)
        assert type(config) is type(model.config)
        weights = loaded.state_dict()
        assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
        with torch.no_grad():
            next(loaded.parameters()).zero_()  # must not reach the next load
    alone = store.upload("reviews", model=model)
    assert len(store.load("reviews", alone.model_id)) == 2


def test_a_keras_model(store: ModelStore) -> None:
    """A compiled Keras model comes back with equal predictions, and goes on training without touching the cache."""
    keras = pytest.importorskip("keras")
    np: Any = pytest.importorskip("numpy")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)])
    model.compile(optimizer="adam", loss="mean_squared_error")
    data = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    model.fit(data, data.sum(axis=1), verbose=0)
    info = store.upload("sums", model=model)
    assert info.library == "tensorflow"
    for _ in range(2):
        loaded = store.load("sums", allow_pickle=False)
        assert type(loaded) is type(model)
        assert np.array_equal(loaded.predict(data, verbose=0), model.predict(data, verbose=0))
        loaded.fit(data, -data.sum(axis=1), verbose=0)
