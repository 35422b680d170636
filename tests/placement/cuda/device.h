/* A GPU that computes nothing. It keeps memory, streams and captures as CUDA does, counts what is asked of it, and
 * records what CUDA forbids. The stub libraries are thin: each of their functions calls one of these. */
#ifndef STUB_DEVICE_H
#define STUB_DEVICE_H

#include <stddef.h>

/* Codes of cudaError_t. */
enum {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_SUPPORTED = 801,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901,
    CAPTURE_UNMATCHED = 903,
};

/* Codes of cudaStreamCaptureMode. */
enum { CAPTURE_GLOBAL = 0, CAPTURE_THREAD_LOCAL = 1, CAPTURE_RELAXED = 2 };

/* Codes of cudaMemoryType: where an address lies. PAGEABLE is memory of the host that CUDA does not know. */
enum { PAGEABLE = 0, PINNED = 1, DEVICE = 2 };

/* What can be put into a stream. Each has two counts: run at once, and captured. */
enum {
    LAUNCHES,               /* kernels of the library that uses CUDA */
    PRODUCTS,               /* calls of cuBLAS and cuBLASLt that multiply */
    COPIES_TO_DEVICE,       /* from pinned memory */
    COPIES_TO_DEVICE_PAGEABLE,
    COPIES_TO_HOST,
    COPIES_ON_DEVICE,
    FILLS,                  /* memset */
    HOST_CALLS,             /* cudaLaunchHostFunc */
    WORK_KINDS,
};

/* What is counted besides. Bytes are of device memory. */
enum {
    ALLOCATIONS,
    FREES,
    BYTES,                  /* allocated now */
    PEAK_BYTES,             /* maximum since stub_reset */
    HOST_ALLOCATIONS,
    SYNCHRONIZATIONS,       /* a host thread waits for a stream, an event or the device */
    CAPTURES,               /* that ended without an error */
    REPLAYS,
    OUTSIDE_CAPTURE,        /* work for another stream while one captures: no graph will have it */
    FORBIDDEN,              /* what CUDA does not permit during a capture */
    UNEXPECTED,             /* calls of functions that these stubs do not implement */
    OTHER_COUNTS,
};

typedef struct stream stream;
typedef struct graph graph;

/* Memory. An allocation on a stream is legal in a capture, one without a stream is not. */
int device_allocate(void **address, size_t size, int on_stream, const char *caller);
int device_free(void *address, int on_stream, const char *caller);
int host_allocate(void **address, size_t size, const char *caller);
int host_free(void *address, const char *caller);
int memory_type(const void *address);
void device_memory(size_t *available, size_t *total);

/* Streams; NULL is the legacy stream. */
int stream_create(stream **created);
int stream_destroy(stream *destroyed);

/* Kernels by the address that launches them: their names, as the compiler mangled them, and how often each ran. */
void name_kernel(const void *kernel, const char *name);
void count_kernel(const void *kernel);

/* Put work into a stream. Copies and fills are carried out unless they are captured. */
int enqueue(int kind, stream *target);
int enqueue_copy(void *to, const void *from, size_t size, stream *target, const char *caller);
int enqueue_fill(void *to, int value, size_t size, stream *target);

/* Let the host wait: for one stream, or with NULL for anything. */
int synchronize(stream *target, const char *caller);

/* Refuse what CUDA does not permit while a stream captures. */
int unsafe_in_capture(const char *caller);

/* Capture and replay. */
int capture_begin(stream *target, int mode);
int capture_end(stream *target, graph **captured);
int is_capturing(const stream *target);
int graph_launch(graph *replayed);
graph *graph_copy(const graph *original);
void graph_free(graph *freed);

/* What a test reads and what generated functions call. */
long long stub_count(const char *name);
const char *stub_count_name(int index);
const char *stub_message(int index);
void stub_reset(void);
int stub_unexpected(const char *name);

#endif
