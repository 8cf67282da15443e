/* SPDX-License-Identifier: Apache-2.0 */
/* Reading: the kernel says how many bytes and gives their tags, the bytes come from the ring or the side store.
 *
 * The kernel is only asked without waiting while the flow's lock is held. To wait, we look at one byte without taking it
 * (MSG_PEEK): the kernel then waits as the program has told it to, with its time-outs and its habits with signals.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.h"
#include "real.h"
#include "shim.h"

/* Up to so many bytes it is quicker to take the tags and look at them than to ask first whether they are plain. */
enum { TAGS = 16384 };

static void add(uint64_t *counter, size_t n) { __atomic_fetch_add(counter, n, __ATOMIC_RELAXED); }

/* Under the lock: bytes before `position + size` have been given to the program. */
static void given(struct zn_flow *flow, int fd, uint32_t position, size_t size, size_t copied)
{
    zn_consume(flow, position + (uint32_t)size);
    add(&flow->page->received, size);
    add(&flow->page->copied_received, copied);
    if (zn_strict())
        zn_check_received(fd, position + (uint32_t)size);
}

/* recvmsg with the program's control data and other buffers. */
static ssize_t ask(int fd, struct msghdr *message, struct iovec *parts, size_t count, int flags)
{
    struct msghdr inner = *message;
    inner.msg_iov = parts;
    inner.msg_iovlen = count;
    ssize_t got = zn_real.recvmsg(fd, &inner, flags);
    if (got >= 0) {
        message->msg_controllen = inner.msg_controllen;
        message->msg_namelen = inner.msg_namelen;
        message->msg_flags = inner.msg_flags & ~MSG_TRUNC;
    }
    return got;
}

/* Under the lock: take tags, and put what they stand for at `to`. */
static ssize_t take_by_tags(struct zn_flow *flow, int fd, struct msghdr *message, struct zn_cursor *to, size_t size,
                            int flags)
{
    uint8_t tags[TAGS];
    struct iovec part = {tags, size < TAGS ? size : TAGS};
    uint32_t position = zn_consumed(flow);
    ssize_t got = ask(fd, message, &part, 1, flags);
    if (got <= 0)
        return got;
    add(&flow->page->tags_read, (size_t)got);
    int error = zn_resolve(flow, position, tags, (size_t)got, to);
    if (error && zn_strict())
        zn_broken("the kernel has accepted a byte that is nowhere", position);
    if (!(flags & MSG_PEEK))
        given(flow, fd, position, (size_t)got, (size_t)got);
    if (error) {
        errno = EIO;
        return -1;
    }
    return got;
}

/* Under the lock: let the kernel count `size` bytes that are in the ring, and copy them. It has that many. */
static ssize_t take_plain(struct zn_flow *flow, int fd, struct msghdr *message, struct zn_cursor *to, size_t size,
                          int flags)
{
    struct iovec part = {to->next->iov_base, size}; /* nothing is stored there */
    uint32_t position = zn_consumed(flow);
    ssize_t got = ask(fd, message, &part, 1, flags | MSG_TRUNC);
    if (got <= 0)
        return got;
    zn_copy_out(flow, position, to, (size_t)got);
    if (!(flags & MSG_PEEK))
        given(flow, fd, position, (size_t)got, (size_t)got);
    return got;
}

/* Under the lock: the program wants bytes to be counted and thrown away. */
static ssize_t discard(struct zn_flow *flow, int fd, struct msghdr *message, size_t size, int flags)
{
    struct iovec part = {NULL, size};
    uint32_t position = zn_consumed(flow);
    ssize_t got = ask(fd, message, &part, 1, flags);
    if (got > 0 && !(flags & MSG_PEEK))
        given(flow, fd, position, (size_t)got, 0);
    return got;
}

static ssize_t take(struct zn_flow *flow, int fd, struct msghdr *message, struct zn_cursor *to, size_t size, int flags)
{
    if (flags & MSG_TRUNC)
        return discard(flow, fd, message, size, flags);
    if (size > TAGS) {
        /* First what there is, then whether it is plain: a record is stored before its bytes can be there. */
        size_t ready = (size_t)zn_kernel_ready(fd);
        size = ready < size ? ready : size;
        if (size && zn_in_place(flow, zn_consumed(flow), size))
            return take_plain(flow, fd, message, to, size, flags);
        size = size ? size : 1; /* nothing: let the kernel say why */
    }
    return take_by_tags(flow, fd, message, to, size, flags);
}

static ssize_t take_locked(struct zn_flow *flow, int fd, struct msghdr *message, struct zn_cursor *to, size_t size,
                           int flags)
{
    int error = zn_lock_receive(flow, fd);
    if (error) {
        errno = error;
        return -1;
    }
    ssize_t got = take(flow, fd, message, to, size, flags | MSG_DONTWAIT);
    int saved = errno;
    zn_unlock_receive(flow);
    errno = saved;
    return got;
}

/* Waits until there is something to take: 1, or what the program's call has to return instead. */
static ssize_t wait_for_data(int fd)
{
    char byte;
    return zn_real.recv(fd, &byte, 1, MSG_PEEK);
}

ssize_t zn_receive(struct zn_flow *flow, int fd, struct msghdr *message, int flags)
{
    size_t size = zn_total(message->msg_iov, message->msg_iovlen), done = 0;
    if (flags & MSG_ERRQUEUE || !size)
        return zn_real.recvmsg(fd, message, flags);
    if (flags & MSG_OOB) {
        errno = EINVAL; /* as for a connection without urgent data: the control stack delivers it in line */
        return -1;
    }
    bool all = flags & MSG_WAITALL && !(flags & (MSG_PEEK | MSG_DONTWAIT));
    int inner = flags & ~MSG_WAITALL;
    if (flags & MSG_WAITALL && flags & MSG_PEEK && !(flags & MSG_DONTWAIT)) {
        ssize_t there = zn_real.recv(fd, NULL, size, MSG_PEEK | MSG_WAITALL | MSG_TRUNC);
        if (there <= 0)
            return there;
    }
    struct zn_cursor to = {message->msg_iov, 0};
    for (;;) {
        ssize_t got = take_locked(flow, fd, message, &to, size - done, inner);
        if (got > 0) {
            done += (size_t)got;
            if (!all || done == size)
                return (ssize_t)done;
            continue;
        }
        if (got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
            return done ? (ssize_t)done : got;
        if (flags & MSG_DONTWAIT)
            return -1;
        got = wait_for_data(fd);
        if (got <= 0)
            return done ? (ssize_t)done : got;
    }
}

ssize_t zn_receive_into(struct zn_flow *flow, int fd, void *buffer, size_t size, int flags)
{
    struct iovec part = {buffer, size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    return zn_receive(flow, fd, &message, flags);
}
