/* A CUDA driver without a device behind it: memory is the host's, kernels do nothing. It shows what the program makes of
 * a driver's answers, on a machine without a GPU. What it answers is in the environment:
 *
 *   FAKE_DEVICES=N        devices (1)
 *   FAKE_MEMORY=BYTES     memory of each (1 GiB)
 *   FAKE_OTHERS=BYTES     what other programs hold of it (0)
 *   FAKE_LOAD=CODE        what loading a module answers (0: it loads)
 *   FAKE_OOM_AFTER=N      after N launches nothing more can be allocated
 *   FAKE_FAIL_AFTER=N     after N launches every launch answers 719, as after a fault of a kernel
 *   FAKE_LAUNCH_US=N      microseconds that a launch takes
 *   FAKE_COUNTS=FILE      gets, at the end, how many kernels were launched, recorded, and how many recordings launched
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int result;
typedef unsigned long long address;
enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101, LAUNCH_FAILED = 719 };

static long setting(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}

static long launches = 0, recorded = 0, replays = 0;
static int recording = 0;
static size_t taken = 0;
static void *current = NULL;
static int thing;

result cuInit(unsigned flags) { return setting("FAKE_DEVICES", 1) ? OK : NO_DEVICE; }
result cuDriverGetVersion(int *version) { *version = 12000; return OK; }

result cuGetErrorName(result code, const char **text) {
    switch (code) {
    case OUT_OF_MEMORY: *text = "CUDA_ERROR_OUT_OF_MEMORY"; break;
    case NO_DEVICE: *text = "CUDA_ERROR_NO_DEVICE"; break;
    case 200: *text = "CUDA_ERROR_INVALID_IMAGE"; break;
    case 209: *text = "CUDA_ERROR_NO_BINARY_FOR_GPU"; break;
    case 222: *text = "CUDA_ERROR_UNSUPPORTED_PTX_VERSION"; break;
    case LAUNCH_FAILED: *text = "CUDA_ERROR_LAUNCH_FAILED"; break;
    default: *text = "CUDA_ERROR_OF_THE_FAKE";
    }
    return OK;
}
result cuGetErrorString(result code, const char **text) {
    *text = code == OUT_OF_MEMORY ? "out of memory" : "what the fake says";
    return OK;
}

result cuDeviceGetCount(int *count) { *count = (int)setting("FAKE_DEVICES", 1); return OK; }
result cuDeviceGet(int *device, int index) {
    *device = index;
    return index < setting("FAKE_DEVICES", 1) ? OK : INVALID_DEVICE;
}
result cuDeviceGetName(char *name, int len, int device) { snprintf(name, (size_t)len, "Fake"); return OK; }
result cuDeviceGetAttribute(int *value, int attribute, int device) {
    switch (attribute) {
    case 16: *value = 8; break;  /* multiprocessors */
    case 75: *value = 9; break;  /* compute capability */
    default: *value = 0;
    }
    return OK;
}
result cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)setting("FAKE_MEMORY", 1L << 30); return OK; }

result cuDevicePrimaryCtxRetain(void **context, int device) { *context = &thing; return OK; }
result cuDevicePrimaryCtxRelease_v2(int device) { return OK; }
result cuCtxGetCurrent(void **context) { *context = current; return OK; }
result cuCtxSetCurrent(void *context) { current = context; return OK; }
result cuStreamCreate(void **stream, unsigned flags) { *stream = &thing; return OK; }
result cuStreamSynchronize(void *stream) { return OK; }
result cuStreamDestroy_v2(void *stream) { return OK; }
result cuEventCreate(void **event, unsigned flags) { *event = &thing; return OK; }
result cuEventRecord(void *event, void *stream) { return OK; }
result cuEventSynchronize(void *event) { return OK; }
result cuEventDestroy_v2(void *event) { return OK; }

/* The size stands before what is given out. */
result cuMemAlloc_v2(address *at, size_t bytes) {
    long after = setting("FAKE_OOM_AFTER", -1);
    size_t all = (size_t)(setting("FAKE_MEMORY", 1L << 30) - setting("FAKE_OTHERS", 0));
    size_t *block;
    if ((after >= 0 && launches >= after) || bytes > all || taken > all - bytes) return OUT_OF_MEMORY;
    if (!(block = calloc(1, bytes + 64))) return OUT_OF_MEMORY;
    *block = bytes;
    taken += bytes;
    *at = (address)(block + 8);
    return OK;
}
result cuMemFree_v2(address at) {
    size_t *block = (size_t *)at - 8;
    taken -= *block;
    free(block);
    return OK;
}
result cuMemGetInfo_v2(size_t *left, size_t *all) {
    *all = (size_t)setting("FAKE_MEMORY", 1L << 30);
    *left = *all - (size_t)setting("FAKE_OTHERS", 0) - taken;
    return OK;
}
result cuMemHostAlloc(void **at, size_t bytes, unsigned flags) { return (*at = malloc(bytes)) ? OK : OUT_OF_MEMORY; }
result cuMemFreeHost(void *at) { free(at); return OK; }
result cuMemcpyHtoDAsync_v2(address to, const void *from, size_t bytes, void *stream) {
    memcpy((void *)to, from, bytes);
    return OK;
}
result cuMemcpyDtoHAsync_v2(void *to, address from, size_t bytes, void *stream) {
    memcpy(to, (void *)from, bytes);
    return OK;
}
result cuMemcpyDtoDAsync_v2(address to, address from, size_t bytes, void *stream) {
    memmove((void *)to, (void *)from, bytes);
    return OK;
}
result cuMemsetD8Async(address at, unsigned char value, size_t bytes, void *stream) {
    memset((void *)at, value, bytes);
    return OK;
}

result cuModuleLoadData(void **module, const void *image) { *module = &thing; return (result)setting("FAKE_LOAD", OK); }
result cuModuleGetFunction(void **function, void *module, const char *name) { *function = &thing; return OK; }
result cuModuleUnload(void *module) { return OK; }
result cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned shared, void *stream, void **params, void **extra) {
    long pause = setting("FAKE_LAUNCH_US", 0), after = setting("FAKE_FAIL_AFTER", -1);
    struct timespec time = {pause / 1000000, pause % 1000000 * 1000};
    if (recording) {
        recorded++;
        return OK;
    }
    if (pause) nanosleep(&time, NULL);
    launches++;
    return after >= 0 && launches > after ? LAUNCH_FAILED : OK;
}

result cuStreamBeginCapture_v2(void *stream, int mode) { recording = 1; return OK; }
result cuStreamEndCapture(void *stream, void **graph) { recording = 0; *graph = &thing; return OK; }
result cuGraphInstantiateWithFlags(void **made, void *graph, unsigned long long flags) { *made = &thing; return OK; }
result cuGraphLaunch(void *made, void *stream) { replays++; return OK; }
result cuGraphExecDestroy(void *made) { return OK; }
result cuGraphDestroy(void *graph) { return OK; }

__attribute__((destructor)) static void count(void) {
    const char *name = getenv("FAKE_COUNTS");
    FILE *file = name ? fopen(name, "w") : NULL;
    if (!file) return;
    fprintf(file, "%ld %ld %ld\n", launches, recorded, replays);
    fclose(file);
}
