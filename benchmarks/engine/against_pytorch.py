# The engine's forward beside PyTorch's, in turns, on the shapes of SmolLM2-135M and Mamba-130M with random weights in float32:
#   cmake --preset release -D KLENS_BUILD_BENCHMARKS=ON && cmake --build build/release --target engine_served_forward
#   python3 benchmarks/engine/against_pytorch.py build/release/benchmarks/engine/engine_served_forward [--threads 2] [--rounds 9]
# Needs torch, transformers and safetensors. Prints the median of each over the rounds and, per round, PyTorch's time over the
# engine's: median and range. Ends with 1 where a median quotient is below 1.15.
import argparse
import statistics
import subprocess
import sys
import tempfile
import time

import torch
import transformers as hf

hf.utils.logging.disable_progress_bar()
hf.utils.logging.set_verbosity_error()

parser = argparse.ArgumentParser()
parser.add_argument("program", nargs="+", help="engine_served_forward; several are compared with each other as well")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--rounds", type=int, default=9)
parser.add_argument("--sequences", type=int, default=8)
parser.add_argument("--length", type=int, default=256)
parser.add_argument("--models", default="smollm2-135m,mamba-130m")
wanted = parser.parse_args()
torch.set_num_threads(wanted.threads)
torch.manual_seed(7)

shapes = {
    "smollm2-135m": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
        max_position_embeddings=8192, rope_theta=100000.0, rms_norm_eps=1e-5, tie_word_embeddings=True)),
    "mamba-130m": lambda: hf.MambaForCausalLM(hf.MambaConfig(
        vocab_size=50280, hidden_size=768, state_size=16, num_hidden_layers=24, conv_kernel=4, expand=2, time_step_rank=48)),
}


def timed(work):
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - processor), result


def show(name, ours, other):
    for kind, unit in ((0, "by the clock"), (1, "of the processor")):
        quotients = sorted(b[kind] / a[kind] for a, b in zip(ours, other))
        print(f"  {name}, {unit}: {statistics.median(quotients):.2f} times as fast ({quotients[0]:.2f} to {quotients[-1]:.2f})")
    return statistics.median(b[0] / a[0] for a, b in zip(ours, other))


failed = False
tokens = (torch.arange(wanted.sequences * wanted.length) * 37).reshape(wanted.sequences, wanted.length)
for name in wanted.models.split(","):
    model = shapes[name]().eval().float()
    ids = tokens % model.config.vocab_size
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        engines = [subprocess.Popen([each, folder, str(wanted.sequences), str(wanted.length), str(wanted.threads)],
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for each in wanted.program]

        def ask(engine):
            engine.stdin.write("\n")
            engine.stdin.flush()
            return [float(each) for each in engine.stdout.readline().split()]

        def peer():
            with torch.inference_mode():
                return float(model(input_ids=ids, use_cache=False).logits.max())

        *_, largest = timed(peer)
        for engine in engines:
            if abs(ask(engine)[2] - largest) > 1e-3 * abs(largest):
                sys.exit(f"{name}: the largest logit differs from PyTorch's {largest}")
        rows = [([ask(engine) for engine in engines], timed(peer)) for _ in range(wanted.rounds)]
        for engine in engines:
            engine.stdin.close()
            engine.wait()
    pytorch = [each[1] for each in rows]
    rate = wanted.sequences * wanted.length * 1e3
    print(f"{name}, {wanted.sequences} x {wanted.length} tokens, {wanted.threads} threads, {wanted.rounds} rounds")
    print(f"  PyTorch {torch.__version__}: {rate / statistics.median(each[0] for each in pytorch):.0f} tokens/s")
    for i, program in enumerate(wanted.program):
        ours = [each[0][i] for each in rows]
        print(f"  {program}: {rate / statistics.median(each[0] for each in ours):.0f} tokens/s")
        failed |= show("than PyTorch", ours, pytorch) < 1.15 and i == 0
        if i > 0:
            show("than the first", ours, [each[0][0] for each in rows])
sys.exit(failed)
