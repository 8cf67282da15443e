// SPDX-License-Identifier: Apache-2.0
// Links between devices: latency, loss, duplication, reordering and corruption, all from one seed, and the choice of a
// receiver where there are several.
#pragma once
#include <unordered_map>

#include "device.hpp"

namespace rackgate {

struct Packet {
    uint64_t cycle = 0;  // when it left an output, or may enter an input
    std::vector<uint8_t> bytes;
    bool error = false;
    uint32_t source = 0;        // the sender's number: of packets that are due at once, the lowest goes first
    bool whole = true;          // false while words are still to come
    std::vector<uint64_t> due;  // by word, when it may enter; empty: all from `cycle` on
};

struct InputQueue;

/// The receiver of a packet, by a little-endian field in it.
struct Route {
    unsigned offset = 0, width = 0;  // bytes; without a width everything goes to the first receiver
    uint64_t mask = NEVER;
    bool broadcasts = false;
    uint64_t broadcast = 0;  // this value means everybody but the sender
    bool mapped = false;
    std::unordered_map<uint64_t, uint32_t> map;

    /// Bytes that must be known.
    size_t reach() const { return offset + width; }
    uint64_t field(const uint8_t* bytes) const {
        uint64_t value = 0;
        for (unsigned k = width; k-- > 0;) value = value << 8 | bytes[offset + k];
        return value & mask;
    }
};

/// One direction of a link, or one port's way into a crossbar. Only the sending device's thread touches it while a
/// window runs; the scheduler carries over what was sent between windows.
class Link {
public:
    struct Statistics {
        uint64_t sent = 0, lost = 0, duplicated = 0, reordered = 0, corrupted = 0;
        uint64_t bytes = 0, words = 0, unrouted = 0;
    };
    struct Traffic {
        uint64_t packets = 0, bytes = 0;
    };

    uint64_t latency = 1;      // cycles; at least the scheduler's window
    uint64_t spread = 0;       // a reordered packet comes up to so many cycles later
    bool cut_through = false;  // words go on as they come, not the packet at its end
    uint32_t source = 0;
    Chance loss, duplicate, reorder, corrupt;
    Route route;
    std::vector<InputQueue*> receivers;
    std::vector<Traffic> traffic;  // by receiver: packets that were sent, whatever became of them
    Statistics statistics;

    void seed(uint64_t value);
    /// A packet has left the sender.
    void send(Packet&& packet, unsigned width);
    /// A word of a packet has left the sender, `size` of its `width` bytes valid; `bytes` lie behind the packet's earlier ones.
    void word(uint64_t now, const std::vector<uint8_t>& packet, unsigned size, unsigned width, bool last, bool error);
    /// Hand over what was sent since the last window.
    void carry();

private:
    struct Flight {
        InputQueue* to;
        uint64_t late;
        Packet packet;             // what of it the receiver has not got yet
        Packet* placed = nullptr;  // the part that it has
    };
    std::vector<Flight> flights_;  // the last `open_` of them are still growing
    Random random_;
    // The packet that is leaving, word by word.
    size_t open_ = 0, words_ = 0, longest_ = 1, flipped_ = 0;
    bool lost_ = false, corrupted_ = false, twice_ = false, departed_ = false;
    uint64_t late_ = 0;
    std::vector<uint8_t> before_;  // words that came before the receiver was known, as they go on

    /// Receivers of a packet of which enough is known; none if there is no such receiver.
    void choose(const uint8_t* bytes, std::vector<uint32_t>& chosen) const;
    void count(const std::vector<uint32_t>& chosen, size_t size, unsigned width);
    void begin();
    void depart(uint64_t now);
    std::vector<uint32_t> chosen_;
};

}  // namespace rackgate
