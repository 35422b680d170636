/* Memory, streams, captures and counts of the stub GPU. One lock guards everything. */
#define _GNU_SOURCE
#include "device.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static const size_t TOTAL_MEMORY = 80ull << 30;

enum { MAX_MESSAGES = 1000, MESSAGE_SIZE = 160, MAX_BLOCKS = 1 << 16 };

static const char *WORK_NAMES[WORK_KINDS] = {
    "launches", "products", "copies_to_device", "copies_to_device_pageable",
    "copies_to_host", "copies_on_device", "fills", "host_calls",
};
static const char *CAPTURED_NAMES[WORK_KINDS] = {
    "captured_launches", "captured_products", "captured_copies_to_device", "captured_copies_to_device_pageable",
    "captured_copies_to_host", "captured_copies_on_device", "captured_fills", "captured_host_calls",
};
static const char *REPLAYED_NAMES[WORK_KINDS] = {
    "replayed_launches", "replayed_products", "replayed_copies_to_device", "replayed_copies_to_device_pageable",
    "replayed_copies_to_host", "replayed_copies_on_device", "replayed_fills", "replayed_host_calls",
};
static const char *OTHER_NAMES[OTHER_COUNTS] = {
    "allocations", "frees", "bytes", "peak_bytes", "host_allocations", "synchronizations",
    "captures", "replays", "outside_capture", "forbidden", "unexpected",
};

struct stream { int captures; };
struct graph { long long work[WORK_KINDS]; };
struct block { char *address; size_t size; int type; };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long long work[WORK_KINDS], captured[WORK_KINDS], replayed[WORK_KINDS], other[OTHER_COUNTS];
static struct block blocks[MAX_BLOCKS];
static int block_count;
static char messages[MAX_MESSAGES][MESSAGE_SIZE];
static int message_count;

/* At most one capture at a time, as in ONNX Runtime, which holds a lock meanwhile. */
static struct {
    stream *stream;  /* NULL while nothing is captured */
    graph *graph;
    int mode;
    int invalid;
    pthread_t thread;
} capture;

static void record(const char *caller, const char *what) {
    if (message_count < MAX_MESSAGES)
        snprintf(messages[message_count++], MESSAGE_SIZE, "%s: %s", caller, what);
}

static int forbid(const char *caller, const char *what) {
    other[FORBIDDEN]++;
    capture.invalid = 1;
    record(caller, what);
    return CAPTURE_UNSUPPORTED;
}

/* ---- memory */

static int find(const void *address) {
    for (int i = 0; i < block_count; i++)
        if ((const char *)address >= blocks[i].address && (const char *)address < blocks[i].address + blocks[i].size)
            return i;
    return -1;
}

static int type_of(const void *address) {
    int i = find(address);
    return i < 0 ? PAGEABLE : blocks[i].type;
}

/* CUDA's calls that are "potentially unsafe": in mode global no thread may make them, in mode thread-local not the one
 * that captures. */
static int unsafe(const char *caller) {
    if (!capture.stream || capture.mode == CAPTURE_RELAXED)
        return SUCCESS;
    if (capture.mode == CAPTURE_THREAD_LOCAL && !pthread_equal(capture.thread, pthread_self()))
        return SUCCESS;
    return forbid(caller, "is not permitted during a capture");
}

/* Pages become real when they are written, so that large buffers cost nothing. */
static int allocate(void **address, size_t size, int type) {
    size = size ? size : 1;
    if (block_count == MAX_BLOCKS || (type == DEVICE && (size_t)other[BYTES] + size > TOTAL_MEMORY))
        return OUT_OF_MEMORY;
    void *mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED)
        return OUT_OF_MEMORY;
    blocks[block_count++] = (struct block){mapped, size, type};
    *address = mapped;
    if (type == DEVICE) {
        other[ALLOCATIONS]++;
        other[BYTES] += size;
        if (other[BYTES] > other[PEAK_BYTES])
            other[PEAK_BYTES] = other[BYTES];
    } else {
        other[HOST_ALLOCATIONS]++;
    }
    return SUCCESS;
}

static int release(void *address, int type) {
    if (!address)
        return SUCCESS;
    int i = find(address);
    if (i < 0 || blocks[i].address != address || blocks[i].type != type)
        return INVALID_VALUE;
    munmap(address, blocks[i].size);
    if (type == DEVICE) {
        other[FREES]++;
        other[BYTES] -= blocks[i].size;
    }
    blocks[i] = blocks[--block_count];
    return SUCCESS;
}

int device_allocate(void **address, size_t size, int on_stream, const char *caller) {
    pthread_mutex_lock(&lock);
    int error = on_stream ? SUCCESS : unsafe(caller);
    if (!error)
        error = allocate(address, size, DEVICE);
    pthread_mutex_unlock(&lock);
    return error;
}

int device_free(void *address, int on_stream, const char *caller) {
    pthread_mutex_lock(&lock);
    int error = on_stream ? SUCCESS : unsafe(caller);
    if (!error)
        error = release(address, DEVICE);
    pthread_mutex_unlock(&lock);
    return error;
}

int host_allocate(void **address, size_t size, const char *caller) {
    pthread_mutex_lock(&lock);
    int error = unsafe(caller);
    if (!error)
        error = allocate(address, size, PINNED);
    pthread_mutex_unlock(&lock);
    return error;
}

int host_free(void *address, const char *caller) {
    pthread_mutex_lock(&lock);
    int error = unsafe(caller);
    if (!error)
        error = release(address, PINNED);
    pthread_mutex_unlock(&lock);
    return error;
}

int memory_type(const void *address) {
    pthread_mutex_lock(&lock);
    int type = type_of(address);
    pthread_mutex_unlock(&lock);
    return type;
}

void device_memory(size_t *available, size_t *total) {
    pthread_mutex_lock(&lock);
    *available = TOTAL_MEMORY - other[BYTES];
    *total = TOTAL_MEMORY;
    pthread_mutex_unlock(&lock);
}

/* ---- streams and their work */

int stream_create(stream **created) {
    *created = calloc(1, sizeof **created);
    return *created ? SUCCESS : OUT_OF_MEMORY;
}

int stream_destroy(stream *destroyed) {
    free(destroyed);
    return SUCCESS;
}

/* Count one piece of work. Returns 1 if it was captured, so that the caller does not carry it out. */
static int add(int kind, stream *target) {
    if (capture.stream && target == capture.stream) {
        captured[kind]++;
        capture.graph->work[kind]++;
        return 1;
    }
    work[kind]++;
    if (capture.stream && pthread_equal(capture.thread, pthread_self()))
        other[OUTSIDE_CAPTURE]++;
    return 0;
}

int enqueue(int kind, stream *target) {
    pthread_mutex_lock(&lock);
    add(kind, target);
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

static int kind_of_copy(int to, int from) {
    if (to != DEVICE)
        return COPIES_TO_HOST;
    if (from == DEVICE)
        return COPIES_ON_DEVICE;
    return from == PINNED ? COPIES_TO_DEVICE : COPIES_TO_DEVICE_PAGEABLE;
}

int enqueue_copy(void *to, const void *from, size_t size, stream *target, const char *caller) {
    pthread_mutex_lock(&lock);
    int to_type = type_of(to), from_type = type_of(from), error = SUCCESS;
    if (capture.stream && target == capture.stream && (to_type == PAGEABLE || from_type == PAGEABLE))
        error = forbid(caller, "captures a copy of pageable memory");
    int later = add(kind_of_copy(to_type, from_type), target);
    pthread_mutex_unlock(&lock);
    if (!error && !later)
        memmove(to, from, size);
    return error;
}

int enqueue_fill(void *to, int value, size_t size, stream *target) {
    pthread_mutex_lock(&lock);
    int later = add(FILLS, target);
    pthread_mutex_unlock(&lock);
    if (!later)
        memset(to, value, size);
    return SUCCESS;
}

int synchronize(stream *target, const char *caller) {
    pthread_mutex_lock(&lock);
    other[SYNCHRONIZATIONS]++;
    int error = SUCCESS;
    if (capture.stream && (!target || target == capture.stream))
        error = forbid(caller, "waits for a stream that is capturing");
    pthread_mutex_unlock(&lock);
    return error;
}

int unsafe_in_capture(const char *caller) {
    pthread_mutex_lock(&lock);
    int error = unsafe(caller);
    pthread_mutex_unlock(&lock);
    return error;
}

/* ---- captures */

int capture_begin(stream *target, int mode) {
    pthread_mutex_lock(&lock);
    int error = SUCCESS;
    if (!target || capture.stream) {
        other[FORBIDDEN]++;
        record("cudaStreamBeginCapture", target ? "another capture is under way" : "the legacy stream cannot capture");
        error = CAPTURE_UNSUPPORTED;
    } else {
        capture.stream = target;
        capture.graph = calloc(1, sizeof *capture.graph);
        capture.mode = mode;
        capture.invalid = 0;
        capture.thread = pthread_self();
    }
    pthread_mutex_unlock(&lock);
    return error;
}

int capture_end(stream *target, graph **result) {
    pthread_mutex_lock(&lock);
    int error = SUCCESS;
    *result = NULL;
    if (!target || target != capture.stream) {
        error = CAPTURE_UNMATCHED;
    } else {
        if (capture.invalid) {
            free(capture.graph);
            error = CAPTURE_INVALIDATED;
        } else {
            *result = capture.graph;
            other[CAPTURES]++;
        }
        capture.stream = NULL;
        capture.graph = NULL;
    }
    pthread_mutex_unlock(&lock);
    return error;
}

int is_capturing(const stream *target) {
    pthread_mutex_lock(&lock);
    int answer = capture.stream && target == capture.stream;
    pthread_mutex_unlock(&lock);
    return answer;
}

int graph_launch(graph *launched) {
    pthread_mutex_lock(&lock);
    other[REPLAYS]++;
    for (int kind = 0; kind < WORK_KINDS; kind++)
        replayed[kind] += launched->work[kind];
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

graph *graph_copy(const graph *original) {
    graph *copy = malloc(sizeof *copy);
    if (copy)
        *copy = *original;
    return copy;
}

void graph_free(graph *freed) {
    free(freed);
}

/* ---- for tests */

static long long *count_at(int index, const char **name) {
    static const char *const *const NAMES[] = {WORK_NAMES, CAPTURED_NAMES, REPLAYED_NAMES, OTHER_NAMES};
    long long *const counts[] = {work, captured, replayed, other};
    int table = index < 3 * WORK_KINDS ? index / WORK_KINDS : 3;
    int place = index - table * WORK_KINDS;
    if (index < 0 || (table == 3 && place >= OTHER_COUNTS))
        return NULL;
    *name = NAMES[table][place];
    return &counts[table][place];
}

/* ---- kernels: a table from addresses to names and counts, with open addressing */

enum { KERNELS = 1 << 17 };
static struct { const void *address; const char *name; long long launches; } kernels[KERNELS];

static size_t kernel_at(const void *address) {
    size_t place = ((size_t)address >> 4) * 2654435761u % KERNELS;
    while (kernels[place].address != NULL && kernels[place].address != address) place = (place + 1) % KERNELS;
    return place;
}

void name_kernel(const void *kernel, const char *name) {
    pthread_mutex_lock(&lock);
    size_t place = kernel_at(kernel);
    kernels[place].address = kernel, kernels[place].name = name;
    pthread_mutex_unlock(&lock);
}

void count_kernel(const void *kernel) {
    pthread_mutex_lock(&lock);
    size_t place = kernel_at(kernel);
    if (kernels[place].address != NULL) kernels[place].launches++;
    pthread_mutex_unlock(&lock);
}

/* The launched kernel number INDEX, and in LAUNCHES how often it ran since stub_reset; NULL after the last one. */
const char *stub_kernel(int index, long long *launches) {
    for (size_t place = 0; place < KERNELS; place++)
        if (kernels[place].launches > 0 && index-- == 0) {
            *launches = kernels[place].launches;
            return kernels[place].name;
        }
    return NULL;
}

/* The name of a count, or NULL after the last one. */
const char *stub_count_name(int index) {
    const char *name = NULL;
    return count_at(index, &name) ? name : NULL;
}

/* A count by its name; -1 if no count has it. */
long long stub_count(const char *wanted) {
    const char *name;
    long long *count;
    for (int i = 0; (count = count_at(i, &name)); i++)
        if (!strcmp(name, wanted))
            return *count;
    return -1;
}

/* What was forbidden or unexpected, in order; NULL after the last one. */
const char *stub_message(int index) {
    return index >= 0 && index < message_count ? messages[index] : NULL;
}

/* Set the counts to zero. Memory stays allocated, and its maximum starts anew from there. */
void stub_reset(void) {
    pthread_mutex_lock(&lock);
    long long bytes = other[BYTES];
    memset(work, 0, sizeof work);
    for (size_t place = 0; place < KERNELS; place++) kernels[place].launches = 0;
    memset(captured, 0, sizeof captured);
    memset(replayed, 0, sizeof replayed);
    memset(other, 0, sizeof other);
    other[BYTES] = other[PEAK_BYTES] = bytes;
    message_count = 0;
    pthread_mutex_unlock(&lock);
}

int stub_unexpected(const char *name) {
    pthread_mutex_lock(&lock);
    other[UNEXPECTED]++;
    record(name, "has no stub");
    pthread_mutex_unlock(&lock);
    return NOT_SUPPORTED;
}
