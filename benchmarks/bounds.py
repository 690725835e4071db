"""Holds the benchmarks' medians against their bounds.

    python3 benchmarks/bounds.py INSTRUCTION_SET FILE...

FILE: JSON of Google Benchmark, or of peers.py. Prints a table; exits with 1 where a bound does not hold.
"""

import json
import re
import sys

SHAPES = ["512x2048", "128x32000", "32x128256", "16x256000"]
LARGE, CACHED = "4096x4096", "16x4096"
GROUPS = ["g32", "g64", "g128", "channel"]


def medians(paths):
    times = {}
    for path in paths:
        with open(path) as file:
            for each in json.load(file)["benchmarks"]:
                if each.get("aggregate_name") == "median":
                    times[each["run_name"]] = each["cpu_time"] * {"ns": 1, "us": 1e3, "ms": 1e6}[each["time_unit"]]
    return times


def bounds(times, instruction_set):
    """(loop, what it is measured against, bound or None): medians of the first over the second."""
    sweep = {"avx512": 2.6, "avx2": 4.0}.get(instruction_set)
    for shape in SHAPES:
        full, read = f"full_small/{shape}", f"read_only/{shape}"
        if sweep:
            yield full, read, sweep
        yield f"full_large/{shape}", full, 1.5
        if full in times and read in times:
            # Where the full sweep costs little more than reading, nothing can be much faster: 1.25 x reading will do.
            yield f"kl_alone/{shape}", full, max(0.8, 1.25 * times[read] / times[full])
        for peer in ["plain_kl", "eigen_kl", "torch_kl", "numkong_kl", "numpy_kl"]:
            yield full, f"{peer}/{shape}", 1.0
    # What is possible on this machine: loops that do nothing but read or copy, with ordinary and with streaming stores.
    for floor in ["read_only", "copy", "copy_streaming"]:
        yield f"{floor}/{LARGE}", f"memcpy/{LARGE}", None
    for bits in [4, 8]:
        for group in GROUPS:
            for kind, plain, streaming in [("", 0.9, 0.65), ("-asym", 1.1, 0.9)]:
                name = f"round_trip_int{bits}{kind}-{group}"
                yield f"{name}/{LARGE}", f"memcpy/{LARGE}", plain
                yield f"{name}_streaming/{LARGE}", f"memcpy/{LARGE}", streaming
            for way in ["pack", "unpack"]:
                yield f"{way}_int{bits}-{group}/{LARGE}", f"memcpy/{LARGE}", 0.75
        yield f"round_trip_int{bits}-g32/{CACHED}", f"memcpy/{CACHED}", 3.0
    for peer in ["plain", "eigen", "torch", "numpy"]:
        for matrix in [LARGE, CACHED]:
            yield f"round_trip_int4-g64/{matrix}", f"{peer}_int4-g64/{matrix}", 1.0


def main():
    instruction_set, times = sys.argv[1], medians(sys.argv[2:])
    missed = 0
    print(f"{'loop':<50}{'against':<28}{'ratio':>7}{'bound':>7}")
    for loop, against, bound in bounds(times, instruction_set):
        if loop not in times or against not in times:
            continue
        ratio = times[loop] / times[against]
        if bound is None:
            print(f"{loop:<50}{re.sub('/.*', '', against):<28}{ratio:7.3f}      -")
            continue
        holds = ratio <= bound
        missed += not holds
        print(f"{loop:<50}{re.sub('/.*', '', against):<28}{ratio:7.3f}{bound:7.2f}  {'holds' if holds else 'DOES NOT HOLD'}")
    print("every bound holds" if missed == 0 else f"{missed} bounds do not hold")
    return missed != 0


if __name__ == "__main__":
    sys.exit(main())
