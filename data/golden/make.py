#!/usr/bin/env python3
"""Make the Mamba-1 golden fixtures of this directory with two oracles that share no code with the project.

    python data/golden/make.py            write NAME/{config.json,model.safetensors,expected.safetensors}, the table in README.md
    python data/golden/make.py --check    regenerate into a temporary directory and print how far the files here differ

Needs torch, transformers 5.24, numpy and safetensors; runs on the CPU, offline, in some 10 s.

Oracle 1, `hf.*`: transformers' MambaForCausalLM loaded from the saved directory, slow path, f32, batch 1, no padding.
Oracle 2, `f64.*`: `forward` below, a token-by-token scan in float64 NumPy that reads the same f32 weights.

Layer numbers are the project's: K = 0 is the embedding output, 0 < K < n_layer the residual stream after block K, not
normalised. transformers 5.24 returns no embedding entry, so K > 0 is its `hidden_states[K - 1]`.

A fixture is only kept if a wrong scan would show. The maker asserts, besides the agreement of the oracles, how much the
output moves under each of the faults in FAULTS.
"""

import argparse
import json
import math
import os
import pathlib
import platform
import re
import sys
import tempfile

sys.dont_write_bytecode = True
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import torch
import transformers
from safetensors import __version__ as safetensors_version
from safetensors.numpy import load_file, save_file
from transformers import MambaConfig, MambaForCausalLM

from bench_model import MAMBA_SEQ, draw

HERE = pathlib.Path(__file__).resolve().parent
AGREE = 5e-6  # norm-wise, HF f32 against float64, every record and layer
DT = (2e-3, 3.0)  # range of softplus(dt_proj.bias); a fresh Mamba has 1e-3..1e-1

# name: seed, record lengths, K of the intermediate layer, whether final states are kept, configuration. Each seed
# was picked among 40 for a large share of the scan in every record, HF f32 within 1e-6 of float64 and activations under 25:
# many other draws give a scan of little weight, or extremes that amplify rounding.
HF = {
    "d13-n16-k4-e2": dict(
        seed=1335, lengths=(1, 7, 150), layer=2, states=True,
        cfg=dict(hidden_size=13, num_hidden_layers=3, state_size=16, conv_kernel=4, expand=2, vocab_size=5),
    ),
    "d24-n8-k3-e1": dict(
        seed=2436, lengths=(1, 7, 150), layer=2,
        cfg=dict(hidden_size=24, num_hidden_layers=4, state_size=8, conv_kernel=3, expand=1, vocab_size=16,
                 time_step_rank=5, use_bias=True, tie_word_embeddings=False),
    ),
    "d29-n4-k2-e1": dict(
        seed=2916, lengths=(1, 5, 151), layer=1,
        cfg=dict(hidden_size=29, num_hidden_layers=2, state_size=4, conv_kernel=2, expand=1, vocab_size=8,
                 use_conv_bias=False),
    ),
    "d33-n16-k4-e1": dict(
        seed=3314, lengths=(2, 9, 150), layer=0,
        cfg=dict(hidden_size=33, num_hidden_layers=1, state_size=16, conv_kernel=4, expand=1, vocab_size=6,
                 time_step_rank=7, use_bias=True, use_conv_bias=False, layer_norm_epsilon=1e-3),
    ),
    "d18-n64-k3-e3": dict(
        seed=1810, lengths=(1, 7, 157), layer=0,
        cfg=dict(hidden_size=18, num_hidden_layers=1, state_size=64, conv_kernel=3, expand=3, vocab_size=11),
    ),
    "d27-n24-k4-e2": dict(
        seed=2712, lengths=(3, 8, 152), layer=1,
        cfg=dict(hidden_size=27, num_hidden_layers=2, state_size=24, conv_kernel=4, expand=2, vocab_size=13,
                 time_step_rank=3, tie_word_embeddings=False),
    ),
}
ORIGINAL = dict(
    name="original", seed=1707, lengths=(1, 7, 150), layer=1,
    cfg=dict(d_model=17, n_layer=2, vocab_size=5, ssm_cfg={}, rms_norm=False, residual_in_fp32=True, fused_add_norm=True,
             pad_vocab_size_multiple=8, tie_embeddings=True),
)

# A fault and the least norm-wise change of the output (long record) it must cause. AGREE is 5e-6.
FAULTS = {
    "C = 0": 0.5,
    "A = 0": 0.05,
    "A = -1": 0.05,
    "A_log not exponentiated": 0.05,
    "D = 0": 0.05,
    "dt bias = 0": 0.05,
    "ReLU for softplus": 0.01,
    "exact ZOH for B": 0.01,
    "B and C exchanged": 0.05,
    "state forgotten each step": 0.05,
    "state lost at half the record": 1e-3,
    "conv columns lost at half the record": 1e-3,
    "conv taps reversed": 0.05,
    "no SiLU after conv": 0.05,
    "no SiLU on gate": 0.05,
    "x and z exchanged": 0.05,
    "no conv bias": 0.01,
    "no in_proj bias": 0.01,
    "no out_proj bias": 0.01,
    "norm weights = 1": 0.05,
    "no residual": 0.05,
    "norm eps = 0": 1e-5,
}


def rel(a, b):
    """Norm-wise relative difference of a from b."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


# ---------------------------------------------------------------------------------------------- oracle 2: float64 NumPy


def sigmoid(v):
    e = np.exp(-np.abs(v))
    return np.where(v >= 0, 1, e) / (1 + e)


def silu(v):
    return v * sigmoid(v)


def norm(v, weight, bias, eps, rms):
    if not rms:
        v = v - v.mean(axis=-1, keepdims=True)
    v = v / np.sqrt((v * v).mean(axis=-1, keepdims=True) + eps) * weight
    return v if bias is None else v + bias


def forward(model, tokens, fault=None):
    """(stream after 0..n_layer blocks, output of the final norm, [(h, conv columns, dt)] per layer), all float64."""
    w, rms = model["w"], model["rms"]
    eps = 0.0 if fault == "norm eps = 0" else model["eps"]
    length = len(tokens)

    def get(key):
        return w.get(key)

    def norm_at(key, v):
        weight = get(key + ".weight")
        return norm(v, np.ones_like(weight) if fault == "norm weights = 1" else weight, get(key + ".bias"), eps, rms)

    stream = [w[model["embedding"]][tokens]]
    finals = []
    for i in range(model["layers"]):
        p = f"backbone.layers.{i}."
        m = p + "mixer."
        u = norm_at(p + "norm", stream[-1])
        xz = u @ w[m + "in_proj.weight"].T
        if m + "in_proj.bias" in w and fault != "no in_proj bias":
            xz = xz + w[m + "in_proj.bias"]
        di = xz.shape[1] // 2
        x, z = xz[:, :di], xz[:, di:]
        if fault == "x and z exchanged":
            x, z = z, x

        taps = w[m + "conv1d.weight"][:, 0, :]  # (d_inner, k), tap k-1 is the current token
        if fault == "conv taps reversed":
            taps = taps[:, ::-1]
        k = taps.shape[1]
        padded = np.concatenate([np.zeros((k - 1, di)), x])
        conv = np.zeros((length, di))
        for t in range(length):
            columns = padded[t : t + k]
            if fault == "conv columns lost at half the record" and t >= length // 2:
                columns = columns * (np.arange(t - k + 1, t + 1) >= length // 2)[:, None]
            conv[t] = (columns * taps.T).sum(axis=0)
        if m + "conv1d.bias" in w and fault != "no conv bias":
            conv = conv + w[m + "conv1d.bias"]
        x = conv if fault == "no SiLU after conv" else silu(conv)

        a_log, d_skip = w[m + "A_log"], w[m + "D"]
        n = a_log.shape[1]
        rank = w[m + "dt_proj.weight"].shape[1]
        dbc = x @ w[m + "x_proj.weight"].T
        raw, b, c = dbc[:, :rank], dbc[:, rank : rank + n], dbc[:, rank + n :]
        if fault == "B and C exchanged":
            b, c = c, b
        if fault == "C = 0":
            c = np.zeros_like(c)
        raw = raw @ w[m + "dt_proj.weight"].T
        bias = w[m + "dt_proj.bias"]
        if fault == "dt bias = 0":
            bias = np.zeros_like(bias)
        dt = np.maximum(0, raw + bias) if fault == "ReLU for softplus" else np.logaddexp(0, raw + bias)
        a = -np.exp(a_log)
        if fault == "A = 0":
            a = np.zeros_like(a)
        if fault == "A = -1":
            a = -np.ones_like(a)
        if fault == "A_log not exponentiated":
            a = -np.abs(a_log)

        h = np.zeros((di, n))
        y = np.zeros((length, di))
        for t in range(length):
            if fault == "state forgotten each step" or (fault == "state lost at half the record" and t == length // 2):
                h = np.zeros((di, n))
            decay = np.exp(dt[t][:, None] * a)
            gain = dt[t][:, None] if fault != "exact ZOH for B" else (decay - 1) / a
            h = decay * h + gain * b[t][None, :] * x[t][:, None]
            y[t] = (h * c[t][None, :]).sum(axis=1)
        y = y + (0 if fault == "D = 0" else d_skip * x)
        y = y * (z if fault == "no SiLU on gate" else silu(z))
        out = y @ w[m + "out_proj.weight"].T
        if m + "out_proj.bias" in w and fault != "no out_proj bias":
            out = out + w[m + "out_proj.bias"]
        stream.append(out if fault == "no residual" else stream[-1] + out)
        finals.append((h, padded[length:].T.copy(), dt))
    return stream, norm_at("backbone.norm_f", stream[-1]), finals


def applies(fault, model):
    """Whether the model has what the fault takes away."""
    key = {"no conv bias": "conv1d.bias", "no in_proj bias": "in_proj.bias", "no out_proj bias": "out_proj.bias"}.get(fault)
    return key is None or any(name.endswith(key) for name in model["w"])


# ---------------------------------------------------------------------------------------------------------- the maker


def records(seed, lengths):
    """Token ids 0..3 (ACGT) and, one time in twenty, 4 (the unknown token), so that a FASTA file can spell every record."""
    rng = np.random.Generator(np.random.PCG64(seed + 1_000_000))
    out = []
    for length in lengths:
        ids = rng.integers(0, 4, length)
        ids[rng.random(length) < 0.05] = 4
        out.append(ids.astype(np.int64))
    return out


def write_config(path, config):
    path.write_text(json.dumps(config | {"mamba_seq": MAMBA_SEQ}, indent=2, sort_keys=True) + "\n")


def build_hf(folder, seed, cfg):
    config = MambaConfig(**cfg)
    model = MambaForCausalLM(config)
    tensors = draw(
        seed, d=config.hidden_size, layers=config.num_hidden_layers, rows=config.vocab_size, n=config.state_size,
        k=config.conv_kernel, di=config.intermediate_size, rank=config.time_step_rank, bias=config.use_bias,
        conv_bias=config.use_conv_bias, tied=config.tie_word_embeddings, dt=DT,
    )
    state = {k: torch.from_numpy(v) for k, v in tensors.items()}
    if config.tie_word_embeddings:
        state["lm_head.weight"] = state["backbone.embeddings.weight"]
    model.load_state_dict(state, strict=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    write_config(folder / "config.json", json.loads((folder / "config.json").read_text()))
    on_disk = load_file(folder / "model.safetensors")
    assert on_disk.keys() == tensors.keys(), on_disk.keys() ^ tensors.keys()
    assert all(v.dtype == np.float32 and np.array_equal(v, tensors[k]) for k, v in on_disk.items())
    return dict(w={k: v.astype(np.float64) for k, v in on_disk.items()}, layers=config.num_hidden_layers,
                eps=config.layer_norm_epsilon, rms=True, embedding="backbone.embeddings.weight")


def build_original(folder, seed, cfg):
    d, layers = cfg["d_model"], cfg["n_layer"]
    rows = math.ceil(cfg["vocab_size"] / cfg["pad_vocab_size_multiple"]) * cfg["pad_vocab_size_multiple"]
    tensors = draw(seed, d=d, layers=layers, rows=rows, di=2 * d, rank=math.ceil(d / 16), dt=DT)
    rng = np.random.Generator(np.random.PCG64(seed + 2_000_000))
    for key in [k for k in tensors if k.endswith(("norm.weight", "norm_f.weight"))]:
        tensors[key.removesuffix("weight") + "bias"] = 0.3 * rng.standard_normal(d, dtype=np.float32)
    tensors["backbone.embedding.weight"] = tensors.pop("backbone.embeddings.weight")
    tensors["lm_head.weight"] = tensors["backbone.embedding.weight"].copy()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_config(folder / "config.json", cfg)
    on_disk = load_file(folder / "model.safetensors")
    return dict(w={k: v.astype(np.float64) for k, v in on_disk.items()}, layers=layers, eps=1e-5, rms=False,
                embedding="backbone.embedding.weight")


def hf_forward(model, tokens, cache=False):
    with torch.inference_mode():
        return model.backbone(torch.from_numpy(tokens)[None], output_hidden_states=True, use_cache=cache)


def hf_stream(model, out, tokens, k):
    """The residual stream after k blocks. hidden_states: one entry after each block, then the final norm; no embedding."""
    assert len(out.hidden_states) == model.config.num_hidden_layers + 1
    if k == 0:
        with torch.inference_mode():
            return model.backbone.embeddings(torch.from_numpy(tokens)).numpy()
    return out.hidden_states[k - 1][0].numpy()


def layer_norm_twin(model, cfg):
    """transformers' model with nn.LayerNorm for its RMSNorm and the original-layout weights: only to check `forward`."""
    config = MambaConfig(hidden_size=cfg["d_model"], num_hidden_layers=cfg["n_layer"],
                         vocab_size=model["w"]["lm_head.weight"].shape[0])
    twin = MambaForCausalLM(config)
    for block in twin.backbone.layers:
        block.norm = torch.nn.LayerNorm(config.hidden_size, eps=1e-5)
    twin.backbone.norm_f = torch.nn.LayerNorm(config.hidden_size, eps=1e-5)
    state = {k.replace("embedding.", "embeddings."): torch.from_numpy(v).float() for k, v in model["w"].items()}
    twin.load_state_dict(state, strict=True)
    return twin.eval()


def without_c(model, layer):
    """The model with the C rows of one layer's x_proj set to zero, so that this layer's scan is not read."""
    key = f"backbone.layers.{layer}.mixer."
    x_proj = model["w"][key + "x_proj.weight"].copy()
    x_proj[-model["w"][key + "A_log"].shape[1] :] = 0
    return model | {"w": model["w"] | {key + "x_proj.weight": x_proj}}


def check_faults(name, model, tokens, last):
    """Assert that each fault shows on the long record; return {fault: change}."""
    moved = {}
    for fault, least in FAULTS.items():
        if not applies(fault, model):
            continue
        moved[fault] = rel(forward(model, tokens, fault)[1], last)
        assert moved[fault] >= least, f"{name}: '{fault}' moves the output by {moved[fault]:.2e}, wanted {least:g}"
    return moved


def expect(name, spec, folder, model, hf, save_hf):
    """Write expected.safetensors, with every assertion; return the row for the report."""
    k, out, errors, scan = spec["layer"], {}, [], []
    for i, tokens in enumerate(records(spec["seed"], spec["lengths"])):
        stream, last, finals = forward(model, tokens)
        out |= {f"tokens.{i}": tokens, f"f64.last.{i}": last, f"f64.layer.{k}.{i}": stream[k]}
        h = hf_forward(hf, tokens, cache=True)
        pairs = [(h.last_hidden_state[0].numpy(), last), (hf_stream(hf, h, tokens, k), stream[k])]
        pairs += [(hf_stream(hf, h, tokens, j), stream[j]) for j in range(model["layers"] + 1)]
        for layer, (state, columns, _) in enumerate(finals):
            pairs.append((h.cache.get_recurrent_state(layer, state_idx=0)[0].numpy(), state))
            cached = h.cache.get_conv_state(layer, state_idx=0)[0].numpy()
            pairs.append((cached[:, cached.shape[1] - columns.shape[1] :], columns))
            if spec.get("states"):
                out |= {f"f64.ssm_state.{layer}.{i}": state, f"f64.conv_state.{layer}.{i}": columns}
        worst = max(rel(a, b) for a, b in pairs)
        assert worst <= AGREE, f"{name}, record {i}: HF and float64 differ by {worst:.2e}"
        assert np.isfinite(last).all() and max(np.abs(s).max() for s in stream) < 25, f"{name}: activations run away"
        if save_hf:
            out |= {f"hf.last.{i}": pairs[0][0], f"hf.layer.{k}.{i}": pairs[1][0]}
        errors.append((rel(*pairs[0]), worst))
        scan.append(rel(forward(model, tokens, "C = 0")[1], last))
    dt = np.concatenate([f[2].ravel() for f in finals])  # of the long record
    assert (dt > 1).mean() > 0.05 and (dt < 0.01).mean() > 0.05, f"{name}: dt spans {dt.min():.1e}..{dt.max():.1e}"
    assert min(scan) >= FAULTS["C = 0"], f"{name}: C = 0 changes the records by {scan}"
    one = [rel(forward(without_c(model, j), tokens)[1], last) for j in range(model["layers"])]
    assert min(one) > 0.1, f"{name}: C = 0 in one layer changes the long record by {one}"
    moved = check_faults(name, model, tokens, last)
    save_file({key: np.ascontiguousarray(v) for key, v in out.items()}, folder / "expected.safetensors")
    for file in folder.iterdir():
        file.chmod(0o644)
    return dict(name=name, lengths=spec["lengths"], layer=k, scan=scan, one=one, errors=errors, dt=dt, moved=moved,
                bytes=sum(f.stat().st_size for f in folder.iterdir()), peak=max(np.abs(s).max() for s in stream))


def make(root):
    rows = []
    for name, spec in HF.items():
        folder = root / name
        model = build_hf(folder, spec["seed"], spec["cfg"])
        hf, info = MambaForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
        assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
        rows.append(expect(name, spec, folder, model, hf.eval(), True) | dict(cfg=describe(hf.config)))
    folder = root / ORIGINAL["name"]
    model = build_original(folder, ORIGINAL["seed"], ORIGINAL["cfg"])
    twin = layer_norm_twin(model, ORIGINAL["cfg"])
    rows.append(expect(ORIGINAL["name"], ORIGINAL, folder, model, twin, False)
                | dict(cfg="d 17, 2 layers, n 16, k 4, expand 2, r 2, V 8, LayerNorm, tied (lm_head saved)"))
    return rows


def describe(c):
    return (f"d {c.hidden_size}, {c.num_hidden_layers} layer{'s' * (c.num_hidden_layers > 1)}, n {c.state_size}, k {c.conv_kernel}, "
            f"expand {c.expand}, r {c.time_step_rank}, V {c.vocab_size}, bias {'on' if c.use_bias else 'off'}, "
            f"conv bias {'on' if c.use_conv_bias else 'off'}, {'tied' if c.tie_word_embeddings else 'untied'}, "
            f"eps {c.layer_norm_epsilon:g}")


def versions():
    return (f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}, "
            f"numpy {np.__version__}, safetensors {safetensors_version}")


def table(rows):
    out = ["| directory | configuration | record lengths | K | C = 0 changes each record by | C = 0 in one layer, long record | A = 0; D = 0 | HF - f64, last | HF - f64, worst | dt (1 %, 99 %) | kB |",
           "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for r in rows:
        lo, hi = np.quantile(r["dt"], [0.01, 0.99])
        out.append(
            f"| `{r['name']}` | {r['cfg']} | {', '.join(map(str, r['lengths']))} | {r['layer']} | "
            f"{', '.join(f'{s:.2f}' for s in r['scan'])} | {', '.join(f'{s:.2f}' for s in r['one'])} | {r['moved']['A = 0']:.2f}; {r['moved']['D = 0']:.2f} | "
            f"{', '.join(f'{e[0]:.1e}' for e in r['errors'])} | {max(e[1] for e in r['errors']):.1e} | "
            f"{lo:.4f}, {hi:.1f} | {r['bytes'] / 1000:.0f} |")
    return "\n".join(out)


def faults_table(rows):
    out = ["| fault | least change, 7 models | asserted |", "| --- | --- | --- |"]
    for fault, least in FAULTS.items():
        seen = [r["moved"][fault] for r in rows if fault in r["moved"]]
        out.append(f"| {fault} | {min(seen):.1e} | {least:g} |")
    return "\n".join(out)


def write_readme(rows):
    path = HERE / "README.md"
    text = path.read_text()
    for mark, body in (("models", table(rows)), ("faults", faults_table(rows)), ("versions", versions())):
        text, n = re.subn(rf"(<!-- {mark} -->\n\n).*?(\n\n<!-- end -->)", lambda m: m[1] + body + m[2], text, flags=re.S)
        assert n == 1, f"README.md has no place marked {mark}"
    path.write_text(text)


def compare(root):
    """Compare the regenerated files with those here; return how many tensors or files differ too much."""
    bad = 0
    limits = {"tokens": 0.0, "f64": 1e-12, "hf": 2e-6}  # HF's last digits depend on the CPU and its BLAS
    for folder in sorted(p for p in root.iterdir() if p.is_dir()):
        here = HERE / folder.name
        old, new = (json.loads((f / "config.json").read_text()) for f in (here, folder))
        old.pop("transformers_version", None), new.pop("transformers_version", None)
        notes = [] if old == new else ["config.json differs"]
        worst = {}
        for file in ("model.safetensors", "expected.safetensors"):
            a, b = load_file(here / file), load_file(folder / file)
            for key in sorted(a.keys() | b.keys()):
                group = "weights" if file == "model.safetensors" else key.split(".")[0]
                if key not in a or key not in b:
                    notes.append(f"{key} is only in the {'old' if key in a else 'new'} file")
                elif (a[key].shape, a[key].dtype) != (b[key].shape, b[key].dtype):
                    notes.append(f"{key} is {a[key].dtype} {a[key].shape} here, {b[key].dtype} {b[key].shape} remade")
                elif not np.array_equal(a[key], b[key]):
                    worst[group] = max(worst.get(group, 0.0), rel(b[key], a[key]))
                else:
                    worst.setdefault(group, 0.0)
        notes += [f"{g} over its limit" for g, v in worst.items() if not v <= limits.get(g, 0.0)]
        bad += len(notes)
        print(f"{folder.name:16} " + ", ".join(f"{g} {v:.1e}" for g, v in sorted(worst.items())) + "".join(f"; {n}" for n in notes))
    return bad


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--check", action="store_true", help="write nothing here; regenerate elsewhere and show the difference")
    args = ap.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    print(versions())
    if args.check:
        with tempfile.TemporaryDirectory() as tmp:
            rows = make(pathlib.Path(tmp))
            print(table(rows), "", "Norm-wise difference, remade against here:", sep="\n")
            bad = compare(pathlib.Path(tmp))
        print("all within limits" if not bad else f"{bad} differences over the limits")
        sys.exit(bool(bad))
    rows = make(HERE)
    print(table(rows), "", faults_table(rows), "", sep="\n")
    print("peak |activation|: " + ", ".join(f"{r['name']} {r['peak']:.1f}" for r in rows))
    print(f"total {sum(r['bytes'] for r in rows):,} bytes")
    write_readme(rows)


if __name__ == "__main__":
    main()
