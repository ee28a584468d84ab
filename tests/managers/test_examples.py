"""The examples of frameworks that not every environment has: they run, and do what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, folder: Path) -> str:
    """What an example prints."""
    command = [sys.executable, str(EXAMPLES / name), str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_training_in_two_sittings(tmp_path: Path) -> None:
    """The second sitting goes on from the first, and the service's answer is near the truth."""
    pytest.importorskip("torch")
    lines = run("pytorch_training.py", tmp_path / "models").splitlines()
    first, second = (float(line.split()[-1]) for line in lines[:2])
    assert second < first
    assert abs(float(lines[2].split()[-1]) - 0.2) < 0.05
