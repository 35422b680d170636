/* libcudart: the functions of the CUDA runtime that ONNX Runtime's CUDA provider calls. Signatures are those of
 * CUDA 13; enumerations are passed as int. What the provider links besides is generated, and reports its calls. */
#include "device.h"

#include <stdio.h>
#include <string.h>

typedef struct { unsigned x, y, z; } dim3;

/* ---- kernels: compiled code registers them, configures a launch and launches */

void **__cudaRegisterFatBinary(void *code) { static void *handle; (void)code; return &handle; }
void __cudaRegisterFatBinaryEnd(void **handle) { (void)handle; }
void __cudaUnregisterFatBinary(void **handle) { (void)handle; }
void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *name, int limit,
                            void *thread, void *block, void *block_size, void *grid_size, int *warp) {
    (void)handle, (void)device, (void)limit, (void)thread, (void)block, (void)block_size, (void)grid_size, (void)warp;
    name_kernel(host, name);
}
void __cudaRegisterVar(void **handle, char *host, char *device, const char *name, int external, size_t size,
                       int constant, int global) {
    (void)handle, (void)host, (void)device, (void)name, (void)external, (void)size, (void)constant, (void)global;
}

static __thread struct { dim3 grid, block; size_t shared; stream *target; } configured;

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, stream *target) {
    configured.grid = grid, configured.block = block, configured.shared = shared, configured.target = target;
    return SUCCESS;
}
int __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, stream **target) {
    *grid = configured.grid, *block = configured.block, *shared = configured.shared, *target = configured.target;
    return SUCCESS;
}
int __cudaGetKernel(const void **kernel, const void *function) { *kernel = function; return SUCCESS; }

static int launch(const void *kernel, stream *target) {
    count_kernel(kernel);
    return enqueue(LAUNCHES, target);
}

int __cudaLaunchKernel(const void *kernel, dim3 grid, dim3 block, void **arguments, size_t shared, stream *target) {
    (void)grid, (void)block, (void)arguments, (void)shared;
    return launch(kernel, target);
}
int cudaLaunchKernel(const void *function, dim3 grid, dim3 block, void **arguments, size_t shared, stream *target) {
    (void)grid, (void)block, (void)arguments, (void)shared;
    return launch(function, target);
}
int cudaLaunchCooperativeKernel(const void *function, dim3 grid, dim3 block, void **arguments, size_t shared,
                                stream *target) {
    (void)grid, (void)block, (void)arguments, (void)shared;
    return launch(function, target);
}
struct launch_configuration { dim3 grid, block; size_t shared; stream *target; void *attributes; unsigned count; };

int cudaLaunchKernelExC(const struct launch_configuration *configuration, const void *function, void **arguments) {
    (void)arguments;
    return launch(function, configuration->target);
}
int cudaLaunchHostFunc(stream *target, void (*function)(void *), void *argument) {
    int error = enqueue(HOST_CALLS, target);
    if (!error && !is_capturing(target))
        function(argument);
    return error;
}

struct function_attributes {
    size_t shared_bytes, constant_bytes, local_bytes;
    int max_threads_per_block, registers, ptx_version, binary_version;
    char rest[144 - 40];
};

int cudaFuncGetAttributes(struct function_attributes *attributes, const void *function) {
    (void)function;
    memset(attributes, 0, sizeof *attributes);
    attributes->max_threads_per_block = 1024;
    attributes->registers = 32;
    attributes->ptx_version = attributes->binary_version = 90;
    return SUCCESS;
}
int cudaFuncSetAttribute(const void *function, int attribute, int value) {
    (void)function, (void)attribute, (void)value;
    return SUCCESS;
}
int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *function, int threads,
                                                           size_t shared, unsigned flags) {
    (void)function, (void)threads, (void)shared, (void)flags;
    *blocks = 2;
    return SUCCESS;
}

/* ---- the device: one H100 */

enum { MULTIPROCESSORS = 132, SHARED_PER_BLOCK = 49152, SHARED_PER_BLOCK_OPTIN = 232448, SHARED_PER_SM = 233472 };

/* cudaDeviceProp of CUDA 13, of which the named fields are set. */
struct properties {
    char name[256];
    char uuid[32];
    size_t total_memory, shared_per_block;
    int registers_per_block, warp_size;
    size_t pitch;
    int max_threads_per_block, max_threads[3], max_grid[3];
    size_t constant_memory;
    int major, minor;
    size_t texture_alignment, texture_pitch_alignment;
    int multiprocessors;
    char textures[596 - 388];
    int l2_bytes, persisting_l2_bytes, max_threads_per_multiprocessor;
    char caches[624 - 608];
    size_t shared_per_multiprocessor;
    int registers_per_multiprocessor;
    char managed[672 - 636];
    size_t shared_per_block_optin;
    char rest[1008 - 680];
};
_Static_assert(offsetof(struct properties, major) == 360, "layout of cudaDeviceProp");
_Static_assert(offsetof(struct properties, multiprocessors) == 384, "layout of cudaDeviceProp");
_Static_assert(offsetof(struct properties, l2_bytes) == 596, "layout of cudaDeviceProp");
_Static_assert(offsetof(struct properties, shared_per_multiprocessor) == 624, "layout of cudaDeviceProp");
_Static_assert(offsetof(struct properties, shared_per_block_optin) == 672, "layout of cudaDeviceProp");
_Static_assert(sizeof(struct properties) == 1008, "layout of cudaDeviceProp");

int cudaGetDeviceProperties(struct properties *set, int device) {
    size_t available;
    (void)device;
    memset(set, 0, sizeof *set);
    strcpy(set->name, "stub of an H100");
    device_memory(&available, &set->total_memory);
    set->shared_per_block = SHARED_PER_BLOCK;
    set->registers_per_block = set->registers_per_multiprocessor = 65536;
    set->warp_size = 32;
    set->max_threads_per_block = set->max_threads[0] = set->max_threads[1] = 1024;
    set->max_threads[2] = 64;
    set->max_grid[0] = 2147483647;
    set->max_grid[1] = set->max_grid[2] = 65535;
    set->constant_memory = 65536;
    set->major = 9;
    set->multiprocessors = MULTIPROCESSORS;
    set->l2_bytes = 50 << 20;
    set->max_threads_per_multiprocessor = 2048;
    set->shared_per_multiprocessor = SHARED_PER_SM;
    set->shared_per_block_optin = SHARED_PER_BLOCK_OPTIN;
    return SUCCESS;
}

int cudaDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    switch (attribute) {  /* cudaDeviceAttr */
    case 1: *value = 1024; break;                    /* MaxThreadsPerBlock */
    case 5: *value = 2147483647; break;              /* MaxGridDimX */
    case 6: case 7: *value = 65535; break;           /* MaxGridDimY, Z */
    case 8: *value = SHARED_PER_BLOCK; break;        /* MaxSharedMemoryPerBlock */
    case 10: *value = 32; break;                     /* WarpSize */
    case 16: *value = MULTIPROCESSORS; break;        /* MultiProcessorCount */
    case 39: *value = 2048; break;                   /* MaxThreadsPerMultiProcessor */
    case 75: *value = 9; break;                      /* ComputeCapabilityMajor */
    case 76: *value = 0; break;                      /* ComputeCapabilityMinor */
    case 81: *value = SHARED_PER_SM; break;          /* MaxSharedMemoryPerMultiprocessor */
    case 97: *value = SHARED_PER_BLOCK_OPTIN; break; /* MaxSharedMemoryPerBlockOptin */
    case 95: case 115: *value = 1; break;            /* CooperativeLaunch, MemoryPoolsSupported */
    default: {
        char name[64];
        snprintf(name, sizeof name, "cudaDeviceGetAttribute(%d)", attribute);
        *value = 0;
        return stub_unexpected(name);
    }
    }
    return SUCCESS;
}
int cudaGetDeviceCount(int *count) { *count = 1; return SUCCESS; }
int cudaGetDevice(int *device) { *device = 0; return SUCCESS; }
int cudaSetDevice(int device) { return device == 0 ? SUCCESS : INVALID_VALUE; }
int cudaDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
int cudaRuntimeGetVersion(int *version) { *version = 13000; return SUCCESS; }
int cudaDeviceSynchronize(void) { return synchronize(NULL, "cudaDeviceSynchronize"); }

/* Functions of the driver by name: of none is there a stub. */
int cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version, unsigned long long flags,
                                     int *status) {
    (void)name, (void)version, (void)flags;
    *function = NULL;
    if (status)
        *status = 1;  /* cudaDriverEntryPointSymbolNotFound */
    return SUCCESS;
}

/* ---- errors: each call returns its own, and none is kept */

int cudaGetLastError(void) { return SUCCESS; }
int cudaPeekAtLastError(void) { return SUCCESS; }
const char *cudaGetErrorName(int error) {
    switch (error) {
    case SUCCESS: return "cudaSuccess";
    case INVALID_VALUE: return "cudaErrorInvalidValue";
    case OUT_OF_MEMORY: return "cudaErrorMemoryAllocation";
    case NOT_SUPPORTED: return "cudaErrorNotSupported";
    case CAPTURE_UNSUPPORTED: return "cudaErrorStreamCaptureUnsupported";
    case CAPTURE_INVALIDATED: return "cudaErrorStreamCaptureInvalidated";
    case CAPTURE_UNMATCHED: return "cudaErrorStreamCaptureUnmatched";
    default: return "an error of the stub";
    }
}
const char *cudaGetErrorString(int error) { return cudaGetErrorName(error); }

/* ---- memory */

int cudaMalloc(void **address, size_t size) { return device_allocate(address, size, 0, "cudaMalloc"); }
int cudaFree(void *address) { return device_free(address, 0, "cudaFree"); }
int cudaFreeAsync(void *address, stream *target) { (void)target; return device_free(address, 1, "cudaFreeAsync"); }
int cudaMallocHost(void **address, size_t size) { return host_allocate(address, size, "cudaMallocHost"); }
int cudaHostAlloc(void **address, size_t size, unsigned flags) {
    (void)flags;
    return host_allocate(address, size, "cudaHostAlloc");
}
int cudaFreeHost(void *address) { return host_free(address, "cudaFreeHost"); }
int cudaMemGetInfo(size_t *available, size_t *total) { device_memory(available, total); return SUCCESS; }

struct pointer_attributes { int type, device; void *device_address, *host_address; char rest[88 - 24]; };

int cudaPointerGetAttributes(struct pointer_attributes *attributes, const void *address) {
    memset(attributes, 0, sizeof *attributes);
    attributes->type = memory_type(address);
    attributes->device_address = attributes->type == PAGEABLE ? NULL : (void *)address;
    attributes->host_address = attributes->type == DEVICE ? NULL : (void *)address;
    return SUCCESS;
}

/* Without a stream, a copy or a fill is work of the legacy stream that the host waits for. */
int cudaMemcpy(void *to, const void *from, size_t size, int kind) {
    (void)kind;
    int error = unsafe_in_capture("cudaMemcpy");
    return error ? error : enqueue_copy(to, from, size, NULL, "cudaMemcpy");
}
int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, stream *target) {
    (void)kind;
    return enqueue_copy(to, from, size, target, "cudaMemcpyAsync");
}
int cudaMemset(void *to, int value, size_t size) {
    int error = unsafe_in_capture("cudaMemset");
    return error ? error : enqueue_fill(to, value, size, NULL);
}
int cudaMemsetAsync(void *to, int value, size_t size, stream *target) {
    return enqueue_fill(to, value, size, target);
}

/* ---- streams and events; an event is never waited for */

int cudaStreamCreate(stream **created) { return stream_create(created); }
int cudaStreamCreateWithFlags(stream **created, unsigned flags) { (void)flags; return stream_create(created); }
int cudaStreamDestroy(stream *destroyed) { return stream_destroy(destroyed); }
int cudaStreamSynchronize(stream *target) { return synchronize(target, "cudaStreamSynchronize"); }
int cudaStreamWaitEvent(stream *target, void *event, unsigned flags) {
    (void)target, (void)event, (void)flags;
    return SUCCESS;
}

static char an_event;

int cudaEventCreate(void **event) { *event = &an_event; return SUCCESS; }
int cudaEventCreateWithFlags(void **event, unsigned flags) { (void)flags; *event = &an_event; return SUCCESS; }
int cudaEventDestroy(void *event) { (void)event; return SUCCESS; }
int cudaEventRecord(void *event, stream *target) { (void)event, (void)target; return SUCCESS; }
int cudaEventRecordWithFlags(void *event, stream *target, unsigned flags) {
    (void)event, (void)target, (void)flags;
    return SUCCESS;
}
int cudaEventSynchronize(void *event) { (void)event; return synchronize(NULL, "cudaEventSynchronize"); }

/* ---- captures */

int cudaStreamIsCapturing(stream *target, int *status) { *status = is_capturing(target); return SUCCESS; }
int cudaStreamBeginCapture(stream *target, int mode) { return capture_begin(target, mode); }
int cudaStreamEndCapture(stream *target, graph **captured) { return capture_end(target, captured); }
int cudaGraphInstantiate(graph **executable, graph *captured, unsigned long long flags) {
    (void)flags;
    *executable = graph_copy(captured);
    return *executable ? SUCCESS : OUT_OF_MEMORY;
}
int cudaGraphDestroy(graph *destroyed) { graph_free(destroyed); return SUCCESS; }
int cudaGraphExecDestroy(graph *destroyed) { graph_free(destroyed); return SUCCESS; }
int cudaGraphLaunch(graph *executable, stream *target) { (void)target; return graph_launch(executable); }
