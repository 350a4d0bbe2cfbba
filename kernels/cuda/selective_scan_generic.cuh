#line 2 "selective_scan_generic.cuh"
// The scan for any shape; follows selective_scan_fwd.cu, which says what it computes.
//
// Up to 256 states and any number of channels: a channel's states lie eight to a lane on 1, 2, .. 32 lanes, which add
// their parts of y by shuffles. Rows come straight from global memory, GENERIC_BATCH of them loaded before the first is
// used. States that fill up the last lane have decay 1, B = C = 0 and stay 0. Where D_STATE is defined, it is the
// number of states.

#define EACH 8
#define GENERIC_BATCH 4
#define GENERIC_WARPS 4

struct Share {
    int index;   // tile
    int lanes;   // lanes a channel
    int channel; // clamped to the last
    int n0;      // first state
    bool valid;  // whether the channel exists
};

__device__ __forceinline__ Share share_of_warp(int d_inner, int d_state) {
    Share s;
    int warp = blockIdx.x * GENERIC_WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    s.lanes = 1;
    while (s.lanes * EACH < d_state) s.lanes *= 2;
    int channels = 32 / s.lanes, blocks = (d_inner + channels - 1) / channels;
    s.index = warp / blocks;
    int c = warp % blocks * channels + lane / s.lanes;
    s.valid = c < d_inner;
    s.channel = min(c, d_inner - 1);
    s.n0 = lane % s.lanes * EACH;
    return s;
}

extern "C" __global__ void __launch_bounds__(32 * GENERIC_WARPS)
    scan_tile_ends_generic(const S *__restrict__ u, const float *__restrict__ dt, const S *__restrict__ b,
                           const float *__restrict__ a2, const float *__restrict__ dt_bias, float *__restrict__ ends,
                           float *__restrict__ sums, const Tile *__restrict__ tile_table, int tiles, int d_inner,
                           int bc_stride, int d_state) {
#ifdef D_STATE
    d_state = D_STATE;
#endif
    Share s = share_of_warp(d_inner, d_state);
    if (s.index >= tiles || tile_table[s.index].last) return;
    Tile tile = tile_table[s.index];
    float decay[EACH], end[EACH], slowest = -__int_as_float(0x7f800000);
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        bool there = s.n0 + i < d_state;
        decay[i] = there ? a2[(i64)s.channel * d_state + s.n0 + i] : 0.0f;
        if (there) slowest = fmaxf(slowest, decay[i]);
        end[i] = 0.0f;
    }
    float bias = dt_bias[s.channel], sum = 0.0f;
    for (int t0 = tile.len - 1; t0 >= 0; t0 -= GENERIC_BATCH) {
        float delta[GENERIC_BATCH], input[GENERIC_BATCH], bs[GENERIC_BATCH][EACH];
#pragma unroll
        for (int k = 0; k < GENERIC_BATCH; k++) {
            i64 row = tile.row + max(t0 - k, 0);
            delta[k] = dt[row * d_inner + s.channel];
            input[k] = to_f32(u[row * d_inner + s.channel]);
#pragma unroll
            for (int i = 0; i < EACH; i++) {
                bs[k][i] = s.n0 + i < d_state ? to_f32(b[row * bc_stride + s.n0 + i]) : 0.0f;
            }
        }
#pragma unroll
        for (int k = 0; k < GENERIC_BATCH; k++) {
            float step = t0 - k >= 0 ? softplus(delta[k] + bias) : 0.0f;
            float du = step * input[k];
#pragma unroll
            for (int i = 0; i < EACH; i++) end[i] = fmaf(exp2_approx(decay[i] * sum), du * bs[k][i], end[i]);
            sum += step;
        }
        if (__all_sync(~0u, sum * slowest < WEIGHTLESS)) break;
    }
    if (!s.valid) return;
    float *to = ends + ((i64)s.index * d_state + s.n0) * d_inner + s.channel;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        if (s.n0 + i < d_state) to[(i64)i * d_inner] = end[i];
    }
    if (s.n0 == 0) sums[(i64)s.index * d_inner + s.channel] = sum;
}

extern "C" __global__ void __launch_bounds__(32 * GENERIC_WARPS)
    scan_apply_generic(const S *__restrict__ u, const float *__restrict__ dt, const S *__restrict__ b,
                       const S *__restrict__ c, const S *__restrict__ z, const float *__restrict__ a2,
                       const float *__restrict__ d, const float *__restrict__ dt_bias,
                       const float *__restrict__ starts, float *__restrict__ ssm_state, S *__restrict__ y,
                       const Tile *__restrict__ tile_table, int tiles, int d_inner, int bc_stride, int z_stride,
                       int d_state) {
#ifdef D_STATE
    d_state = D_STATE;
#endif
    Share s = share_of_warp(d_inner, d_state);
    if (s.index >= tiles) return;
    Tile tile = tile_table[s.index];
    bool alone = tile.first && tile.last;
    float decay[EACH], h[EACH];
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        int n = s.n0 + i;
        decay[i] = n < d_state ? a2[(i64)s.channel * d_state + n] : 0.0f;
        h[i] = 0.0f;
        if (n >= d_state) continue;
        if (!alone) {
            h[i] = starts[((i64)s.index * d_state + n) * d_inner + s.channel];
        } else if (tile.state_in >= 0) {
            h[i] = ssm_state[((i64)tile.state_in * d_inner + s.channel) * d_state + n];
        }
    }
    float bias = dt_bias[s.channel], skip = d[s.channel];
    for (int t0 = 0; t0 < tile.len; t0 += GENERIC_BATCH) {
        float delta[GENERIC_BATCH], input[GENERIC_BATCH], gates[GENERIC_BATCH];
        float bs[GENERIC_BATCH][EACH], cs[GENERIC_BATCH][EACH];
#pragma unroll
        for (int k = 0; k < GENERIC_BATCH; k++) {
            i64 row = tile.row + min(t0 + k, tile.len - 1);
            delta[k] = dt[row * d_inner + s.channel];
            input[k] = to_f32(u[row * d_inner + s.channel]);
            gates[k] = to_f32(z[row * z_stride + s.channel]);
#pragma unroll
            for (int i = 0; i < EACH; i++) {
                bool there = s.n0 + i < d_state;
                bs[k][i] = there ? to_f32(b[row * bc_stride + s.n0 + i]) : 0.0f;
                cs[k][i] = there ? to_f32(c[row * bc_stride + s.n0 + i]) : 0.0f;
            }
        }
#ifdef STORAGE_F32
        // A batch is here what a stage is there.
        float before[EACH], added[EACH], total = 0.0f;
#pragma unroll
        for (int i = 0; i < EACH; i++) before[i] = h[i], added[i] = 0.0f;
#endif
#pragma unroll
        for (int k = 0; k < GENERIC_BATCH; k++) {
            bool inside = t0 + k < tile.len;
            float step = inside ? softplus(delta[k] + bias) : 0.0f;
            float du = step * input[k], sum = 0.0f;
#pragma unroll
            for (int i = 0; i < EACH; i++) {
                float e = exp2_approx(step * decay[i]);
                h[i] = fmaf(e, h[i], du * bs[k][i]);
                sum = fmaf(h[i], cs[k][i], sum);
#ifdef STORAGE_F32
                added[i] = fmaf(e, added[i], du * bs[k][i]);
#endif
            }
#ifdef STORAGE_F32
            total += step;
#endif
            for (int o = s.lanes / 2; o > 0; o /= 2) sum += __shfl_xor_sync(~0u, sum, o);
            if (inside && s.valid && s.n0 == 0) {
                i64 at = (tile.row + t0 + k) * d_inner + s.channel;
                from_f32(fmaf(skip, input[k], sum) * gate(gates[k]), y[at]);
            }
        }
#ifdef STORAGE_F32
#pragma unroll
        for (int i = 0; i < EACH; i++) h[i] = fmaf(exp2_carry(decay[i] * total), before[i], added[i]);
#endif
    }
    if (!tile.last || tile.state_out < 0 || !s.valid) return;
    float *to = ssm_state + ((i64)tile.state_out * d_inner + s.channel) * d_state + s.n0;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        if (s.n0 + i < d_state) to[i] = h[i];
    }
}
