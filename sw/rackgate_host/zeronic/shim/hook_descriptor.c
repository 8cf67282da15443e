/* SPDX-License-Identifier: Apache-2.0 */
/* The C library's functions that make, copy and close descriptors. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <unistd.h>

#include "real.h"
#include "shim.h"

ZN_EXPORT int socket(int domain, int type, int protocol)
{
    zn_active();
    int fd = zn_real.socket(domain, type, protocol);
    zn_unknown(fd);
    return fd;
}

ZN_EXPORT int close(int fd)
{
    zn_active();
    if (zn_own(fd)) {
        errno = EBADF; /* the program has not opened it: it closes all it can */
        return -1;
    }
    zn_unknown(fd); /* before: the number may be another thread's right after */
    return zn_real.close(fd);
}

/* Closes a range but for the shim's own descriptors. */
static int close_others(unsigned first, unsigned last, int flags)
{
    int own = zn_own_in(first, last), result = 0;
    if (own < 0)
        return zn_real.close_range(first, last, flags);
    if ((unsigned)own > first)
        result = close_others(first, (unsigned)own - 1, flags);
    if (result == 0 && (unsigned)own < last)
        result = close_others((unsigned)own + 1, last, flags);
    return result;
}

ZN_EXPORT int close_range(unsigned first, unsigned last, int flags)
{
    zn_active();
    if (flags & CLOSE_RANGE_CLOEXEC)
        return zn_real.close_range(first, last, flags);
    zn_unknown_range(first, last);
    return close_others(first, last, flags);
}

ZN_EXPORT void closefrom(int first) { close_range(first < 0 ? 0 : (unsigned)first, ~0U, 0); }

ZN_EXPORT int dup(int fd)
{
    zn_active();
    int copy = zn_real.dup(fd);
    if (copy >= 0)
        zn_copied(fd, copy);
    return copy;
}

ZN_EXPORT int dup3(int fd, int to, int flags)
{
    zn_active();
    if (zn_own(to)) {
        errno = EBUSY;
        return -1;
    }
    int copy = zn_real.dup3(fd, to, flags);
    if (copy >= 0)
        zn_copied(fd, copy);
    return copy;
}

ZN_EXPORT int dup2(int fd, int to)
{
    zn_active();
    if (fd == to || zn_own(to))
        return zn_own(to) ? dup3(fd, to, 0) : zn_real.dup2(fd, to);
    int copy = zn_real.dup2(fd, to);
    if (copy >= 0)
        zn_copied(fd, copy);
    return copy;
}

ZN_EXPORT int fcntl(int fd, int command, ...)
{
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    zn_active();
    int result = zn_real.fcntl(fd, command, argument);
    if (result >= 0 && (command == F_DUPFD || command == F_DUPFD_CLOEXEC))
        zn_copied(fd, result);
    return result;
}

ZN_EXPORT int fcntl64(int fd, int command, ...)
{
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    return fcntl(fd, command, argument);
}
