// out[i] = table[ids[i]]: rows of d_model f32, the start of the residual stream.
//
// A thread copies four values where rows allow 16-byte accesses, and strides over the rest of the batch.

extern "C" __global__ void __launch_bounds__(256)
    embed_tokens(const u32 *__restrict__ ids, const float *__restrict__ table, float *__restrict__ out, i64 rows,
                 int d_model) {
    i64 step = (i64)gridDim.x * blockDim.x;
    i64 at = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    int width = (d_model + 3) / 4;
    bool vector = fours_at(table, d_model) && fours_at(out, d_model);
    for (i64 i = at; i < rows * width; i += step) {
        i64 row = i / width;
        int c = (int)(i - row * width) * 4;
        const float *from = table + (i64)ids[row] * d_model + c;
        float *to = out + row * d_model + c;
        if (vector) {
            store4(to, load4(from));
        } else {
            for (int k = 0; k < 4 && c + k < d_model; k++) to[k] = from[k];
        }
    }
}
