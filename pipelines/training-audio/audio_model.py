"""The audio network: a front end (linear frames or mu-law tokens) and the Mamba blocks of the DNA model.

Parameter names are those of the product's model directories: `frame_proj.*` or `backbone.embeddings.weight`, then
Hugging Face's `backbone.layers.N.*` and `backbone.norm_f.weight`.
"""

import dataclasses
import math
import pathlib
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

# The scan, the convolution and the block are those of the DNA model. (Its files' names that are here too win here.)
sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "training"))
from model import Block, Config, Norm  # noqa: E402

RATE = 16000


@dataclasses.dataclass
class AudioConfig(Config):
    hidden_size: int = 256
    num_hidden_layers: int = 4
    time_step_rank: int = 16
    encoding: str = "frames"
    hop: int = 160
    reach: int = 400

    @classmethod
    def make(cls, width, layers, encoding, hop, reach):
        return cls(hidden_size=width, num_hidden_layers=layers, time_step_rank=-(-width // 16), encoding=encoding,
                   hop=hop if encoding == "frames" else 1, reach=reach if encoding == "frames" else 1)


def mulaw(samples):
    """Samples in [-1, 1] to tokens 0..255, as torchaudio's mu_law_encoding."""
    samples = samples.clamp(-1, 1)
    y = torch.sign(samples) * torch.log1p(255 * samples.abs()) / math.log(256)
    return ((y + 1) / 2 * 255 + 0.5).long().clamp(0, 255)


def frame_count(samples, hop, reach):
    return 0 if samples == 0 else 1 if samples <= reach else 1 + -(-(samples - reach) // hop)


def filters(width, reach):
    """Pairs of windowed cosine and sine at mel-spaced frequencies, narrow ones long and wide ones short: a start from
    which energies are one product away."""
    mel = lambda f: 2595 * math.log10(1 + f / 700)
    bands = width // 2
    edges = 700 * (10 ** (torch.linspace(mel(60.0), mel(7600.0), bands + 2, dtype=torch.float64) / 2595) - 1)
    time = torch.arange(reach, dtype=torch.float64) - (reach - 1) / 2
    rows = []
    for band in range(bands):
        centre, spacing = edges[band + 1], edges[band + 2] - edges[band]
        length = float((2 * RATE / spacing).clamp(48, reach))
        window = torch.where(time.abs() < length / 2, 0.5 + 0.5 * torch.cos(2 * math.pi * time / length), 0.0)
        window = window / window.norm()
        rows += [window * torch.cos(2 * math.pi * centre / RATE * time),
                 window * torch.sin(2 * math.pi * centre / RATE * time)]
    return torch.stack(rows).float()


class Backbone(nn.Module):
    def __init__(self, config):
        super().__init__()
        if config.encoding == "mulaw8":
            self.embeddings = nn.Embedding(256, config.hidden_size)
            nn.init.normal_(self.embeddings.weight, std=0.02)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm_f = Norm(config.hidden_size, config.layer_norm_epsilon)


class AudioModel(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        if config.encoding == "frames":
            self.frame_proj = nn.Linear(config.reach, config.hidden_size)
            with torch.no_grad():
                self.frame_proj.weight.copy_(filters(config.hidden_size, config.reach))
                self.frame_proj.bias.zero_()
        self.backbone = Backbone(config)

    def front(self, samples):
        """samples [batch, N] to [batch, T, d], f32 (or wider); zeros beyond the end."""
        hop, reach = self.config.hop, self.config.reach
        with torch.autocast(samples.device.type, enabled=False):
            if self.config.encoding == "mulaw8":
                return F.embedding(mulaw(samples), self.backbone.embeddings.weight)
            frames = frame_count(samples.shape[1], hop, reach)
            padded = F.pad(samples, (0, (frames - 1) * hop + reach - samples.shape[1]))
            return self.frame_proj(padded.unfold(1, reach, hop))

    def forward(self, samples, states=None):
        """Normalised last hidden states [batch, T, d] and the states after the last frame."""
        residual, after = self.front(samples), []
        for i, layer in enumerate(self.backbone.layers):
            out, state = layer.mixer(layer.norm(residual), None if states is None else states[i])
            residual = residual + out
            after.append(state)
        hidden = self.backbone.norm_f(residual)
        return hidden.to(torch.promote_types(hidden.dtype, torch.float32)), after
