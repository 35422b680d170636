/* libcuda: what the driver answers about itself and its GPU. modernrank asks it before it loads anything else. */
#include <stdio.h>

int cuInit(unsigned flags) { (void)flags; return 0; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int number) { *device = number; return number == 0 ? 0 : 101; }
int cuDeviceGetName(char *name, int size, int device) {
    (void)device;
    snprintf(name, (size_t)size, "stub of an H100");
    return 0;
}

// The compute capability, 9.0, by the numbers of its two attributes in cuda.h.
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    if (attribute != 75 && attribute != 76) return 1;
    *value = attribute == 75 ? 9 : 0;
    return 0;
}

int cuCtxGetDevice(int *device) { *device = 0; return 0; }
