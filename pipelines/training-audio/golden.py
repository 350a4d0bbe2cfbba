"""Expected values for the exported model: golden.safetensors.

    python golden.py --model ../../data/models/mamba-audio-2m

samples    f32 [8042], half a second of a made signal (two gliding tones, a pulse train, noise); no recording is needed.
           The length is no multiple of the hop: the last frame is zero-padded
hidden     f32 [51, d], the last hidden state of every frame after the final norm, from zero state: the f16 weights, a
           plain NumPy recurrence in float64
mean       f32 [d], their mean over the frames
Fails when the training model, on a CPU in f32, disagrees. It shares no code with the recurrence, which is the one that
checks the DNA model against transformers.
"""

import argparse
import importlib.util
import json
import pathlib

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from audio_model import frame_count
from evaluate import load_model

# The DNA model's recurrence; its file has this one's name, so it is loaded by path.
_spec = importlib.util.spec_from_file_location(
    "dna_golden", pathlib.Path(__file__).resolve().parent.parent / "training" / "golden.py")
dna_golden = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(dna_golden)
mixer, norm = dna_golden.mixer, dna_golden.norm

COUNT = 8042


def signal():
    """Values that f32 holds exactly (multiples of 2^-15, as 16-bit audio)."""
    time = np.arange(COUNT) / 16000
    glide = np.sin(2 * np.pi * (200 * time + 900 * time ** 2)) + 0.5 * np.sin(2 * np.pi * (2500 * time - 1500 * time ** 2))
    pulses = (np.arange(COUNT) % 133 == 0) * 4.0 * (time > 0.25)
    noise = np.random.default_rng(7).standard_normal(COUNT) * 0.2
    wave = (glide * np.sin(np.pi * time / 0.5) + pulses + noise) * 0.15
    return (np.round(np.clip(wave, -1, 1) * 32767) / 32768).astype(np.float32)


def hidden_states(tensors, samples, hop):
    w = {name.removeprefix("backbone."): value.astype(np.float64) for name, value in tensors.items()}
    reach = w["frame_proj.weight"].shape[1]
    frames = frame_count(len(samples), hop, reach)
    padded = np.zeros((frames - 1) * hop + reach)
    padded[:len(samples)] = samples
    residual = np.stack([padded[t * hop:t * hop + reach] for t in range(frames)]) @ w["frame_proj.weight"].T
    residual += w["frame_proj.bias"]
    layer = 0
    while f"layers.{layer}.norm.weight" in w:
        prefix = f"layers.{layer}.mixer."
        own = {name.removeprefix(prefix): value for name, value in w.items() if name.startswith(prefix)}
        residual = residual + mixer(norm(residual, w[f"layers.{layer}.norm.weight"]), own)
        layer += 1
    return norm(residual, w["norm_f.weight"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    args = parser.parse_args()
    samples = signal()
    tensors = load_file(args.model / "model.safetensors")
    hop = json.loads((args.model / "config.json").read_text())["mamba_seq"]["hop"]
    hidden = hidden_states(tensors, samples, hop)
    with torch.no_grad():
        other = load_model(args.model, "cpu")(torch.from_numpy(samples)[None])[0][0].double().numpy()
    error = np.linalg.norm(other - hidden) / np.linalg.norm(hidden)
    print(f"{len(hidden)} frames; training model: relative difference {error:.2e}, largest {np.abs(other - hidden).max():.2e}")
    if not error < 1e-5:
        raise SystemExit("the training model disagrees")
    about = {"made_by": "pipelines/training-audio/golden.py", "hidden": "float64 recurrence on the f16 weights, stored f32"}
    golden = {"samples": samples, "hidden": hidden.astype(np.float32), "mean": hidden.mean(0).astype(np.float32)}
    save_file(golden, args.model / "golden.safetensors", metadata=about)


if __name__ == "__main__":
    main()
