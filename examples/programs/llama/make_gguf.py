"""Writes the shipped model as a GGUF file, as llama.cpp's converter would.   make_gguf.py FOLDER OUTPUT.gguf

For dense jamba models, and falcon_h1 models all of whose multipliers are 1, with F16 weights and a byte-level tokenizer, and with
nothing but Python: the converter needs PyTorch.
"""

import json
import math
import os
import struct
import sys

UINT32, INT32, FLOAT32, STRING, ARRAY = 4, 5, 6, 8, 9
F32, F16 = 0, 1
NORMAL_TOKEN, CONTROL_TOKEN = 1, 3
ALIGNMENT = 32

NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.final_layernorm.weight": "output_norm.weight",
    "input_layernorm.weight": "attn_norm.weight",
    "pre_ff_layernorm.weight": "ffn_norm.weight",
    "feed_forward.gate_proj.weight": "ffn_gate.weight",
    "feed_forward.up_proj.weight": "ffn_up.weight",
    "feed_forward.down_proj.weight": "ffn_down.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "mamba.A_log": "ssm_a",
    "mamba.D": "ssm_d",
    "mamba.b_layernorm.weight": "ssm_b_norm.weight",
    "mamba.c_layernorm.weight": "ssm_c_norm.weight",
    "mamba.dt_layernorm.weight": "ssm_dt_norm.weight",
    "mamba.conv1d.bias": "ssm_conv1d.bias",
    "mamba.conv1d.weight": "ssm_conv1d.weight",
    "mamba.dt_bias": "ssm_dt.bias",
    "mamba.dt_proj.bias": "ssm_dt.bias",
    "mamba.dt_proj.weight": "ssm_dt.weight",
    "mamba.in_proj.weight": "ssm_in.weight",
    "mamba.out_proj.weight": "ssm_out.weight",
    "mamba.x_proj.weight": "ssm_x.weight",
}


def gguf_name(name, model):
    if name in NAMES:
        return NAMES[name]
    _, _, block, rest = name.split(".", 3)
    if model == "falcon_h1" and rest == "pre_ff_layernorm.weight":
        return f"blk.{block}.ffn_norm"
    return f"blk.{block}.{NAMES[rest]}"


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def value(kind, of):
    if kind == STRING:
        return string(of)
    if isinstance(kind, tuple):
        return struct.pack("<IQ", kind[1], len(of)) + b"".join(value(kind[1], each) for each in of)
    return struct.pack({UINT32: "<I", INT32: "<i", FLOAT32: "<f"}[kind], of)


def pair(key, kind, of):
    return string(key) + struct.pack("<I", kind[0] if isinstance(kind, tuple) else kind) + value(kind, of)


def read_tensors(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    header.pop("__metadata__", None)
    for name, at in sorted(header.items(), key=lambda each: each[1]["data_offsets"]):
        if at["dtype"] != "F16":
            sys.exit(f"{path}: {name} is {at['dtype']}, not F16")
        yield name, at["shape"], data[slice(*at["data_offsets"])]


def stored(model, name, shape, data):
    """Matrices of products stay F16; all else is F32, as llama.cpp wants it."""
    shape = [extent for extent in shape if extent != 1]
    new = gguf_name(name, model)
    if len(shape) == 2 and not new.endswith((".ssm_a", ".ssm_conv1d.weight")):
        return new, shape, F16, data
    values = struct.unpack(f"<{len(data) // 2}e", data)
    if new.endswith(".ssm_a"):
        values = [-math.exp(each) for each in values]
    if model == "falcon_h1" and new.endswith((".ssm_a", ".ssm_d")):
        shape = shape + [1]  # of each head
    return new, shape, F32, struct.pack(f"<{len(values)}f", *values)


def of_jamba(config):
    if config["num_experts"] != 1:
        sys.exit("this jamba model is not dense")
    blocks, period, offset = config["num_hidden_layers"], config["attn_layer_period"], config["attn_layer_offset"]
    return "jamba", [
        pair("jamba.attention.head_count_kv", (ARRAY, INT32),
             [config["num_key_value_heads"] if block % period == offset else 0 for block in range(blocks)]),
        pair("jamba.ssm.inner_size", UINT32, config["mamba_expand"] * config["hidden_size"]),
        pair("jamba.ssm.time_step_rank", UINT32, config["mamba_dt_rank"]),
    ]


def of_falcon_h1(config):
    for name, multiplier in config.items():
        if "multiplier" in name and any(each != 1 for each in (multiplier if isinstance(multiplier, list) else [multiplier])):
            sys.exit(f"{name} of this falcon_h1 model is {multiplier}, not 1")
    return "falcon-h1", [
        pair("falcon-h1.attention.head_count_kv", UINT32, config["num_key_value_heads"]),
        pair("falcon-h1.attention.key_length", UINT32, config["head_dim"]),
        pair("falcon-h1.attention.value_length", UINT32, config["head_dim"]),
        pair("falcon-h1.rope.freq_base", FLOAT32, config["rope_parameters"]["rope_theta"]),
        pair("falcon-h1.ssm.inner_size", UINT32, config["mamba_d_ssm"]),
        pair("falcon-h1.ssm.time_step_rank", UINT32, config["mamba_n_heads"]),
        pair("falcon-h1.ssm.group_count", UINT32, config["mamba_n_groups"]),
    ]


def metadata(folder, config):
    with open(os.path.join(folder, "tokenizer.json"), encoding="utf-8") as file:
        tokenizer = json.load(file)
    of_type = {"jamba": of_jamba, "falcon_h1": of_falcon_h1}.get(config["model_type"])
    if not of_type:
        sys.exit(f"{folder}: is neither a jamba nor a falcon_h1 model")
    architecture, own = of_type(config)
    vocabulary = tokenizer["model"]["vocab"]
    special = {each["id"] for each in tokenizer["added_tokens"] if each["special"]}
    return [
        pair("general.architecture", STRING, architecture),
        pair("general.file_type", UINT32, 1),
        pair("general.quantization_version", UINT32, 2),
        pair(architecture + ".block_count", UINT32, config["num_hidden_layers"]),
        pair(architecture + ".context_length", UINT32, config["max_position_embeddings"]),
        pair(architecture + ".embedding_length", UINT32, config["hidden_size"]),
        pair(architecture + ".feed_forward_length", UINT32, config["intermediate_size"]),
        pair(architecture + ".attention.head_count", UINT32, config["num_attention_heads"]),
        pair(architecture + ".attention.layer_norm_rms_epsilon", FLOAT32, config["rms_norm_eps"]),
        pair(architecture + ".ssm.conv_kernel", UINT32, config["mamba_d_conv"]),
        pair(architecture + ".ssm.state_size", UINT32, config["mamba_d_state"]),
        *own,
        pair("tokenizer.ggml.model", STRING, "gpt2"),
        pair("tokenizer.ggml.pre", STRING, "gpt-2"),
        pair("tokenizer.ggml.tokens", (ARRAY, STRING), sorted(vocabulary, key=vocabulary.get)),
        pair("tokenizer.ggml.token_type", (ARRAY, INT32),
             [CONTROL_TOKEN if token in special else NORMAL_TOKEN for token in range(len(vocabulary))]),
        pair("tokenizer.ggml.merges", (ARRAY, STRING), [" ".join(each) for each in tokenizer["model"]["merges"]]),
        pair("tokenizer.ggml.bos_token_id", UINT32, config["bos_token_id"]),
        pair("tokenizer.ggml.eos_token_id", UINT32, config["eos_token_id"]),
    ]


def padding(size):
    return b"\0" * (-size % ALIGNMENT)


def main():
    folder, output = sys.argv[1:]
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    pairs = metadata(folder, config)
    infos, data = b"", b""
    tensors = [stored(config["model_type"], *each) for each in read_tensors(os.path.join(folder, "model.safetensors"))]
    for name, shape, kind, values in tensors:
        extents = shape[::-1]
        infos += string(name) + struct.pack(f"<I{len(extents)}QIQ", len(extents), *extents, kind, len(data))
        data += values + padding(len(values))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)) + b"".join(pairs) + infos
    with open(output + ".partial", "wb") as file:
        file.write(head + padding(len(head)) + data)
    os.replace(output + ".partial", output)


if __name__ == "__main__":
    main()
