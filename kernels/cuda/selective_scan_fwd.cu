// The selective scan of Mamba, continued from a state and parallel in time:
//
//     delta = softplus(dt + dt_bias)
//     h     = exp(delta A) h + delta B_t u_t
//     y_t   = (<C_t, h> + D u_t) silu(z_t)
//
// a2 is A log2(e), so a decay is one power of two. A lane is cut into tiles, and three launches follow each other:
//   scan_tile_ends  what each tile adds to the state at its end, and the sum of its deltas
//   scan_carry      the state at the start of each tile, from tile to tile
//   scan_apply      the recurrence inside each tile, from its start; y; the state after a lane
// A lane of one tile needs only the last. The decay over a whole tile is exp(A sum(delta)), so a tile hands over one
// sum a channel, and nothing a step.
//
// The unit of work is one warp: 32 channels, one a lane, 16 states in registers, one tile. There is no block barrier:
// a block only packs warps. The limit is the special function unit (one power of two a state and step), so all else is
// arranged to keep it busy: rows come through asynchronous copies eight steps ahead, B and C are read from shared
// memory as broadcasts, and eight steps are unrolled so that two warps a scheduler are enough.
//
// Layouts: u, dt, y (rows, d_inner); z, b, c rows at a stride of their own; ends and starts [tile][state][channel];
// sums [tile][channel]; ssm_state (slots, d_inner, d_state).

// D_STATE is defined when the source is compiled for one number of states (kernels/src/special.rs). A thread has
// registers for up to 64; with more, these kernels stay as they are and the ones for any shape are made for it.

#define CHANNELS 32
#if defined(D_STATE) && D_STATE <= 64
#define OWN D_STATE
#else
#define OWN 16
#endif
// Whole eights of states. Those after OWN have B = C = 0 and stay 0.
#define STATES ((OWN + 7) / 8 * 8)
#define STAGE 8
#define WARPS 2
// States whose weights end together, whole fours.
#define LEVEL ((STATES + 15) / 16 * 4)
#define LEVELS ((STATES + LEVEL - 1) / LEVEL)
// Blocks of a multiprocessor: more states take more registers.
#define ENDS_BLOCKS (STATES <= 16 ? 10 : STATES <= 24 ? 9 : STATES <= 48 ? 6 : 4)
#ifdef STORAGE_F32
#define APPLY_BLOCKS (STATES <= 16 ? 8 : STATES <= 24 ? 6 : 4)
#else
#define APPLY_BLOCKS (STATES <= 24 ? 8 : STATES <= 48 ? 6 : 4)
#endif

// exp(A s) under 2^-32 is under the last bit of an f32 sum that holds a term of weight 1.
#define WEIGHTLESS (-32.0f)

// ex2.approx leans to one side by a part of the last bit, and a product of hundreds of decays shows it: in f32 a record
// would depend on where it is cut. So what carries a state over many steps is a power of two that does not lean: a
// polynomial, fitted on -1/2..1/2 for the least relative error (2e-9), for x <= 0. Adding 1.5 * 2^23 leaves the nearest
// whole number in the last bits: conversions would take the unit that computes powers of two.
__device__ __forceinline__ float exp2_carry(float x) {
#if defined(STORAGE_F32)
    x = fmaxf(x, -125.0f);
    float n = x + 12582912.0f, f = x - (n - 12582912.0f);
    float q = 0.00015353362f;
    q = fmaf(q, f, 0.0013398875f);
    q = fmaf(q, f, 0.00961843692f);
    q = fmaf(q, f, 0.0555033237f);
    q = fmaf(q, f, 0.240226477f);
    q = fmaf(q, f, 0.693147182f);
    return __int_as_float(__float_as_int(fmaf(q, f, 1.0f)) + (__float_as_int(n) << 23));
#else
    return exp2_approx(x);
#endif
}

// With f32 activations a state goes from stage to stage by one such power, and not by a product of one a step: what the
// stage adds is kept apart from what was there before. That takes registers for two more states each.
#if defined(STORAGE_F32) && STATES <= 40
#define STEADY 1
#else
#define STEADY 0
#endif

// ---- staging ------------------------------------------------------------------------------------------------------

// Eight rows of 32 channels to shared memory, 16 bytes a copy. Rows from `left` on lie after the tile: they are copies
// of its last row, so that nothing outside is touched.
template <typename T>
__device__ __forceinline__ void stage_channels(T (*to)[CHANNELS], const T *from, int stride, int left) {
    const int parts = CHANNELS * sizeof(T) / 16;
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < STAGE * parts / 32; i++) {
        int at = i * 32 + lane;
        int row = at / parts, part = at % parts * (16 / (int)sizeof(T));
        copy16(&to[row][part], from + (i64)min(row, left - 1) * stride + part);
    }
}

// Eight rows of one or both of B and C. The stride is dt_rank + 2 d_state, which need not be a multiple of 16 bytes:
// then a lane moves one value at a time.
template <int WIDTH>
__device__ __forceinline__ void stage_states(S (*to)[WIDTH], const S *b, const S *c, int stride, int left,
                                             bool aligned) {
    int lane = threadIdx.x % 32;
    if (aligned) {
        const int each = 16 / sizeof(S), parts = WIDTH / each;
#pragma unroll
        for (int i = 0; i < (STAGE * parts + 31) / 32; i++) {
            int at = i * 32 + lane;
            int row = at / parts, n = at % parts * each;
            if (STAGE * parts % 32 != 0 && row >= STAGE) continue;
            int own = n < STATES ? n : n - STATES;
            const S *from = (n < STATES ? b : c) + own;
            if (OWN == STATES) copy16(&to[row][n], from + (i64)min(row, left - 1) * stride);
            else copy16_if(&to[row][n], own < OWN ? from + (i64)min(row, left - 1) * stride : b, own < OWN);
        }
    } else {
        for (int at = lane; at < STAGE * WIDTH; at += 32) {
            int row = at / WIDTH, n = at % WIDTH;
            int own = n < STATES ? n : n - STATES;
            const S *from = (n < STATES ? b : c) + own;
            to[row][n] = OWN == STATES || own < OWN ? from[(i64)min(row, left - 1) * stride] : S();
        }
    }
}

// B and C as f32, once a stage and not once a lane.
template <int WIDTH>
__device__ __forceinline__ void widen(float (*to)[WIDTH], const S (*from)[WIDTH]) {
    int lane = threadIdx.x % 32;
    const S *in = &from[0][0];
    float *out = &to[0][0];
#pragma unroll
    for (int i = 0; i < (STAGE * WIDTH + 127) / 128; i++) {
        int at = (i * 32 + lane) * 4;
        if (STAGE * WIDTH % 128 == 0 || at < STAGE * WIDTH) store4(out + at, load4(in + at));
    }
}

__device__ __forceinline__ bool copyable(const S *p, int stride) {
    return OWN % (16 / sizeof(S)) == 0 && ((u64)p | (u64)stride * sizeof(S)) % 16 == 0;
}

// A channel's values of all states, then zeros.
__device__ __forceinline__ void load_states(float (&to)[STATES], const float *from) {
#pragma unroll
    for (int n = 0; n < STATES; n += 4) {
        if (OWN % 4 == 0 && n < OWN) {
            float4 v = load4(from + n);
            to[n] = v.x, to[n + 1] = v.y, to[n + 2] = v.z, to[n + 3] = v.w;
        } else {
#pragma unroll
            for (int i = n; i < n + 4; i++) to[i] = i < OWN ? from[i] : 0.0f;
        }
    }
}

// Softplus of the lane's own column, in place. Steps after the tile get 0: decay 1 and no input leave the state alone.
__device__ __forceinline__ void deltas(float (*dt)[CHANNELS], float bias, int left) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < STAGE; k++) {
        float delta = softplus(dt[k][lane] + bias);
        dt[k][lane] = k < left ? delta : 0.0f;
    }
}

// ---- tile ends ----------------------------------------------------------------------------------------------------

struct EndsStage {
    float dt[2][STAGE][CHANNELS];
    S u[2][STAGE][CHANNELS];
    S b[2][STAGE][STATES];
#ifndef STORAGE_F32
    float wide[STAGE][STATES];
#endif
};

// Fours of states in some levels.
__host__ __device__ constexpr int fours_of(int levels) {
    return (levels * LEVEL < STATES ? levels * LEVEL : STATES) / 4;
}

// Eight steps, backward, of the first 4 * GROUPS states.
template <int GROUPS>
__device__ __forceinline__ void end_steps(const float (*dt)[CHANNELS], const S (*u)[CHANNELS],
                                          const float (*b)[STATES], const float (&decay)[STATES],
                                          float (&end)[STATES], float &sum) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int k = STAGE - 1; k >= 0; k--) {
        float delta = dt[k][lane];
        float du = delta * to_f32(u[k][lane]);
#pragma unroll
        for (int g = 0; g < GROUPS; g++) {
            float4 bs = *(const float4 *)&b[k][4 * g];
            end[4 * g] = fmaf(exp2_approx(decay[4 * g] * sum), du * bs.x, end[4 * g]);
            end[4 * g + 1] = fmaf(exp2_approx(decay[4 * g + 1] * sum), du * bs.y, end[4 * g + 1]);
            end[4 * g + 2] = fmaf(exp2_approx(decay[4 * g + 2] * sum), du * bs.z, end[4 * g + 2]);
            end[4 * g + 3] = fmaf(exp2_approx(decay[4 * g + 3] * sum), du * bs.w, end[4 * g + 3]);
        }
        sum += delta;
    }
}

// The state that a tile leaves when it starts from zero, as a sum of weighted inputs: time runs backward, with
// sum = the deltas after the step. Weights only fall, so a level ends as soon as none of its weights counts on any
// lane, and the tile when all have. The sum that it then hands over is short of some deltas, but exp(A sum) is as good
// as zero. Levels end from the last to the first: |A| grows with the state in all usual initialisations, and where it
// does not, only time is lost. A lane's last tile has no successor and is skipped; the others have 8 k rows.
extern "C" __global__ void __launch_bounds__(32 * WARPS, ENDS_BLOCKS)
    scan_tile_ends(const S *__restrict__ u, const float *__restrict__ dt, const S *__restrict__ b,
                   const float *__restrict__ a2, const float *__restrict__ dt_bias, float *__restrict__ ends,
                   float *__restrict__ sums, const Tile *__restrict__ tile_table, int tiles, int d_inner,
                   int bc_stride) {
    __shared__ __align__(16) EndsStage stages[WARPS];
    EndsStage &stage = stages[threadIdx.x / 32];
    int lane = threadIdx.x % 32;
    int blocks = d_inner / CHANNELS;
    int index = (blockIdx.x * WARPS + threadIdx.x / 32) / blocks;
    int c0 = (blockIdx.x * WARPS + threadIdx.x / 32) % blocks * CHANNELS;
    if (index >= tiles || tile_table[index].last) return;
    i64 row = tile_table[index].row;
    int len = tile_table[index].len;
    bool aligned = copyable(b, bc_stride);

    float decay[STATES], end[STATES], slowest[4];
    load_states(decay, a2 + (i64)(c0 + lane) * OWN);
#pragma unroll
    for (int n = 0; n < STATES; n++) {
        // What fills up the eight must not hold a level back.
        if (n >= OWN) decay[n] = decay[OWN - 1];
        slowest[n / LEVEL] = n % LEVEL == 0 ? decay[n] : fmaxf(slowest[n / LEVEL], decay[n]);
        end[n] = 0.0f;
    }
    float bias = dt_bias[c0 + lane];
    float sum = 0.0f;
    int levels = LEVELS;

    auto fetch = [&](int t, int at) {
        i64 first = row + t;
        stage_channels(stage.u[at], u + first * d_inner + c0, d_inner, STAGE);
        stage_channels(stage.dt[at], dt + first * d_inner + c0, d_inner, STAGE);
        stage_states<STATES>(stage.b[at], b + first * bc_stride, b, bc_stride, STAGE, aligned);
    };
    fetch(len - STAGE, 0);
    copies_commit();
    int at = 0;
    for (int t = len - STAGE; t >= 0; t -= STAGE, at ^= 1) {
        copies_wait<0>();
        __syncwarp();
        if (t >= STAGE) fetch(t - STAGE, at ^ 1);
        copies_commit();
#ifdef STORAGE_F32
        const float(*bs)[STATES] = stage.b[at];
#else
        widen<STATES>(stage.wide, stage.b[at]);
        const float(*bs)[STATES] = stage.wide;
#endif
        deltas(stage.dt[at], bias, STAGE);
        __syncwarp();
        switch (levels) {
        case 4: end_steps<fours_of(4)>(stage.dt[at], stage.u[at], bs, decay, end, sum); break;
        case 3: end_steps<fours_of(3)>(stage.dt[at], stage.u[at], bs, decay, end, sum); break;
        case 2: end_steps<fours_of(2)>(stage.dt[at], stage.u[at], bs, decay, end, sum); break;
        default: end_steps<fours_of(1)>(stage.dt[at], stage.u[at], bs, decay, end, sum); break;
        }
        if (LEVELS >= 4 && levels == 4 && __all_sync(~0u, sum * slowest[3] < WEIGHTLESS)) levels = 3;
        if (LEVELS >= 3 && levels == 3 && __all_sync(~0u, sum * slowest[2] < WEIGHTLESS)) levels = 2;
        if (LEVELS >= 2 && levels == 2 && __all_sync(~0u, sum * slowest[1] < WEIGHTLESS)) levels = 1;
        if (levels == 1 && __all_sync(~0u, sum * slowest[0] < WEIGHTLESS)) break;
    }
    copies_wait<0>();
    float *to = ends + (i64)index * OWN * d_inner + c0 + lane;
#pragma unroll
    for (int n = 0; n < OWN; n++) to[(i64)n * d_inner] = end[n];
    sums[(i64)index * d_inner + c0 + lane] = sum;
}

// ---- carry --------------------------------------------------------------------------------------------------------

#define CARRY_RUNS 8
#define CARRY_BATCH 8

// h at the start of each tile: h[k + 1] = exp(A sum_k) h[k] + end_k, written over the ends. A block takes one state of
// 32 channels of a lane; its warps take a run of tiles each, so that a long lane is not one chain of loads: first what
// each run does to a state, then, from the joined runs before, the states inside it.
// grid.x: states of blocks of 32 channels; grid.y: lanes. Any d_inner and d_state.
extern "C" __global__ void __launch_bounds__(32 * CARRY_RUNS)
    scan_carry(const float *__restrict__ a2, float *__restrict__ ends, const float *__restrict__ sums,
               const float *__restrict__ ssm_state, const LaneEntry *__restrict__ lane_table, int lanes, int d_inner,
               int d_state) {
    __shared__ float run_end[CARRY_RUNS][32], run_decay[CARRY_RUNS][32];
    int lane = threadIdx.x % 32, run = threadIdx.x / 32;
    int n = blockIdx.x % d_state;
    int c = blockIdx.x / d_state * 32 + lane;
    // A lane after the last channel repeats it, and writes nothing.
    bool valid = c < d_inner;
    c = min(c, d_inner - 1);
    float decay = a2[(i64)c * d_state + n];
    for (int l = blockIdx.y; l < lanes; l += gridDim.y) {
        LaneEntry entry = lane_table[l];
        if (entry.tiles < 2) continue;
        int each = (entry.tiles + CARRY_RUNS - 1) / CARRY_RUNS;
        int first = min(run * each, entry.tiles), stop = min(first + each, entry.tiles);
        i64 step = (i64)d_state * d_inner;
        float *end = ends + ((i64)entry.tile * d_state + n) * d_inner + c;
        const float *sum = sums + (i64)entry.tile * d_inner + c;

        // The last tile of a lane hands nothing over, so its run needs no first pass.
        if (stop < entry.tiles) {
            float h = 0.0f, total = 0.0f;
            for (int k0 = first; k0 < stop; k0 += CARRY_BATCH) {
                float e[CARRY_BATCH], s[CARRY_BATCH];
#pragma unroll
                for (int i = 0; i < CARRY_BATCH; i++) {
                    int k = min(k0 + i, stop - 1);
                    e[i] = end[k * step];
                    s[i] = sum[(i64)k * d_inner];
                }
#pragma unroll
                for (int i = 0; i < CARRY_BATCH; i++) {
                    if (k0 + i >= stop) break;
                    h = fmaf(exp2_carry(decay * s[i]), h, e[i]);
                    total += s[i];
                }
            }
            run_end[run][lane] = h;
            run_decay[run][lane] = exp2_carry(decay * total);
        }
        __syncthreads();
        if (first < stop) {
            float h = entry.state_in >= 0 ? ssm_state[((i64)entry.state_in * d_inner + c) * d_state + n] : 0.0f;
            for (int r = 0; r < run; r++) h = fmaf(run_decay[r][lane], h, run_end[r][lane]);
            int handed = entry.tiles - 1;
            for (int k0 = first; k0 < stop; k0 += CARRY_BATCH) {
                float e[CARRY_BATCH], s[CARRY_BATCH];
#pragma unroll
                for (int i = 0; i < CARRY_BATCH; i++) {
                    int k = min(min(k0 + i, stop - 1), handed - 1);
                    e[i] = end[k * step];
                    s[i] = sum[(i64)k * d_inner];
                }
#pragma unroll
                for (int i = 0; i < CARRY_BATCH; i++) {
                    if (k0 + i >= stop) break;
                    if (valid) end[(k0 + i) * step] = h;
                    h = fmaf(exp2_carry(decay * s[i]), h, e[i]);
                }
            }
        }
        __syncthreads();
    }
}

// ---- apply --------------------------------------------------------------------------------------------------------

struct ApplyStage {
    float dt[2][STAGE][CHANNELS];
    S u[2][STAGE][CHANNELS];
    S z[2][STAGE][CHANNELS];
    S bc[2][STAGE][2 * STATES];
#ifndef STORAGE_F32
    float wide[STAGE][2 * STATES];
#endif
};

extern "C" __global__ void __launch_bounds__(32 * WARPS, APPLY_BLOCKS)
    scan_apply(const S *__restrict__ u, const float *__restrict__ dt, const S *__restrict__ b,
               const S *__restrict__ c, const S *__restrict__ z, const float *__restrict__ a2,
               const float *__restrict__ d, const float *__restrict__ dt_bias, const float *__restrict__ starts,
               float *__restrict__ ssm_state, S *__restrict__ y, const Tile *__restrict__ tile_table, int tiles,
               int d_inner, int bc_stride, int z_stride) {
    __shared__ __align__(16) ApplyStage stages[WARPS];
    ApplyStage &stage = stages[threadIdx.x / 32];
    int lane = threadIdx.x % 32;
    int blocks = d_inner / CHANNELS;
    int index = (blockIdx.x * WARPS + threadIdx.x / 32) / blocks;
    int c0 = (blockIdx.x * WARPS + threadIdx.x / 32) % blocks * CHANNELS;
    if (index >= tiles) return;
    i64 row = tile_table[index].row;
    int len = tile_table[index].len;
    bool aligned = copyable(b, bc_stride) && copyable(c, bc_stride);

    float decay[STATES], h[STATES];
    load_states(decay, a2 + (i64)(c0 + lane) * OWN);
#pragma unroll
    for (int n = 0; n < STATES; n++) h[n] = 0.0f;
    if (!(tile_table[index].first && tile_table[index].last)) {
        const float *from = starts + (i64)index * OWN * d_inner + c0 + lane;
#pragma unroll
        for (int n = 0; n < OWN; n++) h[n] = from[(i64)n * d_inner];
    } else if (tile_table[index].state_in >= 0) {
        load_states(h, ssm_state + ((i64)tile_table[index].state_in * d_inner + c0 + lane) * OWN);
    }
    float bias = dt_bias[c0 + lane], skip = d[c0 + lane];

    auto fetch = [&](int t, int at) {
        i64 first = row + t;
        int left = len - t;
        stage_channels(stage.u[at], u + first * d_inner + c0, d_inner, left);
        stage_channels(stage.dt[at], dt + first * d_inner + c0, d_inner, left);
        stage_channels(stage.z[at], z + first * z_stride + c0, z_stride, left);
        stage_states<2 * STATES>(stage.bc[at], b + first * bc_stride, c + first * bc_stride, bc_stride, left, aligned);
    };
    if (len > 0) fetch(0, 0);
    copies_commit();
    S *out = y + row * d_inner + c0 + lane;
    int at = 0;
    for (int t = 0; t < len; t += STAGE, at ^= 1, out += (i64)STAGE * d_inner) {
        copies_wait<0>();
        __syncwarp();
        if (t + STAGE < len) fetch(t + STAGE, at ^ 1);
        copies_commit();
#ifdef STORAGE_F32
        const float(*bc)[2 * STATES] = stage.bc[at];
#else
        widen<2 * STATES>(stage.wide, stage.bc[at]);
        const float(*bc)[2 * STATES] = stage.wide;
#endif
        int left = len - t;
        deltas(stage.dt[at], bias, left);
        __syncwarp();
#if STEADY
        float before[STATES], added[STATES], total = 0.0f;
#pragma unroll
        for (int n = 0; n < STATES; n++) before[n] = h[n], added[n] = 0.0f;
#endif
#pragma unroll
        for (int k = 0; k < STAGE; k++) {
            float delta = stage.dt[at][k][lane];
            float input = to_f32(stage.u[at][k][lane]);
            float du = delta * input;
            float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
            for (int g = 0; g < STATES / 4; g++) {
                float4 bs = *(const float4 *)&bc[k][4 * g];
                float4 cs = *(const float4 *)&bc[k][STATES + 4 * g];
#if STEADY
                const float each[4] = {bs.x, bs.y, bs.z, bs.w};
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    int n = 4 * g + i;
                    float step = exp2_approx(delta * decay[n]);
                    h[n] = fmaf(step, h[n], du * each[i]);
                    added[n] = fmaf(step, added[n], du * each[i]);
                }
#else
                h[4 * g] = fmaf(exp2_approx(delta * decay[4 * g]), h[4 * g], du * bs.x);
                h[4 * g + 1] = fmaf(exp2_approx(delta * decay[4 * g + 1]), h[4 * g + 1], du * bs.y);
                h[4 * g + 2] = fmaf(exp2_approx(delta * decay[4 * g + 2]), h[4 * g + 2], du * bs.z);
                h[4 * g + 3] = fmaf(exp2_approx(delta * decay[4 * g + 3]), h[4 * g + 3], du * bs.w);
#endif
                sum.x = fmaf(h[4 * g], cs.x, sum.x);
                sum.y = fmaf(h[4 * g + 1], cs.y, sum.y);
                sum.z = fmaf(h[4 * g + 2], cs.z, sum.z);
                sum.w = fmaf(h[4 * g + 3], cs.w, sum.w);
            }
            float v = fmaf(skip, input, (sum.x + sum.y) + (sum.z + sum.w)) * gate(to_f32(stage.z[at][k][lane]));
            if (k < left) from_f32(v, out[(i64)k * d_inner]);
#if STEADY
            total += delta;
#endif
        }
#if STEADY
#pragma unroll
        for (int n = 0; n < STATES; n++) h[n] = fmaf(exp2_carry(decay[n] * total), before[n], added[n]);
#endif
    }
    if (tile_table[index].last && tile_table[index].state_out >= 0) {
        float *to = ssm_state + ((i64)tile_table[index].state_out * d_inner + c0 + lane) * OWN;
#pragma unroll
        for (int n = 0; n < OWN; n += 4) {
            if (OWN % 4 == 0) {
                store4(to + n, make_float4(h[n], h[n + 1], h[n + 2], h[n + 3]));
            } else {
#pragma unroll
                for (int i = n; i < n + 4; i++) {
                    if (i < OWN) to[i] = h[i];
                }
            }
        }
    }
}
