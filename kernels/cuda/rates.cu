// What a card can do at most, for `mamba-seq bench`: powers of two a second, from registers alone.

// Chains of one thread, which do not wait for each other.
#define CHAINS 8

// out[thread] = a sum of the chains, so that they are not left out. Each takes x to 2^-x `steps` times, which stays
// between 0.5 and 1.
extern "C" __global__ void __launch_bounds__(256) exp2_rate(float *__restrict__ out, int steps, int threads) {
    i64 thread = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    float x[CHAINS];
    for (int i = 0; i < CHAINS; i++) x[i] = 0.5f + 0.001f * (float)(thread % 256 + i);
    for (int step = 0; step < steps; step++) {
#pragma unroll
        for (int i = 0; i < CHAINS; i++) x[i] = exp2_approx(-x[i]);
    }
    float sum = 0.0f;
    for (int i = 0; i < CHAINS; i++) sum += x[i];
    if (thread < threads) out[thread] = sum;
}
