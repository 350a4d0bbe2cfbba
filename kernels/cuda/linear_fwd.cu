// y = x W^T + bias, or y += x W^T + bias; W is (out_features, in_features) as in a checkpoint.
//
// The floor under a vendor's library, which a machine with a driver alone does not have. A block computes 128 x 128
// outputs; the sum over in_features runs in one order for every output, whatever the number of rows. 16-bit types go
// through the tensor cores with f32 sums, f32 through plain multiply-adds.

#define ROWS 128
#define COLS 128

struct Block {
    i64 row; // first row of x and y
    int col; // first row of W
};

// Neighbouring blocks share rows of x: W is small and stays in the cache anyway.
__device__ __forceinline__ Block block_of(int out_features) {
    int cols = (out_features + COLS - 1) / COLS;
    Block b;
    b.row = (i64)(blockIdx.x / cols) * ROWS;
    b.col = (int)(blockIdx.x % cols) * COLS;
    return b;
}

template <typename T>
__device__ __forceinline__ void put(T *y, float v, bool accumulate) {
    if (accumulate) v += to_f32(*y);
    from_f32(v, *y);
}

#ifdef STORAGE_F32

// ---- f32 ----------------------------------------------------------------------------------------------------------

#define DEPTH 8
#define PITCH (ROWS + 4)

// Four values of a row from k on; zeros after the end of the row. Rows after the last are copies of it.
__device__ __forceinline__ float4 slice(const float *p, i64 row, i64 rows, int stride, int k, int depth, bool vector) {
    p += min(row, rows - 1) * stride + k;
    if (vector && k + 4 <= depth) return load4(p);
    return make_float4(k < depth ? p[0] : 0.0f, k + 1 < depth ? p[1] : 0.0f, k + 2 < depth ? p[2] : 0.0f,
                       k + 3 < depth ? p[3] : 0.0f);
}

// A thread computes 8 x 8 outputs, as 2 x 2 squares of 4 x 4 that lie 64 apart, so that its reads of shared memory are
// 16 bytes wide and free of conflicts. The next slices come from global memory while these are multiplied.
__device__ __forceinline__ void product(const float *x, const float *w, const float *bias, float *y, i64 rows,
                                        int depth, int out_features, int x_stride, int y_stride, bool accumulate) {
    __shared__ __align__(16) float xs[2][DEPTH][PITCH], ws[2][DEPTH][PITCH];
    Block block = block_of(out_features);
    if (block.row >= rows) return;
    int thread = threadIdx.x;
    int row = thread / 2, part = thread % 2 * 4;
    int tr = thread / 16 * 4, tc = thread % 16 * 4;
    bool x_vector = fours_at(x, x_stride), w_vector = fours_at(w, depth);
    float acc[8][8];
#pragma unroll
    for (int i = 0; i < 8; i++) {
#pragma unroll
        for (int j = 0; j < 8; j++) acc[i][j] = 0.0f;
    }
    auto keep = [&](int at, float4 a, float4 b) {
        xs[at][part][row] = a.x, xs[at][part + 1][row] = a.y, xs[at][part + 2][row] = a.z, xs[at][part + 3][row] = a.w;
        ws[at][part][row] = b.x, ws[at][part + 1][row] = b.y, ws[at][part + 2][row] = b.z, ws[at][part + 3][row] = b.w;
    };
    keep(0, slice(x, block.row + row, rows, x_stride, part, depth, x_vector),
         slice(w, block.col + row, out_features, depth, part, depth, w_vector));
    __syncthreads();
    int at = 0;
    for (int k0 = 0; k0 < depth; k0 += DEPTH, at ^= 1) {
        float4 a, b;
        bool more = k0 + DEPTH < depth;
        if (more) {
            a = slice(x, block.row + row, rows, x_stride, k0 + DEPTH + part, depth, x_vector);
            b = slice(w, block.col + row, out_features, depth, k0 + DEPTH + part, depth, w_vector);
        }
#pragma unroll
        for (int k = 0; k < DEPTH; k++) {
            float4 x0 = load4(&xs[at][k][tr]), x1 = load4(&xs[at][k][64 + tr]);
            float4 w0 = load4(&ws[at][k][tc]), w1 = load4(&ws[at][k][64 + tc]);
            float xv[8] = {x0.x, x0.y, x0.z, x0.w, x1.x, x1.y, x1.z, x1.w};
            float wv[8] = {w0.x, w0.y, w0.z, w0.w, w1.x, w1.y, w1.z, w1.w};
#pragma unroll
            for (int i = 0; i < 8; i++) {
#pragma unroll
                for (int j = 0; j < 8; j++) acc[i][j] = fmaf(xv[i], wv[j], acc[i][j]);
            }
        }
        // The other buffer was last read before the barrier that ended the slice before this one.
        if (more) keep(at ^ 1, a, b);
        __syncthreads();
    }
    bool y_vector = fours_at(y, y_stride);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        i64 r = block.row + tr + i % 4 + i / 4 * 64;
        if (r >= rows) continue;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int c = block.col + tc + half * 64;
            float *to = y + r * y_stride + c;
            float v[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                v[j] = acc[i][half * 4 + j];
                if (bias && c + j < out_features) v[j] += bias[c + j];
            }
            if (y_vector && c + 4 <= out_features) {
                float4 old = accumulate ? load4(to) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
                store4(to, make_float4(v[0] + old.x, v[1] + old.y, v[2] + old.z, v[3] + old.w));
            } else {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    if (c + j < out_features) put(to + j, v[j], accumulate);
                }
            }
        }
    }
}

#else

// ---- bf16 and f16 -------------------------------------------------------------------------------------------------

#define DEPTH 32
#define STAGES 3
#define PARTS (DEPTH / 8)
#define OCTETS (COLS / 32) // columns of a warp, by eights
#define STEP (256 / PARTS) // rows that the block brings at a time

// A row of a slice is four parts of 16 bytes. Part p of row r lies at p ^ (r / 2 % 4), so that the eight rows that one
// ldmatrix reads are in different banks.
__device__ __forceinline__ int place(int row, int part) { return (row * PARTS + (part ^ (row / 2 % 4))) * 8; }

// What a thread brings of a factor: one part of row thread / PARTS of a slice, and of each STEP rows below. Rows after
// the last and values after the end of a row are zero, and no memory is read for them: hundreds of blocks that read one
// last row again would wait for each other.
struct Share {
    const S *from;
    i64 step;
    int rows; // that are there, from this thread's first on
};

__device__ __forceinline__ Share share_of(const S *p, i64 row0, i64 rows, int stride, int depth) {
    Share s;
    int row = threadIdx.x / PARTS;
    s.rows = (int)min(rows - row0, (i64)ROWS) - row;
    s.from = p + (row0 + (s.rows > 0 ? row : 0)) * stride + threadIdx.x % PARTS * 8;
    s.step = (i64)STEP * stride;
    return s;
}

// ALIGNED: every part starts at 16 bytes. Else a thread moves one value at a time.
template <int TALL, bool ALIGNED>
__device__ __forceinline__ void stage(S *to, const Share &share, int k0, int depth) {
    int left = depth - k0 - threadIdx.x % PARTS * 8;
    to += place(threadIdx.x / PARTS, threadIdx.x % PARTS);
    const S *from = share.from + k0;
#pragma unroll
    for (int i = 0; i < TALL / STEP; i++) {
        bool there = share.rows > i * STEP;
        const S *p = from + (there ? i * share.step : 0);
        if (ALIGNED) {
            copy16_if(to + i * STEP * DEPTH, p, there && left > 0);
        } else {
            for (int j = 0; j < 8; j++) {
                S zero;
                zero.bits = 0;
                to[i * STEP * DEPTH + j] = there && j < left ? p[j] : zero;
            }
        }
    }
}

__device__ __forceinline__ void load_matrices(u32 (&r)[4], const S *p) {
    u32 at = (u32)__cvta_generic_to_shared(p);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}

// 16 x 8 outputs from 16 values of each factor.
__device__ __forceinline__ void multiply(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
#if __CUDA_ARCH__ >= 800
#ifdef STORAGE_BF16
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
#else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
#endif
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(b0));
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[2]), "r"(a[3]), "r"(b1));
#endif
}

__device__ __forceinline__ void put2(float *y, float a, float b, bool accumulate) {
    float2 old = accumulate ? *(const float2 *)y : make_float2(0.0f, 0.0f);
    *(float2 *)y = make_float2(a + old.x, b + old.y);
}
template <typename T>
__device__ __forceinline__ void put2(T *y, float a, float b, bool accumulate) {
    T lo, hi;
    if (accumulate) {
        u32 old = *(const u32 *)y;
        lo.bits = (u16)old, hi.bits = (u16)(old >> 16);
        a += to_f32(lo), b += to_f32(hi);
    }
    from_f32(a, lo), from_f32(b, hi);
    *(u32 *)y = lo.bits | (u32)hi.bits << 16;
}

// Eight warps, two by four, 64 x 32 outputs each; three slices of 32 values are on their way or in use.
template <bool ALIGNED, typename Y>
__device__ __forceinline__ void product_of(S (*xs)[ROWS * DEPTH], S (*ws)[COLS * DEPTH], const S *x, const S *w,
                                           const float *bias, Y *y, i64 rows, int depth, int out_features,
                                           int x_stride, int y_stride, bool accumulate) {
    Block block = block_of(out_features);
    if (block.row >= rows) return;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int wr = warp / 4 * 64, wc = warp % 4 * (COLS / 4);
    Share from_x = share_of(x, block.row, rows, x_stride, depth);
    Share from_w = share_of(w, block.col, out_features, depth, depth);
    // Where this lane's rows of the matrices begin; 16 rows further down the order of parts is the same.
    int x_at[DEPTH / 16], w_at[DEPTH / 16];
#pragma unroll
    for (int k = 0; k < DEPTH / 16; k++) {
        x_at[k] = place(wr + lane % 16, k * 2 + lane / 16);
        w_at[k] = place(wc + lane / 16 * 8 + lane % 8, k * 2 + lane / 8 % 2);
    }
    float acc[4][OCTETS][4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int j = 0; j < OCTETS; j++) acc[i][j][0] = acc[i][j][1] = acc[i][j][2] = acc[i][j][3] = 0.0f;
    }
    int slices = (depth + DEPTH - 1) / DEPTH;
    auto fetch = [&](int slice, int at) {
        if (slice < slices) {
            stage<ROWS, ALIGNED>(xs[at], from_x, slice * DEPTH, depth);
            stage<COLS, ALIGNED>(ws[at], from_w, slice * DEPTH, depth);
        }
        copies_commit();
    };
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) fetch(s, s);
    // A narrow W leaves warps without columns: they only bring data.
    bool busy = block.col + wc < out_features;
    int at = 0, next = STAGES - 1;
    for (int s = 0; s < slices; s++) {
        copies_wait<STAGES - 2>();
        // After it every thread's part of slice s is there, and nobody reads the slice before it any more.
        __syncthreads();
        fetch(s + STAGES - 1, next);
        const S *xt = xs[at], *wt = ws[at];
        at = at + 1 < STAGES ? at + 1 : 0;
        next = next + 1 < STAGES ? next + 1 : 0;
        if (!busy) continue;
#pragma unroll
        for (int k = 0; k < DEPTH / 16; k++) {
            u32 a[4][4], b[OCTETS / 2][4];
#pragma unroll
            for (int i = 0; i < 4; i++) load_matrices(a[i], xt + x_at[k] + i * 16 * DEPTH);
#pragma unroll
            for (int j = 0; j < OCTETS / 2; j++) load_matrices(b[j], wt + w_at[k] + j * 16 * DEPTH);
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int j = 0; j < OCTETS; j++) {
                    multiply(acc[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
                }
            }
        }
    }
    copies_wait<0>();
    bool pairs = (u64)y % (2 * sizeof(Y)) == 0 && y_stride % 2 == 0;
#pragma unroll
    for (int j = 0; j < OCTETS; j++) {
        int c = block.col + wc + j * 8 + lane % 4 * 2;
        if (c >= out_features) continue;
        float b0 = bias ? bias[c] : 0.0f, b1 = bias && c + 1 < out_features ? bias[c + 1] : 0.0f;
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                i64 r = block.row + wr + i * 16 + half * 8 + lane / 4;
                if (r >= rows) continue;
                Y *to = y + r * y_stride + c;
                float v0 = acc[i][j][half * 2] + b0, v1 = acc[i][j][half * 2 + 1] + b1;
                if (pairs && c + 1 < out_features) {
                    put2(to, v0, v1, accumulate);
                } else {
                    put(to, v0, accumulate);
                    if (c + 1 < out_features) put(to + 1, v1, accumulate);
                }
            }
        }
    }
}

// Two forms, chosen once: the loop over slices must not carry the slow one along.
template <typename Y>
__device__ __forceinline__ void product(const S *x, const S *w, const float *bias, Y *y, i64 rows, int depth,
                                        int out_features, int x_stride, int y_stride, bool accumulate) {
    __shared__ __align__(128) S xs[STAGES][ROWS * DEPTH], ws[STAGES][COLS * DEPTH];
    if (((u64)x | (u64)w | (u64)x_stride * 2 | (u64)depth * 2) % 16 == 0) {
        product_of<true>(xs, ws, x, w, bias, y, rows, depth, out_features, x_stride, y_stride, accumulate);
    } else {
        product_of<false>(xs, ws, x, w, bias, y, rows, depth, out_features, x_stride, y_stride, accumulate);
    }
}

#endif

#define LINEAR(name, Y)                                                                                               \
    extern "C" __global__ void __launch_bounds__(256, 2)                                                              \
        name(const S *__restrict__ x, const S *__restrict__ weight, const float *__restrict__ bias,                  \
             Y *__restrict__ y, i64 rows, int in_features, int out_features, int x_stride, int y_stride,             \
             int accumulate) {                                                                                        \
        product(x, weight, bias, y, rows, in_features, out_features, x_stride, y_stride, accumulate != 0);           \
    }

#define ADD_BIAS(name, Y)                                                                                             \
    extern "C" __global__ void __launch_bounds__(256)                                                                 \
        name(Y *__restrict__ y, const float *__restrict__ bias, i64 rows, int out_features, int y_stride) {          \
        i64 step = (i64)gridDim.x * blockDim.x;                                                                       \
        for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < rows * out_features; i += step) {               \
            i64 row = i / out_features;                                                                               \
            int c = (int)(i - row * out_features);                                                                    \
            put(y + row * y_stride + c, bias[c], true);                                                               \
        }                                                                                                             \
    }

LINEAR(linear_fwd, S)
LINEAR(linear_fwd_f32out, float)
ADD_BIAS(add_bias, S)
ADD_BIAS(add_bias_f32out, float)
