#!/usr/bin/env python3
"""Make `nll.safetensors` of the golden models: what each token costs, from two oracles that share no code with the project.

    python data/golden/nll.py            write NAME/nll.safetensors, and mamba-dna-1m/nll.safetensors for the built-in model
    python data/golden/nll.py --check    make them again and print how far the files here differ

Needs what make.py needs; runs on the CPU, offline, in some 10 s.

`hf.I`: negative log-likelihood of token t of record I given the tokens before it, in nats: log-softmax over all rows of the
head of transformers' MambaForCausalLM, slow path, f32. Token 0 has nothing to its left and is NaN.
`f64.I`: the same from the float64 scan of make.py and the head in float64. Record I of the built-in model is its own golden record.
"""

import pathlib
import sys

sys.dont_write_bytecode = True
import make  # sets up transformers for the CPU, offline
import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from transformers import MambaForCausalLM

HERE = make.HERE
BUILT_IN = HERE.parent / "models" / "mamba-dna-1m"


def cost(logits, tokens):
    """-log softmax of each token from the logits before it, in the type of the logits."""
    top = logits.max(axis=-1, keepdims=True)
    log_sum = np.log(np.exp(logits - top).sum(axis=-1)) + top[:, 0]
    nll = np.full(len(tokens), np.nan, logits.dtype)
    at = np.arange(len(tokens) - 1)
    nll[1:] = log_sum[:-1] - logits[at, tokens[1:]]
    return nll


def of(folder, tokens):
    hf = MambaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    weights = {k: v.detach().numpy().astype(np.float64) for k, v in hf.state_dict().items()}
    head = weights["lm_head.weight"]
    model = dict(w=weights, layers=hf.config.num_hidden_layers, eps=hf.config.layer_norm_epsilon, rms=True,
                 embedding="backbone.embeddings.weight")
    out = {}
    for i, ids in enumerate(tokens):
        with torch.inference_mode():
            logits = hf(torch.from_numpy(ids)[None]).logits[0]
            nll = torch.full((len(ids),), float("nan"))
            nll[1:] = -torch.log_softmax(logits[:-1], -1)[torch.arange(len(ids) - 1), torch.from_numpy(ids[1:])]
        out[f"hf.{i}"] = nll.numpy()
        _, last, _ = make.forward(model, ids)
        out[f"f64.{i}"] = cost(last @ head.T, ids)
        off = np.nanmax(np.abs(out[f"hf.{i}"] - out[f"f64.{i}"])) if len(ids) > 1 else 0.0
        print(f"{folder.name} record {i}: {len(ids)} tokens, mean {np.nanmean(out[f'f64.{i}']) if len(ids) > 1 else float('nan'):.4f}, HF to float64 {off:.1e}")
        assert off < 5e-5
    return out


def main():
    made = {}
    for name in make.HF:
        expected = load_file(HERE / name / "expected.safetensors")
        tokens = [expected[f"tokens.{i}"] for i in range(3)]
        made[name] = of(HERE / name, tokens)
    golden = load_file(BUILT_IN / "golden.safetensors")
    made[BUILT_IN.name] = of(BUILT_IN, [golden["tokens"].astype(np.int64)])
    for name, tensors in made.items():
        path = HERE / name / "nll.safetensors"
        if "--check" in sys.argv[1:]:
            old = load_file(path)
            assert old.keys() == tensors.keys(), name
            print(name, max(float(np.nanmax(np.abs(old[k] - v))) for k, v in tensors.items() if len(v) > 1))
            continue
        path.parent.mkdir(exist_ok=True)
        save_file(tensors, path)


if __name__ == "__main__":
    main()
