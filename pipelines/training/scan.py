"""The selective scan for training: a fused forward and backward in Triton, and the plain recurrence they are checked
against.

    delta = softplus(dt + dt_bias)
    h_t   = exp(delta_t A) h_{t-1} + delta_t B_t x_t
    out_t = (<C_t, h_t> + D x_t) * silu(z_t)

One program owns one sequence and CHANNELS channels and walks the sequence in tiles of TILE steps. Within a tile the
recurrence is an associative scan over time; the tile axis is the slowest one of the block, so it lies in registers
and costs no shuffles. Forward stores the state at every tile's start (f32); backward walks the tiles from last to
first, recomputes the states of a tile from that, and runs the adjoint recurrence

    g_t = C_t dy_t + a_{t+1} g_{t+1},    a_t = exp(delta_t A)

the same way in reverse. The gradient of a_t needs a_t h_{t-1}, which is h_t minus what step t put in, so no shifted
states are needed. The state carried in from an earlier segment is a constant: training cuts the gradient there.

    python scan.py --check          compare with float64, exit 1 when off (needs a GPU)
    python scan.py --time           time a few shapes
"""

import argparse
import sys

import torch
import torch.nn.functional as F
import triton
import triton.language as tl

import conv

# Small tiles and two warps were the fastest on an H100: 30 ns a token and layer, against 57 with (8, 32, 4).
TILE, CHANNELS, WARPS = 4, 32, 2
LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def _combine(a1, b1, a2, b2):
    """Step (a1, b1) first, then (a2, b2): h -> a2 (a1 h + b1) + b2."""
    return a1 * a2, a2 * b1 + b2


@triton.jit
def _softplus(v):
    e = tl.exp(-tl.abs(v))
    # log(1 + e) loses its small values; a short series keeps delta's relative error near 1e-6.
    series = e * (1.0 - e * (0.5 - e * (0.33333333 - e * 0.25)))
    return tl.maximum(v, 0.0) + tl.where(e < 0.03, series, tl.log(1.0 + e))


@triton.jit
def _states(x, delta, Bt, A2, h):
    """All states of a tile [TILE, N, CHANNELS] and what each step put in, from the state h before it."""
    decay = tl.exp2(delta[:, None, :] * A2[None, :, :])
    put = (delta * x)[:, None, :] * Bt[:, :, None]
    through, inside = tl.associative_scan((decay, put), 0, _combine)
    return inside + through * h[None, :, :], put


@triton.jit
def _forward(x_ptr, dt_ptr, z_ptr, b_ptr, c_ptr, a_ptr, d_ptr, bias_ptr, h0_ptr, out_ptr, starts_ptr, last_ptr,
             T, x_row, dt_row, z_row, bc_row, D: tl.constexpr, N: tl.constexpr,
             TILE: tl.constexpr, CHANNELS: tl.constexpr):
    seq = tl.program_id(0).to(tl.int64)
    ch = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    n, k = tl.arange(0, N), tl.arange(0, TILE)
    state = n[:, None] * D + ch[None, :]
    A2 = tl.load(a_ptr + state) * LOG2E
    skip, bias = tl.load(d_ptr + ch), tl.load(bias_ptr + ch)
    h = tl.load(h0_ptr + seq * N * D + state)
    tiles = tl.cdiv(T, TILE)
    for tile in range(0, tiles):
        tl.store(starts_ptr + (seq * tiles + tile) * N * D + state, h)
        t = tile * TILE + k
        ok = (t < T)[:, None]
        row = (seq * T + t)[:, None]
        x = tl.load(x_ptr + row * x_row + ch[None, :], ok, 0.0).to(tl.float32)
        raw = tl.load(dt_ptr + row * dt_row + ch[None, :], ok, 0.0).to(tl.float32)
        z = tl.load(z_ptr + row * z_row + ch[None, :], ok, 0.0).to(tl.float32)
        Bt = tl.load(b_ptr + row * bc_row + n[None, :], ok, 0.0).to(tl.float32)
        Ct = tl.load(c_ptr + row * bc_row + n[None, :], ok, 0.0).to(tl.float32)
        # delta = 0 past the end: such a step leaves the state as it is.
        delta = tl.where(ok, _softplus(raw + bias[None, :]), 0.0)
        hs, _ = _states(x, delta, Bt, A2, h)
        y = tl.sum(hs * Ct[:, :, None], axis=1) + skip[None, :] * x
        out = y * z * tl.sigmoid(z)
        tl.store(out_ptr + row * D + ch[None, :], out.to(out_ptr.dtype.element_ty), ok)
        h = tl.sum(tl.where((k == TILE - 1)[:, None, None], hs, 0.0), axis=0)
    tl.store(last_ptr + seq * N * D + state, h)


@triton.jit
def _backward(x_ptr, dt_ptr, z_ptr, b_ptr, c_ptr, a_ptr, d_ptr, bias_ptr, starts_ptr, dout_ptr,
              dx_ptr, ddt_ptr, dz_ptr, db_ptr, dc_ptr, da_ptr, dskip_ptr, dbias_ptr,
              T, x_row, dt_row, z_row, bc_row, D: tl.constexpr, N: tl.constexpr,
              TILE: tl.constexpr, CHANNELS: tl.constexpr):
    seq = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    ch = block * CHANNELS + tl.arange(0, CHANNELS)
    n, k = tl.arange(0, N), tl.arange(0, TILE)
    state = n[:, None] * D + ch[None, :]
    A = tl.load(a_ptr + state)
    A2 = A * LOG2E
    skip, bias = tl.load(d_ptr + ch), tl.load(bias_ptr + ch)
    g_next = tl.zeros((N, CHANNELS), tl.float32)
    dA = tl.zeros((N, CHANNELS), tl.float32)
    dskip = tl.zeros((CHANNELS,), tl.float32)
    dbias = tl.zeros((CHANNELS,), tl.float32)
    tiles = tl.cdiv(T, TILE)
    for back in range(0, tiles):
        tile = tiles - 1 - back
        t = tile * TILE + k
        ok = (t < T)[:, None]
        row = (seq * T + t)[:, None]
        h = tl.load(starts_ptr + (seq * tiles + tile) * N * D + state)
        x = tl.load(x_ptr + row * x_row + ch[None, :], ok, 0.0).to(tl.float32)
        raw = tl.load(dt_ptr + row * dt_row + ch[None, :], ok, 0.0).to(tl.float32) + bias[None, :]
        raw_next = tl.load(dt_ptr + (row + 1) * dt_row + ch[None, :], (t + 1 < T)[:, None], 0.0).to(tl.float32)
        z = tl.load(z_ptr + row * z_row + ch[None, :], ok, 0.0).to(tl.float32)
        Bt = tl.load(b_ptr + row * bc_row + n[None, :], ok, 0.0).to(tl.float32)
        Ct = tl.load(c_ptr + row * bc_row + n[None, :], ok, 0.0).to(tl.float32)
        dout = tl.load(dout_ptr + row * D + ch[None, :], ok, 0.0).to(tl.float32)
        delta = tl.where(ok, _softplus(raw), 0.0)
        hs, put = _states(x, delta, Bt, A2, h)

        gate = tl.sigmoid(z)
        y = tl.sum(hs * Ct[:, :, None], axis=1) + skip[None, :] * x
        dz = dout * y * gate * (1.0 + z * (1.0 - gate))
        dy = dout * z * gate

        # Past the sequence's end g_next is zero, so the decay taken there does not matter.
        decay_next = tl.exp2(_softplus(raw_next + bias[None, :])[:, None, :] * A2[None, :, :])
        into = Ct[:, :, None] * dy[:, None, :]
        # Flipping a register axis is free; associative_scan(reverse=True) would flip the lanes too, 640 shuffles.
        through, inside = tl.associative_scan((tl.flip(decay_next, 0), tl.flip(into, 0)), 0, _combine)
        g = tl.flip(inside + through * g_next[None, :, :], 0)
        g_next = tl.sum(tl.where((k == 0)[:, None, None], g, 0.0), axis=0)

        from_past = g * (hs - put)
        gB = tl.sum(g * Bt[:, :, None], axis=1)
        dx = delta * gB + skip[None, :] * dy
        ddelta = x * gB + tl.sum(from_past * A[None, :, :], axis=1)
        ddt = ddelta * tl.sigmoid(raw)
        tl.store(dx_ptr + row * D + ch[None, :], dx.to(dx_ptr.dtype.element_ty), ok)
        tl.store(ddt_ptr + row * D + ch[None, :], ddt.to(ddt_ptr.dtype.element_ty), ok)
        tl.store(dz_ptr + row * D + ch[None, :], dz.to(dz_ptr.dtype.element_ty), ok)
        # B and C serve all channels: each block writes its part, added up outside (no atomics: same bits each run).
        part = (row * (D // CHANNELS) + block) * N + n[None, :]
        tl.store(db_ptr + part, tl.sum(g * (delta * x)[:, None, :], axis=2), ok)
        tl.store(dc_ptr + part, tl.sum(hs * dy[:, None, :], axis=2), ok)
        dA += tl.sum(from_past * delta[:, None, :], axis=0)
        dskip += tl.sum(dy * x, axis=0)
        dbias += tl.sum(tl.where(ok, ddt, 0.0), axis=0)
    tl.store(da_ptr + seq * N * D + state, dA)
    tl.store(dskip_ptr + seq * D + ch, dskip)
    tl.store(dbias_ptr + seq * D + ch, dbias)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, dt, B, C, z, A, D, dt_bias, h0):
        batch, T, channels = x.shape
        N = A.shape[0]
        assert channels % CHANNELS == 0 and B.stride(1) == C.stride(1)
        for tensor in (x, dt, z, B, C):
            # One row step for the whole batch: sequences lie one after the other.
            assert tensor.stride(2) == 1 and tensor.stride(0) == T * tensor.stride(1)
        tiles = triton.cdiv(T, TILE)
        out = torch.empty(batch, T, channels, device=x.device, dtype=x.dtype)
        starts = torch.empty(batch, tiles, N, channels, device=x.device, dtype=torch.float32)
        last = torch.empty(batch, N, channels, device=x.device, dtype=torch.float32)
        rows = (x.stride(1), dt.stride(1), z.stride(1), B.stride(1))
        _forward[(batch, channels // CHANNELS)](
            x, dt, z, B, C, A, D, dt_bias, h0, out, starts, last, T, *rows,
            D=channels, N=N, TILE=TILE, CHANNELS=CHANNELS, num_warps=WARPS)
        ctx.save_for_backward(x, dt, B, C, z, A, D, dt_bias, starts)
        ctx.mark_non_differentiable(last)
        return out, last

    @staticmethod
    def backward(ctx, dout, _):
        x, dt, B, C, z, A, D, dt_bias, starts = ctx.saved_tensors
        batch, T, channels = x.shape
        N, blocks = A.shape[0], channels // CHANNELS
        dout = dout.contiguous()
        dx, ddt, dz = (torch.empty(batch, T, channels, device=x.device, dtype=x.dtype) for _ in range(3))
        dB, dC = (torch.empty(batch, T, blocks, N, device=x.device) for _ in range(2))
        dA = torch.empty(batch, N, channels, device=x.device)
        dD, dbias = (torch.empty(batch, channels, device=x.device) for _ in range(2))
        rows = (x.stride(1), dt.stride(1), z.stride(1), B.stride(1))
        _backward[(batch, blocks)](
            x, dt, z, B, C, A, D, dt_bias, starts, dout, dx, ddt, dz, dB, dC, dA, dD, dbias, T, *rows,
            D=channels, N=N, TILE=TILE, CHANNELS=CHANNELS, num_warps=WARPS)
        return (dx, ddt, dB.sum(2).to(B.dtype), dC.sum(2).to(C.dtype), dz, dA.sum(0), dD.sum(0), dbias.sum(0), None)


def selective_scan(x, dt, B, C, z, A, D, dt_bias, h0):
    """x, dt, z [batch, T, channels]; B, C [batch, T, N]; A [N, channels] (negative); h0 [batch, N, channels], f32.

    Returns the gated output in x's type and the state after the last step (f32, without gradient)."""
    return _Scan.apply(x, dt, B, C, z, A, D, dt_bias, h0)


def reference_scan(x, dt, B, C, z, A, D, dt_bias, h0):
    """The same in plain PyTorch, one step at a time, in the inputs' type."""
    delta = F.softplus(dt + dt_bias, threshold=50.0)
    h, ys = h0, []
    for t in range(x.shape[1]):
        step = delta[:, t, None, :]
        h = torch.exp(step * A) * h + step * B[:, t, :, None] * x[:, t, None, :]
        ys.append((h * C[:, t, :, None]).sum(1) + D * x[:, t])
    return torch.stack(ys, 1) * F.silu(z), h


NAMES = ("x", "dt", "B", "C", "z", "A", "D", "dt_bias", "h0")


def example(batch, T, channels, N, seed, dtype=torch.float64):
    """Random inputs in which the state carries a good part of the output and decays range from slow to fast."""
    rng = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=rng, dtype=torch.float64)
    decay = torch.arange(1, N + 1, dtype=torch.float64)[:, None] * torch.exp(0.1 * normal(N, channels))
    start = torch.exp(torch.empty(channels, dtype=torch.float64).uniform_(-6.9, -2.3, generator=rng))
    values = (normal(batch, T, channels), 0.5 * normal(batch, T, channels), normal(batch, T, N), normal(batch, T, N),
              normal(batch, T, channels), -decay, normal(channels), torch.log(torch.expm1(start)),
              normal(batch, N, channels))
    return [v.to(dtype) for v in values]


def check(device, T=83, dtype=torch.float32, tolerance=2e-5):
    """Outputs, last state and every gradient against float64; returns the largest relative error.

    bf16 inputs are rounded before the reference sees them, and the state and sums are f32 in both cases."""
    worst = 0.0
    for seed in (1, 2):
        values = example(2, T, 64, 16, seed)
        values[:5] = [v.to(dtype).double() for v in values[:5]]
        weight = example(2, T, 64, 16, seed + 100)[0].to(dtype).double()
        exact = [v.clone().requires_grad_(i < 8) for i, v in enumerate(values)]
        out, last = reference_scan(*exact)
        (out * weight).sum().backward()
        mine = [v.to(device, dtype if i < 5 else torch.float32).requires_grad_(i < 8) for i, v in enumerate(values)]
        got, got_last = selective_scan(*mine)
        (got.float() * weight.to(device).float()).sum().backward()
        pairs = [("out", got, out), ("last", got_last, last)]
        pairs += [("d" + name, m.grad, e.grad) for name, m, e in zip(NAMES[:8], mine, exact)]
        for name, a, e in pairs:
            error = ((a.detach().cpu().double() - e.detach()).norm() / e.detach().norm()).item()
            print(f"  {str(dtype):15s} T={T} seed={seed} {name:8s} {error:.2e}{'' if error < tolerance else '  TOO LARGE'}")
            worst = max(worst, error) if error == error else float("inf")
    return worst, worst < tolerance


def timing(device):
    """Tile sizes and warps at one shape, then the chosen ones at others."""
    global TILE, WARPS
    chosen, T = (TILE, WARPS), 4096
    for (TILE, WARPS), batch in [((4, 4), 64), ((8, 4), 64), ((16, 8), 64), (chosen, 64), (chosen, 32), (chosen, 128)]:
        wide = lambda width: torch.randn(batch, T, width, device=device, dtype=torch.bfloat16)
        values = [wide(256), wide(256), wide(16), wide(16), wide(256)]
        values += [v.to(device, torch.float32) for v in example(batch, 1, 256, 16, 0)[5:]]
        values = [v.requires_grad_(i < 8) for i, v in enumerate(values)]
        forward = lambda: selective_scan(*values)[0]
        grad = torch.randn_like(forward())
        bench = lambda f: triton.testing.do_bench(f, warmup=20, rep=100, return_mode="median")
        ahead = bench(forward)
        back = bench(lambda: torch.autograd.grad(forward(), values[:8], grad)) - ahead
        print(f"  tile {TILE}, {WARPS} warps, {batch} x {T} x 256 channels x 16 states: forward {ahead:.2f} ms, backward "
              f"{back:.2f} ms, {1e6 * ahead / batch / T:.2f} + {1e6 * back / batch / T:.2f} ns a token and layer")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--device", default="cuda", help="cpu works under TRITON_INTERPRET=1")
    args = parser.parse_args()
    if args.check:
        ok = check(args.device)[1] & check(args.device, T=64)[1]
        ok &= check(args.device, T=64, dtype=torch.bfloat16, tolerance=6e-3)[1]
        ok &= conv.check(args.device)[1] & conv.check(args.device, dtype=torch.bfloat16, tolerance=6e-3)[1]
        print("scan and convolution check:", "ok" if ok else "FAILED")
        if not ok:
            sys.exit(1)
    if args.time:
        timing(args.device)


if __name__ == "__main__":
    main()
