"""Is the latency that profile reports that of benchmark_app?   check_latency.py KLENS-OPENVINO LENGTH MODEL.xml...

Both time each model in turns, several times, on the same threads and settings; their medians must lie within 10 %.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TOLERANCE = 0.10
TURNS = 5
THREADS = str(os.cpu_count())


def run(*words):
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True).stdout


def by_klens(program, model, length):
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "profile.json"
        run(program, "profile", model, "--length", length, "--threads", THREADS, "--runs", 40, "--output", output)
        return 1e3 * json.loads(output.read_text(encoding="utf-8"))["models"][0]["median_seconds"]


def by_benchmark_app(model, length):
    said = run(Path(sys.executable).with_name("benchmark_app"), "-m", model, "-d", "CPU", "-api", "sync", "-hint", "none",
               "-nstreams", 1, "-nthreads", THREADS, "-niter", 40, "-data_shape", f"[1,{length}]")
    return float(re.search(r"Median:\s+([0-9.]+) ms", said)[1])


def main(program, length, *models):
    wrong = 0
    for model in models:
        turns = [(by_klens(program, model, length), by_benchmark_app(model, length)) for _ in range(TURNS)]
        klens, other = (statistics.median(side) for side in zip(*turns))
        wrong += abs(klens / other - 1) > TOLERANCE
        print(f"{model}: {klens:.2f} ms by klens-openvino, {other:.2f} ms by benchmark_app, ratio {klens / other:.3f}")
    return 1 if wrong or not models else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
