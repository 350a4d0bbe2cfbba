// Draws the next token of each lane: the largest logit / temperature + Gumbel noise among those that top-k and top-p
// leave, or the largest logit. crates/mseq-backend/src/sampling.rs has the law in plain form.
//
// A block a lane. Thresholds are found by radix selection on the bits of the logits, eight at a time; weights are whole
// numbers, so that their sums have no order.

#define SAMPLE_THREADS 1024
#define MINUS_INF __int_as_float(0xff800000)

// Larger floats have larger keys.
__device__ __forceinline__ u32 key_of(float x) {
    u32 b = __float_as_uint(x);
    return b & 0x80000000u ? ~b : b | 0x80000000u;
}

__device__ __forceinline__ float of_key(u32 k) { return __uint_as_float(k & 0x80000000u ? k & 0x7fffffffu : ~k); }

__device__ __forceinline__ float scaled(const float *logits, const float *bias, int token, float scale) {
    float x = bias ? logits[token] + bias[token] : logits[token];
    return x * scale;
}

// Philox4x32-10.
__device__ __forceinline__ uint4 philox(u64 seed, uint4 c) {
    u32 k0 = (u32)seed, k1 = (u32)(seed >> 32);
#pragma unroll
    for (int i = 0; i < 10; i++) {
        u64 a = (u64)c.x * 0xD2511F53u, b = (u64)c.z * 0xCD9E8D57u;
        c = make_uint4((u32)(b >> 32) ^ c.y ^ k0, (u32)b, (u32)(a >> 32) ^ c.w ^ k1, (u32)a);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c;
}

__device__ __forceinline__ float gumbel(u32 word) {
    float u = ((float)(word >> 9) + 0.5f) / 8388608.0f;
    return -logf(-logf(u));
}

// The best of a block: the larger score, then the smaller token. Every thread gets it.
__device__ float block_best(float score, u32 token, u32 *best_token) {
    __shared__ float scores[32];
    __shared__ u32 tokens[32];
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    __syncthreads();
    for (int pass = 0; pass < 2; pass++) {
        for (int o = 16; o > 0; o >>= 1) {
            float s = __shfl_xor_sync(~0u, score, o);
            u32 t = __shfl_xor_sync(~0u, token, o);
            if (s > score || (s == score && t < token)) score = s, token = t;
        }
        if (pass == 0) {
            if (lane == 0) scores[warp] = score, tokens[warp] = token;
            __syncthreads();
            bool there = lane < SAMPLE_THREADS / 32;
            score = there ? scores[lane] : MINUS_INF;
            token = there ? tokens[lane] : ~0u;
        }
    }
    *best_token = token;
    return score;
}

// The largest key at which what lies at or above it reaches `wanted`: a count, or a weight where `most` is given.
// Only keys of `least` and above take part.
template <bool WEIGHTS>
__device__ u32 select(const float *logits, const float *bias, int vocab, float scale, u32 least, float most,
                      double part, u64 count) {
    __shared__ u64 sums[256];
    __shared__ u64 above, wanted;
    __shared__ u32 digit;
    u32 prefix = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        for (int i = threadIdx.x; i < 256; i += SAMPLE_THREADS) sums[i] = 0;
        __syncthreads();
        for (int v = threadIdx.x; v < vocab; v += SAMPLE_THREADS) {
            float x = scaled(logits, bias, v, scale);
            if (!(x > MINUS_INF)) continue;
            u32 k = key_of(x);
            if (k < least || (shift < 24 && k >> (shift + 8) != prefix)) continue;
            u64 w = WEIGHTS ? (u64)(expf(x - most) * 4294967296.0f) : 1;
            atomicAdd(&sums[k >> shift & 255], w);
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            if (shift == 24) {
                above = 0;
                wanted = count;
                if (WEIGHTS) {
                    u64 total = 0;
                    for (int i = 0; i < 256; i++) total += sums[i];
                    wanted = (u64)((double)total * part);
                    if (wanted == 0) wanted = 1;
                }
            }
            int i = 255;
            while (i > 0 && above + sums[i] < wanted) above += sums[i--];
            digit = (u32)i;
        }
        __syncthreads();
        prefix = prefix << 8 | digit;
        __syncthreads();
    }
    return prefix;
}

// state: position (two words), row of history, a lane. grid.x: lanes.
extern "C" __global__ void __launch_bounds__(SAMPLE_THREADS)
    sample_tokens(const float *__restrict__ logits, const float *__restrict__ bias, u32 *__restrict__ ids,
                  u32 *__restrict__ history, u32 *__restrict__ state, int lanes, int vocab, int steps, int greedy,
                  float scale, int top_k, float top_p, i64 seed, int first_lane) {
    int lane = blockIdx.x;
    if (lane >= lanes) return;
    logits += (i64)lane * vocab;
    u32 low = state[lane * 3], high = state[lane * 3 + 1], row = state[lane * 3 + 2];
    u32 least = 0;
    if (!greedy && (top_k > 0 || top_p < 1.0f)) {
        if (top_k > 0 && top_k < vocab) {
            least = select<false>(logits, bias, vocab, scale, 0, 0.0f, 0.0, (u64)top_k);
        }
        if (top_p < 1.0f) {
            float most = MINUS_INF;
            for (int v = threadIdx.x; v < vocab; v += SAMPLE_THREADS) {
                most = fmaxf(most, scaled(logits, bias, v, scale));
            }
            u32 unused;
            most = block_best(most, 0, &unused);
            u32 p = select<true>(logits, bias, vocab, scale, least, most, (double)top_p, 0);
            least = max(least, p);
        }
    }
    float best = MINUS_INF;
    u32 token = ~0u;
    if (greedy && vocab % 4 == 0 && fours_at(logits, 4) && (!bias || fours_at(bias, 4))) {
        // The same scores, four at a time, with several loads under way.
#pragma unroll 4
        for (int v0 = threadIdx.x * 4; v0 < vocab; v0 += SAMPLE_THREADS * 4) {
            float4 x = load4(logits + v0);
            if (bias) {
                float4 b = load4(bias + v0);
                x.x += b.x, x.y += b.y, x.z += b.z, x.w += b.w;
            }
            float xs[4] = {x.x * scale, x.y * scale, x.z * scale, x.w * scale};
#pragma unroll
            for (int i = 0; i < 4; i++) {
                if (xs[i] > best) best = xs[i], token = (u32)(v0 + i);
            }
        }
    } else {
        for (int v0 = threadIdx.x * 4; v0 < vocab; v0 += SAMPLE_THREADS * 4) {
            u32 words[4] = {0, 0, 0, 0};
            if (!greedy) {
                uint4 r = philox((u64)seed, make_uint4(low, high, (u32)(first_lane + lane), (u32)v0 / 4));
                words[0] = r.x, words[1] = r.y, words[2] = r.z, words[3] = r.w;
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
                if (v0 + i >= vocab) break;
                float x = scaled(logits, bias, v0 + i, scale);
                if (!(x > MINUS_INF) || (least > 0 && key_of(x) < least)) continue;
                float score = greedy ? x : x + gumbel(words[i]);
                if (score > best) best = score, token = (u32)(v0 + i);
            }
        }
    }
    block_best(best, token, &token);
    if (threadIdx.x == 0) {
        if ((int)row < steps) history[(i64)row * lanes + lane] = token;
        // What can't be drawn is said on the host; until then any token will do.
        ids[lane] = token == ~0u ? 0 : token;
        state[lane * 3] = low + 1;
        state[lane * 3 + 1] = high + (low == ~0u);
        state[lane * 3 + 2] = row + 1;
    }
}
