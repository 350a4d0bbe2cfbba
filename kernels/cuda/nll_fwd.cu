// Negative log-likelihood of each row's token, from the row before it: product with the head, softmax over all of its
// rows, one number out. Logits live in registers only.
//
// A block takes 64 rows and walks over the vocabulary 64 tokens at a time, with a running maximum and sum of
// exponentials a row. A thread has 4 x 4 logits of a tile; the 16 threads of four rows are half a warp, which joins
// their maxima and sums. Products and sums are f32 whatever the storage, in an order that is fixed by the shape of the
// head: a row depends neither on its neighbours nor on the number of rows.

#define NLL_TILE 64
#define NLL_DEPTH 16

// Joined over the 16 threads of a row.
__device__ __forceinline__ float half_warp_max(float v) {
    for (int o = 8; o > 0; o >>= 1) v = fmaxf(v, __shfl_xor_sync(~0u, v, o));
    return v;
}
__device__ __forceinline__ float half_warp_sum(float v) {
    for (int o = 8; o > 0; o >>= 1) v += __shfl_xor_sync(~0u, v, o);
    return v;
}

// `before`: the row of x before each row; -1 for none, -2 - slot for one that an earlier batch left in `last`.
extern "C" __global__ void __launch_bounds__(256)
    nll_fwd(const float *__restrict__ x, const float *__restrict__ last, const S *__restrict__ weight,
            const u32 *__restrict__ ids, const int *__restrict__ before, float *__restrict__ out, i64 rows,
            int d_model, int vocab) {
    __shared__ __align__(16) float xs[NLL_DEPTH][NLL_TILE + 4], ws[NLL_DEPTH][NLL_TILE + 4];
    i64 row0 = (i64)blockIdx.x * NLL_TILE;
    int tid = threadIdx.x, tx = tid % 16, ty = tid / 16;
    // What this thread brings: four values of one row and of one token.
    int bring = tid / 4, depth0 = tid % 4 * 4;
    const float *from = 0;
    if (row0 + bring < rows) {
        int b = before[row0 + bring];
        from = b >= 0 ? x + (i64)b * d_model : b == -1 ? 0 : last + (i64)(-2 - b) * d_model;
    }
    // What it computes: four rows, each with the target of its own.
    int target[4];
    float most[4], sum[4], hit[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        i64 row = row0 + ty * 4 + i;
        target[i] = row < rows ? (int)ids[row] : -1;
        most[i] = __int_as_float(0xff800000);
        sum[i] = 0.0f;
        hit[i] = 0.0f;
    }
    for (int v0 = 0; v0 < vocab; v0 += NLL_TILE) {
        float acc[4][4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++) acc[i][j] = 0.0f;
        }
        bool token = v0 + bring < vocab;
        const S *w = weight + (i64)(token ? v0 + bring : 0) * d_model;
        for (int k0 = 0; k0 < d_model; k0 += NLL_DEPTH) {
            __syncthreads();
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int k = k0 + depth0 + i;
                xs[depth0 + i][bring] = from && k < d_model ? from[k] : 0.0f;
                ws[depth0 + i][bring] = token && k < d_model ? to_f32(w[k]) : 0.0f;
            }
            __syncthreads();
#pragma unroll
            for (int k = 0; k < NLL_DEPTH; k++) {
                float4 a = *(const float4 *)&xs[k][ty * 4], b = *(const float4 *)&ws[k][tx * 4];
                float as[4] = {a.x, a.y, a.z, a.w}, bs[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
                for (int i = 0; i < 4; i++) {
#pragma unroll
                    for (int j = 0; j < 4; j++) acc[i][j] = fmaf(as[i], bs[j], acc[i][j]);
                }
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float high = __int_as_float(0xff800000);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                int v = v0 + tx * 4 + j;
                if (v < vocab) high = fmaxf(high, acc[i][j]);
                if (v == target[i]) hit[i] = acc[i][j];
            }
            high = fmaxf(most[i], half_warp_max(high));
            float part = 0.0f;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                if (v0 + tx * 4 + j < vocab) part += exp2_approx(LOG2E * (acc[i][j] - high));
            }
            sum[i] = sum[i] * exp2_approx(LOG2E * (most[i] - high)) + half_warp_sum(part);
            most[i] = high;
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        i64 row = row0 + ty * 4 + i;
        // One of the 16 threads has it, the others zero.
        float logit = half_warp_sum(hit[i]);
        if (tx == 0 && row < rows) out[row] = before[row] == -1 ? 0.0f : logf(sum[i]) + most[i] - logit;
    }
}

// kept: row and slot of each lane that goes on. grid.x: lanes.
extern "C" __global__ void __launch_bounds__(256)
    nll_keep(const float *__restrict__ x, float *__restrict__ last, const int *__restrict__ kept, int lanes,
             int d_model) {
    if ((int)blockIdx.x >= lanes) return;
    const float *from = x + (i64)kept[2 * blockIdx.x] * d_model;
    float *to = last + (i64)kept[2 * blockIdx.x + 1] * d_model;
    for (int c = threadIdx.x; c < d_model; c += 256) to[c] = from[c];
}
