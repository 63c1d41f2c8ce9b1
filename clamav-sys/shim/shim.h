/*
 * One face for every supported libclamav: one scan call, one shape of callback.
 * Rust above this file knows no version.
 */
#ifndef CLAMSHIM_H
#define CLAMSHIM_H

#include <clamav.h>
#include <stddef.h>
#include <stdint.h>

/* Parsers that an older library lacks: asking for them then asks for nothing. */
#ifndef CL_SCAN_PARSE_ONENOTE
#define CL_SCAN_PARSE_ONENOTE 0x0
#endif
#ifndef CL_SCAN_PARSE_IMAGE
#define CL_SCAN_PARSE_IMAGE 0x0
#endif
#ifndef CL_SCAN_PARSE_IMAGE_FUZZY_HASH
#define CL_SCAN_PARSE_IMAGE_FUZZY_HASH 0x0
#endif

/*
 * What `layer` and `done` may answer. STOP makes libclamav call the layer infected, by the name
 * Detected.By.Callback; there is no way to skip a layer, because libclamav would remember it as clean.
 */
#define CLAMSHIM_CONTINUE 0
#define CLAMSHIM_STOP 1

/*
 * Who listens to one scan. The functions run on the thread that scans, before clamshim_scan
 * returns; the strings live only for the duration of the call and may be NULL.
 */
struct clamshim_observer {
    /* libclamav is about to look at a layer: the object itself, or something inside it. */
    int (*layer)(const char *type, void *user);
    /* It has looked at a layer, and remembers it as clean if nothing was found and nobody objects. */
    int (*done)(void *user);
    /* A signature matched. */
    void (*found)(const char *name, void *user);
    void *user;
};

/* What is scanned: memory if `map` is not NULL, else the file descriptor. */
struct clamshim_input {
    cl_fmap_t *map;
    int fd;
    const char *name; /* may be NULL */
};

/*
 * Makes the engine report to the observer of each scan. Once, before cl_engine_compile; from then
 * on the engine may be scanned with through clamshim_scan only.
 */
void clamshim_install(struct cl_engine *engine);

/* CL_CLEAN, CL_VIRUS or an error; *last_name is a name, or NULL even for CL_VIRUS. */
cl_error_t clamshim_scan(const struct cl_engine *engine, const struct clamshim_input *input,
                         const struct cl_scan_options *options, struct clamshim_observer *observer,
                         const char **last_name);

/* Entries of the clean cache; CL_EARG where the library cannot say. */
cl_error_t clamshim_set_cache_size(struct cl_engine *engine, uint32_t entries);

/* What the C compiler thinks, for the ABI test. */
struct clamshim_abi {
    uint32_t version_num;
    size_t sizeof_scan_options;
    size_t sizeof_error;
    size_t sizeof_engine_field;
    size_t sizeof_observer;
    size_t sizeof_input;
    int engine_max_scansize;
    int engine_max_filesize;
    int engine_tmpdir;
    int engine_disable_cache;
    int engine_max_scantime;
    int virus;
    int last_error;
};
void clamshim_describe(struct clamshim_abi *out);

#endif
