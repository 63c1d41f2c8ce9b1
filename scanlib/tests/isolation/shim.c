/*
 * Preloaded into the test program: an object that starts with "SHIM " is a command, carried out by the thread that scans it.
 *
 * A probe tries what a scanning process that was taken over might try, and reports through the exit status of the process.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SUCCEEDED = 65, FAILED = 66, UNKNOWN = 67 };

extern char **environ;

static void sleep_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

/* The sockets of this process, in order. */
static int sockets(int *found, int most)
{
    int count = 0;
    struct stat status;
    for (int fd = 3; fd < 1024 && count < most; fd++)
        if (fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode))
            found[count++] = fd;
    return count;
}

static void *nothing(void *unused)
{
    return unused;
}

static int wait_for(pid_t child)
{
    if (child == 0)
        _exit(0);
    if (child > 0)
        waitpid(child, NULL, __WALL);
    return child > 0;
}

static int connects(int family, int type, const struct sockaddr *to, socklen_t length, int binds)
{
    int fd = socket(family, type, 0);
    if (fd < 0)
        return 0;
    return (binds ? bind(fd, to, length) : connect(fd, to, length)) == 0;
}

/* Whether the memory between two places holds a text; pages that cannot be read are passed over. */
static int holds(const char *from, const char *to, const char *text)
{
    size_t length = strlen(text);
    struct stat status;
    for (const char *page = (const char *)((uintptr_t)from & ~4095ul); page < to; page += 4096) {
        if (stat(page + 4095, &status) != 0 && errno == EFAULT)
            continue;
        if (memmem(page, 4096, text, length))
            return 1;
    }
    return 0;
}

/* The text was given with one added to each of its bytes, so that the command does not hold it. */
static int remembers(char *text)
{
    for (char *byte = text; *byte; byte++)
        *byte -= 1;
    int found = 0;
    if (environ && environ[0])
        found |= holds(environ[0] - 65536, environ[0] + (1 << 20), text);
    char *end = sbrk(0);
    /* `text` itself stands on the stack of this thread, which is neither. */
    found |= holds(end - (256 << 20), end, text);
    return found;
}

static int descriptor_holds(const char *text)
{
    char content[4096];
    size_t length = strlen(text);
    struct stat status;
    for (int fd = 0; fd < 1024; fd++) {
        if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))
            continue;
        ssize_t got = pread(fd, content, sizeof content, 0);
        if (got > 0 && memmem(content, got, text, length))
            return 1;
    }
    return 0;
}

static int probe(const char *what, char *argument)
{
    int target = argument ? atoi(argument) : 0;
    char byte = 'x';
    struct iovec here = {&byte, 1}, there = {&byte, 1};
    char *shell[] = {"/bin/sh", "-c", "exit 65", NULL};
    if (!strcmp(what, "open"))
        return open(argument, O_RDONLY) >= 0;
    if (!strcmp(what, "open-own-memory"))
        return open("/proc/self/mem", O_RDONLY) >= 0 || open("/proc/thread-self/mem", O_RDONLY) >= 0;
    if (!strcmp(what, "open-own-environment"))
        return open("/proc/self/environ", O_RDONLY) >= 0;
    if (!strcmp(what, "open-directory"))
        return open(argument, O_RDONLY | O_DIRECTORY) >= 0;
    if (!strcmp(what, "write"))
        return open(argument, O_WRONLY) >= 0;
    if (!strcmp(what, "truncate"))
        return truncate(argument, 0) == 0;
    if (!strcmp(what, "create"))
        return open(argument, O_WRONLY | O_CREAT | O_EXCL, 0600) >= 0;
    if (!strcmp(what, "create-unnamed"))
        return open(argument, O_WRONLY | O_TMPFILE, 0600) >= 0;
    if (!strcmp(what, "mkdir"))
        return mkdir(argument, 0700) == 0;
    if (!strcmp(what, "symlink"))
        return symlink("/", argument) == 0;
    if (!strcmp(what, "mkfifo"))
        return mkfifo(argument, 0600) == 0;
    if (!strcmp(what, "unlink"))
        return unlink(argument) == 0;
    if (!strcmp(what, "chmod"))
        return chmod(argument, 0600) == 0;
    if (!strcmp(what, "tcp-connect") || !strcmp(what, "udp-connect")) {
        struct sockaddr_in to = {AF_INET, htons(target), {htonl(INADDR_LOOPBACK)}, {0}};
        return connects(AF_INET, what[0] == 't' ? SOCK_STREAM : SOCK_DGRAM, (struct sockaddr *)&to, sizeof to, 0);
    }
    if (!strcmp(what, "tcp-bind") || !strcmp(what, "udp-bind")) {
        struct sockaddr_in to = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}, {0}};
        return connects(AF_INET, what[0] == 't' ? SOCK_STREAM : SOCK_DGRAM, (struct sockaddr *)&to, sizeof to, 1);
    }
    if (!strcmp(what, "unix-connect")) {
        struct sockaddr_un to = {AF_UNIX, {0}};
        strncpy(to.sun_path, argument, sizeof to.sun_path - 1);
        return connects(AF_UNIX, SOCK_STREAM, (struct sockaddr *)&to, sizeof to, 0);
    }
    if (!strcmp(what, "netlink"))
        return socket(AF_NETLINK, SOCK_RAW, 0) >= 0;
    if (!strcmp(what, "socketpair")) {
        int pair[2];
        return socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0;
    }
    if (!strcmp(what, "exec"))
        return execve(shell[0], shell, environ) == 0;
    if (!strcmp(what, "execveat"))
        return syscall(SYS_execveat, AT_FDCWD, shell[0], shell, environ, 0) == 0;
    if (!strcmp(what, "memfd"))
        return memfd_create("probe", 0) >= 0;
    if (!strcmp(what, "fork"))
        return wait_for(fork());
    if (!strcmp(what, "clone"))
        return wait_for(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
    if (!strcmp(what, "clone3")) {
        uint64_t arguments[11] = {0};
        arguments[4] = SIGCHLD;
        return wait_for(syscall(SYS_clone3, arguments, sizeof arguments));
    }
    if (!strcmp(what, "thread")) {
        pthread_t thread;
        return pthread_create(&thread, NULL, nothing, NULL) == 0;
    }
    if (!strcmp(what, "traced"))
        return ptrace(PTRACE_TRACEME, 0, 0, 0) == 0;
    if (!strcmp(what, "read-process"))
        return process_vm_readv(target ? target : getpid(), &here, 1, &there, 1, 0) == 1;
    if (!strcmp(what, "write-process"))
        return process_vm_writev(target ? target : getpid(), &here, 1, &there, 1, 0) == 1;
    if (!strcmp(what, "kill"))
        return kill(target, 0) == 0;
    if (!strcmp(what, "tgkill"))
        return syscall(SYS_tgkill, target, target, 0) == 0;
    if (!strcmp(what, "tkill"))
        return syscall(SYS_tkill, target, 0) == 0;
    if (!strcmp(what, "sigqueue")) {
        union sigval value = {0};
        return sigqueue(target, 0, value) == 0;
    }
    if (!strcmp(what, "own-signal")) {
        /* The kernel then sends a signal of choice whenever the descriptor becomes ready. */
        int fd = open("/dev/null", O_RDONLY), found[1];
        if (sockets(found, 1))
            fd = found[0];
        return fcntl(fd, F_SETOWN, target) == 0 || fcntl(fd, F_SETSIG, SIGTERM) == 0;
    }
    if (!strcmp(what, "pidfd"))
        return syscall(SYS_pidfd_open, target, 0) >= 0;
    if (!strcmp(what, "map-code"))
        return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
    if (!strcmp(what, "protect-code")) {
        void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0;
    }
    if (!strcmp(what, "map-shared"))
        return mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
    if (!strcmp(what, "dumpable"))
        return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0;
    if (!strcmp(what, "outlive-parent"))
        return prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0) == 0;
    if (!strcmp(what, "personality"))
        return syscall(SYS_personality, 0x0400000) >= 0;
    if (!strcmp(what, "raise-limit")) {
        uint64_t limit[2] = {0};
        return syscall(SYS_prlimit64, 0, 4 /* core */, NULL, limit) == 0;
    }
    if (!strcmp(what, "io-uring")) {
        struct io_uring_params parameters = {0};
        return syscall(SYS_io_uring_setup, 1, &parameters) >= 0;
    }
    if (!strcmp(what, "userfaultfd"))
        return syscall(SYS_userfaultfd, 1 /* user mode only */) >= 0;
    if (!strcmp(what, "unshare"))
        return unshare(CLONE_NEWUSER) == 0;
    if (!strcmp(what, "setns"))
        return syscall(SYS_setns, open("/proc/self/ns/net", O_RDONLY), 0) == 0;
    if (!strcmp(what, "mount"))
        return mount(NULL, argument, "tmpfs", 0, NULL) == 0;
    if (!strcmp(what, "chroot"))
        return chroot("/") == 0;
    if (!strcmp(what, "chdir"))
        return chdir("/") == 0;
    if (!strcmp(what, "bpf"))
        return syscall(SYS_bpf, 0, (uint64_t[16]){2, 4, 4, 1}, 64) >= 0;
    if (!strcmp(what, "memory-holds"))
        return remembers(argument);
    if (!strcmp(what, "descriptor-holds"))
        return descriptor_holds(argument);
    if (!strcmp(what, "descriptors")) {
        /* Anything but its lanes, its directory and three times nothing. */
        struct stat status;
        for (int fd = 0; fd < 1024; fd++)
            if (fstat(fd, &status) == 0 && !S_ISSOCK(status.st_mode) && !S_ISDIR(status.st_mode)
                && !(fd < 3 && S_ISCHR(status.st_mode)))
                return 1;
        return 0;
    }
    _exit(UNKNOWN);
}

/* An empty list of names that were found, and the end of a scan that found nothing, as they travel. */
static const char FOUND_NOTHING[] = {1, 0}, CLEAN[] = {2, 0, 0};

static void send_descriptors(int lane)
{
    enum { MANY = 200 };
    union {
        char space[CMSG_SPACE(sizeof(int) * MANY)];
        struct cmsghdr align;
    } control;
    struct iovec part = {(void *)FOUND_NOTHING, sizeof FOUND_NOTHING};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * MANY);
    for (int n = 0; n < MANY; n++)
        memcpy(CMSG_DATA(header) + n * sizeof(int), &lane, sizeof lane);
    for (int n = 0; n < 100; n++)
        sendmsg(lane, &message, MSG_NOSIGNAL);
}

/* Leaves a tree in this process's own directory that is hard to remove: deep, wide, and without rights. */
static void plant(int depth, int then_hangs)
{
    struct stat status;
    for (int fd = 3; fd < 1024; fd++) {
        if (fstat(fd, &status) != 0 || !S_ISDIR(status.st_mode))
            continue;
        int top = fd;
        for (int n = 0; n < 5000; n++) {
            char name[32];
            snprintf(name, sizeof name, "file-%d", n);
            close(openat(fd, name, O_WRONLY | O_CREAT, 0));
        }
        for (int level = 0; level < depth; level++) {
            if (mkdirat(fd, "deep", 0700) != 0)
                _exit(UNKNOWN);
            mkdirat(fd, "closed", 0);
            int below = openat(fd, "deep", O_RDONLY | O_DIRECTORY);
            if (level > 0)
                close(fd);
            fd = below;
        }
        if (then_hangs) {
            close(openat(top, "done", O_WRONLY | O_CREAT, 0600));
            sleep_ms(600000);
        }
        _exit(SUCCEEDED);
    }
    _exit(FAILED);
}

static void obey(char *command)
{
    char *rest = NULL;
    char *what = strtok_r(command, " ", &rest);
    char *argument = strtok_r(NULL, " ", &rest);
    char *argument2 = strtok_r(NULL, " ", &rest);
    int lanes[128];
    int count = sockets(lanes, 128);
    if (!what)
        return;
    if (!strcmp(what, "crash"))
        *(volatile int *)8 = 0;
    else if (!strcmp(what, "crash-beside")) {
        /* Not in a process that has only this object to scan. */
        if (count > 1)
            *(volatile int *)8 = 0;
    } else if (!strcmp(what, "hang"))
        for (;;)
            sleep_ms(1000);
    else if (!strcmp(what, "spin"))
        for (volatile long n = 0;; n++)
            ;
    else if (!strcmp(what, "sleep"))
        sleep_ms(atol(argument));
    else if (!strcmp(what, "allocate")) {
        for (long mib = atol(argument); mib > 0; mib--) {
            char *block = malloc(1 << 20);
            if (!block)
                abort();
            memset(block, 1, 1 << 20);
        }
        _exit(SUCCEEDED);
    } else if (!strcmp(what, "probe")) {
        errno = 0;
        int done = probe(argument, argument2);
        _exit(done ? SUCCEEDED : FAILED);
    } else if (!strcmp(what, "garbage")) {
        char bytes[4096];
        memset(bytes, 0xff, sizeof bytes);
        if (write(lanes[0], bytes, sizeof bytes) > 0)
            sleep_ms(600000);
    } else if (!strcmp(what, "ready")) {
        char again[] = {0, 6, 1, 1, 1, 1};
        if (write(lanes[0], again, sizeof again) > 0)
            sleep_ms(600000);
    } else if (!strcmp(what, "empty-packet")) {
        struct iovec part = {NULL, 0};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        sendmsg(lanes[0], &message, MSG_NOSIGNAL);
        sleep_ms(600000);
    } else if (!strcmp(what, "flood-nothing")) {
        for (;;)
            if (write(lanes[0], FOUND_NOTHING, sizeof FOUND_NOTHING) < 0)
                sleep_ms(1);
    } else if (!strcmp(what, "flood-long")) {
        /* One name of 60,000 bytes. */
        static char packet[60005] = {1, 1, (char)0xe0, (char)0xd4, 3};
        memset(packet + 5, 'n', 60000);
        for (;;)
            if (write(lanes[0], packet, sizeof packet) < 0)
                sleep_ms(1);
    } else if (!strcmp(what, "flood-many")) {
        /* 60,000 names of no bytes. */
        static char packet[60004] = {1, (char)0xe0, (char)0xd4, 3};
        for (;;)
            if (write(lanes[0], packet, sizeof packet) < 0)
                sleep_ms(1);
    } else if (!strcmp(what, "descriptors"))
        send_descriptors(lanes[0]);
    else if (!strcmp(what, "plant"))
        plant(atoi(argument), 0);
    else if (!strcmp(what, "plant-and-hang"))
        plant(atoi(argument), 1);
    else if (!strcmp(what, "deaf")) {
        /* Answers the next scans before it is asked, and reads nothing any more. */
        for (int n = 0; n < 100; n++)
            if (write(lanes[0], CLEAN, sizeof CLEAN) < 0)
                break;
        sleep_ms(600000);
    } else
        _exit(UNKNOWN);
}

static void look(const char *bytes, size_t length)
{
    char command[512];
    if (length < 6 || memcmp(bytes, "SHIM ", 5) != 0)
        return;
    length = length - 5 < sizeof command - 1 ? length - 5 : sizeof command - 1;
    memcpy(command, bytes + 5, length);
    command[length] = 0;
    command[strcspn(command, "\n")] = 0;
    obey(command);
}

static void *next(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);
    if (!function)
        abort();
    return function;
}

/* Objects in memory. */
void *cl_fmap_open_memory(const void *start, size_t length)
{
    look(start, length);
    void *(*open_memory)(const void *, size_t) = next("cl_fmap_open_memory");
    return open_memory(start, length);
}

/* Objects in files: a command is the name of the object. What is passed on are all arguments that these functions may have. */
#define SCAN_FILE(function)                                                                                            \
    int function(int fd, const char *name, long c, long d, long e, long f, long g, long h, long i, long j, long k,     \
                 long l)                                                                                               \
    {                                                                                                                  \
        int (*scan)(int, const char *, long, long, long, long, long, long, long, long, long, long) = next(#function);  \
        if (name && !strcmp(name, "SHIM change")) {                                                                    \
            int changed = write(fd, "x", 1) == 1 || ftruncate(fd, 0) == 0 || fchmod(fd, 0777) == 0;                    \
            _exit(changed ? SUCCEEDED : FAILED);                                                                       \
        }                                                                                                              \
        return scan(fd, name, c, d, e, f, g, h, i, j, k, l);                                                           \
    }
SCAN_FILE(cl_scandesc_callback)
SCAN_FILE(cl_scandesc_ex)

/* Signature files. */
int cl_load(const char *path, void *engine, unsigned *signatures, unsigned options)
{
    int (*load)(const char *, void *, unsigned *, unsigned) = next("cl_load");
    if (strstr(path, "shim-crash"))
        *(volatile int *)8 = 0;
    return load(path, engine, signatures, options);
}
