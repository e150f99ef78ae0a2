/* What every stand-in shares: a log of the calls, and failures that the environment plants.
 *
 * CUDA_STANDIN_LOG=FILE    one JSON object a line: {"thread": 7, "call": "cudaMalloc", "bytes": 512}
 * CUDA_STANDIN_FAIL=LIST   what fails, as PATTERN:CODE[:N] parted by commas: calls whose name matches the shell pattern
 *                          return the code, from the N-th such call on (from the first without N)
 * CUDA_STANDIN_DEVICES=N   GPUs of the machine (1)
 *
 * Failures and devices are read at every call, so that a test may set them between two calls. */
#ifndef STANDIN_H
#define STANDIN_H

#include <fcntl.h>
#include <fnmatch.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default"), unused))
enum { CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901, INVALID_DEVICE = 101 };

static int device_count(void) {
    const char *text = getenv("CUDA_STANDIN_DEVICES");
    return text ? atoi(text) : 1;
}

/* Return the code that is planted for this call, else 0. Calls are counted anew when the list changes. */
static int planted(const char *name) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static char known[256];
    static int counts[16];
    const char *list = getenv("CUDA_STANDIN_FAIL");
    if (!list || !*list) list = "";
    int code = 0;
    pthread_mutex_lock(&lock);
    if (strcmp(known, list)) {
        snprintf(known, sizeof known, "%s", list);
        memset(counts, 0, sizeof counts);
    }
    char copy[sizeof known], *rest = copy, *entry;
    memcpy(copy, known, sizeof copy);
    for (int i = 0; !code && i < 16 && (entry = strsep(&rest, ",")); i++) {
        char *pattern = strsep(&entry, ":"), *value = strsep(&entry, ":");
        if (value && !fnmatch(pattern, name, 0) && ++counts[i] >= (entry ? atoi(entry) : 1)) code = atoi(value);
    }
    pthread_mutex_unlock(&lock);
    return code;
}

/* Log a call with its details, a JSON fragment such as ", \"bytes\": 4"; return the code that is planted for it. */
__attribute__((format(printf, 2, 3))) static int call(const char *name, const char *details, ...) {
    static int file = -2;
    if (file == -2) {
        const char *path = getenv("CUDA_STANDIN_LOG");
        file = path ? open(path, O_WRONLY | O_CREAT | O_APPEND, 0644) : -1;
    }
    int code = planted(name);
    if (file < 0) return code;
    char line[1024];
    int length = snprintf(line, sizeof line, "{\"thread\": %ld, \"call\": \"%s\"", (long)syscall(SYS_gettid), name);
    va_list values;
    va_start(values, details);
    length += vsnprintf(line + length, sizeof line - length, details, values);
    va_end(values);
    if (code) length += snprintf(line + length, sizeof line - length, ", \"code\": %d", code);
    length += snprintf(line + length, sizeof line - length, "}\n");
    if (write(file, line, length) < 0) abort(); /* a log with gaps would let a test pass */
    return code;
}

#endif
