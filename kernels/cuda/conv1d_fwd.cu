// Convolutions that mix channels, strided and transposed, and the gate between them.
//
// Both are products of a matrix with rows of x that overlap. Row r of the product is `depth` values of x from
// r * x_stride - lead on; values before the first and after the last are zero. A strided convolution has x_stride =
// stride * in_channels and lead = 0; a transposed one has a group of `stride` rows of y as one row, x_stride =
// in_channels and the groups that begin before x as lead. A block computes 64 x 64 outputs with f32 sums that run over
// `depth` in one order, so that no row depends on its neighbours. These layers are narrow and wait for memory, so that
// tensor cores would gain little.

#define ROWS 64
#define COLS 64
#define DEPTH 16
#define PITCH (ROWS + 4)

// Four values from `at` on; zeros outside 0..end. Whether `at` is a multiple of four is the caller's to know.
template <typename T>
__device__ __forceinline__ float4 four(const T *p, i64 at, i64 end, bool vector) {
    if (vector && at >= 0 && at + 4 <= end) return load4(p + at);
    float v[4];
#pragma unroll
    for (int i = 0; i < 4; i++) v[i] = at + i >= 0 && at + i < end ? to_f32(p[at + i]) : 0.0f;
    return make_float4(v[0], v[1], v[2], v[3]);
}

__device__ __forceinline__ void keep4(float (*to)[PITCH], int k, int at, float4 v, int left) {
    to[k][at] = left > 0 ? v.x : 0.0f;
    to[k + 1][at] = left > 1 ? v.y : 0.0f;
    to[k + 2][at] = left > 2 ? v.z : 0.0f;
    to[k + 3][at] = left > 3 ? v.w : 0.0f;
}

template <typename Y>
__device__ __forceinline__ void product(const S *x, const S *w, const float *bias, const S *add, Y *y, i64 rows,
                                        i64 total, int depth, int cols, int x_stride, int lead, bool relu) {
    __shared__ __align__(16) float xs[DEPTH][PITCH], ws[DEPTH][PITCH];
    int col_blocks = (cols + COLS - 1) / COLS;
    i64 row0 = (i64)(blockIdx.x / col_blocks) * ROWS;
    int col0 = (int)(blockIdx.x % col_blocks) * COLS;
    if (row0 >= rows) return;
    int thread = threadIdx.x;
    int mine = thread / 4, part = thread % 4 * 4;
    int tr = thread / 16 * 4, tc = thread % 16 * 4;
    bool x_vector = fours_at(x, x_stride) && lead % 4 == 0, w_vector = fours_at(w, depth);
    i64 x_at = (row0 + mine) * x_stride - lead + part;
    // Rows after the last read zeros: nothing of x lies there for them.
    i64 x_end = row0 + mine < rows ? total : 0;
    i64 w_at = (i64)(col0 + mine) * depth + part;
    i64 w_end = (i64)cols * depth;
    float acc[4][4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) acc[i][j] = 0.0f;
    }
    for (int k0 = 0; k0 < depth; k0 += DEPTH) {
        int left = depth - k0 - part;
        float4 a = left > 0 ? four(x, x_at + k0, x_end, x_vector) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        float4 b = left > 0 ? four(w, w_at + k0, w_end, w_vector) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        __syncthreads();
        keep4(xs, part, mine, a, left);
        keep4(ws, part, mine, b, left);
        __syncthreads();
#pragma unroll
        for (int k = 0; k < DEPTH; k++) {
            float4 xv = load4(&xs[k][tr]), wv = load4(&ws[k][tc]);
            float xr[4] = {xv.x, xv.y, xv.z, xv.w}, wr[4] = {wv.x, wv.y, wv.z, wv.w};
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) acc[i][j] = fmaf(xr[i], wr[j], acc[i][j]);
            }
        }
    }
    bool y_vector = fours_at(y, cols) && (!add || fours_at(add, cols));
#pragma unroll
    for (int i = 0; i < 4; i++) {
        i64 row = row0 + tr + i;
        int col = col0 + tc;
        if (row >= rows || col >= cols) continue;
        i64 at = row * cols + col;
        float v[4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            v[j] = acc[i][j] + (col + j < cols ? bias[col + j] : 0.0f);
            // Not fmaxf, which would drop a NaN.
            if (relu && v[j] < 0.0f) v[j] = 0.0f;
        }
        if (y_vector && col + 4 <= cols) {
            float4 more = add ? load4(add + at) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            store4(y + at, make_float4(v[0] + more.x, v[1] + more.y, v[2] + more.z, v[3] + more.w));
        } else {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                if (col + j < cols) from_f32(v[j] + (add ? to_f32(add[at + j]) : 0.0f), y[at + j]);
            }
        }
    }
}

#define CONV(name, Y)                                                                                                 \
    extern "C" __global__ void __launch_bounds__(256)                                                                 \
        name(const S *__restrict__ x, const S *__restrict__ weight, const float *__restrict__ bias,                  \
             const S *__restrict__ add, Y *__restrict__ y, i64 rows, i64 total, int depth, int cols, int x_stride,   \
             int lead, int relu) {                                                                                    \
        product(x, weight, bias, add, y, rows, total, depth, cols, x_stride, lead, relu != 0);                       \
    }

CONV(conv1d_fwd, S)
CONV(conv1d_fwd_f32out, float)

// out = x[..width] / (1 + exp(-x[width..])), row by row.
extern "C" __global__ void __launch_bounds__(256)
    glu_fwd(const S *__restrict__ x, S *__restrict__ out, i64 rows, int width) {
    i64 step = (i64)gridDim.x * blockDim.x;
    i64 first = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    bool vector = fours_at(x, width) && fours_at(out, width);
    int parts = vector ? width / 4 : width;
    for (i64 i = first; i < rows * parts; i += step) {
        i64 row = i / parts;
        int c = (int)(i - row * parts) * (vector ? 4 : 1);
        const S *a = x + row * 2 * width + c;
        S *to = out + row * width + c;
        if (vector) {
            float4 u = load4(a), g = load4(a + width);
            store4(to, make_float4(__fdividef(u.x, 1.0f + __expf(-g.x)), __fdividef(u.y, 1.0f + __expf(-g.y)),
                                   __fdividef(u.z, 1.0f + __expf(-g.z)), __fdividef(u.w, 1.0f + __expf(-g.w))));
        } else {
            from_f32(__fdividef(to_f32(a[0]), 1.0f + __expf(-to_f32(a[width]))), *to);
        }
    }
}
