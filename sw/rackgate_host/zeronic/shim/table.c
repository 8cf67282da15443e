/* SPDX-License-Identifier: Apache-2.0 */
/* Which descriptor is which flow.
 *
 * A descriptor of which nothing is known is looked at when it is first used: so a program that was started with an
 * open connection, or got one from another process, takes up where that left off. The table follows all calls that make
 * or close descriptors; those that the C library makes for itself (fclose) it cannot see, so a number may stand for a
 * flow that has gone: sockets always come by a call that is seen, and the kernel refuses a socket's calls on a file.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "real.h"
#include "shim.h"

enum { FILES = 1 << 20, FLOWS = 1024 };

/* An entry is one of the first three, or LISTENER_TAG + port, or FLOW_TAG + number of the flow. */
enum { UNKNOWN, PLAIN, REFUSED, LISTENER_TAG = 1 << 16, FLOW_TAG = 1 << 17 };

static _Atomic uint32_t entries[FILES];
static struct zn_flow flows[FLOWS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of changes; signals are held back while it is held */
static _Atomic int highest;                              /* descriptor that is not UNKNOWN */
static _Atomic pid_t owner;                              /* whose table it is: a vforked child shares our memory */

static uint32_t get(int fd)
{
    return fd >= 0 && fd < FILES ? atomic_load_explicit(&entries[fd], memory_order_acquire) : (uint32_t)PLAIN;
}

static void set(int fd, uint32_t entry)
{
    if (fd < 0 || fd >= FILES)
        return;
    if (entry != UNKNOWN && fd > atomic_load(&highest))
        atomic_store(&highest, fd);
    atomic_store_explicit(&entries[fd], entry, memory_order_release);
}

static bool is_flow(uint32_t entry) { return entry >= FLOW_TAG; }

static bool is_listener(uint32_t entry) { return entry >= LISTENER_TAG && entry < FLOW_TAG; }

static bool ours(void)
{
    pid_t known = atomic_load_explicit(&owner, memory_order_relaxed);
    pid_t now = getpid();
    if (known == 0)
        atomic_store(&owner, now);
    return known == 0 || known == now;
}

static void enter(sigset_t *before)
{
    zn_pause_signals(before);
    pthread_mutex_lock(&lock);
}

static void leave(const sigset_t *before)
{
    pthread_mutex_unlock(&lock);
    zn_resume_signals(before);
}

/* Under the lock: the descriptor no longer stands for what it stood for. */
static void forget(int fd)
{
    uint32_t entry = get(fd);
    set(fd, UNKNOWN);
    struct zn_request request = {.operation = ZN_OP_RELEASE};
    struct zn_reply reply;
    if (is_flow(entry)) {
        struct zn_flow *flow = &flows[entry - FLOW_TAG];
        if (--flow->holders)
            return;
        request.flow = flow->number;
        request.generation = flow->generation;
    } else if (is_listener(entry)) {
        request.operation = ZN_OP_UNLISTEN;
        request.local_port = (uint16_t)(entry - LISTENER_TAG);
        for (int other = 0; other <= atomic_load(&highest); other++)
            if (get(other) == entry)
                return;
    } else {
        return;
    }
    zn_ask(&request, &reply); /* a daemon that is gone holds nothing */
}

void zn_plain(int fd)
{
    uint32_t entry = get(fd);
    if (fd < 0 || entry == PLAIN || !ours())
        return;
    sigset_t before;
    enter(&before);
    forget(fd);
    set(fd, PLAIN);
    leave(&before);
}

void zn_unknown(int fd)
{
    if (get(fd) == UNKNOWN || !ours())
        return;
    sigset_t before;
    enter(&before);
    forget(fd);
    leave(&before);
}

void zn_unknown_range(unsigned first, unsigned last)
{
    unsigned end = (unsigned)atomic_load(&highest);
    for (unsigned fd = first; fd <= last && fd <= end; fd++)
        zn_unknown((int)fd);
}

void zn_refuse(int fd)
{
    zn_unknown(fd);
    if (ours())
        set(fd, REFUSED);
}

bool zn_refused(int fd) { return get(fd) == REFUSED; }

bool zn_is_listener(int fd) { return is_listener(get(fd)); }

void zn_listens(int fd, uint16_t port)
{
    zn_unknown(fd);
    set(fd, LISTENER_TAG + (uint32_t)port);
}

void zn_copied(int from, int to)
{
    if ((get(from) == UNKNOWN && get(to) == UNKNOWN) || from == to || !ours())
        return;
    sigset_t before;
    enter(&before);
    forget(to);
    uint32_t entry = get(from);
    if (is_flow(entry))
        flows[entry - FLOW_TAG].holders++;
    set(to, entry);
    leave(&before);
}

static uint8_t *ring(uint64_t place) { return place ? zn_place(place) : NULL; }

int zn_claim(int fd, const struct zn_ends *ends, uint32_t operation, uint32_t flags)
{
    struct zn_request request = {
        .operation = operation, .flags = flags,
        .local_address = ends->local_address, .remote_address = ends->remote_address,
        .local_port = ends->local_port, .remote_port = ends->remote_port};
    struct zn_reply reply;
    sigset_t before;
    enter(&before);
    int error = fd < FILES ? zn_ask(&request, &reply) : EMFILE;
    if (!error && reply.flow >= FLOWS)
        error = EPROTO;
    if (!error) {
        struct zn_flow *flow = &flows[reply.flow];
        if (!flow->holders || flow->generation != reply.generation) {
            struct zn_page *page = zn_place(reply.place);
            *flow = (struct zn_flow){
                .page = page, .receive_ring = ring(page->receive_ring), .send_ring = ring(page->send_ring),
                .store = ring(page->store), .ring_size = page->ring_size,
                .number = reply.flow, .generation = reply.generation};
        }
        flow->holders++;
        set(fd, FLOW_TAG + reply.flow);
    }
    leave(&before);
    return error;
}

/* A descriptor that is used for the first time. */
static int look_at(int fd)
{
    struct zn_ends ends;
    if (zn_own(fd))
        return 0;
    int saved = errno, error = 0;
    if (!zn_is_tcp(fd)) {
        bool open = errno != EBADF;
        if (open && ours())
            set(fd, PLAIN);
    } else if (zn_ends_of(fd, &ends)) {
        error = zn_claim(fd, &ends, ZN_OP_CLAIM, 0);
        if (error == ENOENT) {
            set(fd, PLAIN);
            error = 0;
        }
    }
    errno = saved;
    return error;
}

int zn_lookup(int fd, struct zn_flow **flow)
{
    *flow = NULL;
    if (!zn_active())
        return 0;
    uint32_t entry = get(fd);
    if (entry == UNKNOWN) {
        int error = look_at(fd);
        if (error) {
            errno = error;
            return -1;
        }
        entry = get(fd);
    }
    if (is_flow(entry))
        *flow = &flows[entry - FLOW_TAG];
    return 0;
}

static sigset_t around_fork;

void zn_before_fork(void)
{
    sigset_t before;
    enter(&before);
    around_fork = before;
    zn_control_before_fork();
}

/* The child holds what it has inherited before it does anything else: its parent may let go of it at once. */
static void hold_again(void)
{
    struct zn_reply reply;
    for (uint32_t number = 0; number < FLOWS; number++) {
        if (!flows[number].holders)
            continue;
        const struct zn_page *page = flows[number].page;
        struct zn_request request = {
            .operation = ZN_OP_CLAIM,
            .local_address = page->local_address, .remote_address = page->remote_address,
            .local_port = page->local_port, .remote_port = page->remote_port};
        zn_ask(&request, &reply);
    }
    for (int fd = 0; fd <= atomic_load(&highest); fd++) {
        uint32_t entry = get(fd);
        if (!is_listener(entry))
            continue;
        struct zn_request request = {.operation = ZN_OP_LISTEN, .local_port = (uint16_t)(entry - LISTENER_TAG)};
        zn_ask(&request, &reply);
    }
}

void zn_after_fork(bool child)
{
    sigset_t before = around_fork;
    zn_control_after_fork(child);
    if (child) {
        atomic_store(&owner, getpid());
        hold_again();
    }
    leave(&before);
}
