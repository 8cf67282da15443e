/* SPDX-License-Identifier: Apache-2.0 */
/* Options of sockets that make the kernel look at payload, which it does not have when a connection is split. */
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>

#include "kernel.h"
#include "real.h"
#include "shim.h"

enum { ULP = 31, ADD_KEY = 38 }; /* TCP_ULP, TCP_AO_ADD_KEY: old headers lack them */

/* Signatures and encryption of payload: a connection that wants them is not split; one that is cannot have them. */
ZN_EXPORT int setsockopt(int fd, int level, int option, const void *value, socklen_t size)
{
    struct zn_flow *flow;
    bool looks = level == IPPROTO_TCP
              && (option == TCP_MD5SIG || option == TCP_MD5SIG_EXT || option == ULP || option == ADD_KEY);
    if (!zn_active() || !looks)
        return zn_real.setsockopt(fd, level, option, value, size);
    if (zn_lookup(fd, &flow) < 0)
        return -1;
    if (flow) {
        errno = ENOPROTOOPT;
        return -1;
    }
    if (zn_kernel_closed(fd))
        zn_refuse(fd);
    return zn_real.setsockopt(fd, level, option, value, size);
}

/* TCP_ZEROCOPY_RECEIVE maps pages of payload into the program. */
ZN_EXPORT int getsockopt(int fd, int level, int option, void *value, socklen_t *size)
{
    struct zn_flow *flow = NULL;
    zn_active();
    if (level == IPPROTO_TCP && option == TCP_ZEROCOPY_RECEIVE) {
        if (zn_lookup(fd, &flow) < 0)
            return -1;
        if (flow) {
            errno = ENOPROTOOPT;
            return -1;
        }
    }
    return zn_real.getsockopt(fd, level, option, value, size);
}

/* For libraries that take a connection in hand themselves (rackgate_host.zeronic.api). */
ZN_EXPORT void rackgate_zeronic_leave(int fd)
{
    if (zn_active())
        zn_refuse(fd);
}
