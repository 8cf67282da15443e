// SPDX-License-Identifier: Apache-2.0
// The queues at a device's streams, whatever their widths.
#pragma once
#include <list>
#include <queue>

#include "link.hpp"

namespace rackgate {

/// Queue that feeds a device's input stream. An entry waits until the cycle it is stamped with.
struct InputQueue : Port {
    struct Statistics {
        uint64_t packets = 0, bytes = 0, words = 0;  // that the device took
        uint64_t busy = 0;                           // cycles in which a word was offered, taken or not
        uint64_t deepest = 0;                        // words that were due and not taken, at most
    };
    std::list<Packet> queue;  // a packet that grows stays where it is
    Chance stall;
    bool offered = false;   // valid is up and must stay until the transfer
    bool measured = false;  // keep track of the depth
    size_t taken = 0;       // words of the first packet
    unsigned width = 1;     // bytes of a word
    Statistics statistics;

    void seed(uint64_t value) override { stall.seed(value); }
    /// Queue a packet behind all that are due no later than it; of those that are due at once, lower sources go first.
    Packet* enqueue(Packet&& packet) {
        note(packet);
        auto place = queue.end();
        while (place != queue.begin() && after(*std::prev(place), packet)) --place;
        return &*queue.insert(place, std::move(packet));
    }
    /// Add words to a packet that is still growing.
    void extend(Packet& packet, const Packet& more) {
        note(more);
        packet.bytes.insert(packet.bytes.end(), more.bytes.begin(), more.bytes.end());
        packet.due.insert(packet.due.end(), more.due.begin(), more.due.end());
        packet.whole = more.whole;
        packet.error = more.error;
    }
    /// When the next word may enter; NEVER if none is known of.
    uint64_t due() const {
        if (queue.empty()) return NEVER;
        const Packet& packet = queue.front();
        if (packet.due.empty()) return packet.cycle;
        return taken < packet.due.size() ? packet.due[taken] : NEVER;
    }
    uint64_t next_action(uint64_t now) const override {
        if (offered) return now;
        const uint64_t next = due();
        return next > now ? next : now;
    }
    std::string state() const override {
        return name + ": " + std::to_string(queue.size()) + " queued" + (offered ? ", one offered and not taken" : "");
    }
    /// Account for the words that were due up to a cycle.
    void measure(uint64_t now) {
        for (; !arrivals_.empty() && arrivals_.top().first <= now; arrivals_.pop()) depth_ += arrivals_.top().second;
        if (depth_ > statistics.deepest) statistics.deepest = depth_;
    }

protected:
    void took(uint64_t now, unsigned size) {
        ++statistics.words;
        statistics.bytes += size;
        if (!measured) return;
        measure(now);
        --depth_;
    }

private:
    using Arrival = std::pair<uint64_t, uint64_t>;  // cycle, words
    std::priority_queue<Arrival, std::vector<Arrival>, std::greater<Arrival>> arrivals_;
    uint64_t depth_ = 0;

    static bool after(const Packet& a, const Packet& b) { return a.cycle != b.cycle ? a.cycle > b.cycle : a.source > b.source; }
    void note(const Packet& packet) {
        if (!measured) return;
        if (packet.due.empty()) {
            if (const size_t words = (packet.bytes.size() + width - 1) / width) arrivals_.push({packet.cycle, words});
        } else {
            for (const uint64_t cycle : packet.due) arrivals_.push({cycle, 1});
        }
    }
};

/// Queue of what a device's output stream delivered, unless a link takes it away.
struct OutputQueue : Port {
    std::deque<Packet> queue;
    Chance stall;
    Link* link = nullptr;
    uint64_t delivered = 0;

    void seed(uint64_t value) override { stall.seed(value); }
    uint64_t next_action(uint64_t now) const override { return stall.never() ? NEVER : now; }
    std::string state() const override {
        return name + ": " + std::to_string(delivered) + " delivered, " + std::to_string(queue.size()) + " not popped";
    }

protected:
    uint32_t deliver(Packet&& packet, unsigned width) {
        ++delivered;
        device->log.add(packet.cycle, index, packet.bytes);
        device->log.add(packet.cycle, index, packet.error);
        if (link) {
            if (!link->cut_through) link->send(std::move(packet), width);
            return ACTIVE;
        }
        queue.push_back(std::move(packet));
        return PACKET | ACTIVE;
    }
};

}  // namespace rackgate
