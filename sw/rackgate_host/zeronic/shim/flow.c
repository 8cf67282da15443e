/* SPDX-License-Identifier: Apache-2.0 */
/* Locks and rings of a flow.
 *
 * Threads and processes may share a socket: a lock for each way keeps the kernel's count of bytes and ours in step. It
 * lies in the flow's page and is robust: when its holder was killed, the next one asks the kernel for the count.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "kernel.h"
#include "shim.h"

_Static_assert(sizeof(pthread_mutex_t) <= sizeof ((struct zn_page *)0)->receive_lock, "a lock fits in its place");

static pthread_mutex_t *receive_lock(struct zn_flow *flow) { return (pthread_mutex_t *)flow->page->receive_lock; }

static pthread_mutex_t *send_lock(struct zn_flow *flow) { return (pthread_mutex_t *)flow->page->send_lock; }

enum { NOT_MADE, BEING_MADE, MADE };

static void make_locks(struct zn_flow *flow)
{
    _Atomic uint32_t *made = (_Atomic uint32_t *)&flow->page->locks_made;
    uint32_t state = NOT_MADE;
    if (atomic_load_explicit(made, memory_order_acquire) == MADE)
        return;
    if (atomic_compare_exchange_strong(made, &state, BEING_MADE)) {
        pthread_mutexattr_t kind;
        pthread_mutexattr_init(&kind);
        pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
        pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST);
        /* So a signal handler that uses the socket whose call it has interrupted gets an error, and does not hang. */
        pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_ERRORCHECK);
        pthread_mutex_init(receive_lock(flow), &kind);
        pthread_mutex_init(send_lock(flow), &kind);
        pthread_mutexattr_destroy(&kind);
        atomic_store_explicit(made, MADE, memory_order_release);
    }
    while (atomic_load_explicit(made, memory_order_acquire) != MADE)
        sched_yield();
}

int zn_lock_receive(struct zn_flow *flow, int fd)
{
    make_locks(flow);
    int error = pthread_mutex_lock(receive_lock(flow));
    if (error == EOWNERDEAD) {
        zn_consume(flow, zn_kernel_received(fd));
        error = pthread_mutex_consistent(receive_lock(flow));
    }
    return error;
}

int zn_lock_send(struct zn_flow *flow, int fd, bool wait)
{
    make_locks(flow);
    int error = wait ? pthread_mutex_lock(send_lock(flow)) : pthread_mutex_trylock(send_lock(flow));
    if (error == EOWNERDEAD) {
        flow->page->written = zn_kernel_sent(fd) - flow->page->counted_before;
        error = pthread_mutex_consistent(send_lock(flow));
    }
    return error;
}

void zn_unlock_receive(struct zn_flow *flow) { pthread_mutex_unlock(receive_lock(flow)); }

void zn_unlock_send(struct zn_flow *flow) { pthread_mutex_unlock(send_lock(flow)); }

size_t zn_total(const struct iovec *parts, size_t count)
{
    size_t total = 0;
    for (size_t k = 0; k < count; k++)
        total += parts[k].iov_len;
    return total;
}

/* Move `size` bytes between the program's buffers and `content`. */
static void move(struct zn_cursor *cursor, uint8_t *content, size_t size, bool out)
{
    while (size) {
        size_t room = cursor->next->iov_len - cursor->offset;
        if (!room) {
            cursor->next++;
            cursor->offset = 0;
            continue;
        }
        size_t n = room < size ? room : size;
        uint8_t *at = (uint8_t *)cursor->next->iov_base + cursor->offset;
        if (out)
            memcpy(at, content, n);
        else
            memcpy(content, at, n);
        cursor->offset += n;
        content += n;
        size -= n;
    }
}

static void move_ring(uint8_t *ring, uint32_t ring_size, uint32_t position, struct zn_cursor *cursor, size_t size,
                      bool out)
{
    while (size) {
        size_t offset = position % ring_size, n = ring_size - offset;
        if (n > size)
            n = size;
        move(cursor, ring + offset, n, out);
        position += (uint32_t)n;
        size -= n;
    }
}

void zn_fill(struct zn_cursor *to, const uint8_t *content, size_t size) { move(to, (uint8_t *)content, size, true); }

void zn_copy_out(const struct zn_flow *flow, uint32_t position, struct zn_cursor *to, size_t size)
{
    move_ring(flow->receive_ring, flow->ring_size, position, to, size, true);
}

void zn_copy_in(const struct zn_flow *flow, uint32_t position, struct zn_cursor *from, size_t size)
{
    move_ring(flow->send_ring, flow->ring_size, position, from, size, false);
}
