import signal

import numpy
import pytest


@pytest.fixture
def two_layers():
    """relu(x up^T) down^T, as a dict of weights and the forward that uses them."""
    random = numpy.random.default_rng(1)
    up, down = random.normal(size=(32, 16)).astype("float32"), random.normal(size=(8, 32)).astype("float32")
    x = random.normal(size=(20, 16)).astype("float32")
    weights = {"up.weight": up, "down.weight": down}
    return weights, lambda: numpy.maximum(x @ weights["up.weight"].T, 0) @ weights["down.weight"].T


@pytest.fixture
def ctrl_c_interrupts():
    """Python's own SIGINT handler, which a process that was started in the background does not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
