"""Held-out bits per base of an exported model, as the product runs it: f16 weights in f32 arithmetic, each sequence
from its first base to its last with the state carried on.

    python evaluate.py --model ../../data/models/mamba-dna-1m --data DATA --out evaluation.json

Scored: every known base after a known base, by the softmax over all five tokens. Beside the whole: bits per base by
position, and the same positions predicted in independent windows from zero state, which tells whether a long-carried
state helps or harms. On a GPU (f32 products, TF32 off) this takes seconds; on a CPU the plain recurrence is slow.
"""

import argparse
import json
import math
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from model import Config, MambaLM

UNKNOWN = 4
SEGMENT = 65536
WINDOW = 8192
EDGES = (0, 1 << 10, 1 << 13, 1 << 16, 1 << 19, 1 << 40)
HELD_OUT = ("ecoli", "yeast_chrIV", "human", "lambda")


def load(path, device):
    config = json.loads((path / "config.json").read_text())
    names = Config.__dataclass_fields__
    model = MambaLM(Config(**{name: config[name] for name in names}))
    model.load_state_dict({name: value.float() for name, value in load_file(path / "model.safetensors").items()})
    return model.to(device).eval()


def bits(logits, targets):
    """Bits of each target; rows [..., 5]."""
    return F.cross_entropy(logits.transpose(1, 2), targets, reduction="none").double() / math.log(2)


@torch.no_grad()
def carried(model, tokens):
    """Bits of tokens[1:], one pass with the state carried."""
    states, parts = None, []
    for start in range(0, len(tokens) - 1, SEGMENT):
        end = min(start + SEGMENT, len(tokens) - 1)
        logits, states = model(tokens[None, start:end], states)
        parts.append(bits(logits, tokens[None, start + 1:end + 1])[0])
    return torch.cat(parts)


@torch.no_grad()
def windowed(model, tokens, rows=64):
    """Bits of tokens[1:] in windows of WINDOW predictions, each from zero state; the ragged end is left out."""
    count = (len(tokens) - 1) // WINDOW
    inputs, targets = (tokens[s:s + count * WINDOW].view(count, WINDOW) for s in (0, 1))
    parts = [bits(model(inputs[i:i + rows])[0], targets[i:i + rows]).flatten() for i in range(0, count, rows)]
    return torch.cat(parts)


def evaluate(model, bases, device):
    tokens = torch.from_numpy(bases.astype(np.int64)).to(device)
    scored = (tokens[1:] != UNKNOWN) & (tokens[:-1] != UNKNOWN)
    each = carried(model, tokens)
    mean = lambda values, keep: round(values[keep].mean().item(), 5)
    result = {"bases": len(bases), "bits_per_base": mean(each, scored), "by_position": {}}
    position = torch.arange(1, len(tokens), device=device)
    for low, high in zip(EDGES, EDGES[1:]):
        inside = scored & (position >= low) & (position < high)
        if inside.any():
            result["by_position"][f"from_{low}"] = mean(each, inside)
    first = position < WINDOW
    result["first_8192"] = mean(each, scored & first)
    if (~first).any():
        result["after_8192"] = mean(each, scored & ~first)
    if len(tokens) > 2 * WINDOW:
        alone = windowed(model, tokens)
        # From the second window on, so that the two differ in the state only.
        same = scored[:len(alone)] & ~first[:len(alone)]
        result["windows_of_8192"] = {"from_zero_state": mean(alone, same), "carried": mean(each[:len(alone)], same)}
        late = same & (position[:len(alone)] % WINDOW >= WINDOW // 2)
        result["second_half_of_windows"] = {"from_zero_state": mean(alone, late),
                                            "carried": mean(each[:len(alone)], late)}
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="what prepare.py wrote")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--bases", type=int, default=0, help="only the first so many of each sequence (tests)")
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    model = load(args.model, args.device)
    results = {}
    for name in HELD_OUT:
        bases = np.load(args.data / f"held_out_{name}.npy")
        results[name] = evaluate(model, bases[:args.bases] if args.bases else bases, args.device)
        print(name, json.dumps(results[name]), flush=True)
    args.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
