/* SPDX-License-Identifier: Apache-2.0 */
/* The C library's functions that write. */
#include <errno.h>
#include <fcntl.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "real.h"
#include "shim.h"

ZN_EXPORT ssize_t write(int fd, const void *buffer, size_t size)
{
    struct zn_flow *flow;
    if (zn_lookup(fd, &flow) < 0)
        return -1;
    return flow ? zn_send_from(flow, fd, buffer, size, 0) : zn_real.write(fd, buffer, size);
}

ZN_EXPORT ssize_t writev(int fd, const struct iovec *parts, int count)
{
    struct zn_flow *flow;
    if (zn_lookup(fd, &flow) < 0)
        return -1;
    if (!flow || count < 0)
        return zn_real.writev(fd, parts, count);
    struct msghdr message = {.msg_iov = (struct iovec *)parts, .msg_iovlen = (size_t)count};
    return zn_send(flow, fd, &message, 0);
}

ZN_EXPORT ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    struct zn_flow *flow;
    if (zn_lookup(fd, &flow) < 0)
        return -1;
    if (!flow || offset != -1) /* sockets have no other offset */
        return zn_real.pwritev2(fd, parts, count, offset, flags);
    errno = EOPNOTSUPP;
    return -1;
}

ZN_EXPORT ssize_t send(int fd, const void *buffer, size_t size, int flags)
{
    struct zn_flow *flow;
    if (zn_lookup(fd, &flow) < 0)
        return -1;
    return flow ? zn_send_from(flow, fd, buffer, size, flags) : zn_real.send(fd, buffer, size, flags);
}

/* A send that connects (MSG_FASTOPEN): connect first, so that the connection is known. 0, or -1 with errno. */
static int connect_first(int fd, const struct sockaddr *name, socklen_t name_size, int *flags)
{
    if (!(*flags & MSG_FASTOPEN) || !name || !zn_is_tcp(fd))
        return 0;
    *flags &= ~MSG_FASTOPEN;
    return connect(fd, name, name_size);
}

ZN_EXPORT ssize_t sendto(int fd, const void *buffer, size_t size, int flags, const struct sockaddr *name,
                         socklen_t name_size)
{
    struct zn_flow *flow;
    if (connect_first(fd, name, name_size, &flags) < 0 || zn_lookup(fd, &flow) < 0)
        return -1;
    return flow ? zn_send_from(flow, fd, buffer, size, flags)
                : zn_real.sendto(fd, buffer, size, flags, name, name_size);
}

ZN_EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    struct zn_flow *flow;
    if (connect_first(fd, message->msg_name, message->msg_namelen, &flags) < 0 || zn_lookup(fd, &flow) < 0)
        return -1;
    return flow ? zn_send(flow, fd, message, flags) : zn_real.sendmsg(fd, message, flags);
}

ZN_EXPORT int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    struct zn_flow *flow;
    if (zn_lookup(fd, &flow) < 0)
        return -1;
    if (!flow)
        return zn_real.sendmmsg(fd, messages, count, flags);
    for (unsigned done = 0; done < count; done++) {
        ssize_t sent = zn_send(flow, fd, &messages[done].msg_hdr, flags);
        if (sent < 0)
            return done ? (int)done : -1;
        messages[done].msg_len = (unsigned)sent;
    }
    return (int)count;
}

ZN_EXPORT ssize_t sendfile(int to, int from, off_t *offset, size_t size)
{
    struct zn_flow *flow;
    if (zn_lookup(to, &flow) < 0)
        return -1;
    return flow ? zn_send_file(flow, to, from, offset, size) : zn_real.sendfile(to, from, offset, size);
}

ZN_EXPORT ssize_t sendfile64(int to, int from, off64_t *offset, size_t size)
{
    return sendfile(to, from, offset, size);
}

/* Moves pages between a pipe and a socket, where placeholders would go. Programs then read and write. */
ZN_EXPORT ssize_t splice(int from, off64_t *from_offset, int to, off64_t *to_offset, size_t size, unsigned flags)
{
    struct zn_flow *source, *destination;
    if (zn_lookup(from, &source) < 0 || zn_lookup(to, &destination) < 0)
        return -1;
    if (!source && !destination)
        return zn_real.splice(from, from_offset, to, to_offset, size, flags);
    errno = EINVAL;
    return -1;
}
