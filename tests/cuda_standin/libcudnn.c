/* cuDNN: handles, descriptors and reductions, which is all of it that a tower may need. */
#include "standin.h"

static int made(void **out) {
    *out = malloc(16);
    return 0;
}

EXPORT size_t cudnnGetVersion(void) { return 91000; }
EXPORT const char *cudnnGetErrorString(int status) { return status ? "CUDNN_STATUS_EXECUTION_FAILED" : "CUDNN_STATUS_SUCCESS"; }

EXPORT int cudnnCreate(void **handle) {
    call("cudnnCreate", "");
    return made(handle);
}

EXPORT int cudnnDestroy(void *handle) {
    free(handle);
    return call("cudnnDestroy", "");
}

EXPORT int cudnnCreateTensorDescriptor(void **out) { return made(out); }
EXPORT int cudnnCreateReduceTensorDescriptor(void **out) { return made(out); }

EXPORT int cudnnGetReductionWorkspaceSize(void *handle, void *reduction, void *from, void *to, size_t *bytes) {
    *bytes = 256;
    return 0;
}

EXPORT int cudnnGetReductionIndicesSize(void *handle, void *reduction, void *from, void *to, size_t *bytes) {
    *bytes = 0;
    return 0;
}

EXPORT int cudnnReduceTensor(void *handle) {
    return call("cudnnReduceTensor", "");
}
