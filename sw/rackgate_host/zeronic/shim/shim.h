/* SPDX-License-Identifier: Apache-2.0 */
/* The sockets shim: what its files tell each other.
 *
 * Loaded by LD_PRELOAD, it stands between a program and the C library for calls that may touch a TCP connection that
 * the NIC splits. The kernel's socket stays what it is; only bytes of data take another way. What the program sends is
 * put into the flow's ring in NIC memory, and the kernel gets as many placeholders; what it receives is taken from the
 * ring, as many bytes as the kernel gives placeholders. All else (poll, options, states, errors, time-outs) is the
 * kernel's own answer.
 *
 * control.c   the daemon's socket and the NIC's memory
 * table.c     which descriptor is which flow
 * flow.c      locks and rings of a flow
 * store.c     bytes that the NIC did not place
 * receive.c, send.c          reading and writing
 * hook_*.c    the functions of the C library that are replaced
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "shared.h" /* made from shared.py at compile time */

#define ZN_EXPORT __attribute__((visibility("default")))

/* Both ends of a connection; addresses and ports are numbers, not in network order. */
struct zn_ends {
    uint32_t local_address, remote_address;
    uint16_t local_port, remote_port;
};

/* What this process knows of a split connection. */
struct zn_flow {
    struct zn_page *page;
    uint8_t *receive_ring, *send_ring; /* NULL: the program posts segments */
    uint8_t *store;
    uint32_t ring_size, number, generation;
    uint32_t holders; /* descriptors of this process */
};

/* Where in a program's buffers we are. */
struct zn_cursor {
    const struct iovec *next;
    size_t offset; /* into *next */
};

/* control.c */
extern uint32_t zn_host_address; /* known once the daemon has answered */
bool zn_active(void);            /* whether there is a daemon to ask; starts the shim */
int zn_ask(struct zn_request *request, struct zn_reply *reply); /* 0 or an error number */
int zn_reach(void);              /* connect to the daemon if that was not done: 0 or an error number */
bool zn_own(int fd);             /* whether the descriptor is the shim's own */
int zn_own_in(unsigned first, unsigned last); /* one of those in a range, or -1 */
void *zn_place(uint64_t place);  /* NIC memory */
void zn_pause_signals(sigset_t *before);
void zn_resume_signals(const sigset_t *before);
void zn_control_before_fork(void);
void zn_control_after_fork(bool child);
void zn_complain(const char *text);
int zn_zeros(void);              /* a file of ZN_ZEROS zeros */
enum { ZN_ZEROS = 262144 };

/* table.c */
void zn_before_fork(void);
void zn_after_fork(bool child);
int zn_lookup(int fd, struct zn_flow **flow); /* *flow NULL: not split. -1 with errno: it is, but cannot be used */
void zn_unknown(int fd);                      /* forget what the number stands for */
void zn_unknown_range(unsigned first, unsigned last);
void zn_plain(int fd);                        /* a connection that is not split */
void zn_refuse(int fd);                       /* must not be split, whatever comes */
bool zn_refused(int fd);
int zn_claim(int fd, const struct zn_ends *ends, uint32_t operation, uint32_t flags); /* 0 or an error number */
void zn_listens(int fd, uint16_t port);
bool zn_is_listener(int fd);
void zn_copied(int from, int to);

/* address.c */
bool zn_is_tcp(int fd);
bool zn_ends_of(int fd, struct zn_ends *ends);
bool zn_ipv4(const struct sockaddr *address, socklen_t size, uint32_t *number, uint16_t *port);
bool zn_bind(int fd, int family, uint32_t address);

/* flow.c */
int zn_lock_receive(struct zn_flow *flow, int fd); /* 0 or an error number */
int zn_lock_send(struct zn_flow *flow, int fd, bool wait); /* EBUSY only without `wait` */
void zn_unlock_receive(struct zn_flow *flow);
void zn_unlock_send(struct zn_flow *flow);
void zn_copy_out(const struct zn_flow *flow, uint32_t position, struct zn_cursor *to, size_t size);
void zn_copy_in(const struct zn_flow *flow, uint32_t position, struct zn_cursor *from, size_t size);
void zn_fill(struct zn_cursor *to, const uint8_t *content, size_t size);
size_t zn_total(const struct iovec *parts, size_t count);

/* store.c */
uint32_t zn_consumed(const struct zn_flow *flow);
void zn_consume(struct zn_flow *flow, uint32_t position);
bool zn_in_place(const struct zn_flow *flow, uint32_t position, size_t size); /* no byte is in the side store */
int zn_resolve(struct zn_flow *flow, uint32_t position, const uint8_t *tags, size_t size, struct zn_cursor *to);

/* receive.c, send.c: as recvmsg and sendmsg */
ssize_t zn_receive(struct zn_flow *flow, int fd, struct msghdr *message, int flags);
ssize_t zn_receive_into(struct zn_flow *flow, int fd, void *buffer, size_t size, int flags);
ssize_t zn_send(struct zn_flow *flow, int fd, const struct msghdr *message, int flags);
ssize_t zn_send_from(struct zn_flow *flow, int fd, const void *buffer, size_t size, int flags);
ssize_t zn_send_file(struct zn_flow *flow, int fd, int source, off_t *offset, size_t size);
