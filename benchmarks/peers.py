"""What others take for the benchmarks' loops, measured in one thread, as JSON like Google Benchmark's.

    python3 benchmarks/peers.py OUTPUT

Runs in a virtual environment of its own, build/peers-venv, which it fills from PyPI (torch, numkong, numpy, scipy; gigabytes).
Where that cannot be had it says so and does nothing else.
"""

import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

PACKAGES = ["torch", "numkong", "numpy", "scipy"]
ROUNDS = 7


def enter_environment():
    """Starts this program again with the environment's Python, making the environment first where it is missing."""
    root = Path(__file__).resolve().parent.parent / "build" / "peers-venv"
    python, complete = root / "bin" / "python", root / "complete"
    if Path(sys.prefix) == root:
        return
    if not complete.exists():
        print("peers: installing " + ", ".join(PACKAGES) + " from PyPI", file=sys.stderr)
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", root], check=True, stdout=subprocess.DEVNULL)
            subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True, timeout=420)
        except (OSError, subprocess.SubprocessError) as problem:
            sys.exit(f"peers: the environment could not be made ({type(problem).__name__}); nothing was compared")
        complete.touch()
    one_thread = {name: "1" for name in ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"]}
    os.execve(python, [str(python), __file__, *sys.argv[1:]], os.environ | one_thread)


def divergences(add):
    import numkong
    import numpy
    import scipy.special
    import torch

    random = numpy.random.default_rng(1)
    for rows, vocabulary in [(512, 2048), (128, 32000), (32, 128256), (16, 256000)]:
        x = 2 * random.standard_normal((rows, vocabulary), dtype=numpy.float32)
        y = x + numpy.float32(0.02) * random.standard_normal((rows, vocabulary), dtype=numpy.float32)
        ring = itertools.cycle([(x.copy(), y.copy()) for _ in range(12)])  # larger than usual caches

        def with_torch(ring=ring):
            p, q = (torch.log_softmax(torch.from_numpy(each), -1) for each in next(ring))
            return torch.nn.functional.kl_div(q, p, reduction="sum", log_target=True).item()

        def with_numpy(ring=ring):
            p, q = (scipy.special.log_softmax(each, axis=-1) for each in next(ring))
            return float((numpy.exp(p) * (p - q)).sum())

        def with_numkong(ring=ring):
            p, q = (scipy.special.softmax(each, axis=-1) for each in next(ring))
            return sum(float(numkong.kullbackleibler(a, b)) for a, b in zip(p, q))

        shape = f"{rows}x{vocabulary}"
        add(f"torch_kl/{shape}", with_torch)
        add(f"numpy_kl/{shape}", with_numpy)
        add(f"numkong_kl/{shape}", with_numkong)


def round_trips(add):
    import numpy
    import torch

    for rows, columns in [(4096, 4096), (16, 4096)]:
        weights = 0.05 * numpy.random.default_rng(2).standard_normal((rows, columns)).astype(numpy.float32)

        def with_numpy(weights=weights):
            groups = weights.reshape(-1, 64)
            scale = numpy.abs(groups).max(1, keepdims=True) / 7
            return numpy.clip(numpy.rint(groups / scale), -7, 7) * scale

        def with_torch(weights=torch.from_numpy(weights)):
            groups = weights.reshape(-1, 64)
            scale = groups.abs().amax(1, keepdim=True) / 7
            return torch.clamp(torch.round(groups / scale), -7, 7) * scale

        add(f"numpy_int4-g64/{rows}x{columns}", with_numpy)
        add(f"torch_int4-g64/{rows}x{columns}", with_torch)


def main():
    import torch

    torch.set_num_threads(1)
    contestants = []
    for family in [divergences, round_trips]:
        contestants.clear()
        family(lambda name, run: contestants.append((name, run)))
        times = {name: [] for name, _ in contestants}
        for _ in range(ROUNDS):
            for name, run in contestants:  # in turn, so that a slow moment hits all of them
                start = time.thread_time_ns()
                run()
                times[name].append(time.thread_time_ns() - start)
        yield from times.items()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    enter_environment()
    measured = [
        {"run_name": name, "aggregate_name": "median", "cpu_time": statistics.median(times), "time_unit": "ns"}
        for name, times in main()
    ]
    Path(sys.argv[1]).write_text(json.dumps({"benchmarks": measured}, indent=1))
