"""What klens costs beside the forwards of a PyTorch model that it runs.

    python3 benchmarks/python/overhead.py [--blocks 24] [--width 512] [--rounds 3] [--threads 2] [--processor-time]

Ranks a random Llama (one sequence of 256 tokens, int4-g64), in turns with the plain loop that a researcher writes: quantize one
weight, run the whole model, put it back. Prints medians over the rounds:
  scan / forwards     seconds of the scan over those of PyTorch for the same share of forwards; at most 1.1
  scan / plain loop   at most 0.6
With --processor-time it counts seconds of the processor and not of the clock: with one thread the same ratios, whatever else
the machine does. Needs PyTorch and transformers. Exits with 1 where a bound does not hold."""

import argparse
import statistics
import sys
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import klens


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("--blocks", 24), ("--width", 512), ("--vocabulary", 8192), ("--rounds", 3), ("--threads", 2)):
        arguments.add_argument(name, type=int, default=value)
    arguments.add_argument("--processor-time", action="store_true")
    chosen = arguments.parse_args()
    clock = time.process_time if chosen.processor_time else time.perf_counter

    def seconds(call):
        start = clock()
        result = call()
        return clock() - start, result

    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    width = chosen.width
    model = LlamaForCausalLM(LlamaConfig(vocab_size=chosen.vocabulary, hidden_size=width, intermediate_size=3 * width,
                                         num_hidden_layers=chosen.blocks, num_attention_heads=8, num_key_value_heads=8)).eval()  # fmt: skip
    ids = torch.randint(0, chosen.vocabulary, (1, 256))
    layers = {name: weight for name, weight in model.named_parameters() if weight.ndim == 2 and "embed" not in name}

    def forward():
        with torch.no_grad():
            return model(ids, use_cache=False).logits[0]

    def plain_loop(names):
        reference = forward()
        with torch.no_grad():
            for name in names:
                kept = layers[name].clone()
                layers[name].copy_(klens.quantize(kept, "int4-g64"))
                klens.kl(reference, forward())
                layers[name].copy_(kept)

    forward()
    few = list(layers)[:: max(1, len(layers) // 12)]  # the loop's cost does not depend on the layer
    rows = []
    for _ in range(chosen.rounds):
        one = statistics.median(seconds(forward)[0] for _ in range(5))
        scan, scores = seconds(lambda: klens.rank_layers(model, ids, schemes="int4-g64", progress=False, threads=chosen.threads))
        loop = seconds(lambda: plain_loop(few))[0] * (len(layers) + 1) / (len(few) + 1)
        one = statistics.median([one, *(seconds(forward)[0] for _ in range(5))])
        rows.append((scan / (one * (scores.forwards + 4)), scan / loop, scan, scores.forwards, one))
    over, beside = (statistics.median(row[i] for row in rows) for i in (0, 1))
    print(f"{len(layers)} matrices, {chosen.blocks} blocks of width {width}, {chosen.threads} threads; forward {statistics.median(r[4] for r in rows):.3f} s")
    print(f"scan {statistics.median(r[2] for r in rows):.1f} s for {rows[0][3]:.1f} forwards and 4 that prove the stages")
    print(f"scan / forwards    {over:.2f} (at most 1.1)")
    print(f"scan / plain loop  {beside:.2f} (at most 0.6)")
    sys.exit(over > 1.1 or beside > 0.6)


if __name__ == "__main__":
    main()
