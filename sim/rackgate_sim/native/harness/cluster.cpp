// SPDX-License-Identifier: Apache-2.0
#include "cluster.hpp"

#include <unistd.h>

#include <algorithm>

namespace rackgate {

Crew::Crew(unsigned helpers) {
    for (unsigned k = 0; k < helpers; ++k) threads_.emplace_back([this] { help(); });
}

Crew::~Crew() {
    leave_.store(true);
    round_.fetch_add(1, std::memory_order_release);
    round_.notify_all();
    for (std::thread& thread : threads_) thread.join();
}

void Crew::await(std::atomic<uint32_t>& value, uint32_t wanted) {
    for (int k = 0; k < 2000; ++k) {
        if (value.load(std::memory_order_acquire) == wanted) return;
        if (k > 500) std::this_thread::yield();
    }
    for (uint32_t seen; (seen = value.load(std::memory_order_acquire)) != wanted;) value.wait(seen, std::memory_order_acquire);
}

void Crew::help() {
    for (uint32_t round = 1;; ++round) {
        await(round_, round);
        if (leave_.load()) return;
        take();
        if (busy_.fetch_sub(1, std::memory_order_acq_rel) == 1) busy_.notify_all();
    }
}

Cluster::~Cluster() {
    for (Wire& wire : wires_) wire.from->link = nullptr;
    threads(1);
}

uint32_t Cluster::connect(std::unique_ptr<Link> link, OutputQueue* from) {
    window_ = std::min(window_, link->latency);
    from->link = link.get();
    wires_.push_back({std::move(link), from});
    return uint32_t(wires_.size() - 1);
}

void Cluster::threads(unsigned count) {
    const unsigned helpers = count - 1;
    if (crew_ && owner_ != getpid()) crew_.release();
    if (crew_ ? crew_->size() == helpers : helpers == 0) return;
    crew_.reset(helpers ? new Crew(helpers) : nullptr);
    owner_ = getpid();
}

template <class Work>
void Cluster::each(Work work) {
    // Waking the crew costs more than passing a window in which at most one device does anything.
    const auto awake = std::count_if(devices_.begin(), devices_.end(), [&](Device* d) { return !d->rests_until(stop_); });
    if (awake > 1 && crew_ && owner_ == getpid()) crew_->share(devices_.size(), [&](size_t k) { work(devices_[k], k); });
    else
        for (size_t k = 0; k < devices_.size(); ++k) work(devices_[k], k);
}

void Cluster::carry() {
    for (Wire& wire : wires_) wire.link->carry();
}

bool Cluster::finish() {
    const bool behind = std::any_of(devices_.begin(), devices_.end(), [&](Device* d) { return d->cycle < stop_; });
    if (behind)
        each([&](Device* d, size_t) {
            if (d->cycle < stop_) d->run(stop_ - d->cycle, 0);
        });
    carry();
    return std::none_of(devices_.begin(), devices_.end(), [](Device* d) { return d->failed; });
}

uint32_t Cluster::advance(Device* target, uint64_t cycles, uint32_t mask) {
    const uint64_t end = target->cycle + cycles;
    for (;;) {
        // Within the window that the others have ended, the target is on its own.
        const uint64_t own = std::min(stop_, end) - std::min(target->cycle, stop_);
        const uint32_t seen = target->run(own, mask);
        if (seen != LIMIT || target->cycle >= end) return seen;
        if (!finish()) return FAILURE;
        stop_ += window_;
        uint32_t found = LIMIT;
        each([&](Device* d, size_t) {
            if (d == target) found = d->run(std::min(stop_, end) - d->cycle, mask);
            else d->run(stop_ - d->cycle, 0);
        });
        if (found != LIMIT) return found;
    }
}

uint32_t Cluster::run(uint64_t cycles, uint32_t mask) {
    const uint64_t end = cycle() + cycles;
    while (stop_ < end) {
        if (!finish()) return FAILURE;
        uint32_t seen = 0;
        for (const Device* d : devices_) seen |= d->events & mask;
        if (seen) return seen;
        stop_ = std::min(stop_ + window_, end);
        each([&](Device* d, size_t) { d->run(stop_ - d->cycle, 0); });
    }
    each([&](Device* d, size_t) {
        if (d->cycle < end) d->run(end - d->cycle, 0);
    });
    uint32_t seen = 0;
    for (const Device* d : devices_) seen |= d->failed ? uint32_t(FAILURE) : d->events & mask;
    return seen ? seen : uint32_t(LIMIT);
}

void Cluster::race(const uint64_t* ends, const uint32_t* masks, uint32_t* found, uint64_t pause) {
    std::fill_n(found, devices_.size(), uint32_t(LIMIT));
    for (;;) {
        each([&](Device* d, size_t k) {
            const uint64_t end = std::min(stop_, ends[k]);
            // A device that is ahead has been seen to the end of the window already, but may have an event to tell of.
            found[k] = d->run(end > d->cycle ? end - d->cycle : 0, masks[k]);
        });
        for (size_t k = 0; k < devices_.size(); ++k)
            if (found[k] != LIMIT || devices_[k]->cycle >= ends[k]) return;
        if (stop_ >= pause) return;
        carry();
        stop_ += window_;
    }
}

uint64_t Cluster::cycle() const {
    uint64_t least = NEVER;
    for (const Device* d : devices_) least = std::min(least, d->cycle);
    return least;
}

uint64_t Cluster::log() const {
    Log total;
    for (size_t k = 0; k < devices_.size(); ++k) total.add(devices_[k]->cycle, uint32_t(k), devices_[k]->log.value());
    return total.value();
}

}  // namespace rackgate

#pragma GCC visibility push(default)
extern "C" {
using namespace rackgate;

void* rg_cluster_new() { return new Cluster; }
void rg_cluster_free(void* c) { delete static_cast<Cluster*>(c); }
void rg_cluster_add(void* c, void* device) { static_cast<Cluster*>(c)->add(static_cast<Device*>(device)); }
uint32_t rg_cluster_connect(void* c, void* from, uint32_t output, uint64_t seed, uint64_t latency, uint64_t spread, double loss, double duplicate,
                            double reorder, double corrupt, int cut_through) {
    auto link = std::make_unique<Link>();
    link->seed(seed);
    link->latency = latency;
    link->spread = spread;
    link->loss.set(loss);
    link->duplicate.set(duplicate);
    link->reorder.set(reorder);
    link->corrupt.set(corrupt);
    link->cut_through = cut_through;
    return static_cast<Cluster*>(c)->connect(std::move(link), static_cast<OutputQueue*>(static_cast<Device*>(from)->ports[output]));
}
void rg_cluster_receiver(void* c, uint32_t k, void* to, uint32_t input) {
    Link& link = static_cast<Cluster*>(c)->link(k);
    link.receivers.push_back(static_cast<InputQueue*>(static_cast<Device*>(to)->ports[input]));
    link.traffic.emplace_back();
}
void rg_cluster_route(void* c, uint32_t k, uint32_t source, uint32_t offset, uint32_t width, uint64_t mask, int broadcasts, uint64_t broadcast) {
    Link& link = static_cast<Cluster*>(c)->link(k);
    link.source = source;
    link.route.offset = offset;
    link.route.width = width;
    link.route.mask = mask;
    link.route.broadcasts = broadcasts;
    link.route.broadcast = broadcast;
    link.receivers[source]->measured = true;
}
void rg_cluster_map(void* c, uint32_t k, uint64_t value, uint32_t port) {
    Route& route = static_cast<Cluster*>(c)->link(k).route;
    route.mapped = true;
    route.map[value] = port;
}
void rg_cluster_threads(void* c, uint32_t count) { static_cast<Cluster*>(c)->threads(count); }
uint32_t rg_cluster_advance(void* c, void* device, uint64_t cycles, uint32_t mask) {
    return static_cast<Cluster*>(c)->advance(static_cast<Device*>(device), cycles, mask);
}
uint32_t rg_cluster_run(void* c, uint64_t cycles, uint32_t mask) { return static_cast<Cluster*>(c)->run(cycles, mask); }
uint64_t rg_cluster_cycle(void* c) { return static_cast<Cluster*>(c)->cycle(); }
uint64_t rg_cluster_horizon(void* c) { return static_cast<Cluster*>(c)->horizon(); }
uint64_t rg_cluster_log(void* c) { return static_cast<Cluster*>(c)->log(); }
void rg_cluster_race(void* c, const uint64_t* ends, const uint32_t* masks, uint32_t* found, uint64_t pause) {
    static_cast<Cluster*>(c)->race(ends, masks, found, pause);
}
void rg_cluster_link(void* c, uint32_t k, uint64_t* to) {
    const Link::Statistics& s = static_cast<Cluster*>(c)->link(k).statistics;
    memcpy(to, &s, sizeof s);
}
void rg_cluster_port(void* c, uint32_t k, uint64_t* to) {
    Link& link = static_cast<Cluster*>(c)->link(k);
    InputQueue& input = *link.receivers[link.source];
    if (input.device->cycle) input.measure(input.device->cycle - 1);
    memcpy(to, &input.statistics, sizeof input.statistics);
}
void rg_cluster_traffic(void* c, uint32_t k, uint64_t* to) {
    const auto& traffic = static_cast<Cluster*>(c)->link(k).traffic;
    memcpy(to, traffic.data(), traffic.size() * sizeof traffic[0]);
}
}
#pragma GCC visibility pop
