"""Expected values for the exported model: golden.safetensors.

    python golden.py --model ../../data/models/mamba-dna-1m --data DATA [--hf]

tokens     int64 [1000], the start of phage lambda
hidden     f32 [1000, d], the last hidden state after the final norm: the f16 weights, a plain NumPy recurrence in float64
hidden_hf  the same by transformers' slow path in f32 (--hf), as a second witness
logits     f32 [1000, 5], hidden times the embeddings, in float64 before rounding
Fails when the two, or the training model on a CPU, disagree.
"""

import argparse
import json
import pathlib

import numpy as np
from safetensors.numpy import load_file, save_file

COUNT = 1000
EPSILON = 1e-5


def silu(v):
    return v / (1 + np.exp(-v))


def norm(v, weight):
    return v / np.sqrt((v * v).mean(-1, keepdims=True) + EPSILON) * weight


def mixer(u, w):
    """u [T, d]; w the mixer's tensors in float64."""
    T, inner = len(u), w["D"].shape[0]
    n, rank = w["A_log"].shape[1], w["dt_proj.weight"].shape[1]
    xz = u @ w["in_proj.weight"].T
    x, z = xz[:, :inner], xz[:, inner:]
    taps = w["conv1d.weight"][:, 0]
    padded = np.concatenate([np.zeros((taps.shape[1] - 1, inner)), x])
    x = silu(w["conv1d.bias"] + sum(taps[:, k] * padded[k:k + T] for k in range(taps.shape[1])))
    low = x @ w["x_proj.weight"].T
    B, C = low[:, rank:rank + n], low[:, rank + n:]
    delta = np.logaddexp(0, low[:, :rank] @ w["dt_proj.weight"].T + w["dt_proj.bias"])
    A = -np.exp(w["A_log"])
    h, y = np.zeros((inner, n)), np.empty((T, inner))
    for t in range(T):
        h = np.exp(delta[t][:, None] * A) * h + (delta[t] * x[t])[:, None] * B[t]
        y[t] = h @ C[t] + w["D"] * x[t]
    return (y * silu(z)) @ w["out_proj.weight"].T


def hidden_states(tensors, tokens):
    w = {name.removeprefix("backbone."): value.astype(np.float64) for name, value in tensors.items()}
    residual = w["embeddings.weight"][tokens]
    layer = 0
    while f"layers.{layer}.norm.weight" in w:
        prefix = f"layers.{layer}.mixer."
        own = {name.removeprefix(prefix): value for name, value in w.items() if name.startswith(prefix)}
        residual = residual + mixer(norm(residual, w[f"layers.{layer}.norm.weight"]), own)
        layer += 1
    return norm(residual, w["norm_f.weight"])


def by_transformers(path, tokens):
    import torch
    from transformers import MambaModel
    model = MambaModel.from_pretrained(path, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(torch.from_numpy(tokens)[None], use_cache=False).last_hidden_state[0].numpy()


def by_training_model(path, tokens):
    import torch
    from evaluate import load
    with torch.no_grad():
        return load(path, "cpu").hidden(torch.from_numpy(tokens)[None])[0][0].numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="what prepare.py wrote")
    parser.add_argument("--hf", action="store_true", help="also by transformers")
    args = parser.parse_args()
    tokens = np.load(args.data / "held_out_lambda.npy")[:COUNT].astype(np.int64)
    tensors = load_file(args.model / "model.safetensors")
    hidden = hidden_states(tensors, tokens)
    logits = hidden @ tensors["backbone.embeddings.weight"].astype(np.float64).T
    golden = {"tokens": tokens, "hidden": hidden.astype(np.float32), "logits": logits.astype(np.float32)}
    others = {"training model": by_training_model(args.model, tokens)}
    if args.hf:
        golden["hidden_hf"] = others["transformers"] = by_transformers(args.model, tokens)
    for name, other in others.items():
        error = np.linalg.norm(other - hidden) / np.linalg.norm(hidden)
        print(f"{name}: relative difference {error:.2e}, largest {np.abs(other - hidden).max():.2e}")
        if not error < 1e-5:
            raise SystemExit(f"{name} disagrees")
    about = {"made_by": "pipelines/training/golden.py", "hidden": "float64 recurrence on the f16 weights, stored f32"}
    save_file(golden, args.model / "golden.safetensors", metadata=about)
    shifted = logits[:-1] - logits[:-1].max(-1, keepdims=True)
    nats = np.log(np.exp(shifted).sum(-1)) - shifted[np.arange(COUNT - 1), tokens[1:]]
    print(json.dumps({"first_1000_of_lambda_bits_per_base": round(float(nats.mean() / np.log(2)), 5)}))


if __name__ == "__main__":
    main()
