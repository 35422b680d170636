/* libcublas: handles with a stream, and products that are counted. */
#include "device.h"

#include <stdlib.h>

typedef struct { stream *target; int mode; } handle;

int cublasCreate_v2(handle **created) {
    *created = calloc(1, sizeof **created);
    return *created ? 0 : 3;
}
int cublasDestroy_v2(handle *destroyed) { free(destroyed); return 0; }
int cublasSetStream_v2(handle *changed, stream *target) { changed->target = target; return 0; }
int cublasSetMathMode(handle *changed, int mode) { changed->mode = mode; return 0; }
int cublasGetMathMode(handle *asked, int *mode) { *mode = asked->mode; return 0; }
const char *cublasGetStatusName(int status) { (void)status; return "a status of the stub"; }
const char *cublasGetStatusString(int status) { (void)status; return "a status of the stub"; }

/* The arguments after the handle do not matter: the caller of a C function removes them itself. */
#define PRODUCT(name) \
    int name(handle *used) { return enqueue(PRODUCTS, used->target); }

PRODUCT(cublasSgemm_v2)
PRODUCT(cublasSgemmStridedBatched)
PRODUCT(cublasGemmEx)
PRODUCT(cublasGemmStridedBatchedEx)
