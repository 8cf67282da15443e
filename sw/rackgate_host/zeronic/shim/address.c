/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses of sockets. IPv4 may also be spoken through sockets of IPv6, by addresses ::ffff:a.b.c.d. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "real.h"
#include "shim.h"

bool zn_is_tcp(int fd)
{
    int protocol = 0;
    socklen_t size = sizeof protocol;
    return zn_real.getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) == 0 && protocol == IPPROTO_TCP;
}

bool zn_ipv4(const struct sockaddr *address, socklen_t size, uint32_t *number, uint16_t *port)
{
    if (size >= sizeof(struct sockaddr_in) && address->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, address, sizeof in);
        *number = ntohl(in.sin_addr.s_addr);
        *port = ntohs(in.sin_port);
        return true;
    }
    if (size >= sizeof(struct sockaddr_in6) && address->sa_family == AF_INET6) {
        struct sockaddr_in6 in;
        memcpy(&in, address, sizeof in);
        *port = ntohs(in.sin6_port);
        *number = 0;
        if (IN6_IS_ADDR_UNSPECIFIED(&in.sin6_addr))
            return true;
        if (!IN6_IS_ADDR_V4MAPPED(&in.sin6_addr))
            return false;
        memcpy(number, &in.sin6_addr.s6_addr[12], 4);
        *number = ntohl(*number);
        return true;
    }
    return false;
}

bool zn_ends_of(int fd, struct zn_ends *ends)
{
    struct sockaddr_storage local, remote;
    socklen_t local_size = sizeof local, remote_size = sizeof remote;
    return getsockname(fd, (struct sockaddr *)&local, &local_size) == 0
        && getpeername(fd, (struct sockaddr *)&remote, &remote_size) == 0
        && zn_ipv4((struct sockaddr *)&local, local_size, &ends->local_address, &ends->local_port)
        && zn_ipv4((struct sockaddr *)&remote, remote_size, &ends->remote_address, &ends->remote_port)
        && ends->remote_address != 0;
}

bool zn_bind(int fd, int family, uint32_t address)
{
    uint32_t number = htonl(address);
    if (family == AF_INET6) {
        struct sockaddr_in6 in = {.sin6_family = AF_INET6};
        if (address) {
            memset(&in.sin6_addr.s6_addr[10], 0xff, 2);
            memcpy(&in.sin6_addr.s6_addr[12], &number, 4);
        }
        return bind(fd, (struct sockaddr *)&in, sizeof in) == 0;
    }
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = number};
    return bind(fd, (struct sockaddr *)&in, sizeof in) == 0;
}
