// One step of the selective scan for many sequences: row i continues slots[i] of ssm_state (slots, d_inner, d_state).
//
// A thread owns a channel and walks its states, which lie one after the other.
// grid.x: 128 channels; grid.y: sequences. Where D_STATE is defined, it is the number of states.

extern "C" __global__ void __launch_bounds__(128)
    selective_state_update(const S *__restrict__ u, const float *__restrict__ dt, const S *__restrict__ b,
                           const S *__restrict__ c, const S *__restrict__ z, const float *__restrict__ a2,
                           const float *__restrict__ d, const float *__restrict__ dt_bias,
                           float *__restrict__ ssm_state, const int *__restrict__ slots, S *__restrict__ y, int lanes,
                           int d_inner, int d_state, int bc_stride, int z_stride) {
#ifdef D_STATE
    d_state = D_STATE;
#endif
    int channel = blockIdx.x * 128 + threadIdx.x;
    if (channel >= d_inner) return;
    const float *decay = a2 + (i64)channel * d_state;
    bool vector = d_state % 4 == 0 && fours_at(a2, d_state) && fours_at(ssm_state, d_state);
    for (int i = blockIdx.y; i < lanes; i += gridDim.y) {
        float *h = ssm_state + ((i64)slots[i] * d_inner + channel) * d_state;
        const S *bi = b + (i64)i * bc_stride, *ci = c + (i64)i * bc_stride;
        i64 at = (i64)i * d_inner + channel;
        float delta = softplus(dt[at] + dt_bias[channel]);
        float input = to_f32(u[at]);
        float du = delta * input;
        float sum = 0.0f;
        if (vector) {
            for (int n = 0; n < d_state; n += 4) {
                float4 s = load4(h + n), a = load4(decay + n);
                s.x = fmaf(exp2_approx(delta * a.x), s.x, du * to_f32(bi[n]));
                s.y = fmaf(exp2_approx(delta * a.y), s.y, du * to_f32(bi[n + 1]));
                s.z = fmaf(exp2_approx(delta * a.z), s.z, du * to_f32(bi[n + 2]));
                s.w = fmaf(exp2_approx(delta * a.w), s.w, du * to_f32(bi[n + 3]));
                store4(h + n, s);
                sum = fmaf(s.x, to_f32(ci[n]), sum);
                sum = fmaf(s.y, to_f32(ci[n + 1]), sum);
                sum = fmaf(s.z, to_f32(ci[n + 2]), sum);
                sum = fmaf(s.w, to_f32(ci[n + 3]), sum);
            }
        } else {
            for (int n = 0; n < d_state; n++) {
                h[n] = fmaf(exp2_approx(delta * decay[n]), h[n], du * to_f32(bi[n]));
                sum = fmaf(h[n], to_f32(ci[n]), sum);
            }
        }
        from_f32(fmaf(d[channel], input, sum) * gate(to_f32(z[(i64)i * z_stride + channel])), y[at]);
    }
}
