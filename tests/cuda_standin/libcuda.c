/* The driver, as far as clapedge asks it before ONNX Runtime does. */
#include "standin.h"

EXPORT int cuInit(unsigned flags) { return call("cuInit", ", \"flags\": %u", flags); }

EXPORT int cuDeviceGetCount(int *count) {
    *count = device_count();
    return call("cuDeviceGetCount", "");
}

EXPORT int cuDeviceGet(int *handle, int device) {
    *handle = device;
    return device < 0 || device >= device_count() ? INVALID_DEVICE : call("cuDeviceGet", "");
}

EXPORT int cuDeviceGetName(char *name, int length, int device) {
    snprintf(name, length, "Stand-in H100");
    return call("cuDeviceGetName", "");
}

EXPORT int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    *bytes = 80ul << 30;
    return call("cuDeviceTotalMem", "");
}

/* 75 and 76 ask for the compute capability, 9.0 */
EXPORT int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 9 : attribute == 76 ? 0 : 1;
    return call("cuDeviceGetAttribute", "");
}

EXPORT int cuDriverGetVersion(int *version) {
    *version = 13000;
    return call("cuDriverGetVersion", "");
}
