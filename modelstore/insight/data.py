"""What the training data looked like: shapes, and how often each label occurs. No values of features."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from modelstore.notices import warn

_MAX_LABELS = 1000
_MAX_TEXT = 32 * 1024  # characters of all labels; the record of a model is limited
_STEP = 1 << 16


def describe(X_train: Any, y_train: Any) -> dict[str, Any] | None:
    """Shapes of features and labels and, for one-dimensional labels, how often each occurs.

    Takes what has a `shape` (arrays, tensors, data frames, series, sparse matrices) and lists; computes nothing on lazy
    frames. Labels of more than 1000 distinct values are not counted. Keys of the counts are texts, as JSON writes them.

    Returns:
        The ancestor's `{"features": {"shape": [...]}, "labels": {"shape": [...], "values": {label: count}}}`, without
        what was not given or cannot be told; `None` when that is all.
    """
    described: dict[str, Any] = {}
    if X_train is not None:
        shape = _shape_or_warning("X_train", X_train)
        if shape is not None:
            described["features"] = {"shape": shape}
    if y_train is not None:
        shape = _shape_or_warning("y_train", y_train)
        if shape is not None:
            values = _label_counts(y_train) if len(shape) == 1 else None
            described["labels"] = {"shape": shape} if values is None else {"shape": shape, "values": values}
    return described or None


def _shape_or_warning(name: str, value: Any) -> list[int] | None:
    try:
        return _shape(value)
    except Exception as error:
        warn(f"{name} is not described: {error!r}")
        return None


def _shape(value: Any) -> list[int]:
    shape = getattr(value, "shape", None)
    if shape is not None and not callable(shape):
        return [int(length) for length in shape]
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [len(value), *_common_shape(value)]
    raise TypeError(f"a {type(value).__name__} has no shape")


def _common_shape(rows: Sequence[Any]) -> list[int]:
    """The shape that all rows have; nothing for numbers, texts, or rows of different shapes."""
    if not rows or not (isinstance(rows[0], (list, tuple)) or hasattr(rows[0], "shape")):
        return []
    first = _shape(rows[0])
    if isinstance(rows[0], (list, tuple)):
        # The inner lengths are looked at in the first row only: a list of lists of lists is no training data of size.
        alike = all(isinstance(row, (list, tuple)) and len(row) == first[0] for row in rows)
    else:
        alike = all(getattr(row, "shape", None) == rows[0].shape for row in rows)
    return first if alike else []


def _label_counts(labels: Any) -> dict[str, int] | None:
    try:
        if hasattr(labels, "compute"):  # dask: counting would run the whole computation
            return None
        counts = _count(_sliceable(labels))
        if counts is None:
            return None
        texts: Counter[str] = Counter()
        for label, count in _in_order(counts):
            texts[_as_json_key(label)] += count
        return dict(texts) if sum(map(len, texts)) <= _MAX_TEXT else None
    except Exception as error:
        warn(f"the labels in y_train are not counted: {error!r}")
        return None


def _sliceable(labels: Any) -> Any:
    """Labels in host memory, whose slices can be made lists of builtin values."""
    if hasattr(labels, "detach"):  # torch
        return labels.detach().cpu()
    if hasattr(labels, "iloc"):  # pandas: not to_numpy(), which makes floats of integers where one is missing
        return labels.array
    if not hasattr(labels, "tolist") and callable(getattr(labels, "numpy", None)):  # TensorFlow
        return labels.numpy()
    return labels


def _count(labels: Any) -> Counter[Any] | None:
    """How often each label occurs; `None` as soon as there are too many, or when they are no such things."""
    counts: Counter[Any] = Counter()
    missing = 0
    for start in range(0, len(labels), _STEP):
        part = labels[start : start + _STEP]
        method = getattr(part, "tolist", None) or getattr(part, "to_list", None)  # of arrays; of polars
        values = method() if method else list(part)
        if hasattr(values[0], "item"):  # a list of arrays' scalars
            values = [value.item() if hasattr(value, "item") else value for value in values]
        try:
            found = Counter(values)
        except TypeError:  # lists, dictionaries: no labels that could be counted
            return None
        for value, count in found.items():
            if _is_missing(value):
                missing += count
            else:
                counts[value] += count
        if len(counts) > _MAX_LABELS:
            return None
    if missing:
        counts[float("nan")] = missing
    return counts


def _is_missing(value: Any) -> bool:
    """Whether a value is a NaN or its like, each of which is another object, and equal to none."""
    try:
        return bool(value != value)
    except TypeError:  # pandas.NA
        return True


def _in_order(counts: Counter[Any]) -> list[tuple[Any, int]]:
    try:
        return sorted(counts.items())
    except TypeError:  # labels of several types
        return sorted(counts.items(), key=lambda item: str(item[0]))


def _as_json_key(label: Any) -> str:
    if isinstance(label, str):
        return str(label)
    if isinstance(label, bytes):
        return label.decode(errors="replace")
    if label is None or isinstance(label, (bool, int, float)):
        return json.dumps(label)
    return str(label)
