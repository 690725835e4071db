#!/usr/bin/env python3
"""How far `klens rank --method local` and `--method refine` agree with the exhaustive ranking, by seed. One row of the table in
docs/theory.md, section 6, for each scheme:
    local_truth.py KLENS MODEL TOKENS [--schemes int4-channel,int8-channel] [--sequences 16] [--length 256] [--ceiling FIRST]
                   [--seeds 10] [--method local] [--stop top:20] [--keep FOLDER]
The exhaustive scans are kept in FOLDER and made only once. --ceiling: the first token of another text in the file (or
FILE:FIRST in another), whose exhaustive ranking is compared with the first one's. Without it the ceiling is what the
exhaustive scan lets expect: tau between resamples of its sequences."""
import argparse
import json
import math
import pathlib
import random
import statistics
import subprocess


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("klens")
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("tokens")
    parser.add_argument("--schemes", default="int4-channel,int8-channel")
    parser.add_argument("--sequences", type=int, default=16)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--ceiling", default="")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--method", default="local")
    parser.add_argument("--stop", default="")
    parser.add_argument("--keep", type=pathlib.Path, default=pathlib.Path("local_truth"))
    return parser.parse_args()


def scanned(asked, name, tokens, first, more):
    """The scores of a scan, from its file where there is one."""
    file = asked.keep / f"{asked.model.name}.{name}.json"
    if not file.exists():
        subprocess.run([asked.klens, "rank", asked.model, "--tokens", tokens, "--first", first, "--schemes", asked.schemes,
                        "--metrics", "kl", "--sequences", str(asked.sequences), "--length", str(asked.length), "--output", file,
                        *more], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return json.loads(file.read_text())


def kls_of(scores, scheme):
    return {each["layer"]: each["metrics"]["kl"] for each in scores["candidates"] if each["scheme"] == scheme}


def tau(a, b):
    """Kendall's tau-b of two lists."""
    agree, ties_a, ties_b = 0, 0, 0
    pairs = [(i, j) for i in range(len(a)) for j in range(i)]
    for i, j in pairs:
        x, y = (a[i] > a[j]) - (a[i] < a[j]), (b[i] > b[j]) - (b[i] < b[j])
        agree, ties_a, ties_b = agree + x * y, ties_a + (x == 0), ties_b + (y == 0)
    return agree / math.sqrt((len(pairs) - ties_a) * (len(pairs) - ties_b))


def expected_ceiling(truth):
    """The tau to expect between two exhaustive rankings by as many sequences: the mean between resamples of all but one of them,
    whose means scatter as those of fresh sequences do."""
    random_numbers = random.Random(1)
    sequences = len(next(iter(truth.values()))["by_sequence"]["values"])

    def resampled():
        drawn = [random_numbers.randrange(sequences) for _ in range(sequences - 1)]
        sums = [each["by_sequence"] for each in truth.values()]
        return [sum(each["values"][s] for s in drawn) / sum(each["weights"][s] for s in drawn) for each in sums]

    return statistics.mean(tau(resampled(), resampled()) for _ in range(40))


def top(kls, count):
    return sorted(kls, key=lambda layer: -kls[layer]["mean"])[:count]


def main():
    asked = arguments()
    asked.keep.mkdir(parents=True, exist_ok=True)
    exact = scanned(asked, "exact", asked.tokens, "0", [])
    other = None
    if asked.ceiling:
        *file, first = asked.ceiling.rsplit(":", 1)
        other = scanned(asked, "other", file[0] if file else asked.tokens, first, [])
    stop = ["--stop", asked.stop] if asked.stop else []
    runs = [scanned(asked, f"{asked.method}{asked.stop.replace(':', '-')}.{seed}", asked.tokens, "0",
                    ["--method", asked.method, "--seed", str(seed), *stop]) for seed in range(1, asked.seeds + 1)]
    forwards = sorted(run["cost"]["forwards"] for run in runs)
    print(f"{asked.model.name}, {asked.sequences} x {asked.length} tokens, {asked.method} {asked.stop}: forwards "
          f"{statistics.median(forwards):.2f} ({forwards[0]:.2f} to {forwards[-1]:.2f})")
    off = [run["expected_tau"] for run in runs]
    true_taus = [[] for _ in runs]
    for scheme in asked.schemes.split(","):
        truth = kls_of(exact, scheme)
        layers = list(truth)
        means = [truth[layer]["mean"] for layer in layers]
        best = set(top(truth, 20))
        twentieth = truth[top(truth, 20)[-1]]
        taus, held, tops, untied = [], [], [], []
        for run, of_run in zip(runs, true_taus):
            found = kls_of(run, scheme)
            taus.append(tau([found[layer]["mean"] for layer in layers], means))
            of_run.append(taus[-1])
            held.append(statistics.mean(found[layer]["low"] <= truth[layer]["mean"] <= found[layer]["high"] for layer in layers))
            seats = top(found, 20)
            tops.append(len(best & set(seats)))
            untied.append(sum(truth[layer]["high"] >= twentieth["mean"] for layer in seats))
        row = f"  {scheme}: tau {statistics.median(taus):.3f} ({min(taus):.3f})"
        if other:
            row += f", ceiling {tau([kls_of(other, scheme)[layer]['mean'] for layer in layers], means):.3f}"
        else:
            row += f", expected ceiling {expected_ceiling(truth):.3f}"
        print(f"{row}; held {statistics.mean(held):.3f} ({min(held):.2f}); top 20: {statistics.median(tops):.0f} ({min(tops)}), "
              f"of them or tied with the 20th {statistics.median(untied):.0f} ({min(untied)})")
    off = [expected - statistics.mean(true) for expected, true in zip(off, true_taus)]
    print(f"  expected tau minus the true one: {statistics.mean(off):+.3f} ({min(off):+.3f} to {max(off):+.3f})")


if __name__ == "__main__":
    main()
