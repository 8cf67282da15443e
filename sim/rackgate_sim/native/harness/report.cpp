// SPDX-License-Identifier: Apache-2.0
#include "report.hpp"

#include <cstdarg>
#include <cstdio>

using rackgate::Context;
using rackgate::Device;

static Device& speaking() { return *static_cast<Context*>(Verilated::threadContextp())->device; }

void rackgate_print(const char* format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    const int size = vsnprintf(nullptr, 0, format, arguments);
    va_end(arguments);
    std::string text(size_t(size < 0 ? 0 : size) + 1, '\0');
    vsnprintf(&text[0], text.size(), format, again);
    va_end(again);
    text.pop_back();
    speaking().printed += text;
}

/// A failed assertion. Its message was printed just before Verilator's own line about it, which starts with
/// the time in brackets; what the gateware had printed earlier is left alone.
void vl_stop(const char*, int, const char*) VL_MT_UNSAFE {
    Device& device = speaking();
    std::string& text = device.printed;
    const size_t own = text.rfind("%Error: ");
    size_t end = own == std::string::npos ? text.size() : text.rfind('[', own);
    const size_t line = text.rfind('\n', end ? end - 1 : 0);
    const size_t start = line == std::string::npos ? 0 : line + 1;
    device.fail("assert: " + text.substr(start, end - start));
    text.resize(start);
}

void vl_fatal(const char* file, int line, const char*, const char* message) VL_MT_UNSAFE {
    speaking().fail(std::string(message) + " (" + file + ":" + std::to_string(line) + ")");
    throw rackgate::Fatal();
}

double sc_time_stamp() { return 0; }
