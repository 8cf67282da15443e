// SPDX-License-Identifier: Apache-2.0
// The C interface that Python calls. Each function is one step for one device; which functions suit a port
// is decided on the other side, where the port's kind is known.
#include "lite.hpp"
#include "memory.hpp"
#include "stream.hpp"

using namespace rackgate;

namespace {
Device* device(void* handle) { return static_cast<Device*>(handle); }
template <class P>
P& port(void* handle, uint32_t index) {
    return *static_cast<P*>(device(handle)->ports[index]);
}
thread_local std::string text;
const char* keep(std::string value) {
    text = std::move(value);
    return text.c_str();
}
}  // namespace

extern "C" {
#pragma GCC visibility push(default)

// ---- the device ----
void* rg_new(uint64_t seed) {
    Device* d = make_device();
    for (Port* p : d->ports) p->seed(seed * 0x9e3779b97f4a7c15u + p->index * 64);
    return d;
}
void rg_free(void* h) { delete device(h); }
void rg_reset(void* h, uint32_t cycles) { device(h)->reset(cycles); }
uint64_t rg_cycle(void* h) { return device(h)->cycle; }
uint32_t rg_run(void* h, uint64_t cycles, uint32_t mask) { return device(h)->run(cycles, mask); }
uint32_t rg_events(void* h) { return device(h)->events; }
void rg_clear_events(void* h, uint32_t mask) { device(h)->events &= ~mask; }
const char* rg_failure(void* h) { return device(h)->failed ? device(h)->failure.c_str() : nullptr; }
const char* rg_printed(void* h) {
    keep(std::move(device(h)->printed));
    device(h)->printed.clear();
    return text.c_str();
}
uint64_t rg_log(void* h) { return device(h)->log.value(); }
uint64_t rg_evaluations(void* h) { return device(h)->evaluations; }
uint64_t rg_skipped(void* h) { return device(h)->skipped; }
uint64_t rg_peek(void* h, uint32_t signal) { return device(h)->peek(signal); }
void rg_poke(void* h, uint32_t signal, uint64_t value) { device(h)->poke(signal, value); }
int rg_irq(void* h) { return device(h)->irq(); }
int rg_trace(void* h, const char* path) { return device(h)->trace(path); }
int rg_coverage(void* h, const char* path) { return device(h)->coverage(path); }
const char* rg_state(void* h, uint32_t p) { return keep(device(h)->ports[p]->state()); }

// ---- registers ----
int rg_busy(void* h, uint32_t p) { return port<RegisterPort>(h, p).busy; }
void rg_access(void* h, uint32_t p, int write, uint64_t address, uint32_t value) {
    port<RegisterPort>(h, p).begin(write, address, value);
}
/// A whole access of a device that runs alone: value | status << 32. The status is the device's response, or 4 when the
/// port is busy, 5 when the limit passed, 6 when something broke.
uint64_t rg_transfer(void* h, uint32_t p, int write, uint64_t address, uint32_t value, uint64_t limit) {
    RegisterPort& r = port<RegisterPort>(h, p);
    if (r.busy) return uint64_t(4) << 32;
    r.begin(write, address, value);
    const uint32_t seen = device(h)->run(limit, REGISTER);
    if (seen != REGISTER) return uint64_t(seen == LIMIT ? 5 : 6) << 32;
    return uint64_t(r.response) << 32 | r.value;
}
uint32_t rg_value(void* h, uint32_t p) { return port<RegisterPort>(h, p).value; }
uint32_t rg_response(void* h, uint32_t p) { return port<RegisterPort>(h, p).response; }

// ---- streams ----
void rg_push(void* h, uint32_t p, const uint8_t* bytes, uint64_t size, int error) {
    port<InputQueue>(h, p).enqueue({device(h)->cycle, {bytes, bytes + size}, error != 0});
}
void rg_push_elements(void* h, uint32_t p, const uint8_t* bytes, uint64_t stride, uint64_t count) {
    for (uint64_t k = 0; k < count; ++k) rg_push(h, p, bytes + k * stride, stride, 0);
}
uint64_t rg_input_size(void* h, uint32_t p) { return port<InputQueue>(h, p).queue.size(); }
uint64_t rg_output_size(void* h, uint32_t p) { return port<OutputQueue>(h, p).queue.size(); }
int64_t rg_front(void* h, uint32_t p, uint64_t* cycle, int* error) {
    const auto& queue = port<OutputQueue>(h, p).queue;
    if (queue.empty()) return -1;
    *cycle = queue.front().cycle;
    *error = queue.front().error;
    return int64_t(queue.front().bytes.size());
}
void rg_pop(void* h, uint32_t p, uint8_t* to) {
    auto& queue = port<OutputQueue>(h, p).queue;
    memcpy(to, queue.front().bytes.data(), queue.front().bytes.size());
    queue.pop_front();
}
void rg_stall_input(void* h, uint32_t p, double probability) { port<InputQueue>(h, p).stall.set(probability); }
void rg_stall_output(void* h, uint32_t p, double probability) { port<OutputQueue>(h, p).stall.set(probability); }

// ---- memory ----
void rg_attach(void* h, uint32_t p, uint8_t* bytes, uint64_t base, uint64_t size) { port<Memory>(h, p).windows.push_back({bytes, base, size}); }
void rg_detach(void* h, uint32_t p, uint64_t base) {
    auto& windows = port<Memory>(h, p).windows;
    for (size_t k = windows.size(); k-- > 0;)
        if (windows[k].base == base) windows.erase(windows.begin() + long(k));
}
void rg_configure(void* h, uint32_t p, uint32_t latency, uint32_t write_latency, uint32_t jitter, uint32_t outstanding, uint64_t beat_cost,
                  int reorder, int interleave) {
    Memory& m = port<Memory>(h, p);
    m.latency = latency;
    m.write_latency = write_latency;
    m.jitter = jitter;
    m.outstanding = outstanding;
    m.beat_cost = beat_cost;
    m.reorder = reorder;
    m.interleave = interleave;
}
void rg_stall_memory(void* h, uint32_t p, uint32_t channel, double probability) {
    Memory& m = port<Memory>(h, p);
    Chance* stalls[] = {&m.stall_aw, &m.stall_w, &m.stall_b, &m.stall_ar, &m.stall_r};
    stalls[channel]->set(probability);
}
void rg_inject(void* h, uint32_t p, uint64_t start, uint64_t end, uint32_t response, int read, int write, uint64_t after, uint64_t count) {
    port<Memory>(h, p).faults.push_back({start, end, response, read != 0, write != 0, after, count, 0});
}
void rg_clear_faults(void* h, uint32_t p) { port<Memory>(h, p).faults.clear(); }
void rg_watch(void* h, uint32_t p, uint64_t low, uint64_t high) { port<Memory>(h, p).watched.push_back({nullptr, low, high - low}); }
void rg_clear_watches(void* h, uint32_t p) { port<Memory>(h, p).watched.clear(); }
void rg_statistics(void* h, uint32_t p, uint64_t* to) {
    const Memory::Statistics& s = port<Memory>(h, p).statistics;
    memcpy(to, &s, sizeof s);
}

#pragma GCC visibility pop
}  // extern "C"
