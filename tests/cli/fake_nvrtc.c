/* A compiler of CUDA sources that gives no code, for the driver of fake_driver.c, which runs none. What it answers is in
 * the environment:
 *
 *   FAKE_NVRTC_LOG=FILE   a line a compilation: its arguments, then the file names that the source has in #line
 *   FAKE_NVRTC_FAIL=TEXT  what has TEXT among its arguments does not compile
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int result;
enum { OK = 0, COMPILATION = 6 };

struct program { char *source; int failed; };

result nvrtcVersion(int *major, int *minor) { *major = 12, *minor = 9; return OK; }
const char *nvrtcGetErrorString(result code) { return code ? "NVRTC_ERROR_COMPILATION" : "NVRTC_SUCCESS"; }

result nvrtcCreateProgram(struct program **made, const char *source, const char *name, int headers, const char **texts,
                          const char **names) {
    *made = calloc(1, sizeof **made);
    (*made)->source = strdup(source);
    return OK;
}
result nvrtcDestroyProgram(struct program **made) {
    free((*made)->source);
    free(*made);
    *made = NULL;
    return OK;
}
result nvrtcCompileProgram(struct program *p, int count, const char **arguments) {
    const char *log = getenv("FAKE_NVRTC_LOG"), *fail = getenv("FAKE_NVRTC_FAIL");
    FILE *file = log ? fopen(log, "a") : NULL;
    for (int i = 0; i < count; i++) {
        if (file) fprintf(file, "%s ", arguments[i]);
        if (fail && strstr(arguments[i], fail)) p->failed = 1;
    }
    for (const char *at = p->source; file && (at = strstr(at, "#line 1 \"")); at += 9) {
        const char *name = at + 9;
        fprintf(file, "%.*s ", (int)strcspn(name, "\""), name);
    }
    if (file) fputc('\n', file), fclose(file);
    return p->failed ? COMPILATION : OK;
}
result nvrtcGetCUBINSize(struct program *p, size_t *size) { *size = 8; return OK; }
result nvrtcGetCUBIN(struct program *p, char *code) { memcpy(code, "no code\n", 8); return OK; }
result nvrtcGetProgramLogSize(struct program *p, size_t *size) { *size = 24; return OK; }
result nvrtcGetProgramLog(struct program *p, char *log) { memcpy(log, "the fake does not like i", 24); return OK; }
