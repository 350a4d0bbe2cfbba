"""How well mean embeddings tell spoken digits and speakers apart: the Free Spoken Digit Dataset, 360 clips to learn from
and 120 to test, none of them ever trained on.

    python evaluate.py --fsdd FSDD --out evaluation.json --model NAME=DIR [--model NAME=DIR ...] [--device cuda]

FSDD holds train/ and test/ with files {digit}_{speaker}_{take}.wav at 8 kHz. Each clip is resampled to 16 kHz, run from
zero state, and its last hidden states (after the final norm) are averaged. f16 weights in f32 arithmetic.

  centroid               nearest mean of the training clips of a class, Euclidean
  centroid_standardised  the same after dividing each dimension by its standard deviation over the training clips
  dev_centroid           as centroid, within train/: takes 5 to 7 against takes 8 to 10; for choosing between models
  logistic               logistic regression (scikit-learn) on the standardised means
Beside the models: 24 mel bands, mean of the logs, with the same tests ("mel bands").
"""

import argparse
import json
import pathlib

import numpy as np
import torch
from safetensors.torch import load_file
from scipy.io import wavfile
from scipy.signal import resample_poly
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from audio_model import AudioConfig, AudioModel, frame_count


def load_model(path, device):
    config = json.loads((path / "config.json").read_text())
    audio = config["mamba_seq"]
    names = AudioConfig.__dataclass_fields__
    known = {name: config[name] for name in names if name in config}
    mine = AudioConfig(**known, encoding=audio["encoding"], hop=audio.get("hop", 1), reach=audio.get("reach", audio.get("hop", 1)))
    model = AudioModel(mine)
    model.load_state_dict({name: value.float() for name, value in load_file(path / "model.safetensors").items()})
    return model.to(device).eval()


def clips(folder):
    """Samples at 16 kHz, digit, speaker and take of every file."""
    rows = []
    for path in sorted(folder.glob("*.wav")):
        digit, speaker, take = path.stem.split("_")
        rate, samples = wavfile.read(path)
        assert rate == 8000 and samples.dtype == np.int16, path
        rows.append((resample_poly(samples / 32768, 2, 1).astype(np.float32), int(digit), speaker, int(take)))
    return rows


@torch.no_grad()
def embed(model, waves, device, budget=4_000_000):
    """Mean last hidden state of each clip, from zero state."""
    config, out = model.config, []
    order = sorted(range(len(waves)), key=lambda i: len(waves[i]))
    out = np.zeros((len(waves), config.hidden_size))
    at = 0
    while at < len(order):
        rows = max(1, min(len(order) - at, budget // (len(waves[order[-1]]) // config.hop + 1)))
        own = order[at:at + rows]
        longest = max(len(waves[i]) for i in own)
        batch = torch.zeros(len(own), longest + config.reach, device=device)
        for row, i in enumerate(own):
            batch[row, :len(waves[i])] = torch.from_numpy(waves[i])
        hidden = model(batch)[0]
        for row, i in enumerate(own):
            frames = frame_count(len(waves[i]), config.hop, config.reach)
            out[i] = hidden[row, :frames].double().mean(0).cpu().numpy()
        at += rows
    return out


def mel_bands(wave, bands=24, size=512):
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 4000 / 700), bands + 2) / 2595) - 1)
    hertz = np.linspace(0, 8000, size // 2 + 1)
    rise = (hertz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - hertz) / (edges[2:] - edges[1:-1])[:, None]
    bank = np.clip(np.minimum(rise, fall), 0, None)
    wave = np.pad(wave, (0, max(0, 400 - len(wave))))
    frames = np.lib.stride_tricks.sliding_window_view(wave, 400)[::160] * np.hanning(400)
    return np.log(np.abs(np.fft.rfft(frames, size)) ** 2 @ bank.T + 1e-6).mean(0)


def nearest(train, labels, test):
    names = np.unique(labels)
    centres = np.stack([train[labels == name].mean(0) for name in names])
    return names[((test[:, None] - centres) ** 2).sum(-1).argmin(1)]


def scores(train, test, labels, takes):
    """Accuracies by digit and speaker."""
    mean, std = train.mean(0), train.std(0) + 1e-9
    early = takes["train"] <= 7
    result = {}
    for what in ("digit", "speaker"):
        own, theirs = labels["train"][what], labels["test"][what]
        share = lambda guess: round(float((guess == theirs).mean()), 4)
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000, C=1.0)).fit(train, own)
        dev = nearest(train[early], own[early], train[~early]) == own[~early]
        result[what] = {"centroid": share(nearest(train, own, test)),
                        "centroid_standardised": share(nearest((train - mean) / std, own, (test - mean) / std)),
                        "dev_centroid": round(float(dev.mean()), 4), "logistic": share(probe.predict(test))}
    return result


class Fsdd:
    def __init__(self, folder):
        rows = {part: clips(folder / part) for part in ("train", "test")}
        self.waves = {part: [row[0] for row in own] for part, own in rows.items()}
        self.labels = {part: {"digit": np.array([row[1] for row in own]), "speaker": np.array([row[2] for row in own])}
                       for part, own in rows.items()}
        self.takes = {part: np.array([row[3] for row in own]) for part, own in rows.items()}

    def scores(self, means):
        return scores(means["train"], means["test"], self.labels, self.takes)

    def of_model(self, model, device):
        return self.scores({part: embed(model, waves, device) for part, waves in self.waves.items()})

    def of_mel_bands(self):
        return self.scores({part: np.stack([mel_bands(wave) for wave in waves]) for part, waves in self.waves.items()})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fsdd", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--model", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    fsdd = Fsdd(args.fsdd)
    counts = {part: len(waves) for part, waves in fsdd.waves.items()}
    results = {"clips": counts, "chance": {"digit": 0.1, "speaker": round(1 / 6, 4)}, "mel bands": fsdd.of_mel_bands()}
    for entry in args.model:
        name, _, path = entry.partition("=")
        model = load_model(pathlib.Path(path), args.device)
        results[name] = {"parameters": sum(p.numel() for p in model.parameters()), **fsdd.of_model(model, args.device)}
        print(name, json.dumps(results[name]), flush=True)
        args.out.write_text(json.dumps(results, indent=1) + "\n")
    args.out.write_text(json.dumps(results, indent=1) + "\n")
    print("mel bands", json.dumps(results["mel bands"]))


if __name__ == "__main__":
    main()
