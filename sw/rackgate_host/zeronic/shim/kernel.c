/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel knows of a connection. It counts the same bytes as we do, so it can correct and check us. */
#include "kernel.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "real.h"
#include "shim.h"

/* States of TCP as the kernel numbers them, which its headers for programs leave out. */
enum { TIME_WAIT = 6, CLOSE = 7, CLOSE_WAIT = 8, LAST_ACK = 9, CLOSING = 11 };

static struct tcp_info info_of(int fd)
{
    struct tcp_info info;
    socklen_t size = sizeof info;
    memset(&info, 0, sizeof info);
    zn_real.getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size);
    return info;
}

static int count_of(int fd, unsigned long what)
{
    int count = 0;
    return ioctl(fd, what, &count) < 0 ? 0 : count;
}

int zn_kernel_unsent(int fd) { return count_of(fd, SIOCOUTQ); }

int zn_kernel_ready(int fd) { return count_of(fd, SIOCINQ); }

bool zn_kernel_blocks(int fd) { return !(zn_real.fcntl(fd, F_GETFL) & O_NONBLOCK); }

bool zn_kernel_closed(int fd) { return info_of(fd).tcpi_state == CLOSE; }

uint32_t zn_kernel_received(int fd)
{
    for (;;) {
        struct tcp_info before = info_of(fd);
        uint32_t ready = (uint32_t)zn_kernel_ready(fd);
        struct tcp_info after = info_of(fd);
        if (before.tcpi_bytes_received != after.tcpi_bytes_received || before.tcpi_state != after.tcpi_state)
            continue;
        int state = after.tcpi_state;
        bool ended = state == TIME_WAIT || state == CLOSE_WAIT || state == LAST_ACK || state == CLOSING;
        return (uint32_t)after.tcpi_bytes_received - ended - ready; /* the FIN is counted as a byte */
    }
}

uint32_t zn_kernel_sent(int fd)
{
    for (;;) {
        struct tcp_info before = info_of(fd);
        uint32_t unsent = (uint32_t)zn_kernel_unsent(fd);
        struct tcp_info after = info_of(fd);
        if (before.tcpi_bytes_acked == after.tcpi_bytes_acked)
            return (uint32_t)after.tcpi_bytes_acked + unsent;
    }
}

_Noreturn void zn_broken(const char *text, uint32_t position)
{
    char line[160];
    snprintf(line, sizeof line, "%s at position %u", text, position);
    zn_complain(line);
    abort();
}

bool zn_strict(void)
{
    static int strict = -1;
    if (strict < 0)
        strict = getenv("RACKGATE_ZERONIC_STRICT") != NULL;
    return strict;
}

void zn_check_received(int fd, uint32_t position)
{
    int state = info_of(fd).tcpi_state;
    if (state != CLOSE && zn_kernel_received(fd) != position && info_of(fd).tcpi_state == state)
        zn_broken("received bytes are counted otherwise by the kernel", position);
}

void zn_check_sent(int fd, uint32_t position)
{
    int state = info_of(fd).tcpi_state;
    if (state != CLOSE && zn_kernel_sent(fd) != position && info_of(fd).tcpi_state == state)
        zn_broken("sent bytes are counted otherwise by the kernel", position);
}
