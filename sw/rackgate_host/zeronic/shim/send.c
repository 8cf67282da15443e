/* SPDX-License-Identifier: Apache-2.0 */
/* Writing: the bytes go into the flow's ring, and the kernel gets as many placeholders.
 *
 * Only what the kernel takes counts: what stands in the ring beyond is overwritten by the next call. The kernel waits,
 * cuts short and fails as the program has told it to; the flow's lock is held meanwhile, so writers of one socket come
 * one after the other.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include "kernel.h"
#include "real.h"
#include "shim.h"

/* From so many bytes on, pages of a file of zeros are attached to the socket and not copied. */
enum { ATTACH = 16384 };

static const uint8_t zeros[ZN_ZEROS];

static void add(uint64_t *counter, size_t n) { __atomic_fetch_add(counter, n, __ATOMIC_RELAXED); }

/* Give the kernel `size` placeholders: how many it took, or -1. `message` has control data, or is NULL. */
static ssize_t give(int fd, const struct msghdr *message, size_t size, int flags)
{
    if (size >= ATTACH && !flags && !message) {
        off_t offset = 0;
        ssize_t taken = zn_real.sendfile(fd, zn_zeros(), &offset, size);
        if (taken >= 0 || (errno != EBADF && errno != EINVAL))
            return taken;
    }
    if (!message)
        return zn_real.send(fd, zeros, size, flags);
    struct iovec part = {(void *)zeros, size};
    struct msghdr inner = *message;
    inner.msg_iov = &part;
    inner.msg_iovlen = 1;
    return zn_real.sendmsg(fd, &inner, flags);
}

static bool can_take(int fd)
{
    struct pollfd one = {.fd = fd, .events = POLLOUT};
    return poll(&one, 1, 0) == 1 && one.revents & POLLOUT;
}

/* A call that must not wait does not wait for another writer who does. */
static int lock(struct zn_flow *flow, int fd, int flags)
{
    if (!(flags & MSG_DONTWAIT))
        return zn_lock_send(flow, fd, true);
    int error;
    while ((error = zn_lock_send(flow, fd, false)) == EBUSY && can_take(fd))
        sched_yield();
    return error == EBUSY ? EAGAIN : error;
}

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* Under the lock: how many of `wanted` bytes can be put into the ring. What is not acknowledged is sent from there. */
static size_t room_for(const struct zn_flow *flow, int fd, size_t wanted)
{
    size_t kept = (size_t)zn_kernel_unsent(fd);
    size_t room = kept < flow->ring_size ? flow->ring_size - kept : 0;
    return least(least(room, wanted), ZN_ZEROS);
}

/* The ring holds more than a send buffer, so it is full only for a program that has forced a larger one. */
static bool wait_for_room(int fd, int flags)
{
    if (flags & MSG_DONTWAIT || !zn_kernel_blocks(fd)) {
        errno = EAGAIN;
        return false;
    }
    struct timespec pause = {.tv_nsec = 1000000};
    return nanosleep(&pause, NULL) == 0;
}

/* Under the lock: `size` bytes stand in the ring; how many the kernel took, or -1. */
static ssize_t hand_over(struct zn_flow *flow, int fd, const struct msghdr *message, size_t size, int flags)
{
    add(&flow->page->copied_sent, size);
    ssize_t taken = give(fd, message, size, flags);
    int saved = errno;
    if (taken > 0) {
        if (!flow->page->written)
            flow->page->counted_before = zn_kernel_sent(fd) - (uint32_t)taken;
        flow->page->written += (uint32_t)taken;
        add(&flow->page->sent, (size_t)taken);
        if (zn_strict())
            zn_check_sent(fd, flow->page->written + flow->page->counted_before);
    }
    errno = saved;
    return taken;
}

ssize_t zn_send(struct zn_flow *flow, int fd, const struct msghdr *message, int flags)
{
    size_t size = zn_total(message->msg_iov, message->msg_iovlen), done = 0;
    if (flags & MSG_OOB) {
        errno = EOPNOTSUPP; /* the kernel would count its byte apart from the stream */
        return -1;
    }
    if (!size)
        return zn_real.sendmsg(fd, message, flags);
    struct zn_cursor from = {message->msg_iov, 0};
    while (done < size) {
        int error = lock(flow, fd, flags);
        if (error) {
            errno = error;
            return done ? (ssize_t)done : -1;
        }
        size_t n = room_for(flow, fd, size - done);
        ssize_t taken = 0;
        if (n) {
            zn_copy_in(flow, flow->page->written, &from, n);
            taken = hand_over(flow, fd, message->msg_control && !done ? message : NULL, n, flags);
        }
        int saved = errno;
        zn_unlock_send(flow);
        errno = saved;
        if (!n && wait_for_room(fd, flags))
            continue;
        if (!n || taken < 0)
            return done ? (ssize_t)done : -1;
        done += (size_t)taken;
        if ((size_t)taken < n)
            break;
    }
    return (ssize_t)done;
}

ssize_t zn_send_from(struct zn_flow *flow, int fd, const void *buffer, size_t size, int flags)
{
    struct iovec part = {(void *)buffer, size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    return zn_send(flow, fd, &message, flags);
}

/* Under the lock: a piece of a file; what the kernel took, 0 at the file's end, or -1. */
static ssize_t send_piece(struct zn_flow *flow, int fd, int source, off_t at, size_t size)
{
    uint32_t offset = flow->page->written % flow->ring_size;
    ssize_t n = pread(source, flow->send_ring + offset, least(size, flow->ring_size - offset), at);
    return n > 0 ? hand_over(flow, fd, NULL, (size_t)n, 0) : n;
}

ssize_t zn_send_file(struct zn_flow *flow, int fd, int source, off_t *offset, size_t size)
{
    off_t begin = offset ? *offset : lseek(source, 0, SEEK_CUR);
    if (begin < 0) {
        errno = EINVAL; /* as for a source that cannot be read at a place: programs then read and write */
        return -1;
    }
    size_t done = 0;
    ssize_t taken = 0;
    while (done < size) {
        int error = zn_lock_send(flow, fd, true);
        if (error) {
            errno = error;
            taken = -1;
            break;
        }
        size_t n = room_for(flow, fd, size - done);
        taken = n ? send_piece(flow, fd, source, begin + (off_t)done, n) : 0;
        int saved = errno;
        zn_unlock_send(flow);
        errno = saved;
        if (!n && wait_for_room(fd, 0))
            continue;
        if (!n)
            taken = -1;
        if (taken <= 0)
            break;
        done += (size_t)taken;
    }
    if (offset)
        *offset = begin + (off_t)done;
    else if (done)
        lseek(source, begin + (off_t)done, SEEK_SET);
    return done ? (ssize_t)done : taken;
}
