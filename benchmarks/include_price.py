"""What including klens costs a compiler, beside Eigen/Core alone.

    python3 benchmarks/include_price.py [--compiler g++] [--flags=-O2] [--repetitions 3] [--compiled]

Compiles some small programs in turns, as often as asked, and prints the median of the processor time (user) and the peak memory of
each. Two of them are what no library could save: the headers of others that klens includes, and the forward of rank_two_layers.cpp
by itself. The bounds are relative to Eigen/Core, compiled in the same rounds. --compiled compiles as users of klens::compiled do, for
comparison. Exits with 1 where a bound does not hold.
"""

import argparse
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
EIGEN = "Eigen/Core alone"
METRICS = """\
#include <klens/metric/measure.hpp>
#include <klens/metric/metrics.hpp>

double mean_kl(const klens::matrix<float>& reference, const klens::matrix<float>& observed) {
  return std::get<0>(klens::measure(reference, observed, klens::kl{})).mean();
}
"""
EXAMPLE = (ROOT / "examples/rank_two_layers.cpp").read_text()
OTHERS = "".join(f"#include <{name}>\n" for name in """\
algorithm any array atomic bit charconv chrono cmath concepts cstring deque exception functional limits map memory numeric optional
set span string string_view thread tuple vector Eigen/Core xsimd/xsimd.hpp""".split())
FORWARD = """\
#include <Eigen/Core>
#include <cmath>
#include <cstdio>
namespace klens { template <class T> using matrix = Eigen::Matrix<T, -1, -1, Eigen::RowMajor>; }
""" + EXAMPLE[EXAMPLE.index("klens::matrix<float> wave"):EXAMPLE.index("  std::vector<klens::layer>")] + EXAMPLE[
    EXAMPLE.index("  const auto forward"):EXAMPLE.index("  const klens::scores")] + """\
  std::printf("%g\\n", forward().sum());
}
"""
# name: (source, most processor time in units of Eigen/Core, most memory in MB)
PROGRAMS = {
    EIGEN: ("#include <Eigen/Core>\n", None, None),
    "klens.hpp alone": ("#include <klens/klens.hpp>\n", 2.5, None),
    "metrics alone": (METRICS, 2.0, None),
    "rank_two_layers.cpp": (EXAMPLE, 6.0, 700),
    "  its forward alone": (FORWARD, None, None),
    "std, Eigen, xsimd": (OTHERS, None, None),
}


def compile_once(command):
    """Seconds of processor time (user) and peak memory in MB of the compiler and what it starts."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    message = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{shlex.join(command)} failed:\n{message.decode()}")
    return usage.ru_utime, usage.ru_maxrss / 1000


def include_folders():
    found = subprocess.run(["pkg-config", "--cflags-only-I", "eigen3"], capture_output=True, text=True, check=False)
    eigen = shlex.split(found.stdout) or ["-I/usr/include/eigen3"]
    return [f"-I{ROOT / 'include'}", *(each.replace("-I", "-isystem", 1) for each in eigen)]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--compiler", default=os.environ.get("CXX", "g++"))
    arguments.add_argument("--flags", default="-O2")
    arguments.add_argument("--repetitions", type=int, default=3)
    arguments.add_argument("--compiled", action="store_true", help="with KLENS_COMPILED, as klens::compiled sets it")
    chosen = arguments.parse_args()
    command = [*shlex.split(chosen.compiler), "-std=c++20", *shlex.split(chosen.flags), *include_folders()]
    if chosen.compiled:
        command.append("-DKLENS_COMPILED")

    measured = {name: [] for name in PROGRAMS}
    with tempfile.TemporaryDirectory() as folder:
        for number, (source, _, _) in enumerate(PROGRAMS.values()):
            pathlib.Path(folder, f"{number}.cpp").write_text(source)
        for _ in range(chosen.repetitions):
            for number, name in enumerate(PROGRAMS):
                measured[name].append(compile_once([*command, "-c", f"{folder}/{number}.cpp", "-o", f"{folder}/{number}.o"]))

    medians = {name: [statistics.median(each) for each in zip(*runs)] for name, runs in measured.items()}
    print(shlex.join(command))
    print(f"{'program':<22}{'seconds':>8}{'ratio':>7}{'bound':>7}{'MB':>6}{'bound':>7}")
    missed = 0
    for name, (_, most_time, most_memory) in PROGRAMS.items():
        seconds, memory = medians[name]
        ratio = seconds / medians[EIGEN][0]
        holds = (most_time is None or ratio <= most_time) and (most_memory is None or memory <= most_memory)
        missed += not holds
        verdict = "" if most_time is None else "holds" if holds else "DOES NOT HOLD"
        print(f"{name:<22}{seconds:8.2f}{ratio:7.2f}{most_time or '-':>7}{memory:6.0f}{most_memory or '-':>7}  {verdict}".rstrip())
    print("every bound holds" if missed == 0 else f"{missed} bounds do not hold")
    return missed != 0


if __name__ == "__main__":
    sys.exit(main())
