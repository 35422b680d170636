/* libcudnn: ONNX Runtime opens it by name and looks for these functions. No operator of ours may use it for more than a
 * handle. */
#include <stddef.h>

static char a_handle;

size_t cudnnGetVersion(void) { return 91000; }
int cudnnCreate(void **created) { *created = &a_handle; return 0; }
int cudnnDestroy(void *destroyed) { (void)destroyed; return 0; }
int cudnnSetStream(void *changed, void *target) { (void)changed, (void)target; return 0; }
const char *cudnnGetErrorString(int status) { (void)status; return "a status of the stub"; }
