/* SPDX-License-Identifier: Apache-2.0 */
/* Streams of stdio over sockets: the C library reads and writes for them by ways that no shim sees. */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "real.h"
#include "shim.h"

static ssize_t stream_read(void *fd, char *buffer, size_t size) { return read((int)(intptr_t)fd, buffer, size); }

static ssize_t stream_write(void *fd, const char *buffer, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = write((int)(intptr_t)fd, buffer + done, size - done);
        if (n < 0)
            return (ssize_t)done; /* less than asked for is an error of the stream */
        done += (size_t)n;
    }
    return (ssize_t)done;
}

static int stream_close(void *fd) { return close((int)(intptr_t)fd); }

ZN_EXPORT FILE *fdopen(int fd, const char *mode)
{
    struct zn_flow *flow;
    if (zn_lookup(fd, &flow) < 0)
        return NULL;
    if (!flow)
        return zn_real.fdopen(fd, mode);
    cookie_io_functions_t ways = {.read = stream_read, .write = stream_write, .close = stream_close};
    FILE *stream = fopencookie((void *)(intptr_t)fd, mode, ways);
    if (stream)
        stream->_fileno = fd; /* fileno() is asked for it */
    return stream;
}

ZN_EXPORT int vdprintf(int fd, const char *format, va_list arguments)
{
    struct zn_flow *flow;
    char *text;
    if (zn_lookup(fd, &flow) < 0)
        return -1;
    if (!flow)
        return zn_real.vdprintf(fd, format, arguments);
    int size = vasprintf(&text, format, arguments);
    if (size < 0)
        return size;
    ssize_t written = zn_send_from(flow, fd, text, (size_t)size, 0);
    free(text);
    return written < 0 ? -1 : (int)written;
}

ZN_EXPORT int dprintf(int fd, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int written = vdprintf(fd, format, arguments);
    va_end(arguments);
    return written;
}

/* What the compiler makes of them for programs built with _FORTIFY_SOURCE. */
ZN_EXPORT int __vdprintf_chk(int fd, int flag, const char *format, va_list arguments)
{
    (void)flag;
    return vdprintf(fd, format, arguments);
}

ZN_EXPORT int __dprintf_chk(int fd, int flag, const char *format, ...)
{
    (void)flag;
    va_list arguments;
    va_start(arguments, format);
    int written = vdprintf(fd, format, arguments);
    va_end(arguments);
    return written;
}
