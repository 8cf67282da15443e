// SPDX-License-Identifier: Apache-2.0
// Several devices on one time line. A window is as long as the shortest link is slow, so nothing sent in a
// window arrives in it, and the devices run through it independently, on any number of threads.
#pragma once
#include <atomic>
#include <memory>
#include <thread>

#include "queue.hpp"

namespace rackgate {

/// Threads that help with one window after another. They wait awake for a moment and asleep then: on a busy
/// machine, spinning would take the core from the thread that is waited for.
class Crew {
public:
    explicit Crew(unsigned helpers);
    ~Crew();
    unsigned size() const { return unsigned(threads_.size()); }
    /// Call work(k) for each k below count, here and in the helpers; returns when all have ended.
    template <class Work>
    void share(size_t count, Work work) {
        job_ = [](void* w, size_t k) { (*static_cast<Work*>(w))(k); };
        argument_ = &work;
        count_ = count;
        next_.store(0, std::memory_order_relaxed);
        busy_.store(size(), std::memory_order_relaxed);
        round_.fetch_add(1, std::memory_order_release);
        round_.notify_all();
        take();
        await(busy_, 0u);
    }

private:
    std::vector<std::thread> threads_;
    std::atomic<uint32_t> round_{0}, busy_{0};
    std::atomic<size_t> next_{0};
    std::atomic<bool> leave_{false};
    void (*job_)(void*, size_t) = nullptr;
    void* argument_ = nullptr;
    size_t count_ = 0;

    void take() {
        for (size_t k; (k = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) job_(argument_, k);
    }
    static void await(std::atomic<uint32_t>& value, uint32_t wanted);
    void help();
};

class Cluster {
public:
    ~Cluster();
    void add(Device* device) { devices_.push_back(device); }
    /// Let a link take away what an output delivers; returns the link's number.
    uint32_t connect(std::unique_ptr<Link> link, OutputQueue* from);
    void threads(unsigned count);

    /// Let one device run until an event or for so many cycles; the others keep within a window of it.
    uint32_t advance(Device* target, uint64_t cycles, uint32_t mask);
    /// Let all devices run to the same cycle; ends early, with a window, when a device has an event of the mask.
    uint32_t run(uint64_t cycles, uint32_t mask);
    /// Let each device run until an event of its own mask or to its own end, and stop there exactly. Returns when one
    /// has stopped or all have reached the cycle `pause`; found[k] is what stopped device k, LIMIT if nothing did.
    void race(const uint64_t* ends, const uint32_t* masks, uint32_t* found, uint64_t pause);

    uint64_t cycle() const;
    /// Cycle up to which each device may run without the others: what reaches it before has been handed over.
    uint64_t horizon() const { return stop_; }
    uint64_t log() const;
    Link& link(size_t k) { return *wires_[k].link; }

private:
    struct Wire {
        std::unique_ptr<Link> link;
        OutputQueue* from;
    };
    std::vector<Device*> devices_;
    std::vector<Wire> wires_;
    std::unique_ptr<Crew> crew_;
    int owner_ = 0;  // the process that has the crew: threads do not survive a fork
    uint64_t window_ = uint64_t(1) << 20, stop_ = 0;

    /// Bring every device to the window's end and carry over what was sent; false if a device failed.
    bool finish();
    void carry();
    template <class Work>
    void each(Work work);
};

}  // namespace rackgate
