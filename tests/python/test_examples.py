"""The examples print what stands beside them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "python"


@pytest.mark.torch
@pytest.mark.parametrize("name", ["own_model", "hugging_face", "vision"])
def test_it_prints_what_is_expected(name):
    pytest.importorskip("torch")
    if name != "own_model":
        pytest.importorskip("transformers")
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # steps this small wait for threads on a machine that is busy
    run = subprocess.run([sys.executable, EXAMPLES / f"{name}.py"], capture_output=True, text=True, env=one_thread)
    assert run.returncode == 0, run.stderr
    assert run.stdout == (EXAMPLES / f"{name}.expected").read_text()
