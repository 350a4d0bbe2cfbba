// Stands in front of every source. Self-contained: a machine with NVRTC alone has no toolkit headers, so the 16-bit
// types are handled as bits, and instructions that have no intrinsic without a header are written in PTX.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

// ---- storage type -------------------------------------------------------------------------------------------------

struct bf16 {
    u16 bits;
};
struct f16 {
    u16 bits;
};

__device__ __forceinline__ float to_f32(float v) { return v; }
__device__ __forceinline__ float to_f32(bf16 v) { return __uint_as_float((u32)v.bits << 16); }
__device__ __forceinline__ float to_f32(f16 v) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(v.bits));
    return f;
}

__device__ __forceinline__ void from_f32(float f, float &out) { out = f; }
__device__ __forceinline__ void from_f32(float f, f16 &out) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out.bits) : "f"(f)); }
__device__ __forceinline__ void from_f32(float f, bf16 &out) {
#if __CUDA_ARCH__ >= 800
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(out.bits) : "f"(f));
#else
    // Round to nearest even by adding half of the last kept bit; a NaN must stay one.
    u32 b = __float_as_uint(f);
    out.bits = f != f ? 0x7fff : (u16)((b + 0x7fff + ((b >> 16) & 1)) >> 16);
#endif
}

#if defined(STORAGE_F32)
typedef float S;
#elif defined(STORAGE_BF16)
typedef bf16 S;
#elif defined(STORAGE_F16)
typedef f16 S;
#else
#error "one of STORAGE_F32, STORAGE_BF16, STORAGE_F16 must be defined"
#endif

// Four values, loaded and stored as one access: 16 bytes of f32, 8 of the others.
template <typename T>
struct Four;
template <>
struct Four<float> {
    typedef float4 Raw;
};
template <>
struct Four<bf16> {
    typedef uint2 Raw;
};
template <>
struct Four<f16> {
    typedef uint2 Raw;
};

__device__ __forceinline__ float4 load4(const float *p) { return *(const float4 *)p; }
template <typename T>
__device__ __forceinline__ float4 load4(const T *p) {
    uint2 r = *(const uint2 *)p;
    T a, b, c, d;
    a.bits = (u16)r.x;
    b.bits = (u16)(r.x >> 16);
    c.bits = (u16)r.y;
    d.bits = (u16)(r.y >> 16);
    return make_float4(to_f32(a), to_f32(b), to_f32(c), to_f32(d));
}

__device__ __forceinline__ void store4(float *p, float4 v) { *(float4 *)p = v; }
template <typename T>
__device__ __forceinline__ void store4(T *p, float4 v) {
    T a, b, c, d;
    from_f32(v.x, a);
    from_f32(v.y, b);
    from_f32(v.z, c);
    from_f32(v.w, d);
    *(uint2 *)p = make_uint2(a.bits | (u32)b.bits << 16, c.bits | (u32)d.bits << 16);
}

// Whether four values from p on, in rows of `stride`, can be one access.
template <typename T>
__device__ __forceinline__ bool fours_at(const T *p, i64 stride) {
    return (u64)p % (4 * sizeof(T)) == 0 && stride % 4 == 0;
}

// ---- elementary functions -----------------------------------------------------------------------------------------

#define LOG2E 1.4426950408889634f

__device__ __forceinline__ float exp2_approx(float x) {
    float e;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(x));
    return e;
}

// x / (1 + exp(-x)). exp(-x) overflows to infinity below -88, where the quotient is -0, as it should be.
__device__ __forceinline__ float silu(float x) { return __fdividef(x, 1.0f + exp2_approx(-LOG2E * x)); }

// The gate of the scan. With 16-bit activations sigmoid(x) = (1 + tanh(x/2)) / 2 costs one special function in
// place of two, and its error (3e-6) is far under their rounding.
__device__ __forceinline__ float gate(float x) {
#if defined(STORAGE_F32)
    return silu(x);
#else
    float half = 0.5f * x, t;
    asm("tanh.approx.f32 %0, %1;" : "=f"(t) : "f"(half));
    return fmaf(half, t, half);
#endif
}

// log(1 + exp(x)) = max(x, 0) + log1p(e), e = exp(-|x|); log1p(e) = e q(e) with q fitted on 0..1 for the least relative
// error (3e-7), so that a small result keeps its digits. Above 20 the second term is under half a bit of the first:
// softplus returns its input there, as PyTorch's does.
__device__ __forceinline__ float softplus(float x) {
    float e = exp2_approx(-LOG2E * fabsf(x));
    float q = -0.0085391989f;
    q = fmaf(q, e, 0.0440895967f);
    q = fmaf(q, e, -0.107681662f);
    q = fmaf(q, e, 0.177452385f);
    q = fmaf(q, e, -0.244954616f);
    q = fmaf(q, e, 0.332754791f);
    q = fmaf(q, e, -0.499974042f);
    q = fmaf(q, e, 0.999999821f);
    return fmaf(e, q, fmaxf(x, 0.0f));
}

// ---- tables (kernels/src/layout.rs) -------------------------------------------------------------------------------

struct Tile {
    i64 row;
    int len;
    int lane;
    int first;
    int last;
    int state_in;
    int state_out;
};
struct LaneEntry {
    i64 row;
    i64 len;
    int tile;
    int tiles;
    int state_in;
    int state_out;
};
static_assert(sizeof(Tile) == 32 && sizeof(LaneEntry) == 32, "tables are 32 bytes an entry");

// ---- asynchronous copies ------------------------------------------------------------------------------------------

// 16 bytes from global to shared memory. Before 8.0 there is no such copy: there it is a load and a store.
__device__ __forceinline__ void copy16(void *shared, const void *global) {
#if __CUDA_ARCH__ >= 800
    u32 to = (u32)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global) : "memory");
#else
    *(uint4 *)shared = *(const uint4 *)global;
#endif
}

// The same, or 16 zero bytes without a read.
__device__ __forceinline__ void copy16_if(void *shared, const void *global, bool there) {
#if __CUDA_ARCH__ >= 800
    u32 to = (u32)__cvta_generic_to_shared(shared);
    int bytes = there ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(bytes) : "memory");
#else
    *(uint4 *)shared = there ? *(const uint4 *)global : make_uint4(0, 0, 0, 0);
#endif
}

__device__ __forceinline__ void copies_commit() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most `pending` groups of copies are under way.
template <int pending>
__device__ __forceinline__ void copies_wait() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#endif
}
