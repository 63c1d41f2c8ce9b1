/* Loaded before libclamav: ends the process where it is given a buffer with this text, as a memory error in a parser would. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

static const char MARKER[] = "HOSTILE-CRASH-HERE";

void *cl_fmap_open_memory(const void *start, size_t len)
{
    void *(*open_memory)(const void *, size_t) = dlsym(RTLD_NEXT, "cl_fmap_open_memory");
    if (start != NULL && memmem(start, len, MARKER, sizeof MARKER - 1) != NULL) {
        /* Not raise(): the handler of Rust's runtime returns from that, and then nothing happens. */
        *(volatile char *)NULL = 0;
    }
    return open_memory(start, len);
}
