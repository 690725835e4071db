"""Holds the benchmarks' medians against their bounds.

    python3 benchmarks/bounds.py INSTRUCTION_SET FILE...

FILE: JSON of Google Benchmark, or of peers.py. Prints a table; exits with 1 where a bound does not hold.
"""

import json
import re
import sys

SHAPES = ["512x2048", "128x32000", "32x128256", "16x256000"]
LARGE, CACHED = "4096x4096", "16x4096"
FLOORS = ["read_only", "fill", "copy"]
GROUPS = ["g32", "g64", "g128", "channel"]


def medians(paths):
    times = {}
    for path in paths:
        with open(path) as file:
            for each in json.load(file)["benchmarks"]:
                if each.get("aggregate_name") == "median":
                    times[each["run_name"]] = each["cpu_time"] * {"ns": 1, "us": 1e3, "ms": 1e6}[each["time_unit"]]
    return times


def bounds(instruction_set):
    """(loop, what it is measured against, bound or None, floor or None): medians of the first over the second. The floor is a
    loop that does nothing but move the same memory."""
    sweep = {"avx512": 2.6, "avx2": 4.0}.get(instruction_set)
    for shape in SHAPES:
        full, read = f"full_small/{shape}", f"read_only/{shape}"
        if sweep:
            yield full, read, sweep, None
        yield f"full_large/{shape}", full, 1.5, None
        yield f"kl_alone/{shape}", full, 0.8, read
        for peer in ["plain_kl", "eigen_kl", "torch_kl", "numkong_kl", "numpy_kl"]:
            yield full, f"{peer}/{shape}", 1.0, None
    memcpy = f"memcpy/{LARGE}"
    for floor in FLOORS:
        yield f"{floor}/{LARGE}", memcpy, None, None
    yield f"in_place_int4-g64/{LARGE}", memcpy, None, None
    for bits in [4, 8]:
        for group in GROUPS:
            for name in [f"round_trip_int{bits}", f"round_trip_int{bits}-asym", f"pack_int{bits}", f"unpack_int{bits}"]:
                yield f"{name}-{group}/{LARGE}", memcpy, None, None
        yield f"round_trip_int{bits}-g32/{CACHED}", f"memcpy/{CACHED}", 3.0, None
    for peer in ["plain", "eigen", "torch", "numpy"]:
        for matrix in [LARGE, CACHED]:
            yield f"round_trip_int4-g64/{matrix}", f"{peer}_int4-g64/{matrix}", 1.0, None


def main():
    instruction_set, times = sys.argv[1], medians(sys.argv[2:])
    missed = 0
    print(f"{'loop':<50}{'against':<28}{'ratio':>7}{'bound':>7}")
    for loop, against, bound, floor in bounds(instruction_set):
        if loop not in times or against not in times:
            continue
        ratio = times[loop] / times[against]
        line = f"{loop:<50}{re.sub('/.*', '', against):<28}{ratio:7.3f}"
        if bound is None:
            print(f"{line}      -")
            continue
        holds = ratio <= bound
        missed += not holds
        why = ""
        if not holds and floor in times:
            least = times[floor] / times[against]
            relation = "the bound is below it" if bound < least else "the bound is above it"
            why = f" ({re.sub('/.*', '', floor)} alone {least:.3f}: {relation})"
        print(f"{line}{bound:7.2f}  {'holds' if holds else 'DOES NOT HOLD'}{why}")
    print("every bound holds" if missed == 0 else f"{missed} bounds do not hold")
    return missed != 0


if __name__ == "__main__":
    sys.exit(main())
