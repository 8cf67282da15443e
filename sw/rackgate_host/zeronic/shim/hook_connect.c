/* SPDX-License-Identifier: Apache-2.0 */
/* The C library's functions that make connections: the daemon hears of each before its first packet can move. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "kernel.h"
#include "real.h"
#include "shim.h"

/* Address and port that the socket is bound to; the port is 0 if it is not. */
static bool bound_to(int fd, struct sockaddr_storage *name, uint32_t *address, uint16_t *port)
{
    socklen_t size = sizeof *name;
    return getsockname(fd, (struct sockaddr *)name, &size) == 0
        && zn_ipv4((struct sockaddr *)name, size, address, port);
}

ZN_EXPORT int listen(int fd, int backlog)
{
    struct sockaddr_storage name;
    uint32_t address;
    uint16_t port;
    if (!zn_active() || zn_refused(fd) || zn_is_listener(fd) || !zn_is_tcp(fd) || !bound_to(fd, &name, &address, &port))
        return zn_real.listen(fd, backlog);
    if (!port) {
        if (!zn_bind(fd, name.ss_family, 0) || !bound_to(fd, &name, &address, &port))
            return -1;
    }
    struct zn_request request = {.operation = ZN_OP_LISTEN, .local_port = port};
    struct zn_reply reply;
    int error = zn_ask(&request, &reply);
    if (error == ECONNRESET || error == ETIMEDOUT) {
        errno = ENETDOWN; /* there is no daemon, so there is no network */
        return -1;
    }
    int result = zn_real.listen(fd, backlog);
    if (!error)
        zn_listens(fd, port);
    return result;
}

/* The connection that was accepted as `fd`. */
static int take_up(int fd, const struct sockaddr *peer, socklen_t size)
{
    struct zn_ends ends;
    struct sockaddr_storage local;
    zn_unknown(fd);
    if (!zn_ipv4(peer, size, &ends.remote_address, &ends.remote_port) || !zn_is_tcp(fd)
        || !bound_to(fd, &local, &ends.local_address, &ends.local_port)) {
        zn_plain(fd);
        return 0;
    }
    int error = zn_claim(fd, &ends, ZN_OP_CLAIM, 0);
    if (error == ENOENT) {
        zn_plain(fd);
        error = 0;
    }
    return error;
}

ZN_EXPORT int accept4(int fd, struct sockaddr *name, socklen_t *name_size, int flags)
{
    struct sockaddr_storage peer;
    socklen_t size = sizeof peer;
    if (!zn_active())
        return zn_real.accept4(fd, name, name_size, flags);
    int made = zn_real.accept4(fd, (struct sockaddr *)&peer, &size, flags);
    if (made < 0)
        return made;
    int error = take_up(made, (struct sockaddr *)&peer, size);
    if (error) {
        zn_real.close(made);
        errno = error == EMFILE ? error : ECONNABORTED;
        return -1;
    }
    if (name && name_size) {
        memcpy(name, &peer, size < *name_size ? size : *name_size);
        *name_size = size;
    }
    return made;
}

ZN_EXPORT int accept(int fd, struct sockaddr *name, socklen_t *name_size) { return accept4(fd, name, name_size, 0); }

static bool is_loopback(uint32_t address) { return address >> 24 == 127; }

/* Tell the daemon of a connection before it is made. 0: it is split, or not; -1 with errno. */
static int announce(int fd, const struct sockaddr *name, socklen_t size, bool *split)
{
    struct zn_ends ends;
    struct sockaddr_storage local;
    struct zn_flow *flow;
    *split = false;
    if (zn_refused(fd) || !zn_is_tcp(fd) || !zn_ipv4(name, size, &ends.remote_address, &ends.remote_port)
        || !bound_to(fd, &local, &ends.local_address, &ends.local_port))
        return 0;
    if (zn_lookup(fd, &flow) < 0)
        return -1;
    if (!zn_kernel_closed(fd))
        return 0; /* connected, or on the way: the kernel says so */
    zn_unknown(fd);
    int error = zn_reach(); /* tells us the host's address */
    if (!error && (ends.remote_address == zn_host_address || (is_loopback(ends.remote_address)
                                                              && !is_loopback(zn_host_address))))
        return 0; /* does not leave this host */
    if (!error && !ends.local_port) {
        if (!zn_bind(fd, local.ss_family, zn_host_address)
            || !bound_to(fd, &local, &ends.local_address, &ends.local_port))
            return 0; /* the kernel's connect() will say what is wrong */
    }
    if (!ends.local_address)
        ends.local_address = zn_host_address;
    if (!error)
        error = zn_claim(fd, &ends, ZN_OP_CONNECT, 0);
    *split = !error;
    if (error == ECONNRESET || error == ETIMEDOUT) {
        errno = ENETDOWN;
        return -1;
    }
    return 0;
}

ZN_EXPORT int connect(int fd, const struct sockaddr *name, socklen_t size)
{
    bool split;
    if (!zn_active())
        return zn_real.connect(fd, name, size);
    if (announce(fd, name, size, &split) < 0)
        return -1;
    int result = zn_real.connect(fd, name, size);
    if (result < 0 && split && errno != EINPROGRESS && errno != EINTR && errno != EALREADY) {
        int saved = errno;
        zn_unknown(fd);
        errno = saved;
    }
    return result;
}
