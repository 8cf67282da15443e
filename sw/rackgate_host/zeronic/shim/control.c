/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's socket, the NIC's memory, and the start of the shim. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>

#include "real.h"
#include "shim.h"

struct zn_real zn_real;
uint32_t zn_host_address;

static pthread_once_t started = PTHREAD_ONCE_INIT;
static _Atomic bool ready, active;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of all below; signals are held back while it is held */
static int control = -1;
static int zeros = -1;
static uint8_t *memory;
static struct sockaddr_un address = {.sun_family = AF_UNIX};

enum { ANSWER_SECONDS = 30, HIGH_NUMBER = 960 };

void zn_complain(const char *text)
{
    char line[256] = "rackgate zeronic: ";
    strncat(line, text, sizeof line - strlen(line) - 2);
    strcat(line, "\n");
    if (zn_real.write(STDERR_FILENO, line, strlen(line)) < 0)
        return; /* there is nobody to tell */
}

static void atfork_prepare(void) { zn_before_fork(); }
static void atfork_parent(void) { zn_after_fork(false); }
static void atfork_child(void) { zn_after_fork(true); }

static void start(void)
{
#define REAL_FIND(type, name, arguments) zn_real.name = (type(*) arguments)dlsym(RTLD_NEXT, #name);
    REAL_FUNCTIONS(REAL_FIND)
#undef REAL_FIND
    const char *path = getenv(ZN_SOCKET_VARIABLE);
    if (path && strlen(path) < sizeof address.sun_path) {
        strcpy(address.sun_path, path);
        pthread_atfork(atfork_prepare, atfork_parent, atfork_child);
        atomic_store(&active, true);
    } else {
        zn_complain(path ? "the path in " ZN_SOCKET_VARIABLE " is too long: connections are not split"
                         : ZN_SOCKET_VARIABLE " is not set: connections are not split");
    }
    atomic_store(&ready, true);
}

__attribute__((constructor)) static void load(void) { zn_active(); }

bool zn_active(void)
{
    if (!atomic_load_explicit(&ready, memory_order_acquire))
        pthread_once(&started, start);
    return atomic_load_explicit(&active, memory_order_relaxed);
}

void zn_pause_signals(sigset_t *before)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, before);
}

void zn_resume_signals(const sigset_t *before) { pthread_sigmask(SIG_SETMASK, before, NULL); }

/* The same file under a number that programs do not use, and do not close in passing. */
static int high_number(int fd)
{
    struct rlimit limit;
    int low = HIGH_NUMBER;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < HIGH_NUMBER + 32)
        low = limit.rlim_cur > 64 ? (int)limit.rlim_cur - 32 : 3;
    int high = zn_real.fcntl(fd, F_DUPFD_CLOEXEC, low);
    if (high < 0)
        return fd;
    zn_real.close(fd);
    return high;
}

/* One message each way. `file`: where to put the descriptor that comes with the answer. */
static int exchange(const struct zn_request *request, struct zn_reply *reply, int *file)
{
    ssize_t got;
    while ((got = zn_real.send(control, request, sizeof *request, MSG_NOSIGNAL)) < 0 && errno == EINTR)
        ;
    if (got != sizeof *request)
        return ECONNRESET;
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } extra;
    struct iovec part = {reply, sizeof *reply};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &extra, .msg_controllen = sizeof extra};
    while ((got = zn_real.recvmsg(control, &message, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
        ;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        zn_complain("the daemon does not answer");
        return ETIMEDOUT;
    }
    if (got != sizeof *reply)
        return ECONNRESET;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
        memcpy(file, CMSG_DATA(header), sizeof *file);
    return reply->status;
}

static int hello(void)
{
    struct zn_request request = {.operation = ZN_OP_HELLO, .length = ZN_VERSION};
    struct zn_reply reply;
    int file = -1;
    int error = exchange(&request, &reply, &file);
    if (!error && !memory) {
        void *map = MAP_FAILED;
        if (file >= 0)
            map = mmap(NULL, reply.length, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (map == MAP_FAILED)
            error = ENOMEM;
        else
            memory = map;
        zn_host_address = (uint32_t)reply.place;
    }
    if (file >= 0)
        zn_real.close(file);
    if (zeros < 0 && (zeros = memfd_create("rackgate-zeros", MFD_CLOEXEC)) >= 0) {
        zeros = high_number(zeros);
        if (ftruncate(zeros, ZN_ZEROS) < 0)
            error = errno;
    }
    if (error == EPROTO)
        zn_complain("the daemon is of another version");
    return error;
}

static int connect_control(void)
{
    int fd = zn_real.socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    struct timeval patience = {.tv_sec = ANSWER_SECONDS};
    zn_real.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    control = high_number(fd);
    int error = 0;
    if (zn_real.connect(control, (struct sockaddr *)&address, sizeof address) < 0)
        error = ECONNRESET;
    else
        error = hello();
    if (error) {
        zn_real.close(control);
        control = -1;
    }
    return error;
}

static int ask(struct zn_request *request, struct zn_reply *reply)
{
    sigset_t before;
    int file = -1, saved = errno;
    zn_pause_signals(&before);
    pthread_mutex_lock(&lock);
    int error = control < 0 ? connect_control() : 0;
    if (!error && request)
        error = exchange(request, reply, &file);
    if ((error == ECONNRESET || error == ETIMEDOUT) && control >= 0) {
        zn_real.close(control);
        control = -1;
    }
    pthread_mutex_unlock(&lock);
    zn_resume_signals(&before);
    errno = saved;
    return error;
}

int zn_ask(struct zn_request *request, struct zn_reply *reply) { return ask(request, reply); }

int zn_reach(void) { return ask(NULL, NULL); }

bool zn_own(int fd) { return fd >= 0 && (fd == control || fd == zeros); }

int zn_own_in(unsigned first, unsigned last)
{
    const int own[] = {control, zeros};
    for (size_t k = 0; k < sizeof own / sizeof *own; k++)
        if (own[k] >= 0 && (unsigned)own[k] >= first && (unsigned)own[k] <= last)
            return own[k];
    return -1;
}

int zn_zeros(void) { return zeros; }

void *zn_place(uint64_t place) { return memory + place; }

static sigset_t around_fork;

void zn_control_before_fork(void)
{
    sigset_t before;
    zn_pause_signals(&before);
    pthread_mutex_lock(&lock);
    around_fork = before;
}

void zn_control_after_fork(bool child)
{
    sigset_t before = around_fork;
    if (child && control >= 0) {
        zn_real.close(control); /* the parent's: what it holds must end with the parent */
        control = -1;
    }
    pthread_mutex_unlock(&lock);
    zn_resume_signals(&before);
}
