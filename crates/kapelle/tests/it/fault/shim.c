// Counts the syncs, writes, cuts (changes of a length) and reads of files in FAULT_DIR, notes each
// in FAULT_LOG, and fails one.
//
// FAULT_OP (sync, write, cut, read) and FAULT_AT (from 1) say which, FAULT_ERRNO with what. A sync that
// fails takes with it what was appended to the file since the last one that did not, as a disk may,
// unless FAULT_KEEP is set; every other descriptor of the file hears of it at its next sync, as Linux
// has it. A line of the log: operation, thread, microseconds since 1970, errno, file.
//
// Only in this process: its children start without it.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum op { SYNC, WRITE, CUT, READ, OPS };
static const char *const NAMES[OPS] = {"sync", "write", "cut", "read"};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char dir[PATH_MAX];
static int log_to = -1, fail_op = -1, fail_errno, keep;
static long fail_at, counts[OPS];
// How long each file was when it was synced last.
static struct { dev_t dev; ino_t ino; off_t len; } synced[256];
static int files;
// The file whose sync has failed, and the descriptors that have heard of it.
static struct { dev_t dev; ino_t ino; char heard[1024]; } lost;

__attribute__((constructor)) static void begin(void) {
    const char *at = getenv("FAULT_DIR"), *to = getenv("FAULT_LOG"), *op = getenv("FAULT_OP");
    if (!at || !to) return;
    snprintf(dir, sizeof dir, "%s/", at);
    log_to = open(to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    keep = getenv("FAULT_KEEP") != NULL;
    for (int i = 0; op && i < OPS; i++)
        if (!strcmp(op, NAMES[i])) {
            fail_op = i;
            fail_at = atol(getenv("FAULT_AT"));
            fail_errno = atoi(getenv("FAULT_ERRNO"));
        }
    unsetenv("LD_PRELOAD");
}

// The length at the last sync of the file; what was there before this process is taken as synced.
static off_t *synced_len(const struct stat *file) {
    for (int i = 0; i < files; i++)
        if (synced[i].dev == file->st_dev && synced[i].ino == file->st_ino) return &synced[i].len;
    if (files == sizeof synced / sizeof *synced) abort();
    synced[files].dev = file->st_dev;
    synced[files].ino = file->st_ino;
    synced[files].len = file->st_size;
    return &synced[files++].len;
}

// Takes note of the call; whether it fails because a sync of the file has failed.
static int look_at(int fd, enum op op, int fails) {
    struct stat file;
    if (fstat(fd, &file) || !S_ISREG(file.st_mode)) return 0;
    off_t *len = synced_len(&file);
    if (op != SYNC) return 0;
    int again = lost.ino == file.st_ino && lost.dev == file.st_dev && !lost.heard[fd];
    if (fails) lost.ino = file.st_ino, lost.dev = file.st_dev;
    if (fails || again) lost.heard[fd] = 1;
    else *len = file.st_size;
    if (fails && !keep && file.st_size > *len && ftruncate(fd, *len)) abort();
    return again;
}

// Whether this call is to fail; errno is set then.
static int fails(enum op op, int fd) {
    char link[64], path[PATH_MAX], line[PATH_MAX + 64];
    if (log_to < 0) return 0;
    int saved = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    errno = saved;
    if (len <= 0 || fd >= (int)sizeof lost.heard) return 0;
    path[len] = 0;
    // The folder itself is one of its files.
    if (strncmp(path, dir, strlen(dir) - 1)) return 0;
    pthread_mutex_lock(&lock);
    int failing = (int)op == fail_op && ++counts[op] == fail_at;
    failing |= look_at(fd, op, failing);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int size = snprintf(line, sizeof line, "%s %ld %ld %d %s\n", NAMES[op], syscall(SYS_gettid),
                        now.tv_sec * 1000000 + now.tv_nsec / 1000, failing ? fail_errno : 0, path);
    syscall(SYS_write, log_to, line, (size_t)size);
    pthread_mutex_unlock(&lock);
    errno = failing ? fail_errno : saved;
    return failing;
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)
#define FAILING(op, name, params, args, type) \
    type name params { \
        REAL(name); \
        return fails(op, fd) ? -1 : real args; \
    }

FAILING(SYNC, fsync, (int fd), (fd), int)
FAILING(SYNC, fdatasync, (int fd), (fd), int)
FAILING(WRITE, write, (int fd, const void *from, size_t len), (fd, from, len), ssize_t)
FAILING(WRITE, pwrite, (int fd, const void *from, size_t len, off_t at), (fd, from, len, at), ssize_t)
FAILING(WRITE, pwrite64, (int fd, const void *from, size_t len, off64_t at), (fd, from, len, at), ssize_t)
FAILING(WRITE, writev, (int fd, const struct iovec *from, int count), (fd, from, count), ssize_t)
FAILING(CUT, ftruncate64, (int fd, off64_t len), (fd, len), int)
FAILING(READ, read, (int fd, void *to, size_t len), (fd, to, len), ssize_t)
FAILING(READ, pread, (int fd, void *to, size_t len, off_t at), (fd, to, len, at), ssize_t)
FAILING(READ, pread64, (int fd, void *to, size_t len, off64_t at), (fd, to, len, at), ssize_t)
FAILING(READ, readv, (int fd, const struct iovec *to, int count), (fd, to, count), ssize_t)
