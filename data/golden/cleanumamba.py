#!/usr/bin/env python3
"""Make the CleanUMamba golden fixtures `clean-*` with an oracle that shares no code with the project.

    python data/golden/cleanumamba.py            write clean-*/{model,expected}.safetensors
    python data/golden/cleanumamba.py --check    remake in memory and compare with the files here
    python data/golden/cleanumamba.py --against MODEL.safetensors GOLDEN.safetensors IN.wav
                                                 compare this oracle with golden values made elsewhere

Needs numpy alone. The oracle, `forward` below, is loops and sums in float64 that read as the paper does: channels first,
convolutions by their definition, the scan token by token.

`clean-even` has equal layers. `clean-pruned` has what pruning leaves: every width its own, two layers that differ in
d_inner, d_state and dt_rank, d_inner no multiple of d_model. A fixture is only kept if a fault would show: FAULTS are put
into the oracle one by one and must move the output by LEAST.
"""

import argparse
import json
import pathlib
import struct
import sys
import wave

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
LEAST = 0.01
FAULTS = [
    "no ReLU", "GLU halves exchanged", "taps reversed", "no skips", "no scan", "no norm bias", "no residual", "no tsfm_conv1 bias",
    "transposed taps reversed", "ReLU at the end", "no D", "no dt bias", "no gate", "RMS norm",
]
MODELS = {
    # Channels of the encoder (after each convolution, after each GLU), the Mamba layers (d_inner, d_state, dt_rank), d_model.
    "clean-even": dict(seed=11, conv=[4, 6, 6], glu=[4, 6, 6], d=8, layers=[(16, 4, 1), (16, 4, 1)], lengths=[1, 22, 23, 403]),
    "clean-pruned": dict(seed=12, conv=[3, 5, 4, 7], glu=[2, 5, 3, 6], d=7, layers=[(13, 5, 2), (10, 3, 1), (9, 4, 3)],
                         lengths=[46, 700]),
}


# ---- safetensors ------------------------------------------------------------------------------------------------------

TYPES = {"F16": np.float16, "F32": np.float32, "F64": np.float64}


def load(path):
    data = path.read_bytes()
    n = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + n])
    meta = header.pop("__metadata__", {})
    tensors = {}
    for name, t in header.items():
        a, b = t["data_offsets"]
        tensors[name] = np.frombuffer(data[8 + n + a : 8 + n + b], TYPES[t["dtype"]]).reshape(t["shape"])
    return tensors, meta


def dump(tensors, meta):
    names = {np.dtype(v): k for k, v in TYPES.items()}
    header, body = {"__metadata__": meta}, b""
    for name, t in sorted(tensors.items()):
        raw = np.ascontiguousarray(t).tobytes()
        header[name] = {"dtype": names[t.dtype], "shape": list(t.shape), "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    head = json.dumps(header, sort_keys=True).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + body


# ---- the oracle -------------------------------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def conv(x, weight, bias, stride=1):
    """(channels, time) by a (out, in, taps) filter, no padding."""
    taps = weight.shape[2]
    out = np.zeros((weight.shape[0], (x.shape[1] - taps) // stride + 1))
    for t in range(out.shape[1]):
        out[:, t] = np.einsum("oik,ik->o", weight, x[:, t * stride : t * stride + taps]) + bias
    return out


def conv_transposed(x, weight, bias, stride):
    """(channels, time) by an (in, out, taps) filter."""
    taps = weight.shape[2]
    out = np.zeros((weight.shape[1], (x.shape[1] - 1) * stride + taps)) + bias[:, None]
    for t in range(x.shape[1]):
        out[:, t * stride : t * stride + taps] += np.einsum("iok,i->ok", weight, x[:, t])
    return out


def mamba(p, x, fault):
    """(time, d_model) through one mixer."""
    di, n = p["A_log"].shape
    rank = p["dt_proj.weight"].shape[1]
    a = -np.exp(p["A_log"])
    xz = x @ p["in_proj.weight"].T
    u, z = xz[:, :di], xz[:, di:]
    taps = p["conv1d.weight"].shape[2]
    padded = np.vstack([np.zeros((taps - 1, di)), u])
    u = np.stack([(padded[t : t + taps] * p["conv1d.weight"][:, 0].T).sum(0) + p["conv1d.bias"] for t in range(len(x))])
    u = u * sigmoid(u)
    dbc = u @ p["x_proj.weight"].T
    b, c = dbc[:, rank : rank + n], dbc[:, rank + n :]
    dt = dbc[:, :rank] @ p["dt_proj.weight"].T + (0 if fault == "no dt bias" else p["dt_proj.bias"])
    dt = np.logaddexp(0, dt)
    h, y = np.zeros((di, n)), np.zeros((len(x), di))
    for t in range(len(x)):
        h = np.exp(dt[t][:, None] * a) * h + (dt[t] * u[t])[:, None] * b[t]
        y[t] = (0 if fault == "no scan" else h @ c[t]) + (0 if fault == "no D" else p["D"] * u[t])
    gate = 1 if fault == "no gate" else z * sigmoid(z)
    return (y * gate) @ p["out_proj.weight"].T


def norm(x, weight, bias, fault):
    centred = x if fault == "RMS norm" else x - x.mean(1, keepdims=True)
    out = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5) * weight
    return out if fault == "no norm bias" else out + bias


def glu(x, fault):
    half = len(x) // 2
    a, b = x[:half], x[half:]
    return b * sigmoid(a) if fault == "GLU halves exchanged" else a * sigmoid(b)


def forward(tensors, config, audio, fault=None):
    """Samples, already divided by what normalises them, to what each part gives."""
    w = {k: v.astype(np.float64) for k, v in tensors.items()}
    levels, stride, taps = config["encoder_n_layers"], config["stride"], config["kernel_size"]
    relu = (lambda x: x) if fault == "no ReLU" else (lambda x: np.maximum(x, 0))
    hop, reach = stride**levels, 1
    for _ in range(levels):
        reach = (reach - 1) * stride + taps
    frames = 1 + max(0, -(-(len(audio) - reach) // hop))
    x = np.zeros((1, (frames - 1) * hop + reach))
    x[0, : len(audio)] = audio
    out, skips = {}, []
    for i in range(levels):
        k = w[f"encoder.{i}.0.weight"]
        k = k[:, :, ::-1] if fault == "taps reversed" else k
        x = relu(conv(x, k, w[f"encoder.{i}.0.bias"], stride))
        x = glu(conv(x, w[f"encoder.{i}.2.weight"], w[f"encoder.{i}.2.bias"]), fault)
        skips.append(x)
    x = conv(x, w["tsfm_conv1.weight"], w["tsfm_conv1.bias"] * (fault != "no tsfm_conv1 bias"))
    out["bottleneck_in"] = x.T
    hidden, residual = x.T, 0
    for i in range(config["tsfm_n_layers"]):
        p = f"tsfm_Mamba_layers.{i}."
        mixer = {k[len(p) + 6 :]: v for k, v in w.items() if k.startswith(p + "mixer.")}
        residual = hidden + (0 if fault == "no residual" else residual)
        hidden = mamba(mixer, norm(residual, w[p + "norm.weight"], w[p + "norm.bias"], fault), fault)
        out[f"mixer_out.{i}"] = hidden
        out[f"layer.{i + 1}"] = residual + hidden
    hidden = norm(hidden + residual, w["norm_f.weight"], w["norm_f.bias"], fault)
    out["norm_f"] = hidden
    x = conv(hidden.T, w["tsfm_conv2.weight"], w["tsfm_conv2.bias"])
    out["bottleneck_out"] = x.T
    for j in range(levels):
        x = x if fault == "no skips" else x + skips[levels - 1 - j][:, : x.shape[1]]
        x = glu(conv(x, w[f"decoder.{j}.0.weight"], w[f"decoder.{j}.0.bias"]), fault)
        k = w[f"decoder.{j}.2.weight"]
        k = k[:, :, ::-1] if fault == "transposed taps reversed" else k
        x = conv_transposed(x, k, w[f"decoder.{j}.2.bias"], stride)
        if j < levels - 1 or fault == "ReLU at the end":
            x = relu(x)
    out["denoised"] = x[0, : len(audio)]
    return out


# ---- fixtures ---------------------------------------------------------------------------------------------------------


def draw(seed, conv, glu, d, layers, **_):
    rng = np.random.default_rng(seed)
    w = {}

    def normal(name, *shape, scale=None, mean=0.0):
        fan = np.prod(shape[1:]) if len(shape) > 1 else 1
        scale = 1.3 / np.sqrt(fan) if scale is None else scale
        w[name] = (mean + scale * rng.standard_normal(shape)).astype(np.float16)

    before = 1
    for i, (c, g) in enumerate(zip(conv, glu)):
        normal(f"encoder.{i}.0.weight", c, before, 4, scale=1.8 / np.sqrt(4 * before))
        normal(f"encoder.{i}.0.bias", c, scale=0.3)
        normal(f"encoder.{i}.2.weight", 2 * g, c, 1, scale=2.2 / np.sqrt(c))
        normal(f"encoder.{i}.2.bias", 2 * g, scale=0.3)
        before = g
    normal("tsfm_conv1.weight", d, before, 1)
    normal("tsfm_conv1.bias", d, scale=0.5)
    for i, (di, n, r) in enumerate(layers):
        p = f"tsfm_Mamba_layers.{i}."
        normal(p + "norm.weight", d, scale=0.2, mean=1.0)
        normal(p + "norm.bias", d, scale=0.4)
        normal(p + "mixer.in_proj.weight", 2 * di, d)
        normal(p + "mixer.conv1d.weight", di, 1, 4)
        normal(p + "mixer.conv1d.bias", di, scale=0.3)
        normal(p + "mixer.x_proj.weight", r + 2 * n, di, scale=2.0 / np.sqrt(di))
        normal(p + "mixer.dt_proj.weight", di, r, scale=0.6)
        w[p + "mixer.dt_proj.bias"] = np.log(np.expm1(np.geomspace(2e-2, 2, di))).astype(np.float16)
        normal(p + "mixer.A_log", di, n, scale=0.3, mean=0.3)
        normal(p + "mixer.D", di, scale=0.5)
        normal(p + "mixer.out_proj.weight", d, di)
    normal("norm_f.weight", d, scale=0.2, mean=1.0)
    normal("norm_f.bias", d, scale=0.4)
    normal("tsfm_conv2.weight", glu[-1], d, 1)
    normal("tsfm_conv2.bias", glu[-1], scale=0.3)
    outs = list(reversed(glu[:-1])) + [1]
    for j, (skip, out) in enumerate(zip(reversed(glu), outs)):
        # Inside a decoder block any width: here that of the encoder's convolution.
        inner = list(reversed(conv))[j]
        normal(f"decoder.{j}.0.weight", 2 * inner, skip, 1, scale=1.5 / np.sqrt(skip))
        normal(f"decoder.{j}.0.bias", 2 * inner, scale=0.3)
        normal(f"decoder.{j}.2.weight", inner, out, 4, scale=1.5 / np.sqrt(2 * inner))
        normal(f"decoder.{j}.2.bias", out, scale=0.3)
    config = dict(
        channels_input=1, channels_output=1, channels_H=conv[0], max_H=max(conv), encoder_n_layers=len(conv), kernel_size=4,
        stride=2, tsfm_n_layers=len(layers), tsfm_n_head=2, tsfm_d_model=d, tsfm_d_inner=2 * d,
    )
    return w, config


def make(name):
    spec = MODELS[name]
    tensors, config = draw(**spec)
    rng = np.random.default_rng(spec["seed"] + 1000)
    expected = {}
    for i, n in enumerate(spec["lengths"]):
        t = np.arange(n)
        audio = (np.sin(t * 0.05) * np.sin(t * 0.4) + 0.5 * rng.standard_normal(n)).astype(np.float32)
        expected[f"samples.{i}"] = audio
        out = forward(tensors, config, audio.astype(np.float64))
        for key in ("bottleneck_in", "norm_f", "denoised", "layer.1"):
            expected[f"{key}.{i}"] = out[key]
    for fault in FAULTS:
        off = rel(forward(tensors, config, audio.astype(np.float64), fault)["denoised"], out["denoised"])
        print(f"{name}: {fault}: {off:.3f}")
        assert off > LEAST, (name, fault, off)
    meta = {"format": "pt", "config": json.dumps(config, sort_keys=True)}
    made = {"made_by": "data/golden/cleanumamba.py, float64"}
    return {"model.safetensors": dump(tensors, meta), "expected.safetensors": dump(expected, made)}


def rel(a, b):
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def against(model, golden, wav):
    tensors, meta = load(pathlib.Path(model))
    with wave.open(wav) as f:
        audio = np.frombuffer(f.readframes(f.getnframes()), "<i2") / 32768.0
    scale = audio.std(ddof=1) + 1e-3
    out = forward(tensors, json.loads(meta["config"]), audio / scale)
    out["denoised"] = out["denoised"] * scale
    want, _ = load(pathlib.Path(golden))
    for key, value in want.items():
        print(f"{key}: {rel(out[key], value):.2e}")
    print(f"norm_f against bottleneck_out: {rel(out['norm_f'], want['bottleneck_out']):.2e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--against", nargs=3)
    args = parser.parse_args()
    if args.against:
        return against(*args.against)
    differs = False
    for name in MODELS:
        folder = HERE / name
        folder.mkdir(exist_ok=True)
        for file, data in make(name).items():
            if not args.check:
                (folder / file).write_bytes(data)
                continue
            (new, _), (old, _) = (load_bytes(data), load(folder / file))
            worst = max((rel(new[k].astype(np.float64), old[k].astype(np.float64)) for k in new), default=0)
            print(f"{name}/{file}: differs by {worst:.1e}")
            differs |= new.keys() != old.keys() or worst > 1e-12
    sys.exit(differs)


def load_bytes(data):
    class Bytes:
        def read_bytes(self):
            return data

    return load(Bytes())


if __name__ == "__main__":
    main()
