"""Writes a trained run as a Hugging Face directory: config.json and model.safetensors, all tensors f16.

    python export.py --run RUN --out ../../data/models/mamba-dna-1m

The averaged weights are taken. There is no lm_head: the embeddings are tied.
"""

import argparse
import json
import pathlib

import torch
from safetensors.torch import save_file

from model import TAPS, VOCAB, Config


def hf_config(config):
    return {
        "architectures": ["MambaForCausalLM"],
        "model_type": "mamba",
        "vocab_size": VOCAB,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "state_size": config.state_size,
        "conv_kernel": TAPS,
        "expand": config.expand,
        "intermediate_size": config.inner,
        "time_step_rank": config.time_step_rank,
        "layer_norm_epsilon": config.layer_norm_epsilon,
        "use_bias": False,
        "use_conv_bias": True,
        "hidden_act": "silu",
        "residual_in_fp32": True,
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
        "mamba_seq": {
            "modality": "dna",
            "tokens": {"A": 0, "C": 1, "G": 2, "T": 3},
            "unknown": 4,
            "complement": {"A": "T", "C": "G", "G": "C", "T": "A"},
        },
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    saved = torch.load(args.run / "weights.pt", map_location="cpu")
    tensors = {name: value.to(torch.float16).contiguous() for name, value in saved["average"].items()}
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise SystemExit(f"{name} does not fit f16")
    args.out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, args.out / "model.safetensors", metadata={"format": "pt"})
    (args.out / "config.json").write_text(json.dumps(hf_config(Config(**saved["config"])), indent=2) + "\n")
    print(json.dumps({"parameters": sum(v.numel() for v in tensors.values()), **saved["done"]}))


if __name__ == "__main__":
    main()
