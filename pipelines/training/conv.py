"""Causal depthwise convolution (4 taps) and SiLU in one pass, forward and backward, with the three columns before the
segment given. Unfused, these elementwise passes would cost more than the model's matrix products.

    pre_t = bias + sum_k w_k x_{t-3+k};  out_t = silu(pre_t)
"""

import torch
import torch.nn.functional as F
import triton
import triton.language as tl

TAPS, ROWS, COLUMNS = 4, 32, 64


@triton.jit
def _column(x_ptr, past_ptr, seq, t, ch, T, x_row, D: tl.constexpr):
    """x at times t (t >= -3; before the segment from `past`, after its end zero)."""
    now = (t >= 0) & (t < T)
    before = t < 0
    x = tl.load(x_ptr + (seq * T + t)[:, None] * x_row + ch[None, :], now[:, None], 0.0).to(tl.float32)
    old = tl.load(past_ptr + (seq * 3 + t + 3)[:, None] * D + ch[None, :], before[:, None], 0.0).to(tl.float32)
    return tl.where(before[:, None], old, x)


@triton.jit
def _pre(x_ptr, past_ptr, w_ptr, bias, seq, t, ch, T, x_row, D: tl.constexpr):
    pre = tl.zeros((t.shape[0], ch.shape[0]), tl.float32) + bias[None, :]
    for k in tl.static_range(4):
        pre += tl.load(w_ptr + ch * 4 + k)[None, :] * _column(x_ptr, past_ptr, seq, t - 3 + k, ch, T, x_row, D)
    return pre


@triton.jit
def _forward(x_ptr, past_ptr, w_ptr, bias_ptr, out_ptr, T, x_row,
             D: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    seq = tl.program_id(0).to(tl.int64)
    t = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    ch = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    pre = _pre(x_ptr, past_ptr, w_ptr, tl.load(bias_ptr + ch), seq, t, ch, T, x_row, D)
    tl.store(out_ptr + (seq * T + t)[:, None] * D + ch[None, :], (pre * tl.sigmoid(pre)).to(out_ptr.dtype.element_ty),
             (t < T)[:, None])


@triton.jit
def _backward(x_ptr, past_ptr, w_ptr, bias_ptr, dout_ptr, dx_ptr, dw_ptr, dbias_ptr, T, x_row,
              D: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    seq = tl.program_id(0).to(tl.int64)
    part = seq * tl.num_programs(1) + tl.program_id(1)
    t = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    ch = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    bias = tl.load(bias_ptr + ch)
    dx = tl.zeros((ROWS, COLUMNS), tl.float32)
    for ahead in tl.static_range(4):
        # x_t enters pre_{t+ahead} through tap 3 - ahead.
        later = t + ahead
        pre = _pre(x_ptr, past_ptr, w_ptr, bias, seq, later, ch, T, x_row, D)
        gate = tl.sigmoid(pre)
        dout = tl.load(dout_ptr + (seq * T + later)[:, None] * D + ch[None, :], (later < T)[:, None], 0.0)
        dpre = dout.to(tl.float32) * gate * (1.0 + pre * (1.0 - gate))
        dx += tl.load(w_ptr + ch * 4 + 3 - ahead)[None, :] * dpre
        if ahead == 0:
            tl.store(dbias_ptr + part * D + ch, tl.sum(dpre, axis=0))
            for k in tl.static_range(4):
                column = _column(x_ptr, past_ptr, seq, t - 3 + k, ch, T, x_row, D)
                tl.store(dw_ptr + (part * D + ch) * 4 + k, tl.sum(dpre * column, axis=0))
    tl.store(dx_ptr + (seq * T + t)[:, None] * D + ch[None, :], dx.to(dx_ptr.dtype.element_ty), (t < T)[:, None])


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, past):
        batch, T, D = x.shape
        assert x.stride(2) == 1 and x.stride(0) == T * x.stride(1) and D % COLUMNS == 0 and past.is_contiguous()
        grid = (batch, triton.cdiv(T, ROWS), D // COLUMNS)
        out = torch.empty(batch, T, D, device=x.device, dtype=x.dtype)
        _forward[grid](x, past, weight, bias, out, T, x.stride(1), D=D, ROWS=ROWS, COLUMNS=COLUMNS)
        ctx.save_for_backward(x, weight, bias, past)
        return out

    @staticmethod
    def backward(ctx, dout):
        x, weight, bias, past = ctx.saved_tensors
        batch, T, D = x.shape
        grid = (batch, triton.cdiv(T, ROWS), D // COLUMNS)
        dx = torch.empty(batch, T, D, device=x.device, dtype=x.dtype)
        dw = torch.empty(batch * grid[1], D, TAPS, device=x.device)
        dbias = torch.empty(batch * grid[1], D, device=x.device)
        _backward[grid](x, past, weight, bias, dout.contiguous(), dx, dw, dbias, T, x.stride(1),
                        D=D, ROWS=ROWS, COLUMNS=COLUMNS)
        return dx, dw.sum(0), dbias.sum(0), None


def causal_conv_silu(x, weight, bias, past):
    """x [batch, T, channels]; weight [channels, 4], tap 3 is the current step; past [batch, 3, channels] in x's type."""
    return _Conv.apply(x, weight, bias, past)


def reference_conv(x, weight, bias, past):
    padded = torch.cat([past.to(x.dtype), x], 1)
    T = x.shape[1]
    return F.silu(bias + sum(weight[:, k] * padded[:, k:k + T] for k in range(TAPS)))


def check(device, T=83, dtype=torch.float32, tolerance=2e-5):
    """Output and gradients against float64; returns the largest relative error and whether it is small enough."""
    rng = torch.Generator().manual_seed(3)
    normal = lambda *shape: torch.randn(*shape, generator=rng, dtype=torch.float64)
    x, past, grad = (v.to(dtype).double() for v in (normal(2, T, 128), normal(2, 3, 128), normal(2, T, 128)))
    exact = [x.requires_grad_(), normal(128, TAPS).requires_grad_(), normal(128).requires_grad_()]
    out = reference_conv(*exact, past)
    (out * grad).sum().backward()
    mine = [e.detach().to(device, dtype if i == 0 else torch.float32).requires_grad_() for i, e in enumerate(exact)]
    got = causal_conv_silu(*mine, past.to(device, dtype))
    (got.float() * grad.to(device).float()).sum().backward()
    worst = 0.0
    for name, a, e in [("out", got, out)] + [(n, m.grad, e.grad) for n, m, e in zip(("dx", "dw", "dbias"), mine, exact)]:
        error = ((a.detach().cpu().double() - e.detach()).norm() / e.detach().norm()).item()
        print(f"  conv {str(dtype):15s} T={T} {name:6s} {error:.2e}{'' if error < tolerance else '  TOO LARGE'}")
        worst = max(worst, error) if error == error else float("inf")
    return worst, worst < tolerance
