"""Trains the model on one GPU.

    python train.py --data DATA --out RUN --minutes 9.4 --total-minutes 18
    python train.py --data DATA --out RUN --minutes 8.6 --total-minutes 18 --resume

Each of --batch streams walks along the training bases (either strand, laid out one after the other) from a random place
and takes --length bases a step. Its state goes on from step to step, the gradient does not, so the model is trained on
states as old as a stream: a stream starts anew, from zeros, after 64 kb on average. The learning rate follows trained
minutes, warm-up then cosine, so a run can be cut in pieces. Writes RUN/weights.pt (weights, their average, counters),
RUN/moments.pt (AdamW's moments) and RUN/log.jsonl, about once a minute.
"""

import argparse
import json
import math
import os
import pathlib
import time

import numpy as np
import torch
import torch.nn.functional as F

from model import VOCAB, Config, MambaLM

UNKNOWN = 4
STREAM_BASES = 65536
IGNORED = -100


class Streams:
    """Batches of consecutive segments. Random numbers and indexing stay on the device: no waiting for the host."""

    def __init__(self, bases, batch, length, device, mutate):
        forward = torch.from_numpy(bases).to(device)
        flipped = torch.flip(torch.where(forward == UNKNOWN, forward, 3 - forward), [0])
        self.bases = torch.cat([forward, flipped])
        self.batch, self.length, self.device, self.mutate = batch, length, device, mutate
        self.position = self.anywhere()

    def anywhere(self):
        return (torch.rand(self.batch, device=self.device, dtype=torch.float64)
                * (len(self.bases) - self.length - 1)).long()

    def next(self):
        """Inputs, targets (IGNORED where unknown) and which streams begin anew."""
        fresh = torch.rand(self.batch, device=self.device) < self.length / STREAM_BASES
        fresh |= self.position + self.length + 1 > len(self.bases)
        self.position = torch.where(fresh, self.anywhere(), self.position)
        steps = torch.arange(self.length + 1, device=self.device)
        tokens = self.bases[self.position[:, None] + steps]
        self.position = self.position + self.length

        # Runs of unknown bases, 1 to 200 long, in a quarter of the segments: they train the unknown token's embedding.
        draw = lambda: torch.rand(self.batch, 1, device=self.device)
        start = (draw() * self.length).long()
        size = torch.where(draw() < 0.25, torch.exp(draw() * math.log(200)).long(), 0)
        unknown = (steps >= start) & (steps < start + size)
        targets = torch.where(unknown | (tokens == UNKNOWN), IGNORED, tokens.long())[:, 1:]
        # A few substituted bases in the input, not in the targets: the genomes are small and seen many times.
        swap = (torch.rand(tokens.shape, device=self.device) < self.mutate) & (tokens != UNKNOWN)
        other = (tokens + torch.randint(1, 4, tokens.shape, device=self.device, dtype=torch.uint8)) % 4
        inputs = torch.where(unknown, UNKNOWN, torch.where(swap, other, tokens))[:, :-1]
        return inputs, targets, fresh


def loss_of(model, inputs, targets, states=None):
    logits, states = model(inputs, states)
    return F.cross_entropy(logits.reshape(-1, VOCAB), targets.reshape(-1), ignore_index=IGNORED), states


def autocast(device):
    return torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda")


@torch.no_grad()
def dev_bits(model, dev, device, length=8192):
    """Bits per base on the dev pieces, in segments from zero state: comparable between runs, not the final figure."""
    length = min(length, len(dev) - 1)
    rows = (len(dev) - 1) // length
    tokens = torch.from_numpy(dev.astype(np.int64)).to(device)
    inputs, targets = (tokens[s:s + rows * length].view(rows, length) for s in (0, 1))
    with autocast(device):
        loss, _ = loss_of(model, inputs, torch.where(targets == UNKNOWN, IGNORED, targets))
    return loss.item() / math.log(2)


def learning_rate(args, step, minutes):
    warm = min(1.0, (step + 1) / args.warmup)
    progress = min(1.0, minutes / args.total_minutes)
    return args.lr * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def save(obj, path):
    """Whole or not at all: a run may be stopped at any moment."""
    partial = path.with_suffix(".partial")
    torch.save(obj, partial)
    os.replace(partial, path)


def optimizer_for(model, args, device):
    """No decay on vectors, on what sets the time constants, or on the (tied) embeddings."""
    groups = {True: [], False: []}
    for name, parameter in model.named_parameters():
        groups[parameter.ndim > 1 and not name.endswith("A_log") and "embeddings" not in name].append(parameter)
    return torch.optim.AdamW([{"params": groups[True], "weight_decay": args.decay},
                              {"params": groups[False], "weight_decay": 0.0}],
                             lr=args.lr, betas=(0.9, 0.98), fused=device == "cuda")


def run(args):
    device = args.device
    torch.manual_seed(args.seed)
    # One-hot products with the f32 embedding table; everything else runs under autocast or is no matrix product.
    torch.backends.cuda.matmul.allow_tf32 = True
    model = MambaLM(Config(hidden_size=args.width, num_hidden_layers=args.layers)).to(device)
    average = MambaLM(model.config).to(device)
    average.load_state_dict(model.state_dict())
    optimizer = optimizer_for(model, args, device)
    done = {"step": 0, "tokens": 0, "minutes": 0.0}
    args.out.mkdir(parents=True, exist_ok=True)
    if args.resume:
        saved = torch.load(args.out / "weights.pt", map_location=device)
        done = saved["done"]
        model.load_state_dict(saved["weights"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(torch.load(args.out / "moments.pt", map_location=device))
        torch.manual_seed(args.seed + done["step"])
    log = open(args.out / "log.jsonl", "a" if args.resume else "w")

    def write(**values):
        log.write(json.dumps(values) + "\n")
        log.flush()
        print(json.dumps(values), flush=True)

    def checkpoint():
        save({"weights": model.state_dict(), "average": average.state_dict(), "done": done,
              "config": vars(model.config)}, args.out / "weights.pt")
        save(optimizer.state_dict(), args.out / "moments.pt")

    streams = Streams(np.load(args.data / "train.npy"), args.batch, args.length, device, args.mutate)
    dev = np.load(args.data / "dev.npy")
    if device == "cuda":
        write(device=torch.cuda.get_device_name(), torch=torch.__version__)
    write(**{k: v for k, v in vars(args).items() if k not in ("data", "out", "device")},
          parameters=sum(p.numel() for p in model.parameters()), train_bases=len(streams.bases) // 2)

    parameters, averaged = list(model.parameters()), list(average.parameters())
    began, before = time.monotonic(), done["minutes"]
    logged = saved_at = began
    losses, states, tokens_logged = [], None, done["tokens"]
    end = min(args.minutes, args.total_minutes - before)
    while True:
        done["minutes"] = before + (time.monotonic() - began) / 60
        finished = done["minutes"] - before >= end or (args.steps and done["step"] >= args.steps)
        now = time.monotonic()
        if losses and (finished or now - logged > args.log_seconds):
            mean = torch.stack(losses).mean().item() / math.log(2)
            now = time.monotonic()
            write(step=done["step"], tokens=done["tokens"], minutes=round(done["minutes"], 3), lr=round(rate, 7),
                  train_bits=round(mean, 5), dev_bits=round(dev_bits(average, dev, device), 5),
                  tokens_per_s=round((done["tokens"] - tokens_logged) / (now - logged)))
            logged, losses, tokens_logged = time.monotonic(), [], done["tokens"]
        if finished or now - saved_at > 60:
            checkpoint()
            saved_at = time.monotonic()
        if finished:
            break
        rate = learning_rate(args, done["step"], done["minutes"])
        for group in optimizer.param_groups:
            group["lr"] = rate
        inputs, targets, fresh = streams.next()
        if states is not None:
            kept = (~fresh).float()[:, None, None]
            states = [(past * kept.to(past.dtype), h * kept) for past, h in states]
        with autocast(device):
            loss, states = loss_of(model, inputs, targets, states)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        done["step"] += 1
        done["tokens"] += args.batch * args.length
        with torch.no_grad():
            torch._foreach_lerp_(averaged, parameters, max(1 - args.average, 1 / done["step"]))
        losses.append(loss.detach())
    log.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="what prepare.py wrote")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--minutes", type=float, default=9.4, help="of this call")
    parser.add_argument("--total-minutes", type=float, default=18.0, help="of the whole schedule")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64, help="streams")
    parser.add_argument("--length", type=int, default=4096, help="bases a stream and step")
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--warmup", type=int, default=200, help="steps")
    parser.add_argument("--decay", type=float, default=0.1)
    parser.add_argument("--average", type=float, default=0.999, help="decay of the weights' moving average")
    parser.add_argument("--mutate", type=float, default=0.02, help="share of substituted input bases")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=0, help="stop after so many steps (tests)")
    parser.add_argument("--log-seconds", type=float, default=20.0)
    parser.add_argument("--device", default="cuda")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
