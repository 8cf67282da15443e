/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel knows of a connection.
 *
 * In strict mode, which the variable RACKGATE_ZERONIC_STRICT turns on, the shim compares its count of bytes with the
 * kernel's after each call, and ends the program when it finds something wrong: for tests.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

uint32_t zn_kernel_received(int fd); /* position of the next byte that recv() will give */
uint32_t zn_kernel_sent(int fd);     /* of the next byte that send() will take, and 1 more where the SYN was ours */
int zn_kernel_unsent(int fd);        /* bytes that the peer has not acknowledged */
int zn_kernel_ready(int fd);         /* bytes that can be received */
bool zn_kernel_blocks(int fd);       /* whether calls wait (no O_NONBLOCK) */
bool zn_kernel_closed(int fd);       /* whether there is no connection, and none is being made */
void zn_check_received(int fd, uint32_t position); /* in strict mode: ends the program if that is not so */
void zn_check_sent(int fd, uint32_t position);
_Noreturn void zn_broken(const char *text, uint32_t position);
bool zn_strict(void);
