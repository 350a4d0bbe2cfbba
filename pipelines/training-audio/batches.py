"""Batches of augmented audio, made on the training device from the arrays of prepare.py."""

import json
import math

import numpy as np
import torch
import torch.nn.functional as F

from audio_model import RATE

VOICE_CLIPS = 320


def load(folder, device):
    clips = np.load(folder / "clips.npz")
    return {"audio": torch.from_numpy(np.load(folder / "audio.npy")).to(device),
            "phonemes": torch.from_numpy(np.load(folder / "phonemes.npy")).to(device),
            **{name: torch.from_numpy(clips[name]).to(device) for name in clips.files},
            "names": json.loads((folder / "sources.json").read_text())}


def uniform(shape, low, high, device):
    return low + (high - low) * torch.rand(shape, device=device)


class Batches:
    def __init__(self, data, device, dev=False, pace=(-0.2, 0.35), crop=0.4):
        """pace: logarithms of the slowest and fastest playing; crop: share of clips that lose up to 12 % of an end."""
        self.data, self.device, self.pace, self.crop = data, device, pace, crop
        self.total = len(data["audio"])
        keep = (data["dev"] == int(dev))
        voices = data["voice"].clone()
        voices[~keep] = -1
        members = {}
        for at, voice in enumerate(voices.tolist()):
            if voice >= 0:
                members.setdefault(voice, []).append(at)
        members = [rows for rows in members.values() if len(rows) >= 8]
        rng = np.random.default_rng(0)
        self.clips_of = torch.full((len(members), VOICE_CLIPS), -1, dtype=torch.long)
        for row, own in enumerate(members):
            own = rng.permutation(own)[:VOICE_CLIPS]
            self.clips_of[row, :len(own)] = torch.from_numpy(own)
        self.clips_of = self.clips_of.to(device)
        self.starts = data["start"][keep]
        sounds = data["kind"] > 0
        self.backgrounds = torch.stack([data["start"][sounds], data["length"][sounds]], 1)

    def cut(self, start, factor, count, offset, length):
        """Audio from `start`, played at `factor`, from sample `offset` on and for `length` source samples; [rows, count].

        Catmull-Rom interpolation; zeros outside."""
        n = torch.arange(count, device=self.device)
        at = (n[None] - offset[:, None]) * factor[:, None]
        inside = (at >= 0) & (at < length[:, None] - 1)
        whole = at.floor()
        f = at - whole
        index = start[:, None] + whole.long()
        take = lambda k: self.data["audio"][(index + k).clamp(0, self.total - 1)].float()
        a, b, c, d = take(-1), take(0), take(1), take(2)
        value = b + 0.5 * f * (c - a + f * (2 * a - 5 * b + 4 * c - d + f * (3 * (b - c) + d - a)))
        return torch.where(inside, value / 32768, 0.0), index, inside

    def phonemes(self, index, inside):
        """Labels of each 10 ms of a batch."""
        middle = index[:, 80::160]
        return torch.where(inside[:, 80::160], self.data["phonemes"][(middle // 160).clamp(0, self.total // 160 - 1)], 0)

    def augment(self, x, group, groups, level_of):
        """A clean target (coloured, band-limited) and the input (that, with room, noise and gain).

        group [rows]: rows of one group share a channel. level_of [rows, samples]: where the level is measured."""
        device, rows, count = self.device, len(x), x.shape[1]
        size = 1 << (count + 4000).bit_length()
        bins = size // 2 + 1
        hertz = torch.linspace(0, RATE / 2, bins, device=device)[None]
        place = torch.log1p(hertz / 200) / math.log(1 + RATE / 2 / 200)
        draw = lambda low, high: uniform((groups, 1), low, high, device)
        chance = lambda p: torch.rand(groups, 1, device=device) < p

        k = torch.arange(1, 7, device=device, dtype=torch.float32)
        amount = torch.randn(groups, 6, device=device) * 5 / k.sqrt() * chance(0.8)
        decibel = amount @ torch.cos(math.pi * k[:, None] * place)
        edge = torch.where(chance(0.5), draw(2800, 4200), 1e6)
        low_pass = -60 * ((hertz - edge) / 250).clamp(0, 1)
        edge = torch.where(chance(0.4), draw(60, 300), -1e6)
        high_pass = -24 * ((edge - hertz) / 100).clamp(0, 1)
        band = 10 ** ((low_pass + high_pass) / 20)
        colour = band * 10 ** (decibel.clamp(-20, 20) / 20)

        time = torch.arange(4000, device=device)[None] / RATE
        tail = torch.randn(groups, 4000, device=device) * torch.exp(-time / draw(0.01, 0.08)) * (time > 0.002)
        tail = tail / tail.norm(dim=1, keepdim=True) * draw(0.1, 0.9) * chance(0.35)
        tail[:, 0] = 1.0
        room = torch.fft.rfft(tail, size)

        spectrum = torch.fft.rfft(x, size) * colour[group]
        clean = torch.fft.irfft(spectrum, size)[:, :count]
        wet = torch.fft.irfft(spectrum * room[group], size)[:, :count]
        power = (wet.square() * level_of).sum(1, keepdim=True) / level_of.sum(1, keepdim=True).clamp(min=1) + 1e-10
        loud = power.sqrt()

        noise = torch.randn(rows, bins, 2, device=device)
        slope = draw(0.0, 1.2)
        shape = band * (hertz / 1000).clamp(min=0.03) ** -slope
        noise = torch.fft.irfft(torch.view_as_complex(noise) * shape[group], size)[:, :count]
        noise = noise / noise.square().mean(1, keepdim=True).sqrt().clamp(min=1e-10)
        snr = (draw(5, 50)[group] + 3 * torch.randn(rows, 1, device=device)).clamp(min=3)
        wet = wet + noise * loud * 10 ** (-snr / 20)

        pick = torch.randint(len(self.backgrounds), (rows,), device=device)
        start, length = self.backgrounds[pick].unbind(1)
        offset = -(torch.rand(rows, device=device) * (length - count).clamp(min=0)).long()
        behind, _, _ = self.cut(start, torch.ones(rows, device=device), count, offset, length)
        behind = behind / behind.square().mean(1, keepdim=True).sqrt().clamp(min=1e-4)
        snr = uniform((rows, 1), 5, 30, device)
        wet = wet + behind * loud * 10 ** (-snr / 20) * (torch.rand(rows, 1, device=device) < 0.25)

        target = (draw(-45, -14)[group] + 3 * torch.randn(rows, 1, device=device)) / 20
        return clean, (wet / loud * 10 ** target).clamp(-1, 1)

    def short(self, voices, each, count):
        """voices * each clips of at most `count` samples: a dict with input, clean, phonemes, word, voice (a number within
        the batch), and the samples [begin, end) that the clip takes."""
        device, data = self.device, self.data
        order = torch.randperm(len(self.clips_of), device=device)
        chosen = self.clips_of[order.repeat(-(-voices // len(order)))[:voices]]
        words = data["word"][chosen.clamp(min=0)]
        # A part of the words a batch, so that several voices say each.
        pool = torch.rand(len(data["names"]["words"]) + 1, device=device) < 0.2
        pool[:10] |= torch.rand(10, device=device) < 0.5
        pool[-1] = False
        score = torch.rand(chosen.shape, device=device) + 1.0 * pool[words] - 10.0 * (chosen < 0)
        clip = chosen.gather(1, score.topk(each, 1).indices).flatten()
        voice = torch.arange(voices, device=device).repeat_interleave(each)
        missing = clip < 0
        clip = clip.clamp(min=0)
        start, length, word = data["start"][clip], data["length"][clip], data["word"][clip]
        rows = voices * each

        lost = uniform((2, rows), 0, 0.12, device) * (torch.rand(2, rows, device=device) < self.crop) * length
        start, length = start + lost[0].long(), length - lost.sum(0).long()
        pace = torch.exp(uniform(voices, *self.pace, device))[voice] * torch.exp(0.02 * torch.randn(rows, device=device))
        room = (count * pace).long()
        over = (length - room).clamp(min=0)
        skip = (torch.rand(rows, device=device) * over).long()
        start, length = start + skip, torch.minimum(length, room)
        word = torch.where((over > 800) | missing, -1, word)
        taken = (length / pace).long().clamp(max=count)
        offset = (torch.rand(rows, device=device) * (count - taken)).long()
        offset = torch.where(torch.rand(rows, device=device) < 0.5, 0, offset)
        x, index, inside = self.cut(start, pace, count, offset, length)
        # Half of the voices keep one channel for all their clips, the others change it from clip to clip.
        own = torch.arange(rows, device=device) + voices
        group = torch.where((torch.rand(voices, device=device) < 0.6)[voice], voice, own)
        clean, noisy = self.augment(x, group, rows + voices, inside.float())
        return {"input": noisy, "clean": clean, "phonemes": self.phonemes(index, inside), "word": word,
                "voice": torch.where(missing, -1, voice), "begin": offset, "end": offset + taken}

    def long(self, rows, count):
        """Stretches of the audio as it lies: clips of one voice or source after another."""
        device = self.device
        start = self.starts[torch.randint(len(self.starts), (rows,), device=device)]
        pace = torch.exp(uniform(rows, -0.18, 0.18, device))
        none = torch.zeros(rows, dtype=torch.long, device=device)
        x, index, inside = self.cut(start, pace, count, none, none + self.total)
        clean, noisy = self.augment(x, torch.arange(rows, device=device), rows, torch.ones_like(x))
        return {"input": noisy, "clean": clean, "phonemes": self.phonemes(index, inside)}


class LogMel(torch.nn.Module):
    """40 log mel bands of windows of 25 ms every 10 ms, mean taken off and a floor 40 dB under the mean power."""

    def __init__(self, bands=40, size=512, window=400):
        super().__init__()
        mel = lambda f: 2595 * np.log10(1 + f / 700)
        edges = 700 * (10 ** (np.linspace(mel(50), mel(7800), bands + 2) / 2595) - 1)
        hertz = np.linspace(0, RATE / 2, size // 2 + 1)
        rise = (hertz[None] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
        fall = (edges[2:, None] - hertz[None]) / (edges[2:] - edges[1:-1])[:, None]
        bank = np.clip(np.minimum(rise, fall), 0, None)
        self.register_buffer("bank", torch.tensor(bank / bank.sum(1, keepdims=True), dtype=torch.float32))
        self.register_buffer("window", torch.hann_window(window))
        self.size = size

    def forward(self, samples):
        frames = samples.unfold(1, len(self.window), 160) * self.window
        power = torch.fft.rfft(frames, self.size).abs().square() @ self.bank.T
        mean = power.mean((1, 2), keepdim=True)
        logs = torch.log(power + 1e-4 * mean + 1e-12)
        return (logs - logs.mean((1, 2), keepdim=True)) / 3.0
