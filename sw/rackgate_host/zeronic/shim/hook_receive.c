/* SPDX-License-Identifier: Apache-2.0 */
/* The C library's functions that read. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "real.h"
#include "shim.h"

ZN_EXPORT ssize_t read(int fd, void *buffer, size_t size)
{
    struct zn_flow *flow;
    if (zn_lookup(fd, &flow) < 0)
        return -1;
    return flow ? zn_receive_into(flow, fd, buffer, size, 0) : zn_real.read(fd, buffer, size);
}

ZN_EXPORT ssize_t readv(int fd, const struct iovec *parts, int count)
{
    struct zn_flow *flow;
    if (zn_lookup(fd, &flow) < 0)
        return -1;
    if (!flow || count < 0)
        return zn_real.readv(fd, parts, count);
    struct msghdr message = {.msg_iov = (struct iovec *)parts, .msg_iovlen = (size_t)count};
    return zn_receive(flow, fd, &message, 0);
}

ZN_EXPORT ssize_t preadv2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    struct zn_flow *flow;
    if (zn_lookup(fd, &flow) < 0)
        return -1;
    if (!flow || offset != -1) /* sockets have no other offset */
        return zn_real.preadv2(fd, parts, count, offset, flags);
    errno = EOPNOTSUPP;
    return -1;
}

ZN_EXPORT ssize_t recv(int fd, void *buffer, size_t size, int flags)
{
    struct zn_flow *flow;
    if (zn_lookup(fd, &flow) < 0)
        return -1;
    return flow ? zn_receive_into(flow, fd, buffer, size, flags) : zn_real.recv(fd, buffer, size, flags);
}

ZN_EXPORT ssize_t recvfrom(int fd, void *buffer, size_t size, int flags, struct sockaddr *name, socklen_t *name_size)
{
    struct zn_flow *flow;
    if (zn_lookup(fd, &flow) < 0)
        return -1;
    if (!flow)
        return zn_real.recvfrom(fd, buffer, size, flags, name, name_size);
    if (name && name_size)
        *name_size = 0; /* as TCP has it */
    return zn_receive_into(flow, fd, buffer, size, flags);
}

/* Sockets that other processes send us are looked at when they are used. */
static void take_files(struct msghdr *message)
{
    for (struct cmsghdr *one = CMSG_FIRSTHDR(message); one; one = CMSG_NXTHDR(message, one)) {
        if (one->cmsg_level != SOL_SOCKET || one->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (one->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t k = 0; k < count; k++) {
            int fd;
            memcpy(&fd, CMSG_DATA(one) + k * sizeof fd, sizeof fd);
            zn_unknown(fd);
        }
    }
}

ZN_EXPORT ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    struct zn_flow *flow;
    if (zn_lookup(fd, &flow) < 0)
        return -1;
    if (flow)
        return zn_receive(flow, fd, message, flags);
    ssize_t got = zn_real.recvmsg(fd, message, flags);
    if (got >= 0 && message->msg_control)
        take_files(message);
    return got;
}

ZN_EXPORT int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *timeout)
{
    struct zn_flow *flow;
    if (zn_lookup(fd, &flow) < 0)
        return -1;
    if (!flow)
        return zn_real.recvmmsg(fd, messages, count, flags, timeout);
    unsigned done = 0;
    while (done < count) {
        ssize_t got = zn_receive(flow, fd, &messages[done].msg_hdr, flags & ~MSG_WAITFORONE);
        if (got < 0)
            return done ? (int)done : -1;
        messages[done++].msg_len = (unsigned)got;
        if (!got)
            break;
        if (flags & MSG_WAITFORONE)
            flags |= MSG_DONTWAIT;
    }
    return (int)done;
}

/* What the compiler makes of them for programs built with _FORTIFY_SOURCE. */
_Noreturn void __chk_fail(void);

ZN_EXPORT ssize_t __read_chk(int fd, void *buffer, size_t size, size_t room)
{
    if (size > room)
        __chk_fail();
    return read(fd, buffer, size);
}

ZN_EXPORT ssize_t __recv_chk(int fd, void *buffer, size_t size, size_t room, int flags)
{
    if (size > room)
        __chk_fail();
    return recv(fd, buffer, size, flags);
}

ZN_EXPORT ssize_t __recvfrom_chk(int fd, void *buffer, size_t size, size_t room, int flags, struct sockaddr *name,
                                 socklen_t *name_size)
{
    if (size > room)
        __chk_fail();
    return recvfrom(fd, buffer, size, flags, name, name_size);
}
