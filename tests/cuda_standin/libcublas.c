/* cuBLAS: handles, and products of matrices that are logged. */
#include "standin.h"

EXPORT int cublasCreate_v2(void **handle) {
    *handle = malloc(16);
    return call("cublasCreate", "");
}

EXPORT int cublasDestroy_v2(void *handle) {
    free(handle);
    return call("cublasDestroy", "");
}

EXPORT int cublasGetMathMode(void *handle, int *mode) {
    *mode = 0;
    return 0;
}

EXPORT const char *cublasGetStatusName(int status) { return status ? "CUBLAS_STATUS_EXECUTION_FAILED" : "CUBLAS_STATUS_SUCCESS"; }
EXPORT const char *cublasGetStatusString(int status) { return status ? "the function failed" : "success"; }

EXPORT int cublasGemmEx(void *handle, int ta, int tb, int m, int n, int k) {
    return call("cublasGemmEx", ", \"m\": %d, \"n\": %d, \"k\": %d", m, n, k);
}

EXPORT int cublasGemmStridedBatchedEx(void *handle, int ta, int tb, int m, int n, int k) {
    return call("cublasGemmStridedBatchedEx", ", \"m\": %d, \"n\": %d, \"k\": %d", m, n, k);
}
