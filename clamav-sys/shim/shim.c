#include "shim.h"

/*
 * The numbers of cl_engine_field moved between versions. A header that does not agree with this
 * table is not the header it claims to be.
 */
#if CLAMAV_VERSION_NUM >= 0x010000 && CLAMAV_VERSION_NUM < 0x010100
_Static_assert(CL_ENGINE_DISABLE_CACHE == 24, "cl_engine_field of 1.0");
_Static_assert(CL_ENGINE_MAX_SCANTIME == 30, "cl_engine_field of 1.0");
#elif CLAMAV_VERSION_NUM >= 0x010400 && CLAMAV_VERSION_NUM < 0x010600
_Static_assert(CL_ENGINE_DISABLE_CACHE == 25, "cl_engine_field of 1.4 and 1.5");
_Static_assert(CL_ENGINE_MAX_SCANTIME == 31, "cl_engine_field of 1.4 and 1.5");
#else
#error "this version of libclamav is not known here"
#endif
_Static_assert(CL_CLEAN == 0 && CL_VIRUS == 1, "cl_error_t");
_Static_assert(CL_ETIMEOUT == 21 && CL_BREAK == 22 && CL_ELAST_ERROR == 35, "cl_error_t");
_Static_assert(sizeof(struct cl_scan_options) == 5 * sizeof(uint32_t), "struct cl_scan_options");

static cl_error_t on_layer(int fd, const char *type, void *context)
{
    const struct clamshim_observer *observer = context;
    (void)fd;
    return observer->layer(type, observer->user) == CLAMSHIM_CONTINUE ? CL_CLEAN : CL_VIRUS;
}

static cl_error_t on_done(int fd, int result, const char *name, void *context)
{
    const struct clamshim_observer *observer = context;
    (void)fd;
    (void)result;
    (void)name;
    return observer->done(observer->user) == CLAMSHIM_CONTINUE ? CL_CLEAN : CL_VIRUS;
}

static void on_found(int fd, const char *name, void *context)
{
    const struct clamshim_observer *observer = context;
    (void)fd;
    observer->found(name, observer->user);
}

void clamshim_install(struct cl_engine *engine)
{
    cl_engine_set_clcb_pre_cache(engine, on_layer);
    cl_engine_set_clcb_post_scan(engine, on_done);
    cl_engine_set_clcb_virus_found(engine, on_found);
}

cl_error_t clamshim_scan(const struct cl_engine *engine, const struct clamshim_input *input,
                         const struct cl_scan_options *options, struct clamshim_observer *observer,
                         const char **last_name)
{
    /* libclamav takes the options as writable, so it gets a copy. */
    struct cl_scan_options own = *options;
    *last_name                 = NULL;
#if CLAMAV_VERSION_NUM >= 0x010500
    cl_verdict_t verdict = CL_VERDICT_NOTHING_FOUND;
    uint64_t scanned     = 0;
    cl_error_t code;
    if (input->map != NULL)
        code = cl_scanmap_ex(input->map, input->name, &verdict, last_name, &scanned, engine, &own,
                             observer, NULL, NULL, NULL, NULL, NULL);
    else
        code = cl_scandesc_ex(input->fd, input->name, &verdict, last_name, &scanned, engine, &own,
                              observer, NULL, NULL, NULL, NULL, NULL);
    if (code == CL_SUCCESS &&
        (verdict == CL_VERDICT_STRONG_INDICATOR || verdict == CL_VERDICT_POTENTIALLY_UNWANTED))
        return CL_VIRUS;
    return code;
#else
    unsigned long scanned = 0;
    if (input->map != NULL)
        return cl_scanmap_callback(input->map, input->name, last_name, &scanned, engine, &own, observer);
    return cl_scandesc_callback(input->fd, input->name, last_name, &scanned, engine, &own, observer);
#endif
}

cl_error_t clamshim_set_cache_size(struct cl_engine *engine, uint32_t entries)
{
#if CLAMAV_VERSION_NUM >= 0x010400
    return cl_engine_set_num(engine, CL_ENGINE_CACHE_SIZE, entries);
#else
    (void)engine;
    (void)entries;
    return CL_EARG;
#endif
}

void clamshim_describe(struct clamshim_abi *out)
{
    out->version_num          = CLAMAV_VERSION_NUM;
    out->sizeof_scan_options  = sizeof(struct cl_scan_options);
    out->sizeof_error         = sizeof(cl_error_t);
    out->sizeof_engine_field  = sizeof(enum cl_engine_field);
    out->sizeof_observer      = sizeof(struct clamshim_observer);
    out->sizeof_input         = sizeof(struct clamshim_input);
    out->engine_max_scansize  = CL_ENGINE_MAX_SCANSIZE;
    out->engine_max_filesize  = CL_ENGINE_MAX_FILESIZE;
    out->engine_tmpdir        = CL_ENGINE_TMPDIR;
    out->engine_disable_cache = CL_ENGINE_DISABLE_CACHE;
    out->engine_max_scantime  = CL_ENGINE_MAX_SCANTIME;
    out->virus                = CL_VIRUS;
    out->last_error           = CL_ELAST_ERROR;
}
