"""Trains an audio model on one GPU.

    python train.py --data DATA --out RUN --minutes 5.5
    python train.py --data DATA --out RUN --encoding mulaw8 --objective next --width 32 --layers 2 --minutes 1.2

Objective `all` has four parts, by heads that stay here:
  word, voice   the mean embedding of a clip against the mean of the other clips of its word (its voice) and those of
                all other words (voices) in the batch, by Euclidean distance: what a nearest-centroid test asks
  mel           the log mel bands of the clean audio now and 20, 50 and 100 ms ahead, from the augmented audio
  phoneme       what espeak-ng was saying 20 ms ago
Objective `next` (mu-law only) is the next token, as in the Mamba paper.

The state at the end of a step's sequences starts other sequences of the next step, so that the model meets old states.
Writes RUN/weights.pt, RUN/moments.pt (--resume goes on from them) and RUN/log.jsonl.
"""

import argparse
import json
import math
import os
import pathlib
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

from audio_model import AudioConfig, AudioModel, mulaw
from batches import Batches, LogMel, load

AHEAD = (0, 2, 5, 10)
BANDS = 40
LATE = 2


def autocast(device):
    """Around the network alone: class means and spectra want f32."""
    return torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda")


class Heads(nn.Module):
    def __init__(self, width, phonemes):
        super().__init__()
        self.mel = nn.Linear(width, BANDS * len(AHEAD))
        self.phoneme = nn.Linear(width, phonemes + 1)
        self.scale = nn.Parameter(torch.tensor([1.0, 1.0]))


def prototypes(means, label, classes, scale):
    """Cross-entropy of each clip's class by its distance to the classes' means, its own class's mean without itself.

    label -1: not used. Returns the loss and the share that is nearest to its own class."""
    known = (label >= 0).float()
    hot = F.one_hot(label.clamp(min=0), classes).float() * known[:, None]
    size = hot.sum(0)
    sums = hot.T @ means
    centre = sums / size.clamp(min=1)[:, None]
    distance = torch.cdist(means, centre, compute_mode="donot_use_mm_for_euclid_dist").square()
    mine = size[label.clamp(min=0)]
    rest = (sums[label.clamp(min=0)] - means) / (mine - 1).clamp(min=1)[:, None]
    distance = torch.where(hot > 0, (means - rest).square().sum(1, keepdim=True), distance)
    logits = (-F.softplus(scale) * distance / means.shape[1] * 16).masked_fill(size[None] == 0, -1e4)
    used = (known > 0) & (mine > 1)
    target = torch.where(used, label, -100)
    loss = F.cross_entropy(logits, target, ignore_index=-100, reduction="sum") / used.sum().clamp(min=1)
    right = ((logits.argmax(1) == label) & used).sum() / used.sum().clamp(min=1)
    return loss, right.detach()


def pooled(hidden, begin, end, config):
    """Mean over the frames of samples [begin, end)."""
    first = torch.arange(hidden.shape[1], device=hidden.device)[None] * config.hop
    inside = (first >= begin[:, None]) & (first + config.reach < end[:, None] + config.hop)
    inside |= (first == begin[:, None] // config.hop * config.hop)
    weight = inside.float()
    return (hidden * weight[..., None]).sum(1) / weight.sum(1, keepdim=True)


def frame_losses(heads, hidden, batch, mel, config):
    """Log mel and phoneme losses; both on a grid of 10 ms, read from the first frame that has seen as much."""
    target = mel(batch["clean"])
    steps = target.shape[1]
    at = ((torch.arange(steps, device=hidden.device) * 160 + 400 - config.reach) // config.hop).clamp(0, hidden.shape[1] - 1)
    seen = hidden[:, at]
    guess = heads.mel(seen).view(*seen.shape[:2], len(AHEAD), BANDS)
    loss = 0.0
    for k, ahead in enumerate(AHEAD):
        loss = loss + F.smooth_l1_loss(guess[:, :steps - ahead, k], target[:, ahead:], beta=0.3) / len(AHEAD)
    label = batch["phonemes"][:, :steps - LATE].long()
    label = torch.where(label == 0, -100, label)
    logits = heads.phoneme(seen[:, LATE:][:, :label.shape[1]])
    known = (label >= 0).sum().clamp(min=1)
    phoneme = F.cross_entropy(logits.reshape(-1, logits.shape[-1]).float(), label.reshape(-1), ignore_index=-100,
                              reduction="sum") / known
    return loss, phoneme


def mix_states(states, rows, share, device):
    """Start states of `rows` sequences: those that ended `states`' sequences, shuffled, or zeros."""
    if states is None:
        return None
    have = states[0][0].shape[0]
    pick = torch.randint(have, (rows,), device=device)
    keep = (torch.rand(rows, device=device) < share).float()[:, None, None]
    return [((past[pick] * keep.to(past.dtype)).contiguous(), (h[pick] * keep).contiguous()) for past, h in states]


def supervised_loss(model, heads, batches, mel, args, states, device):
    config = model.config
    count = (args.frames - 1) * 160 + 400
    batch = batches.short(args.voices, args.each, count)
    with autocast(device):
        hidden, after = model(batch["input"], mix_states(states, len(batch["input"]), 0.4, device))
    mean = pooled(hidden, batch["begin"], batch["end"], config)
    words = len(batches.data["names"]["words"])
    word, word_right = prototypes(mean, batch["word"], words, heads.scale[0])
    voice, voice_right = prototypes(mean, batch["voice"], args.voices, heads.scale[1])
    loss_mel, loss_phoneme = frame_losses(heads, hidden, batch, mel, config)
    if args.long_rows:
        batch = batches.long(args.long_rows, (args.long_frames - 1) * 160 + 400)
        with autocast(device):
            hidden, after = model(batch["input"], mix_states(after, args.long_rows, 0.5, device))
        more_mel, more_phoneme = frame_losses(heads, hidden, batch, mel, config)
        loss_mel, loss_phoneme = (loss_mel + more_mel) / 2, (loss_phoneme + more_phoneme) / 2
    total = args.word_weight * word + voice + 2 * loss_mel + 0.5 * loss_phoneme
    return total, after, {"word": word, "voice": voice, "mel": loss_mel, "phoneme": loss_phoneme,
                          "word_right": word_right, "voice_right": voice_right}


def next_loss(model, batches, args, states, device):
    batch = batches.long(args.long_rows, args.tokens + 1)
    tokens = mulaw(batch["input"])
    with autocast(device):
        hidden, after = model(batch["input"][:, :-1], mix_states(states, args.long_rows, 0.5, device))
        logits = F.linear(hidden, model.backbone.embeddings.weight)
    loss = F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())
    return loss, after, {"bits": loss / math.log(2)}


def save(obj, path):
    partial = path.with_suffix(".partial")
    torch.save(obj, partial)
    os.replace(partial, path)


def optimizer_for(modules, args, device):
    groups = {True: [], False: []}
    for module in modules:
        for name, parameter in module.named_parameters():
            plain = parameter.ndim > 1 and not name.endswith("A_log") and "embeddings" not in name
            groups[plain and "frame_proj" not in name].append(parameter)
    return torch.optim.AdamW([{"params": groups[True], "weight_decay": args.decay},
                              {"params": groups[False], "weight_decay": 0.0}],
                             lr=args.lr, betas=(0.9, 0.98), fused=device == "cuda")


@torch.no_grad()
def dev_scores(model, batches, args):
    """Word and voice by prototypes, on voices that are not trained on."""
    words = len(batches.data["names"]["words"])
    right = torch.zeros(2)
    for _ in range(4):
        batch = batches.short(args.dev_voices, args.each, (args.frames - 1) * 160 + 400)
        with autocast(batch["input"].device.type):
            hidden = model(batch["input"])[0]
        mean = pooled(hidden, batch["begin"], batch["end"], model.config)
        one = torch.ones((), device=mean.device)
        right += torch.stack([prototypes(mean, batch["word"], words, one)[1],
                              prototypes(mean, batch["voice"], args.dev_voices, one)[1]]).cpu() / 4
    return {"dev_word_right": round(right[0].item(), 4), "dev_voice_right": round(right[1].item(), 4)}


def run(args):
    device = args.device
    torch.manual_seed(args.seed)
    model = AudioModel(AudioConfig.make(args.width, args.layers, args.encoding, args.hop, args.reach)).to(device)
    start = torch.load(args.start, map_location=device) if args.start else None
    if start:
        model.load_state_dict(start["average"])
    average = AudioModel(model.config).to(device)
    average.load_state_dict(model.state_dict())
    average.requires_grad_(False)
    data = load(args.data, device)
    batches, dev = (Batches(data, device, dev, args.pace, args.crop) for dev in (False, True))
    args.dev_voices = len(dev.clips_of)
    heads = Heads(args.width, len(data["names"]["phonemes"])).to(device)
    if start:
        heads.load_state_dict(start["heads"])
    mel = LogMel().to(device)
    modules = [model, heads] if args.objective == "all" else [model]
    optimizer = optimizer_for(modules, args, device)
    parameters = [p for module in modules for p in module.parameters()]
    trained, averaged = list(model.parameters()), list(average.parameters())

    done = {"step": 0, "minutes": 0.0, "seconds_of_audio": 0.0}
    args.out.mkdir(parents=True, exist_ok=True)
    if args.resume:
        saved = torch.load(args.out / "weights.pt", map_location=device)
        done = saved["done"]
        model.load_state_dict(saved["weights"])
        average.load_state_dict(saved["average"])
        heads.load_state_dict(saved["heads"])
        optimizer.load_state_dict(torch.load(args.out / "moments.pt", map_location=device))
        torch.manual_seed(args.seed + done["step"])
    log = open(args.out / "log.jsonl", "a" if args.resume else "w")

    def write(**values):
        log.write(json.dumps(values) + "\n")
        log.flush()
        print(args.out.name, json.dumps(values), flush=True)

    def checkpoint():
        save({"weights": model.state_dict(), "average": average.state_dict(), "heads": heads.state_dict(),
              "done": done, "config": vars(model.config)}, args.out / "weights.pt")
        if args.keep_moments:
            save(optimizer.state_dict(), args.out / "moments.pt")

    if device == "cuda":
        write(device=torch.cuda.get_device_name(), torch=torch.__version__)
    write(**{k: v for k, v in vars(args).items() if k not in ("data", "out", "device", "start")},
          parameters=sum(p.numel() for p in model.parameters()), clips=len(data["start"]),
          voices_trained=len(batches.clips_of))
    per_step = (args.long_rows * args.tokens if args.objective == "next" else
                160 * (args.voices * args.each * args.frames + args.long_rows * args.long_frames)) / 16000
    total = args.total_minutes or args.minutes
    began, before = time.monotonic(), done["minutes"]
    logged, sums, states, steps_logged = began, [], None, done["step"]
    while True:
        now = time.monotonic()
        done["minutes"] = before + (now - began) / 60
        finished = (done["minutes"] - before >= args.minutes or done["minutes"] >= total
                    or (args.steps and done["step"] >= args.steps))
        if sums and (finished or now - logged > args.log_seconds):
            means = {name: round(torch.stack([part[name].detach() for part in sums]).mean().item(), 4)
                     for name in sums[0]}
            now = time.monotonic()
            scores = {}
            if args.objective == "all" and args.dev_voices:
                scores = dev_scores(average, dev, args)
            write(step=done["step"], minutes=round(done["minutes"], 3), lr=round(rate, 6), **means, **scores,
                  steps_per_s=round((done["step"] - steps_logged) / (now - logged), 2))
            logged, sums, steps_logged = time.monotonic(), [], done["step"]
        if finished:
            break
        progress = min(1.0, done["minutes"] / total)
        rate = args.lr * min(1.0, (done["step"] + 1) / args.warmup) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        if args.objective == "all":
            loss, states, parts = supervised_loss(model, heads, batches, mel, args, states, device)
        else:
            loss, states, parts = next_loss(model, batches, args, states, device)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        # A step whose gradient is not finite is left out (without waiting for the device to say so).
        ok = torch.isfinite(norm)
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.masked_fill_(~ok, 0.0)
        states = [(past.nan_to_num(0.0, 0.0, 0.0), h.nan_to_num(0.0, 0.0, 0.0)) for past, h in states]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        done["step"] += 1
        done["seconds_of_audio"] += per_step
        with torch.no_grad():
            torch._foreach_lerp_(averaged, trained, max(1 - args.average, 1 / done["step"]))
        sums.append({name: value.detach() for name, value in parts.items()})
    checkpoint()
    log.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--encoding", choices=("frames", "mulaw8"), default="frames")
    parser.add_argument("--objective", choices=("all", "next"), default="all")
    parser.add_argument("--hop", type=int, default=160)
    parser.add_argument("--reach", type=int, default=400)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=5.5, help="of this call")
    parser.add_argument("--total-minutes", type=float, default=0, help="of the schedule; 0: as --minutes")
    parser.add_argument("--start", type=pathlib.Path, help="weights.pt of an earlier run: begin from its averaged weights")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--keep-moments", action="store_true", help="write what --resume needs")
    parser.add_argument("--voices", type=int, default=32, help="a step")
    parser.add_argument("--each", type=int, default=12, help="clips a voice")
    parser.add_argument("--frames", type=int, default=128, help="of 10 ms, a clip")
    parser.add_argument("--long-rows", type=int, default=48)
    parser.add_argument("--long-frames", type=int, default=512)
    parser.add_argument("--pace", type=float, nargs=2, default=(-0.2, 0.35), help="logarithms: slowest, fastest")
    parser.add_argument("--crop", type=float, default=0.4, help="share of clips cut at an end")
    parser.add_argument("--word-weight", type=float, default=1.5)
    parser.add_argument("--tokens", type=int, default=65536, help="a row, objective next")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--warmup", type=int, default=200)
    parser.add_argument("--decay", type=float, default=0.05)
    parser.add_argument("--average", type=float, default=0.998)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--log-seconds", type=float, default=15.0)
    parser.add_argument("--device", default="cuda")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
