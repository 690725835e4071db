"""Makes tests/data/real-logits.safetensors: rows of logits of the trained hybrid model, as it is and with layers quantized.

python make_real_logits.py MODEL_FOLDER TOKENS.safetensors OUTPUT.safetensors      (NumPy; float32 forward, no klens in it)

One position of each of the first 16 sequences of 256 tokens. Layers: A is model.layers.0.mamba.in_proj, B is
model.layers.4.feed_forward.down_proj; symmetric rounding of whole rows to 4 or 8 bits with float32 scales (int4-channel-f32).
"""
import json
import struct
import sys

import numpy as np

LENGTH, SEQUENCES = 256, 16
A, B = "model.layers.0.mamba.in_proj.weight", "model.layers.4.feed_forward.down_proj.weight"


def load(path):
    raw = open(path, "rb").read()
    size = struct.unpack("<Q", raw[:8])[0]
    types = {"F16": np.float16, "F32": np.float32, "I32": np.int32}
    return {
        name: np.frombuffer(raw[8 + size + t["data_offsets"][0] : 8 + size + t["data_offsets"][1]], types[t["dtype"]]).reshape(t["shape"])
        for name, t in json.loads(raw[8 : 8 + size]).items()
        if name != "__metadata__"
    }


def save(path, tensors):
    header, data = {}, b""
    for name, t in tensors.items():
        dtype = {np.dtype(np.float32): "F32", np.dtype(np.int32): "I32"}[t.dtype]
        header[name] = {"dtype": dtype, "shape": list(t.shape), "data_offsets": [len(data), len(data) + t.nbytes]}
        data += t.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    open(path, "wb").write(struct.pack("<Q", len(text)) + text + data)


def norm(x, weight):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * weight


def silu(x):
    return x / (1 + np.exp(-x))


def mamba(w, p, h):
    z, gate = np.split(h @ w[p + "in_proj.weight"].T, 2, axis=-1)
    padded = np.pad(z, ((0, 0), (3, 0), (0, 0)))
    taps = w[p + "conv1d.weight"][:, 0]
    u = silu(sum(padded[:, k : k + LENGTH] * taps[:, k] for k in range(4)) + w[p + "conv1d.bias"])
    dt, b, c = np.split(u @ w[p + "x_proj.weight"].T, [12, 28], axis=-1)
    dt = norm(dt, w[p + "dt_layernorm.weight"]) @ w[p + "dt_proj.weight"].T + w[p + "dt_proj.bias"]
    dt = np.logaddexp(np.float32(0), dt)
    b, c = norm(b, w[p + "b_layernorm.weight"]), norm(c, w[p + "c_layernorm.weight"])
    decay = -np.exp(w[p + "A_log"])
    state, y = np.zeros(u.shape[:1] + decay.shape, np.float32), np.empty_like(u)
    for t in range(LENGTH):
        state = np.exp(dt[:, t, :, None] * decay) * state + (dt[:, t] * u[:, t])[:, :, None] * b[:, t, None, :]
        y[:, t] = (state * c[:, t, None, :]).sum(-1)
    return ((y + u * w[p + "D"]) * silu(gate)) @ w[p + "out_proj.weight"].T


def attention(w, p, h):
    heads = lambda name, n: (h @ w[p + name].T).reshape(SEQUENCES, LENGTH, n, 32).transpose(0, 2, 1, 3)
    q, k, v = heads("q_proj.weight", 6), heads("k_proj.weight", 2).repeat(3, 1), heads("v_proj.weight", 2).repeat(3, 1)
    scores = np.where(np.tril(np.ones((LENGTH, LENGTH), bool)), q @ k.transpose(0, 1, 3, 2) / np.float32(32**0.5), np.float32(-1e30))
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = (scores / scores.sum(-1, keepdims=True)) @ v
    return mixed.transpose(0, 2, 1, 3).reshape(SEQUENCES, LENGTH, 192) @ w[p + "o_proj.weight"].T


def logits(w, tokens, position):
    x = w["model.embed_tokens.weight"][tokens]
    for i in range(8):
        p = f"model.layers.{i}."
        h = norm(x, w[p + "input_layernorm.weight"])
        x = x + (mamba(w, p + "mamba.", h) if p + "mamba.D" in w else attention(w, p + "self_attn.", h))
        h = norm(x, w[p + "pre_ff_layernorm.weight"])
        p += "feed_forward."
        x = x + (silu(h @ w[p + "gate_proj.weight"].T) * (h @ w[p + "up_proj.weight"].T)) @ w[p + "down_proj.weight"].T
    x = norm(x, w["model.final_layernorm.weight"])[np.arange(SEQUENCES), position]
    return np.ascontiguousarray(x @ w["model.embed_tokens.weight"].T)


def rounded(weight, bits):
    top = np.float32(2 ** (bits - 1) - 1)
    scale = np.abs(weight).max(1, keepdims=True) / top
    return np.clip(np.rint(weight / scale), -top, top) * scale


model, tokens_file, output = sys.argv[1:]
weights = {name: np.ascontiguousarray(t.astype(np.float32)) for name, t in load(model + "/model.safetensors").items()}
ids = load(tokens_file)["input_ids"].ravel()[: SEQUENCES * LENGTH].reshape(SEQUENCES, LENGTH).astype(np.int64)
at = (37 * np.arange(SEQUENCES) + 111) % (LENGTH - 1)
result = {"next": ids[np.arange(SEQUENCES), at + 1].astype(np.int32), "reference": logits(weights, ids, at)}
for name, layers, bits in (("int4_a", [A], 4), ("int4_b", [B], 4), ("int4_ab", [A, B], 4), ("int8_a", [A], 8), ("int2_a", [A], 2)):
    result[name] = logits({**weights, **{each: rounded(weights[each], bits) for each in layers}}, ids, at)
save(output, result)
