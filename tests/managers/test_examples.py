"""The examples of frameworks that not every environment has: they run, and do what they say."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
FRAMEWORKS = sorted(path.stem for path in (EXAMPLES / "frameworks").glob("with_*.py"))
MODULES: dict[str, tuple[str, ...]] = {
    "with_catboost": ("catboost", "pandas", "sklearn"),
    "with_files": (),
    "with_lightgbm": ("lightgbm", "pandas", "sklearn"),
    "with_multiple_models": ("shap", "sklearn", "xgboost"),
    "with_onnx": ("onnx", "onnxruntime"),
    "with_orbax": ("jax", "orbax"),
    "with_python_function": (),
    "with_sklearn": ("sklearn", "skops"),
    "with_xgboost": ("xgboost", "pandas", "sklearn"),
}
"""What an example takes beside what its name says."""


def run(name: str, folder: Path) -> str:
    """What an example prints."""
    command = [sys.executable, str(EXAMPLES / name), str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_framework(name: str, tmp_path: Path) -> None:
    """It trains, uploads, loads back and says that the predictions are equal."""
    modules = MODULES.get(name, (name.removeprefix("with_"),))
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        pytest.skip(f"{missing[0]} is not installed")
    assert "equal predictions" in run(f"frameworks/{name}.py", tmp_path / "models")


def test_training_in_two_sittings(tmp_path: Path) -> None:
    """The second sitting goes on from the first, and the service's answer is near the truth."""
    pytest.importorskip("torch")
    lines = run("pytorch_training.py", tmp_path / "models").splitlines()
    first, second = (float(line.split()[-1]) for line in lines[:2])
    assert second < first
    assert abs(float(lines[2].split()[-1]) - 0.2) < 0.05
