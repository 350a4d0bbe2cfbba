// Depthwise causal convolution and SiLU: out[t] = silu(bias + sum_k weight[k] x[t - (d_conv - 1) + k]).
//
// weight is (d_conv, d_inner), tap 0 the oldest. Before a lane's first row lie the d_conv - 1 columns of conv_state
// (slots, d_inner, d_conv - 1), f32, oldest first, or zeros. Taps are added oldest first, as on the CPU.

//
// D_CONV is defined when the source is compiled for one number of taps (kernels/src/special.rs).

#define MAX_CONV 8
#ifdef D_CONV
#define FAST_TAPS D_CONV
#define MOST_TAPS D_CONV
#else
#define FAST_TAPS 4
#define MOST_TAPS MAX_CONV
#endif
#define CONV_ROWS 64
#define CONV_BATCH 8

// One channel, or four as one access.
__device__ __forceinline__ void read(const S *p, float (&v)[1]) { v[0] = to_f32(*p); }
__device__ __forceinline__ void read(const S *p, float (&v)[4]) {
    float4 four = load4(p);
    v[0] = four.x, v[1] = four.y, v[2] = four.z, v[3] = four.w;
}
__device__ __forceinline__ void write(S *p, const float (&v)[1]) { from_f32(v[0], *p); }
__device__ __forceinline__ void write(S *p, const float (&v)[4]) { store4(p, make_float4(v[0], v[1], v[2], v[3])); }

// One thread: WIDTH channels from c on, one piece of a tile. The last TAPS - 1 rows stay in registers, so each x is
// loaded once a piece; CONV_BATCH rows are loaded together before the first is used. TAPS may be more than d_conv: the
// taps in front are then zeros that read nothing.
template <int WIDTH, int TAPS>
__device__ __forceinline__ void convolve(const S *x, const float *weight, const float *bias, const float *conv_state,
                                         S *out, const Tile &tile, int piece, int c, int d_inner, int x_stride,
                                         int d_conv) {
    int skip = TAPS - d_conv, keep = d_conv - 1;
    float w[TAPS][WIDTH], past[TAPS][WIDTH], b[WIDTH];
#pragma unroll
    for (int j = 0; j < WIDTH; j++) {
        b[j] = bias ? bias[c + j] : 0.0f;
#pragma unroll
        for (int k = 0; k < TAPS; k++) w[k][j] = k >= skip ? weight[(i64)(k - skip) * d_inner + c + j] : 0.0f;
    }
    int start = piece * CONV_ROWS;
    int end = min(start + CONV_ROWS, tile.len);
    x += tile.row * x_stride + c;
    out += tile.row * d_inner + c;
    // past[k] is what tap k reads at row `start`.
#pragma unroll
    for (int k = 0; k < TAPS - 1; k++) {
        int t = start - (TAPS - 1) + k;
#pragma unroll
        for (int j = 0; j < WIDTH; j++) past[k][j] = 0.0f;
        if (k < skip) continue;
        if (t >= 0 || !tile.first) {
            read(x + (i64)t * x_stride, past[k]);
        } else if (tile.state_in >= 0) {
            const float *state = conv_state + ((i64)tile.state_in * d_inner + c) * keep + keep + t;
#pragma unroll
            for (int j = 0; j < WIDTH; j++) past[k][j] = state[j * keep];
        }
    }
    for (int t0 = start; t0 < end; t0 += CONV_BATCH) {
        float next[CONV_BATCH][WIDTH];
#pragma unroll
        for (int i = 0; i < CONV_BATCH; i++) {
            if (t0 + i < end) read(x + (i64)(t0 + i) * x_stride, next[i]);
        }
#pragma unroll
        for (int i = 0; i < CONV_BATCH; i++) {
            if (t0 + i >= end) break;
            float acc[WIDTH];
#pragma unroll
            for (int j = 0; j < WIDTH; j++) {
                past[TAPS - 1][j] = next[i][j];
                acc[j] = b[j];
#pragma unroll
                for (int k = 0; k < TAPS; k++) acc[j] = fmaf(w[k][j], past[k][j], acc[j]);
                acc[j] = silu(acc[j]);
#pragma unroll
                for (int k = 0; k < TAPS - 1; k++) past[k][j] = past[k + 1][j];
            }
            write(out + (i64)(t0 + i) * d_inner, acc);
        }
    }
}

// grid.x: tiles times pieces of CONV_ROWS rows; grid.y: 512 channels.
extern "C" __global__ void __launch_bounds__(128)
    causal_conv1d_fwd(const S *__restrict__ x, const float *__restrict__ weight, const float *__restrict__ bias,
                      const float *__restrict__ conv_state, S *__restrict__ out, const Tile *__restrict__ tile_table,
                      int tiles, int pieces, int d_inner, int x_stride, int d_conv) {
    int index = blockIdx.x / pieces, piece = blockIdx.x % pieces;
    if (index >= tiles) return;
    Tile tile = tile_table[index];
    if (piece * CONV_ROWS >= tile.len) return;
#ifdef D_CONV
    d_conv = D_CONV;
#endif
    bool fast = d_conv == FAST_TAPS && d_inner % 4 == 0 && fours_at(x, x_stride) && fours_at(out, d_inner);
    int c0 = blockIdx.y * 512;
    if (fast) {
        int c = c0 + threadIdx.x * 4;
        if (c >= d_inner) return;
        convolve<4, FAST_TAPS>(x, weight, bias, conv_state, out, tile, piece, c, d_inner, x_stride, FAST_TAPS);
    } else {
        for (int c = c0 + threadIdx.x; c < min(c0 + 512, d_inner); c += 128) {
            convolve<1, MOST_TAPS>(x, weight, bias, conv_state, out, tile, piece, c, d_inner, x_stride, d_conv);
        }
    }
}

// Leaves the last d_conv - 1 rows before the convolution in each kept lane's slot. A launch of its own: tiles of the
// same lane still read the old state while causal_conv1d_fwd runs.
// grid.x: 128 channels; grid.y: lanes.
extern "C" __global__ void __launch_bounds__(128)
    causal_conv1d_state(const S *__restrict__ x, float *__restrict__ conv_state,
                        const LaneEntry *__restrict__ lane_table, int lanes, int d_inner, int x_stride, int d_conv) {
#ifdef D_CONV
    d_conv = D_CONV;
#endif
    int c = blockIdx.x * 128 + threadIdx.x;
    int keep = d_conv - 1;
    if (c >= d_inner) return;
    for (int l = blockIdx.y; l < lanes; l += gridDim.y) {
        LaneEntry lane = lane_table[l];
        if (lane.state_out < 0) continue;
        float column[MAX_CONV - 1];
        // Column j is position len - keep + j of the lane; a lane shorter than that shifts its old state.
#pragma unroll
        for (int j = 0; j < MAX_CONV - 1; j++) {
            i64 t = lane.len - keep + j;
            column[j] = 0.0f;
            if (j >= keep) continue;
            if (t >= 0) {
                column[j] = to_f32(x[(lane.row + t) * x_stride + c]);
            } else if (lane.state_in >= 0) {
                column[j] = conv_state[((i64)lane.state_in * d_inner + c) * keep + keep + t];
            }
        }
        float *state = conv_state + ((i64)lane.state_out * d_inner + c) * keep;
#pragma unroll
        for (int j = 0; j < MAX_CONV - 1; j++) {
            if (j < keep) state[j] = column[j];
        }
    }
}

// One step of many sequences: row i continues slots[i].
// grid.x: 128 channels; grid.y: sequences.
extern "C" __global__ void __launch_bounds__(128)
    causal_conv1d_update(const S *__restrict__ x, const float *__restrict__ weight, const float *__restrict__ bias,
                         float *__restrict__ conv_state, const int *__restrict__ slots, S *__restrict__ out, int lanes,
                         int d_inner, int x_stride, int d_conv) {
#ifdef D_CONV
    d_conv = D_CONV;
#endif
    int c = blockIdx.x * 128 + threadIdx.x;
    int keep = d_conv - 1;
    if (c >= d_inner) return;
    for (int i = blockIdx.y; i < lanes; i += gridDim.y) {
        float *state = conv_state + ((i64)slots[i] * d_inner + c) * keep;
        float now = to_f32(x[(i64)i * x_stride + c]);
        float acc = bias ? bias[c] : 0.0f;
        for (int k = 0; k < keep; k++) {
            float v = state[k];
            acc = fmaf(weight[(i64)k * d_inner + c], v, acc);
            if (k > 0) state[k - 1] = v;
        }
        acc = fmaf(weight[(i64)keep * d_inner + c], now, acc);
        if (keep > 0) state[keep - 1] = now;
        from_f32(silu(acc), out[(i64)i * d_inner + c]);
    }
}
