"""A causal Mamba-1 language model with the parameter names of Hugging Face's MambaForCausalLM.

The state (three columns before the convolution and the scan's state, per layer) goes in and comes out, so that a long
sequence can be run in segments: truncated back-propagation in training, whole chromosomes in evaluation.
"""

import dataclasses
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from conv import causal_conv_silu, reference_conv
from scan import reference_scan, selective_scan

VOCAB, TAPS = 5, 4


@dataclasses.dataclass
class Config:
    hidden_size: int = 128
    num_hidden_layers: int = 8
    state_size: int = 16
    expand: int = 2
    time_step_rank: int = 8
    layer_norm_epsilon: float = 1e-5

    @property
    def inner(self):
        return self.expand * self.hidden_size


class Mixer(nn.Module):
    def __init__(self, config):
        super().__init__()
        d, inner, n, rank = config.hidden_size, config.inner, config.state_size, config.time_step_rank
        self.config = config
        self.in_proj = nn.Linear(d, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, TAPS, groups=inner)
        self.x_proj = nn.Linear(inner, rank + 2 * n, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.out_proj = nn.Linear(inner, d, bias=False)
        self.A_log = nn.Parameter(torch.log(torch.arange(1, n + 1, dtype=torch.float32)).repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        # Initial step sizes log-uniform in 0.001..0.1, as in the Mamba paper.
        step = torch.exp(torch.rand(inner) * (math.log(0.1) - math.log(0.001)) + math.log(0.001))
        with torch.no_grad():
            self.dt_proj.bias.copy_(step + torch.log(-torch.expm1(-step)))
            nn.init.uniform_(self.dt_proj.weight, -rank ** -0.5, rank ** -0.5)
            self.out_proj.weight.div_(math.sqrt(2 * config.num_hidden_layers))

    def forward(self, u, state):
        """u [batch, T, d]; state (past [batch, 3, inner], h [batch, n, inner]) or None for zeros."""
        inner, n = self.config.inner, self.config.state_size
        # Two products instead of one that is then split: their gradients need no joining.
        x = F.linear(u, self.in_proj.weight[:inner])
        z = F.linear(u, self.in_proj.weight[inner:])
        if state is None:
            past = torch.zeros(u.shape[0], TAPS - 1, inner, device=x.device, dtype=x.dtype)
            h = torch.zeros(u.shape[0], n, inner, device=x.device, dtype=torch.promote_types(x.dtype, torch.float32))
        else:
            past, h = state
        past = past.to(x.dtype)
        next_past = torch.cat([past, x[:, -(TAPS - 1):].detach()], 1)[:, -(TAPS - 1):].contiguous()
        conv, scan = (causal_conv_silu, selective_scan) if x.is_cuda else (reference_conv, reference_scan)
        x = conv(x, self.conv1d.weight[:, 0], self.conv1d.bias, past)
        low, B, C = F.linear(x, self.x_proj.weight).split([self.config.time_step_rank, n, n], -1)
        # The bias is added inside the scan, in f32.
        dt = F.linear(low, self.dt_proj.weight)
        A = -torch.exp(self.A_log).t().contiguous()
        y, h = scan(x, dt, B, C, z, A, self.D, self.dt_proj.bias, h)
        return F.linear(y, self.out_proj.weight), (next_past, h.detach())


class Norm(nn.Module):
    def __init__(self, width, epsilon):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, self.epsilon)


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.norm = Norm(config.hidden_size, config.layer_norm_epsilon)
        self.mixer = Mixer(config)


class Backbone(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embeddings = nn.Embedding(VOCAB, config.hidden_size)
        nn.init.normal_(self.embeddings.weight, std=0.02)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm_f = Norm(config.hidden_size, config.layer_norm_epsilon)


class MambaLM(nn.Module):
    def __init__(self, config=None):
        super().__init__()
        self.config = config or Config()
        self.backbone = Backbone(self.config)

    def hidden(self, tokens, states=None):
        """Normalised last hidden states [batch, T, d] and the states after the last token. The residual is f32."""
        # A one-hot product: the embedding's gradient as a matrix product, not 5 rows of colliding atomics.
        table = self.backbone.embeddings.weight
        with torch.autocast(tokens.device.type, enabled=False):
            one_hot = F.one_hot(tokens.long(), VOCAB).to(table.dtype)
            residual = one_hot @ table
        after = []
        for i, layer in enumerate(self.backbone.layers):
            out, state = layer.mixer(layer.norm(residual), None if states is None else states[i])
            residual = residual + out
            after.append(state)
        return self.backbone.norm_f(residual), after

    def forward(self, tokens, states=None):
        """Logits [batch, T, 5] (f32 or wider) for the token after each, and the states."""
        hidden, after = self.hidden(tokens, states)
        # Eight rows keep the product aligned for tensor cores.
        head = F.pad(self.backbone.embeddings.weight, (0, 0, 0, 8 - VOCAB))
        logits = F.linear(hidden, head)[..., :VOCAB]
        return logits.to(torch.promote_types(logits.dtype, torch.float32)), after
