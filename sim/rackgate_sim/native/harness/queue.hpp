// SPDX-License-Identifier: Apache-2.0
// The queues at a device's streams, whatever their widths.
#pragma once
#include "link.hpp"

namespace rackgate {

/// Queue that feeds a device's input stream. An entry waits until the cycle it is stamped with.
struct InputQueue : Port {
    std::deque<Packet> queue;
    Chance stall;
    bool offered = false;  // valid is up and must stay until the transfer

    void seed(uint64_t value) override { stall.seed(value); }
    /// Queue a packet behind all that are due no later than it.
    void enqueue(Packet&& packet) {
        auto place = queue.end();
        while (place != queue.begin() && (place - 1)->cycle > packet.cycle) --place;
        queue.insert(place, std::move(packet));
    }
    uint64_t next_action(uint64_t now) const override {
        if (offered || queue.empty()) return offered ? now : NEVER;
        return queue.front().cycle > now ? queue.front().cycle : now;
    }
    std::string state() const override {
        return name + ": " + std::to_string(queue.size()) + " queued" + (offered ? ", one offered and not taken" : "");
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
    uint32_t deliver(Packet&& packet) {
        ++delivered;
        device->log.add(packet.cycle, index, packet.bytes);
        device->log.add(packet.cycle, index, packet.error);
        if (link) {
            link->send(std::move(packet));
            return ACTIVE;
        }
        queue.push_back(std::move(packet));
        return PACKET | ACTIVE;
    }
};

}  // namespace rackgate
