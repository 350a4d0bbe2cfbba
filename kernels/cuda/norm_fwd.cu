// RMSNorm and LayerNorm of f32 rows, one warp a row.
//
// Up to 1024 values a row stay in registers between the sums and the output: one read, one write. The sums run in an
// order that is fixed by the width alone, so a row does not depend on its neighbours or on the number of rows.

__device__ __forceinline__ float warp_sum(float v) {
    for (int o = 16; o > 0; o >>= 1) v += __shfl_xor_sync(~0u, v, o);
    return v;
}

__device__ __forceinline__ float sum4(float4 v) { return (v.x + v.y) + (v.z + v.w); }

__device__ __forceinline__ float4 square4(float4 v, float mean) {
    float a = v.x - mean, b = v.y - mean, c = v.z - mean, d = v.w - mean;
    return make_float4(a * a, b * b, c * c, d * d);
}

__device__ __forceinline__ float4 scale4(float4 v, float mean, float scale, float4 w, float4 b) {
    return make_float4(fmaf((v.x - mean) * scale, w.x, b.x), fmaf((v.y - mean) * scale, w.y, b.y),
                       fmaf((v.z - mean) * scale, w.z, b.z), fmaf((v.w - mean) * scale, w.w, b.w));
}

// A row of up to 128 * FOURS values, the width a multiple of 4. The mean is subtracted before squares are summed: the
// difference of two large sums would lose the variance.
template <bool LAYER, int FOURS, typename T>
__device__ __forceinline__ void norm_in_registers(const float *x, const float *weight, const float *bias, T *out,
                                                  int width, float eps) {
    int lane = threadIdx.x % 32;
    float4 v[FOURS];
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < FOURS; i++) {
        int c = (i * 32 + lane) * 4;
        v[i] = c < width ? load4(x + c) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (LAYER) sum += sum4(v[i]);
    }
    float mean = LAYER ? warp_sum(sum) / width : 0.0f;
    float square = 0.0f;
#pragma unroll
    for (int i = 0; i < FOURS; i++) {
        if ((i * 32 + lane) * 4 < width) square += sum4(square4(v[i], mean));
    }
    float scale = 1.0f / sqrtf(warp_sum(square) / width + eps);
#pragma unroll
    for (int i = 0; i < FOURS; i++) {
        int c = (i * 32 + lane) * 4;
        if (c < width) {
            float4 b = LAYER ? load4(bias + c) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            store4(out + c, scale4(v[i], mean, scale, load4(weight + c), b));
        }
    }
}

// Any width: the row is read again for each pass, from the cache.
template <bool LAYER, typename T>
__device__ __noinline__ void norm_in_passes(const float *x, const float *weight, const float *bias, T *out, int width,
                                            float eps) {
    int lane = threadIdx.x % 32;
    float mean = 0.0f;
    if (LAYER) {
        float sum = 0.0f;
        for (int c = lane; c < width; c += 32) sum += x[c];
        mean = warp_sum(sum) / width;
    }
    float square = 0.0f;
    for (int c = lane; c < width; c += 32) square = fmaf(x[c] - mean, x[c] - mean, square);
    float scale = 1.0f / sqrtf(warp_sum(square) / width + eps);
    for (int c = lane; c < width; c += 32) {
        from_f32(fmaf((x[c] - mean) * scale, weight[c], LAYER ? bias[c] : 0.0f), out[c]);
    }
}

template <bool LAYER, typename T>
__device__ __forceinline__ void norm(const float *x, const float *weight, const float *bias, T *out, i64 rows,
                                     int width, float eps) {
    bool vector = fours_at(x, width) && fours_at(out, width) && fours_at(weight, width) &&
                  (!LAYER || fours_at(bias, width));
    i64 step = (i64)gridDim.x * (blockDim.x / 32);
    for (i64 row = (i64)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32; row < rows; row += step) {
        const float *from = x + row * width;
        T *to = out + row * width;
        if (!vector || width > 1024) {
            norm_in_passes<LAYER>(from, weight, bias, to, width, eps);
        } else if (width <= 256) {
            norm_in_registers<LAYER, 2>(from, weight, bias, to, width, eps);
        } else if (width <= 512) {
            norm_in_registers<LAYER, 4>(from, weight, bias, to, width, eps);
        } else {
            norm_in_registers<LAYER, 8>(from, weight, bias, to, width, eps);
        }
    }
}

#define RMS_NORM(name, T)                                                                                             \
    extern "C" __global__ void __launch_bounds__(256) name(const float *__restrict__ x,                              \
                                                           const float *__restrict__ weight, T *__restrict__ out,    \
                                                           i64 rows, int width, float eps) {                         \
        norm<false>(x, weight, (const float *)0, out, rows, width, eps);                                             \
    }

#define LAYER_NORM(name, T)                                                                                           \
    extern "C" __global__ void __launch_bounds__(256)                                                                 \
        name(const float *__restrict__ x, const float *__restrict__ weight, const float *__restrict__ bias,          \
             T *__restrict__ out, i64 rows, int width, float eps) {                                                  \
        norm<true>(x, weight, bias, out, rows, width, eps);                                                          \
    }

RMS_NORM(rms_norm_fwd, S)
RMS_NORM(rms_norm_fwd_f32out, float)
LAYER_NORM(layer_norm_fwd, S)
LAYER_NORM(layer_norm_fwd_f32out, float)
