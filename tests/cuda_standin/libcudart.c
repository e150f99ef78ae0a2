/* The CUDA runtime: memory of the device is the host's, kernels do nothing, a graph holds nothing.
 *
 * As a driver does, a capture in global mode refuses the unsafe calls of every thread with 900, and is spoilt by them. */
#include "standin.h"

#include <driver_types.h>

static pthread_mutex_t capture_lock = PTHREAD_MUTEX_INITIALIZER;
static int capturing, spoilt; /* captures in global mode that go on, and whether an unsafe call met them */

static int refused(const char *name) {
    pthread_mutex_lock(&capture_lock);
    int code = capturing ? CAPTURE_UNSUPPORTED : 0;
    if (code) spoilt = 1;
    pthread_mutex_unlock(&capture_lock);
    if (code) call("refused", ", \"what\": \"%s\"", name);
    return code;
}

#define CHECK(expression)                  \
    do {                                   \
        int code_ = (expression);          \
        if (code_) return code_;           \
    } while (0)

static int made(void **out) { return (*out = malloc(16)) ? 0 : 2; }

/* zeros, so that what comes out of a tower is finite, if nothing else */
static int allocate(void **out, size_t bytes) {
    if (posix_memalign(out, 512, bytes ? bytes : 1)) return 2;
    memset(*out, 0, bytes);
    return 0;
}

/* devices */

EXPORT int cudaGetDeviceCount(int *count) {
    CHECK(planted("cudaGetDeviceCount"));
    *count = device_count();
    return 0;
}

static __thread int current_device;

EXPORT int cudaGetDevice(int *device) {
    *device = current_device;
    return planted("cudaGetDevice");
}

EXPORT int cudaSetDevice(int device) {
    CHECK(planted("cudaSetDevice"));
    if (device < 0 || device >= device_count()) return INVALID_DEVICE;
    if (device != current_device) call("cudaSetDevice", ", \"device\": %d", device);
    current_device = device;
    return 0;
}

/* an H100, as its datasheet describes it */
EXPORT int cudaGetDeviceProperties(struct cudaDeviceProp *out, int device) {
    CHECK(planted("cudaGetDeviceProperties"));
    if (device < 0 || device >= device_count()) return INVALID_DEVICE;
    *out = (struct cudaDeviceProp){
        .name = "Stand-in H100", .major = 9, .minor = 0, .totalGlobalMem = 80ul << 30, .warpSize = 32,
        .sharedMemPerBlock = 49152, .sharedMemPerBlockOptin = 232448, .sharedMemPerMultiprocessor = 233472,
        .regsPerBlock = 65536, .maxThreadsPerBlock = 1024, .maxThreadsDim = {1024, 1024, 64},
        .maxGridSize = {2147483647, 65535, 65535}, .multiProcessorCount = 132, .maxThreadsPerMultiProcessor = 2048,
        .maxBlocksPerMultiProcessor = 32, .textureAlignment = 512, .l2CacheSize = 50 << 20};
    return 0;
}

EXPORT int cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
    struct cudaDeviceProp properties;
    CHECK(cudaGetDeviceProperties(&properties, device));
    switch (attribute) {
        case cudaDevAttrComputeCapabilityMajor: *value = properties.major; break;
        case cudaDevAttrComputeCapabilityMinor: *value = properties.minor; break;
        case cudaDevAttrMultiProcessorCount: *value = properties.multiProcessorCount; break;
        case cudaDevAttrMaxSharedMemoryPerBlock: *value = properties.sharedMemPerBlock; break;
        case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = properties.sharedMemPerBlockOptin; break;
        case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = properties.sharedMemPerMultiprocessor; break;
        case cudaDevAttrMaxThreadsPerMultiProcessor: *value = properties.maxThreadsPerMultiProcessor; break;
        default: *value = 1;
    }
    return 0;
}

EXPORT int cudaDriverGetVersion(int *version) {
    *version = 13000;
    return planted("cudaDriverGetVersion");
}

EXPORT int cudaRuntimeGetVersion(int *version) {
    *version = 13000;
    return planted("cudaRuntimeGetVersion");
}

/* errors */

static const struct { int code; const char *name, *text; } ERRORS[] = {
    {2, "cudaErrorMemoryAllocation", "out of memory"},
    {35, "cudaErrorInsufficientDriver", "CUDA driver version is insufficient for CUDA runtime version"},
    {100, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {101, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {209, "cudaErrorNoKernelImageForDevice", "no kernel image is available for execution on the device"},
    {700, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {719, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {900, "cudaErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing"},
    {901, "cudaErrorStreamCaptureInvalidated", "operation failed due to a previous error during capture"},
};

EXPORT const char *cudaGetErrorString(int code) {
    for (size_t i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++)
        if (ERRORS[i].code == code) return ERRORS[i].text;
    return "unrecognized error code";
}

EXPORT const char *cudaGetErrorName(int code) {
    for (size_t i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++)
        if (ERRORS[i].code == code) return ERRORS[i].name;
    return "unrecognized error code";
}

EXPORT int cudaGetLastError(void) { return planted("cudaGetLastError"); }
EXPORT int cudaPeekAtLastError(void) { return planted("cudaPeekAtLastError"); }

/* memory */

EXPORT int cudaMalloc(void **out, size_t bytes) {
    CHECK(call("cudaMalloc", ", \"device\": %d, \"bytes\": %zu", current_device, bytes));
    CHECK(refused("cudaMalloc"));
    return allocate(out, bytes);
}

EXPORT int cudaMallocHost(void **out, size_t bytes) {
    CHECK(call("cudaHostAlloc", ", \"bytes\": %zu", bytes));
    CHECK(refused("cudaMallocHost"));
    return allocate(out, bytes);
}

EXPORT int cudaHostAlloc(void **out, size_t bytes, unsigned flags) {
    CHECK(call("cudaHostAlloc", ", \"bytes\": %zu", bytes));
    CHECK(refused("cudaHostAlloc"));
    return allocate(out, bytes);
}

EXPORT int cudaHostRegister(void *memory, size_t bytes, unsigned flags) {
    CHECK(call("cudaHostRegister", ", \"bytes\": %zu", bytes));
    return refused("cudaHostRegister");
}

EXPORT int cudaHostUnregister(void *memory) {
    CHECK(call("cudaHostUnregister", ""));
    return refused("cudaHostUnregister");
}

EXPORT int cudaFree(void *memory) {
    CHECK(call("cudaFree", ""));
    CHECK(refused("cudaFree"));
    free(memory);
    return 0;
}

EXPORT int cudaFreeHost(void *memory) {
    CHECK(call("cudaFreeHost", ""));
    CHECK(refused("cudaFreeHost"));
    free(memory);
    return 0;
}

EXPORT int cudaMemGetInfo(size_t *unused, size_t *total) {
    *unused = 79ul << 30, *total = 80ul << 30;
    return planted("cudaMemGetInfo");
}

static const char *direction(int kind) {
    static const char *const NAMES[] = {"HtoH", "HtoD", "DtoH", "DtoD", "default"};
    return NAMES[kind >= 0 && kind < 5 ? kind : 4];
}

EXPORT int cudaMemcpy(void *to, const void *from, size_t bytes, int kind) {
    CHECK(call("cudaMemcpy", ", \"kind\": \"%s\", \"bytes\": %zu", direction(kind), bytes));
    CHECK(refused("cudaMemcpy"));
    memcpy(to, from, bytes);
    return 0;
}

EXPORT int cudaMemcpyAsync(void *to, const void *from, size_t bytes, int kind, void *stream) {
    CHECK(call("cudaMemcpyAsync", ", \"kind\": \"%s\", \"bytes\": %zu, \"capturing\": %d", direction(kind), bytes,
               capturing));
    memmove(to, from, bytes);
    return 0;
}

EXPORT int cudaMemset(void *memory, int value, size_t bytes) {
    CHECK(call("cudaMemset", ", \"bytes\": %zu", bytes));
    memset(memory, value, bytes);
    return 0;
}

EXPORT int cudaMemsetAsync(void *memory, int value, size_t bytes, void *stream) {
    CHECK(call("cudaMemsetAsync", ", \"bytes\": %zu", bytes));
    memset(memory, value, bytes);
    return 0;
}

EXPORT int cudaPointerGetAttributes(struct cudaPointerAttributes *out, const void *memory) {
    *out = (struct cudaPointerAttributes){.type = cudaMemoryTypeDevice};
    return planted("cudaPointerGetAttributes");
}

/* streams, events, graphs */

EXPORT int cudaStreamCreate(void **out) {
    CHECK(call("cudaStreamCreate", ""));
    return made(out);
}

EXPORT int cudaStreamCreateWithFlags(void **out, unsigned flags) {
    CHECK(call("cudaStreamCreate", ""));
    return made(out);
}

EXPORT int cudaStreamSynchronize(void *stream) {
    CHECK(call("cudaStreamSynchronize", ""));
    return refused("cudaStreamSynchronize");
}

EXPORT int cudaEventCreate(void **out) {
    CHECK(call("cudaEventCreate", ""));
    return made(out);
}

EXPORT int cudaEventCreateWithFlags(void **out, unsigned flags) {
    CHECK(call("cudaEventCreate", ""));
    return made(out);
}

EXPORT int cudaEventElapsedTime(float *milliseconds) {
    *milliseconds = 1;
    return call("cudaEventElapsedTime", "");
}

EXPORT int cudaStreamBeginCapture(void *stream, int mode) {
    CHECK(call("cudaStreamBeginCapture", ", \"mode\": %d", mode));
    pthread_mutex_lock(&capture_lock);
    if (mode == cudaStreamCaptureModeGlobal && !capturing++) spoilt = 0;
    pthread_mutex_unlock(&capture_lock);
    return 0;
}

EXPORT int cudaStreamEndCapture(void *stream, void **graph) {
    int code = call("cudaStreamEndCapture", "");
    pthread_mutex_lock(&capture_lock);
    if (capturing) capturing--;
    if (!code && spoilt) code = CAPTURE_INVALIDATED;
    pthread_mutex_unlock(&capture_lock);
    *graph = NULL;
    CHECK(code);
    return made(graph);
}

EXPORT int cudaStreamIsCapturing(void *stream, int *status) {
    *status = capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return planted("cudaStreamIsCapturing");
}

EXPORT int cudaGraphInstantiate(void **out) {
    CHECK(call("cudaGraphInstantiate", ""));
    return made(out);
}

EXPORT int cudaGraphLaunch(void *graph, void *stream) {
    return call("cudaGraphLaunch", "");
}

/* kernels: the compiler of CUDA registers their names when the provider's library is loaded */

static struct kernel { const void *handle; const char *name; } *kernels;
static int kernel_count;

EXPORT void **__cudaRegisterFatBinary(void *binary) {
    return malloc(sizeof(void *));
}

EXPORT void __cudaRegisterFatBinaryEnd(void **binary) {}
EXPORT void __cudaUnregisterFatBinary(void **binary) { free(binary); }
EXPORT void __cudaRegisterVar(void **binary) {}

EXPORT void __cudaRegisterFunction(void **binary, const void *handle, char *device_name, const char *name) {
    if (kernel_count % 1024 == 0) kernels = realloc(kernels, (kernel_count + 1024) * sizeof *kernels);
    kernels[kernel_count++] = (struct kernel){handle, name};
}

static const char *kernel_name(const void *handle) {
    for (int i = 0; i < kernel_count; i++)
        if (kernels[i].handle == handle) return kernels[i].name;
    return "?";
}

typedef struct { unsigned x, y, z; } extent;
static __thread struct { extent grid, block; size_t shared; void *stream; } pushed;

EXPORT unsigned __cudaPushCallConfiguration(extent grid, extent block, size_t shared, void *stream) {
    pushed.grid = grid, pushed.block = block, pushed.shared = shared, pushed.stream = stream;
    return 0;
}

EXPORT int __cudaPopCallConfiguration(extent *grid, extent *block, size_t *shared, void **stream) {
    *grid = pushed.grid, *block = pushed.block, *shared = pushed.shared, *stream = pushed.stream;
    return 0;
}

EXPORT int __cudaGetKernel(const void **out, const void *handle) {
    *out = handle;
    return 0;
}

static int launch(const char *name, const void *handle, extent grid, extent block) {
    return call(name, ", \"kernel\": \"%.600s\", \"blocks\": [%u, %u, %u], \"threads\": [%u, %u, %u]",
                kernel_name(handle), grid.x, grid.y, grid.z, block.x, block.y, block.z);
}

EXPORT int __cudaLaunchKernel(const void *handle, extent grid, extent block) {
    return launch("cudaLaunchKernel", handle, grid, block);
}

EXPORT int cudaLaunchKernel(const void *handle, extent grid, extent block) {
    return launch("cudaLaunchKernel", handle, grid, block);
}

EXPORT int cudaLaunchCooperativeKernel(const void *handle, extent grid, extent block) {
    return launch("cudaLaunchKernel", handle, grid, block);
}

EXPORT int cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *handle) {
    extent grid = {config->gridDim.x, config->gridDim.y, config->gridDim.z};
    extent block = {config->blockDim.x, config->blockDim.y, config->blockDim.z};
    return launch("cudaLaunchKernel", handle, grid, block);
}

EXPORT int cudaFuncGetAttributes(struct cudaFuncAttributes *out, const void *handle) {
    *out = (struct cudaFuncAttributes){.maxThreadsPerBlock = 1024, .numRegs = 32, .binaryVersion = 90, .ptxVersion = 90};
    return planted("cudaFuncGetAttributes");
}

EXPORT int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks) {
    *blocks = 2;
    return 0;
}
