// Rows of windows to one: mean (sums in f64), largest value, or last row.
//
// A segment is cut into parts, counted from its own first row. pool_parts adds up each part in row
// order, starting from what earlier batches left in `sums`; pool_join adds the parts of a segment in time order. Both
// orders depend on the segment alone, so two runs give the same bits. pool_parts reads slots and writes none, pool_join
// writes slots and reads none: as two launches, all reads come before the first write.

#define POOL_MEAN 0
#define POOL_MAX 1
#define POOL_LAST 2

struct PoolPart {
    i64 row;
    i64 count;
    int len;
    int from;
    int partial;
    int out;
};
struct PoolJoin {
    i64 count;
    int partial;
    int partials;
    int keep;
    int out;
};
static_assert(sizeof(PoolPart) == 32 && sizeof(PoolJoin) == 24, "as in kernels/src/layout.rs");

// The larger; a NaN wins, so that an engine's NaN is seen.
template <typename T>
__device__ __forceinline__ T larger(T a, T b) {
    return b != b || b > a ? b : a;
}

__device__ __forceinline__ float finish(double sum, i64 count, int kind) {
    return (float)(kind == POOL_MEAN ? sum / (double)count : sum);
}

// grid.x: parts; grid.y: 128 channels.
extern "C" __global__ void __launch_bounds__(128)
    pool_parts(const float *__restrict__ x, const double *__restrict__ sums, double *__restrict__ partials,
               float *__restrict__ out, const PoolPart *__restrict__ part_table, int parts, int width, int kind) {
    if ((int)blockIdx.x >= parts) return;
    PoolPart part = part_table[blockIdx.x];
    for (int c = blockIdx.y * 128 + threadIdx.x; c < width; c += gridDim.y * 128) {
        double sum = part.from >= 0 ? sums[(i64)part.from * width + c] : 0.0;
        const float *row = x + part.row * width + c;
        if (kind == POOL_MEAN) {
            int t = 0;
            // Eight loads under way before the first sum; the sum itself stays in row order.
            for (; t + 8 <= part.len; t += 8) {
                float v[8];
#pragma unroll
                for (int k = 0; k < 8; k++) v[k] = row[(i64)(t + k) * width];
#pragma unroll
                for (int k = 0; k < 8; k++) sum += (double)v[k];
            }
            for (; t < part.len; t++) sum += (double)row[(i64)t * width];
        } else if (kind == POOL_MAX) {
            float most = row[0];
#pragma unroll 8
            for (int t = 1; t < part.len; t++) most = larger(most, row[(i64)t * width]);
            sum = part.from >= 0 ? larger(sum, (double)most) : (double)most;
        } else {
            sum = (double)row[(i64)(part.len - 1) * width];
        }
        if (part.partial >= 0) partials[(i64)part.partial * width + c] = sum;
        if (part.out >= 0) out[(i64)part.out * width + c] = finish(sum, part.count, kind);
    }
}

// grid.x: joins; grid.y: 128 channels.
extern "C" __global__ void __launch_bounds__(128)
    pool_join(const double *__restrict__ partials, double *__restrict__ sums, float *__restrict__ out,
              const PoolJoin *__restrict__ join_table, int joins, int width, int kind) {
    if ((int)blockIdx.x >= joins) return;
    PoolJoin join = join_table[blockIdx.x];
    for (int c = blockIdx.y * 128 + threadIdx.x; c < width; c += gridDim.y * 128) {
        const double *part = partials + (i64)join.partial * width + c;
        double sum = part[0];
        int k = 1;
        // As above: loads in batches, the sum in order.
        for (; k + 8 <= join.partials; k += 8) {
            double v[8];
#pragma unroll
            for (int i = 0; i < 8; i++) v[i] = part[(i64)(k + i) * width];
            if (kind == POOL_MEAN) {
#pragma unroll
                for (int i = 0; i < 8; i++) sum += v[i];
            } else if (kind == POOL_MAX) {
#pragma unroll
                for (int i = 0; i < 8; i++) sum = larger(sum, v[i]);
            } else {
                sum = v[7];
            }
        }
        for (; k < join.partials; k++) {
            double v = part[(i64)k * width];
            sum = kind == POOL_MEAN ? sum + v : kind == POOL_MAX ? larger(sum, v) : v;
        }
        if (join.keep >= 0) sums[(i64)join.keep * width + c] = sum;
        if (join.out >= 0) out[(i64)join.out * width + c] = finish(sum, join.count, kind);
    }
}
