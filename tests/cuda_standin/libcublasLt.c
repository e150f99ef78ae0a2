/* cuBLASLt: descriptors, and a heuristic that always finds one algorithm. */
#include "standin.h"

static int made(void **out) {
    *out = malloc(16);
    return 0;
}

EXPORT int cublasLtCreate(void **handle) {
    call("cublasLtCreate", "");
    return made(handle);
}

EXPORT int cublasLtMatmulDescCreate(void **out) { return made(out); }
EXPORT int cublasLtMatrixLayoutCreate(void **out) { return made(out); }
EXPORT int cublasLtMatmulPreferenceCreate(void **out) { return made(out); }

EXPORT int cublasLtMatmulAlgoGetHeuristic(void *handle, void *operation, void *a, void *b, void *c, void *d,
                                          void *preference, int asked, void *results, int *found) {
    *found = 1;
    return 0;
}
