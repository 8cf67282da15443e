/* SPDX-License-Identifier: Apache-2.0 */
/* What C programs do with sockets and Python does not: `calls {server|client} ADDRESS PORT`.
 *
 * Compiled with _FORTIFY_SOURCE, so that read and recv become __read_chk and __recv_chk.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define CHECK(is) \
    do { \
        if (!(is)) { \
            fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #is, errno); \
            exit(1); \
        } \
    } while (0)

static volatile size_t unknown_size = 5; /* so that the compiler cannot tell that it fits */

static void client(int fd)
{
    /* A stream of stdio, which knows its descriptor. */
    FILE *stream = fdopen(dup(fd), "r+");
    CHECK(stream && fileno(stream) > fd);
    setvbuf(stream, NULL, _IOLBF, 0);
    CHECK(fprintf(stream, "line %d\n", 1) == 7);
    CHECK(dprintf(fd, "%s\n", "line 2") == 7);
    char line[100];
    CHECK(fgets(line, sizeof line, stream) && strcmp(line, "answer 1\n") == 0);
    CHECK(fgets(line, sizeof line, stream) && strcmp(line, "answer 2\n") == 0);
    CHECK(fclose(stream) == 0);
    /* Several messages in a call. */
    struct iovec parts[] = {{"12345", 5}, {"6789", 4}};
    struct mmsghdr messages[] = {{.msg_hdr = {.msg_iov = parts, .msg_iovlen = 2}},
                                 {.msg_hdr = {.msg_iov = parts + 1, .msg_iovlen = 1}}};
    CHECK(sendmmsg(fd, messages, 2, 0) == 2 && messages[0].msg_len == 9 && messages[1].msg_len == 4);
    CHECK(pwritev2(fd, parts, 1, -1, 0) == -1 && errno == EOPNOTSUPP);
    CHECK(send(fd, "x", 0, 0) == 0 && write(fd, "", 0) == 0);
    CHECK(send(fd, "end", 3, MSG_NOSIGNAL) == 3);
    char byte;
    CHECK(recv(fd, &byte, 1, 0) == 1 && byte == 'k');
    /* Descriptors are closed in passing; the shim's own stay. */
    CHECK(close_range(50, ~0U, 0) == 0);
    for (int other = 50; other < 1100; other++)
        CHECK(close(other) == -1 && errno == EBADF);
    CHECK(send(fd, "after", 5, 0) == 5 && recv(fd, &byte, 1, 0) == 1 && byte == 'k');
    int second = dup2(fd, 60);
    CHECK(second == 60 && send(60, "copy", 4, 0) == 4 && close(60) == 0);
    /* vfork: the child shares our memory, and closes its copy only. */
    pid_t child = vfork();
    if (child == 0) {
        close(fd);
        _exit(0);
    }
    CHECK(child > 0 && send(fd, "vfork", 5, 0) == 5);
    /* With io_uring, a program would get placeholders. */
    CHECK(syscall(425, 1, NULL) == -1 && errno != 0);
    CHECK(recv(fd, &byte, 1, 0) == 1 && byte == 'k');
    CHECK(shutdown(fd, SHUT_WR) == 0 && recv(fd, &byte, 1, 0) == 0);
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGPIPE, &ignore, NULL);
    CHECK(write(fd, "x", 1) == -1 && errno == EPIPE);
}

static void expect(int fd, const char *text)
{
    char buffer[100];
    size_t size = strlen(text);
    CHECK(recv(fd, buffer, size, MSG_WAITALL) == (ssize_t)size && memcmp(buffer, text, size) == 0);
}

static void server(int fd)
{
    char buffer[100];
    expect(fd, "line 1\nline 2\n");
    CHECK(dprintf(fd, "answer %d\nanswer %d\n", 1, 2) == 18);
    CHECK(recv(fd, buffer, 5, MSG_PEEK | MSG_WAITALL) == 5);
    CHECK(read(fd, buffer, unknown_size) == 5 && memcmp(buffer, "12345", 5) == 0);
    char first[2], second[2], third[100];
    struct iovec parts[] = {{first, 2}, {second, 2}, {third, 100}};
    struct mmsghdr messages[] = {{.msg_hdr = {.msg_iov = parts, .msg_iovlen = 2}},
                                 {.msg_hdr = {.msg_iov = parts + 2, .msg_iovlen = 1}}};
    struct timespec patience = {.tv_sec = 10};
    CHECK(recv(fd, buffer, 11, MSG_PEEK | MSG_WAITALL) == 11 && memcmp(buffer, "67896789end", 11) == 0);
    CHECK(recvmmsg(fd, messages, 2, MSG_WAITFORONE, &patience) == 2);
    CHECK(messages[0].msg_len == 4 && memcmp(first, "67", 2) == 0 && memcmp(second, "89", 2) == 0);
    CHECK(messages[1].msg_len == 7 && memcmp(third, "6789end", 7) == 0);
    CHECK(preadv2(fd, parts, 1, -1, 0) == -1 && errno == EOPNOTSUPP);
    CHECK(send(fd, "k", 1, 0) == 1);
    expect(fd, "after");
    CHECK(send(fd, "k", 1, 0) == 1);
    expect(fd, "copyvfork");
    struct sockaddr_storage name;
    socklen_t name_size = sizeof name;
    CHECK(send(fd, "k", 1, 0) == 1);
    CHECK(recvfrom(fd, buffer, unknown_size, 0, (struct sockaddr *)&name, &name_size) == 0);
}

int main(int count, char **arguments)
{
    CHECK(count == 4);
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arguments[3]))};
    CHECK(inet_pton(AF_INET, arguments[2], &name.sin_addr) == 1);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (strcmp(arguments[1], "client") == 0) {
        CHECK(connect(fd, (struct sockaddr *)&name, sizeof name) == 0);
        client(fd);
        return 0;
    }
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    CHECK(bind(fd, (struct sockaddr *)&name, sizeof name) == 0 && listen(fd, 5) == 0);
    puts("listening");
    fflush(stdout);
    int made = accept(fd, NULL, NULL);
    CHECK(made >= 0);
    server(made);
    return 0;
}
