// SPDX-License-Identifier: Apache-2.0
// Links between devices: latency, loss, duplication, reordering and corruption, all from one seed.
#pragma once
#include "device.hpp"

namespace rackgate {

struct Packet {
    uint64_t cycle = 0;  // when it left an output, or may enter an input
    std::vector<uint8_t> bytes;
    bool error = false;
};

/// One direction of a link. Only the sending device's thread touches it while a window runs; the
/// scheduler moves the outbox between windows.
class Link {
public:
    uint64_t latency = 1;  // cycles; at least the scheduler's window
    uint64_t spread = 0;   // a reordered packet comes up to so many cycles later
    Chance loss, duplicate, reorder, corrupt;
    uint64_t sent = 0, lost = 0, duplicated = 0, reordered = 0, corrupted = 0;
    std::vector<Packet> outbox;

    void seed(uint64_t value) {
        loss.seed(value);
        duplicate.seed(value + 1);
        reorder.seed(value + 2);
        corrupt.seed(value + 3);
        random_.seed(value + 4);
    }
    void send(Packet&& packet) {
        ++sent;
        packet.cycle += latency;
        if (loss.strikes()) {
            ++lost;
            return;
        }
        if (corrupt.strikes() && !packet.bytes.empty()) {
            ++corrupted;
            const uint64_t bit = random_.below(packet.bytes.size() * 8);
            packet.bytes[bit / 8] ^= uint8_t(1u << bit % 8);
        }
        if (duplicate.strikes()) {
            ++duplicated;
            outbox.push_back(packet);
        }
        if (reorder.strikes() && spread) {
            ++reordered;
            packet.cycle += 1 + random_.below(spread);
        }
        outbox.push_back(std::move(packet));
    }

private:
    Random random_;
};

}  // namespace rackgate
