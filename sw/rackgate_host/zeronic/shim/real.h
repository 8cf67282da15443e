/* SPDX-License-Identifier: Apache-2.0 */
/* The C library's own functions, under the names that the shim takes over. */
#pragma once

#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#define REAL_FUNCTIONS(F)                                                                     \
    F(ssize_t, read, (int, void *, size_t))                                                   \
    F(ssize_t, readv, (int, const struct iovec *, int))                                       \
    F(ssize_t, recv, (int, void *, size_t, int))                                              \
    F(ssize_t, recvfrom, (int, void *, size_t, int, struct sockaddr *, socklen_t *))          \
    F(ssize_t, recvmsg, (int, struct msghdr *, int))                                          \
    F(int, recvmmsg, (int, struct mmsghdr *, unsigned, int, struct timespec *))               \
    F(ssize_t, write, (int, const void *, size_t))                                            \
    F(ssize_t, writev, (int, const struct iovec *, int))                                      \
    F(ssize_t, send, (int, const void *, size_t, int))                                        \
    F(ssize_t, sendto, (int, const void *, size_t, int, const struct sockaddr *, socklen_t))  \
    F(ssize_t, sendmsg, (int, const struct msghdr *, int))                                    \
    F(int, sendmmsg, (int, struct mmsghdr *, unsigned, int))                                  \
    F(ssize_t, sendfile, (int, int, off_t *, size_t))                                         \
    F(ssize_t, splice, (int, off_t *, int, off_t *, size_t, unsigned))                        \
    F(ssize_t, preadv2, (int, const struct iovec *, int, off_t, int))                         \
    F(ssize_t, pwritev2, (int, const struct iovec *, int, off_t, int))                        \
    F(int, socket, (int, int, int))                                                           \
    F(int, listen, (int, int))                                                                \
    F(int, connect, (int, const struct sockaddr *, socklen_t))                                \
    F(int, accept4, (int, struct sockaddr *, socklen_t *, int))                               \
    F(int, setsockopt, (int, int, int, const void *, socklen_t))                              \
    F(int, getsockopt, (int, int, int, void *, socklen_t *))                                  \
    F(int, close, (int))                                                                      \
    F(int, close_range, (unsigned, unsigned, int))                                            \
    F(int, dup, (int))                                                                        \
    F(int, dup2, (int, int))                                                                  \
    F(int, dup3, (int, int, int))                                                             \
    F(int, fcntl, (int, int, ...))                                                            \
    F(FILE *, fdopen, (int, const char *))                                                    \
    F(int, vdprintf, (int, const char *, va_list))

struct zn_real {
#define REAL_FIELD(type, name, arguments) type(*name) arguments;
    REAL_FUNCTIONS(REAL_FIELD)
#undef REAL_FIELD
};

/* Complete after zn_active() has been called once; every hook begins with that. */
extern struct zn_real zn_real;
