#!/usr/bin/env python3
"""Write a random Mamba-1 model directory in Hugging Face layout, of any size, with numpy and safetensors only.

    python bench_model.py DIR --d-model 32 --layers 2 --seed 1

For memory and speed tests, where the values do not matter but their scale does: activations and B, C are of order 1, dt is
spread over 1e-3..1e-1 as in a fresh Mamba, and A = -(1..d_state), shaken by a factor exp(0.3 N(0,1)). `draw` also makes the
golden models of make.py, with a wider dt. Same arguments and numpy version, same bytes.
"""

import argparse
import json
import math
import pathlib

import numpy as np

MAMBA_SEQ = {
    "modality": "dna",
    "tokens": {"A": 0, "C": 1, "G": 2, "T": 3},
    "unknown": 4,
    "complement": {"A": "T", "C": "G", "G": "C", "T": "A"},
}


def draw(seed, *, d, layers, rows, n=16, k=4, di, rank, bias=False, conv_bias=True, tied=True, dt=(1e-3, 1e-1)):
    """Random f32 tensors under their Hugging Face names. `rows`: rows of the embedding; `dt`: range of softplus(dt_proj.bias)."""
    rng = np.random.Generator(np.random.PCG64(seed))

    def normal(std, *shape):
        return rng.standard_normal(shape, dtype=np.float32) * np.float32(std)

    def norm_weight():
        return np.exp(normal(0.3, d))

    t = {"backbone.embeddings.weight": normal(0.3, rows, d)}
    for i in range(layers):
        p = f"backbone.layers.{i}."
        m = p + "mixer."
        t[p + "norm.weight"] = norm_weight()
        t[m + "in_proj.weight"] = normal(0.8 * d**-0.5, 2 * di, d)
        t[m + "conv1d.weight"] = normal(k**-0.5, di, 1, k)
        # After convolution and SiLU x has an rms of about 0.6 and a mean of 0.25. Each row of B and C gets a steady part, carried
        # by that mean, beside one that follows the token; the products B.C come out near 2 whatever the state size.
        def bc():
            return n**-0.25 * (normal(1.2 * di**-0.5, n, di) + normal(1.2 / (0.25 * di), n, 1))

        t[m + "x_proj.weight"] = np.concatenate([normal(di**-0.5, rank, di), bc(), bc()])
        t[m + "dt_proj.weight"] = normal(0.6 * rank**-0.5, di, rank)
        step = np.exp(rng.uniform(math.log(dt[0]), math.log(dt[1]), di))
        t[m + "dt_proj.bias"] = (step + np.log(-np.expm1(-step))).astype(np.float32)  # inverse of softplus
        a = np.log(np.arange(1, n + 1, dtype=np.float32))
        t[m + "A_log"] = a[None, :] + normal(0.3, di, n)
        t[m + "D"] = normal(0.5, di)
        t[m + "out_proj.weight"] = normal(1.3 * di**-0.5, d, di)
        if conv_bias:
            t[m + "conv1d.bias"] = normal(0.3, di)
        if bias:
            t[m + "in_proj.bias"] = normal(0.3, 2 * di)
            t[m + "out_proj.bias"] = normal(0.3, d)
    t["backbone.norm_f.weight"] = norm_weight()
    if not tied:
        t["lm_head.weight"] = normal(d**-0.5, rows, d)
    return t


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("dir", type=pathlib.Path, metavar="DIR")
    ap.add_argument("--d-model", type=int, default=32)
    ap.add_argument("--layers", type=int, default=2)
    ap.add_argument("--d-state", type=int, default=16)
    ap.add_argument("--d-conv", type=int, default=4)
    ap.add_argument("--expand", type=int, default=2)
    ap.add_argument("--dt-rank", type=int, help="default: d_model / 16, rounded up")
    ap.add_argument("--vocab", type=int, default=8, help="rows of the embedding, 5 or more (default 8)")
    ap.add_argument("--seed", type=int, default=1)
    a = ap.parse_args()
    if a.vocab < 5:
        ap.error("--vocab: A, C, G, T and the unknown token need 5 rows")
    from safetensors.numpy import save_file

    rank = a.dt_rank or math.ceil(a.d_model / 16)
    config = {
        "architectures": ["MambaForCausalLM"],
        "bos_token_id": 0,
        "conv_kernel": a.d_conv,
        "dtype": "float32",
        "eos_token_id": 0,
        "expand": a.expand,
        "hidden_act": "silu",
        "hidden_size": a.d_model,
        "intermediate_size": a.expand * a.d_model,
        "layer_norm_epsilon": 1e-05,
        "mamba_seq": MAMBA_SEQ,
        "model_type": "mamba",
        "num_hidden_layers": a.layers,
        "pad_token_id": 0,
        "residual_in_fp32": True,
        "state_size": a.d_state,
        "tie_word_embeddings": True,
        "time_step_rank": rank,
        "use_bias": False,
        "use_conv_bias": True,
        "vocab_size": a.vocab,
    }
    tensors = draw(
        a.seed, d=a.d_model, layers=a.layers, rows=a.vocab, n=a.d_state, k=a.d_conv, di=a.expand * a.d_model, rank=rank
    )
    a.dir.mkdir(parents=True, exist_ok=True)
    save_file(tensors, a.dir / "model.safetensors", metadata={"format": "pt"})
    (a.dir / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    count = sum(t.size for t in tensors.values())
    print(f"{a.dir}: {a.layers} layers of d_model {a.d_model}, {count:,} parameters, {4 * count:,} bytes of f32")


if __name__ == "__main__":
    main()
