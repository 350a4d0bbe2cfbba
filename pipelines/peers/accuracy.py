#!/usr/bin/env python3
"""How far mamba-seq's hidden states are from float64, beside transformers' slow path on the same device and weights.

    python accuracy.py --mamba-seq target/release/mamba-seq --shapes 64x4 128x8 256x8 768x24 --seeds 1 2

Needs torch, transformers and safetensors; a CUDA device, or --device cpu. Models of random weights come from
data/golden/bench_model.py. The float64 values are of `forward64` below, which shares no code with either: it reads the same
f32 weights and steps token by token. Errors are norm-wise over all tokens, against these.

mamba-seq is asked for one row a token (--pool none) as an Arrow stream. Arrow's Python package is not needed: of such a stream
only the value buffers of the column `embedding` are read, through `arrow_floats`.
"""

import argparse
import importlib.util
import json
import pathlib
import re
import struct
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file

HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = HERE.parent.parent / "data" / "golden"


def forward64(folder, config, ids, device):
    """Output of the final norm in float64, (tokens, d_model)."""
    w = {k: v.to(device, torch.float64) for k, v in load_file(folder / "model.safetensors").items()}
    eps, n, rank = config["layer_norm_epsilon"], config["state_size"], config["time_step_rank"]
    k = config["conv_kernel"]

    def norm(x, weight):
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * weight

    x = w["backbone.embeddings.weight"][ids]
    for layer in range(config["num_hidden_layers"]):
        p = f"backbone.layers.{layer}."
        m = p + "mixer."
        u, z = (norm(x, w[p + "norm.weight"]) @ w[m + "in_proj.weight"].T).chunk(2, -1)
        # Causal convolution, one tap after the other.
        taps, padded = w[m + "conv1d.weight"][:, 0], torch.cat([u.new_zeros(k - 1, u.shape[1]), u])
        u = sum(padded[i : i + len(u)] * taps[:, i] for i in range(k)) + w[m + "conv1d.bias"]
        u = u * torch.sigmoid(u)
        dt, b, c = (u @ w[m + "x_proj.weight"].T).split([rank, n, n], -1)
        dt = torch.nn.functional.softplus(dt @ w[m + "dt_proj.weight"].T + w[m + "dt_proj.bias"], threshold=700)
        a = -torch.exp(w[m + "A_log"])
        h, y = u.new_zeros(u.shape[1], n), torch.empty_like(u)
        dtu = dt * u
        for t in range(len(u)):
            h = torch.exp(dt[t, :, None] * a) * h + dtu[t, :, None] * b[t]
            y[t] = h @ c[t]
        y = (y + w[m + "D"] * u) * (z * torch.sigmoid(z))
        x = x + y @ w[m + "out_proj.weight"].T
    return norm(x, w["backbone.norm_f.weight"])


def transformers_path(folder, ids, device, dtype):
    """The same of transformers' MambaModel, which takes its plain path where mamba_ssm is not installed."""
    import transformers

    assert importlib.util.find_spec("mamba_ssm") is None, "mamba_ssm is installed: this would measure its kernels"

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model = transformers.MambaModel.from_pretrained(folder, dtype=dtype).to(device).eval()
    with torch.inference_mode():
        return model(ids[None], use_cache=False).last_hidden_state[0]


def arrow_floats(stream, width):
    """The f32 values of the last buffer of each record batch of an Arrow IPC stream: the column `embedding` is the last.

    A message is 0xffffffff, the length of its flatbuffer, the flatbuffer, and a body padded to 8 bytes. A record batch says in
    the flatbuffer where its buffers lie in the body; an array of 16-byte (offset, length) pairs, whose last is ours.
    """
    out, at = [], 0
    while at + 8 <= len(stream):
        mark, size = struct.unpack_from("<II", stream, at)
        assert mark == 0xFFFFFFFF
        if size == 0:
            break
        head, at = stream[at + 8 : at + 8 + size], at + 8 + size

        def field(table, index):
            """Where a field of a flatbuffer table lies, or None."""
            vtable = table - struct.unpack_from("<i", head, table)[0]
            entries = (struct.unpack_from("<H", head, vtable)[0] - 4) // 2
            offset = struct.unpack_from("<H", head, vtable + 4 + 2 * index)[0] if index < entries else 0
            return table + offset if offset else None

        def follow(place):
            return place + struct.unpack_from("<I", head, place)[0]

        message = follow(0)
        kind, body_length = head[field(message, 1)], field(message, 3)
        length = struct.unpack_from("<q", head, body_length)[0] if body_length else 0
        if kind == 3:
            batch = follow(field(message, 2))
            buffers = follow(field(batch, 2))
            count = struct.unpack_from("<I", head, buffers)[0]
            offset, size = struct.unpack_from("<qq", head, buffers + 4 + 16 * (count - 1))
            out.append(torch.frombuffer(bytearray(stream[at + offset : at + offset + size]), dtype=torch.float32))
        at += length
    return torch.cat(out).view(-1, width)


def ours(program, folder, letters, device, dtype, width):
    with tempfile.TemporaryDirectory() as temp:
        fasta = pathlib.Path(temp, "x.fa")
        fasta.write_text(f">x\n{letters}\n")
        command = [program, "embed", fasta, "-o", "-", "--model", folder, "--pool", "none", "--device", device, "--dtype", dtype, "-q"]
        ran = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, check=True)
    return arrow_floats(ran.stdout, width)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--mamba-seq", required=True)
    ap.add_argument("--shapes", nargs="+", default=["64x4", "128x8", "256x8", "768x24"], metavar="D_MODELxLAYERS")
    ap.add_argument("--seeds", nargs="+", type=int, default=[1, 2])
    ap.add_argument("--tokens", type=int, default=1000)
    ap.add_argument("--device", default="cuda")
    ap.add_argument("--limit", type=float, default=1.5, help="largest ratio of our error to transformers'")
    a = ap.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    types = {"f32": torch.float32, "bf16": torch.bfloat16}
    if a.device == "cpu":
        del types["bf16"]
    import transformers

    where = torch.cuda.get_device_name() if a.device != "cpu" else "cpu"
    print(f"{where}, torch {torch.__version__}, transformers {transformers.__version__}, {a.tokens} tokens")
    print(f"{'model':<10} {'seed':>4} {'dtype':<5} {'transformers':>12} {'mamba-seq':>12} {'ratio':>6}")
    worst = 0.0
    for shape in a.shapes:
        d, layers = map(int, re.fullmatch(r"(\d+)x(\d+)", shape).groups())
        for seed in a.seeds:
            with tempfile.TemporaryDirectory() as temp:
                folder = pathlib.Path(temp, "model")
                make = [sys.executable, GOLDEN / "bench_model.py", folder, "--d-model", d, "--layers", layers, "--seed", seed]
                subprocess.run(list(map(str, make)), check=True, stdout=subprocess.DEVNULL)
                config = json.loads((folder / "config.json").read_text())
                ids = torch.randint(0, 4, (a.tokens,), generator=torch.Generator().manual_seed(seed))
                letters = "".join("ACGT"[i] for i in ids)
                with torch.inference_mode():
                    right = forward64(folder, config, ids.to(a.device), a.device)
                error = lambda found: float((found.to(right.device, torch.float64) - right).norm() / right.norm())
                for name, dtype in types.items():
                    theirs = error(transformers_path(folder, ids.to(a.device), a.device, dtype))
                    mine = error(ours(a.mamba_seq, folder, letters, a.device, name, d))
                    worst = max(worst, mine / theirs)
                    print(f"{shape:<10} {seed:>4} {name:<5} {theirs:>12.2e} {mine:>12.2e} {mine / theirs:>6.2f}", flush=True)
    print(f"worst ratio {worst:.2f}, limit {a.limit}")
    sys.exit(worst > a.limit)


if __name__ == "__main__":
    main()
