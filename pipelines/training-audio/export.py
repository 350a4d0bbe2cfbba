"""Writes a trained run as a model directory: config.json and model.safetensors, all tensors f16.

    python export.py --run RUN --out ../../data/models/mamba-audio-2m

The averaged weights are taken; the heads stay behind.
"""

import argparse
import json
import pathlib

import torch
from safetensors.torch import save_file

from audio_model import RATE, AudioConfig


def hf_config(config):
    audio = {"modality": "audio", "encoding": config.encoding, "sample_rate": RATE}
    if config.encoding == "frames":
        audio |= {"hop": config.hop, "reach": config.reach}
    return {
        "architectures": ["MambaModel"],
        "model_type": "mamba",
        **({"vocab_size": 256} if config.encoding == "mulaw8" else {}),
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "state_size": config.state_size,
        "conv_kernel": 4,
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
        "mamba_seq": audio,
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
    (args.out / "config.json").write_text(json.dumps(hf_config(AudioConfig(**saved["config"])), indent=2) + "\n")
    print(json.dumps({"parameters": sum(v.numel() for v in tensors.values()), **saved["done"]}))


if __name__ == "__main__":
    main()
