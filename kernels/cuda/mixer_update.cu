// One step of a mixer for many sequences, between in_proj and out_proj, in two launches.
//
// mixer_conv_x_proj: the convolution and SiLU of 64 channels of 16 sequences, and what these channels add to x_proj.
// mixer_scan_update: adds these parts in order, then dt_proj, the recurrence and the gate. Row i is slot i.
// Where D_STATE and D_CONV are defined, they are the numbers of states and taps (kernels/src/special.rs).

#define MIXER_SLICE 64
#define MIXER_LANES 16
#define MIXER_ROWS 128
#define MIXER_MAX_DBC 1024

// grid.x: slices of channels; grid.y: sixteens of sequences.
extern "C" __global__ void __launch_bounds__(256)
    mixer_conv_x_proj(const S *__restrict__ xz, const float *__restrict__ conv1d, const float *__restrict__ bias,
                      const S *__restrict__ x_proj, float *__restrict__ conv_state, S *__restrict__ u,
                      float *__restrict__ partials, int rows, int d_inner, int d_conv, int d_dbc) {
#ifdef D_CONV
    d_conv = D_CONV;
#endif
    __shared__ __align__(16) float us[MIXER_LANES][MIXER_SLICE + 4];
    __shared__ __align__(16) float ws[MIXER_ROWS][MIXER_SLICE + 4];
    int tid = threadIdx.x, at = tid % MIXER_SLICE, group = tid / MIXER_SLICE;
    int c0 = blockIdx.x * MIXER_SLICE, c = c0 + at, lane0 = blockIdx.y * MIXER_LANES;
    int keep = d_conv - 1;
    // What comes from memory is asked for before any of it is waited for: the weights first.
    for (int r = group; r < min(MIXER_ROWS, d_dbc); r += 4) {
        ws[r][at] = c < d_inner ? to_f32(x_proj[(i64)r * d_inner + c]) : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < MIXER_LANES / 4; i++) {
        int l = group * 4 + i, row = lane0 + l;
        float out = 0.0f;
        if (c < d_inner && row < rows) {
            float *state = conv_state + ((i64)row * d_inner + c) * keep;
            float now = to_f32(xz[(i64)row * 2 * d_inner + c]);
            float acc = bias ? bias[c] : 0.0f;
            for (int k = 0; k < keep; k++) {
                float v = state[k];
                acc = fmaf(conv1d[(i64)k * d_inner + c], v, acc);
                if (k > 0) state[k - 1] = v;
            }
            acc = fmaf(conv1d[(i64)keep * d_inner + c], now, acc);
            if (keep > 0) state[keep - 1] = now;
            S stored;
            from_f32(silu(acc), stored);
            u[(i64)row * d_inner + c] = stored;
            out = to_f32(stored);
        }
        us[l][at] = out;
    }
    int half = tid / MIXER_ROWS * 8;
    for (int j0 = 0; j0 < d_dbc; j0 += MIXER_ROWS) {
        if (j0 > 0) {
            __syncthreads();
            for (int r = group; r < min(MIXER_ROWS, d_dbc - j0); r += 4) {
                ws[r][at] = c < d_inner ? to_f32(x_proj[(i64)(j0 + r) * d_inner + c]) : 0.0f;
            }
        }
        __syncthreads();
        int r = tid % MIXER_ROWS, j = j0 + r;
        if (j >= d_dbc) continue;
        float acc[8] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
        for (int k = 0; k < MIXER_SLICE; k += 4) {
            float4 w = *(const float4 *)&ws[r][k];
#pragma unroll
            for (int i = 0; i < 8; i++) {
                float4 x = *(const float4 *)&us[half + i][k];
                acc[i] = fmaf(x.x, w.x, acc[i]);
                acc[i] = fmaf(x.y, w.y, acc[i]);
                acc[i] = fmaf(x.z, w.z, acc[i]);
                acc[i] = fmaf(x.w, w.w, acc[i]);
            }
        }
#pragma unroll
        for (int i = 0; i < 8; i++) {
            int row = lane0 + half + i;
            if (row < rows) partials[((i64)blockIdx.x * rows + row) * d_dbc + j] = acc[i];
        }
    }
}

__device__ __forceinline__ float quad_sum(float v) {
    v += __shfl_xor_sync(~0u, v, 1);
    return v + __shfl_xor_sync(~0u, v, 2);
}

// Four threads share the states of a channel, and each walks over the same four sequences.
// grid.x: 64 channels; grid.y: fours of sequences.
extern "C" __global__ void __launch_bounds__(256)
    mixer_scan_update(const S *__restrict__ xz, const S *__restrict__ u, const float *__restrict__ partials,
                      const S *__restrict__ dt_proj, const float *__restrict__ dt_bias, const float *__restrict__ a2,
                      const float *__restrict__ d, float *__restrict__ ssm_state, S *__restrict__ y, int rows,
                      int d_inner, int d_state, int dt_rank, int slices) {
#ifdef D_STATE
    d_state = D_STATE;
#endif
    __shared__ __align__(16) float dbc[4][MIXER_MAX_DBC];
    // Sums of some slices each, of four sequences: at most 256 fours.
    __shared__ float4 parts[256];
    int tid = threadIdx.x, q = tid % 4, c = blockIdx.x * 64 + tid / 4, row0 = blockIdx.y * 4;
    int d_dbc = dt_rank + 2 * d_state;
    bool mine = c < d_inner;
    bool sixteen = d_state == 16;
    // What comes from memory is asked for before any of it is waited for: the states first, which are most of it.
    float4 h[4];
    if (sixteen && mine) {
#pragma unroll
        for (int l = 0; l < 4; l++) {
            if (row0 + l < rows) h[l] = load4(ssm_state + ((i64)(row0 + l) * d_inner + c) * 16 + 4 * q);
        }
    }
    const S *w = dt_proj + (i64)c * dt_rank;
    bool few = dt_rank % 4 == 0 && dt_rank <= 64 && fours_at(dt_proj, dt_rank);
    float4 w4[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int k = 4 * (q + 4 * i);
        w4[i] = few && mine && k < dt_rank ? load4(w + k) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }
    int fours = d_dbc;
    if (d_dbc % 4 == 0 && fours <= 256) {
        // Item i: four values of one sequence; groups of threads add slices side by side, then the groups in order.
        int wide = d_dbc / 4, groups = min(256 / fours, slices), per = (slices + groups - 1) / groups;
        int g = tid / fours, i = tid - g * fours, l = i / wide, j = (i - l * wide) * 4;
        float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (g < groups && row0 + l < rows) {
            const float *from = partials + (i64)(row0 + l) * d_dbc + j;
            int end = min((g + 1) * per, slices);
#pragma unroll 8
            for (int s = g * per; s < end; s++) {
                float4 v = load4(from + (i64)s * rows * d_dbc);
                sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w;
            }
        }
        parts[tid] = sum;
        __syncthreads();
        if (g == 0) {
            for (int k = 1; k < groups; k++) {
                float4 v = parts[k * fours + i];
                sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w;
            }
            *(float4 *)&dbc[l][j] = sum;
        }
    } else {
        for (int i = tid; i < 4 * d_dbc; i += 256) {
            int l = i / d_dbc, j = i - l * d_dbc;
            float sum = 0.0f;
            if (row0 + l < rows) {
                const float *from = partials + (i64)(row0 + l) * d_dbc + j;
#pragma unroll 8
                for (int s = 0; s < slices; s++) sum += from[(i64)s * rows * d_dbc];
            }
            dbc[l][j] = sum;
        }
    }
    __syncthreads();
    float delta[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (few) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int k = 4 * (q + 4 * i);
            if (k >= dt_rank) break;
#pragma unroll
            for (int l = 0; l < 4; l++) {
                const float *x = &dbc[l][k];
                delta[l] = fmaf(w4[i].x, x[0], delta[l]);
                delta[l] = fmaf(w4[i].y, x[1], delta[l]);
                delta[l] = fmaf(w4[i].z, x[2], delta[l]);
                delta[l] = fmaf(w4[i].w, x[3], delta[l]);
            }
        }
    } else if (mine) {
        for (int k = q; k < dt_rank; k += 4) {
            float v = to_f32(w[k]);
#pragma unroll
            for (int l = 0; l < 4; l++) delta[l] = fmaf(v, dbc[l][k], delta[l]);
        }
    }
    float bias = mine ? dt_bias[c] : 0.0f, skip = mine ? d[c] : 0.0f, out = 0.0f;
    float4 a = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (sixteen && mine) a = load4(a2 + (i64)c * 16 + 4 * q);
#pragma unroll
    for (int l = 0; l < 4; l++) {
        float step = softplus(quad_sum(delta[l]) + bias);
        bool there = mine && row0 + l < rows;
        i64 at = (i64)(row0 + l) * d_inner + c;
        float input = there ? to_f32(u[at]) : 0.0f;
        float du = step * input, sum = 0.0f;
        const float *b = dbc[l] + dt_rank, *cc = b + d_state;
        if (there && sixteen) {
            float4 s = h[l];
            const float *bq = b + 4 * q, *cq = cc + 4 * q;
            s.x = fmaf(exp2_approx(step * a.x), s.x, du * bq[0]);
            s.y = fmaf(exp2_approx(step * a.y), s.y, du * bq[1]);
            s.z = fmaf(exp2_approx(step * a.z), s.z, du * bq[2]);
            s.w = fmaf(exp2_approx(step * a.w), s.w, du * bq[3]);
            store4(ssm_state + at * 16 + 4 * q, s);
            sum = fmaf(s.x, cq[0], fmaf(s.y, cq[1], fmaf(s.z, cq[2], s.w * cq[3])));
        } else if (there) {
            float *state = ssm_state + at * d_state;
            for (int n = q; n < d_state; n += 4) {
                float s = fmaf(exp2_approx(step * a2[(i64)c * d_state + n]), state[n], du * b[n]);
                state[n] = s;
                sum = fmaf(s, cc[n], sum);
            }
        }
        sum = quad_sum(sum);
        if (l == q) out = fmaf(skip, input, sum);
    }
    int row = row0 + q;
    if (mine && row < rows) {
        float z = to_f32(xz[((i64)row * 2 + 1) * d_inner + c]);
        from_f32(out * gate(z), y[(i64)row * d_inner + c]);
    }
}
