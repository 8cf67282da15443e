// SPDX-License-Identifier: Apache-2.0
// Streams as queues: of packets, when the payload has data, count, last and error, or of elements.
#pragma once
#include "bits.hpp"
#include "queue.hpp"

namespace rackgate {

template <class Stream>
class PacketInput final : public InputQueue {
    static constexpr unsigned BYTES = Stream::data_width / 8;

public:
    PacketInput() { width = BYTES; }
    template <class Model>
    RG_INLINE bool drive(Model& m, uint64_t now) {
        if (offered) return false;
        if (queue.empty() || due() > now || stall.strikes()) {
            const bool changed = Stream::valid(m);
            Stream::valid(m) = 0;
            return changed;
        }
        offer(m);
        return true;
    }
    template <class Model>
    RG_INLINE uint32_t sample(Model& m, uint64_t now) {
        if (!offered) return 0;
        ++statistics.busy;
        if (!Stream::ready(m)) return 0;
        offered = false;
        took(now, count_);
        ++taken;
        if (!last_) return ACTIVE;
        ++statistics.packets;
        device->log.add(now, index, queue.front().bytes);
        queue.pop_front();
        taken = 0;
        return queue.empty() ? DRAIN | ACTIVE : ACTIVE;
    }

private:
    unsigned count_ = 0;  // of the word that is offered
    bool last_ = false;

    template <class Model>
    void offer(Model& m) {
        const Packet& packet = queue.front();
        const size_t offset = taken * BYTES, left = packet.bytes.size() - offset;
        count_ = left < BYTES ? unsigned(left) : BYTES;
        last_ = packet.whole && left <= BYTES;
        uint8_t word[BYTES + 8] = {};
        memcpy(word, packet.bytes.data() + offset, count_);
        put_bytes(Stream::payload(m), Stream::data_lsb, Stream::data_width, word);
        put(Stream::payload(m), Stream::count_lsb, Stream::count_width, count_);
        put(Stream::payload(m), Stream::last_lsb, 1, last_);
        put(Stream::payload(m), Stream::error_lsb, 1, last_ && packet.error);
        Stream::valid(m) = 1;
        offered = true;
    }
};

template <class Stream>
class PacketOutput final : public OutputQueue {
    static constexpr unsigned BYTES = Stream::data_width / 8;

public:
    template <class Model>
    RG_INLINE bool drive(Model& m, uint64_t) {
        const bool ready = !stall.strikes();
        const bool changed = bool(Stream::ready(m)) != ready;
        Stream::ready(m) = ready;
        return changed;
    }
    template <class Model>
    RG_INLINE uint32_t sample(Model& m, uint64_t now) {
        if (const char* broken = held_.check(m)) device->fail(name + ": " + broken);
        if (!(Stream::valid(m) && Stream::ready(m))) return 0;
        return take(m, now);
    }

private:
    Held<Stream> held_;
    std::vector<uint8_t> bytes_;

    template <class Model>
    uint32_t take(Model& m, uint64_t now) {
        const auto& payload = Stream::payload(m);
        const unsigned count = unsigned(get(payload, Stream::count_lsb, Stream::count_width));
        const bool last = get(payload, Stream::last_lsb, 1);
        if (count < 1 || count > BYTES || (!last && count != BYTES)) {
            device->fail(name + ": a word that is " + (last ? "the last" : "not the last") + " of its packet has count " + std::to_string(count));
            return FAILURE;
        }
        const size_t size = bytes_.size();
        bytes_.resize(size + BYTES);
        get_bytes(payload, Stream::data_lsb, Stream::data_width, &bytes_[size]);
        const bool error = get(payload, Stream::error_lsb, 1);
        if (link && link->cut_through) link->word(now, bytes_, count, BYTES, last, error);
        if (!last) return ACTIVE;
        bytes_.resize(size + count);
        Packet packet{now, std::move(bytes_), error};
        bytes_.clear();
        return deliver(std::move(packet), BYTES);
    }
};

template <class Stream>
class ElementInput final : public InputQueue {
public:
    template <class Model>
    RG_INLINE bool drive(Model& m, uint64_t now) {
        if (offered) return false;
        if (queue.empty() || queue.front().cycle > now || stall.strikes()) {
            const bool changed = Stream::valid(m);
            Stream::valid(m) = 0;
            return changed;
        }
        put_bytes(Stream::payload(m), 0, Stream::width, queue.front().bytes.data());
        Stream::valid(m) = 1;
        return offered = true;
    }
    template <class Model>
    RG_INLINE uint32_t sample(Model& m, uint64_t now) {
        if (!offered || !Stream::ready(m)) return 0;
        offered = false;
        device->log.add(now, index, queue.front().bytes);
        queue.pop_front();
        return queue.empty() ? DRAIN | ACTIVE : ACTIVE;
    }
};

template <class Stream>
class ElementOutput final : public OutputQueue {
public:
    template <class Model>
    RG_INLINE bool drive(Model& m, uint64_t) {
        const bool ready = !stall.strikes();
        const bool changed = bool(Stream::ready(m)) != ready;
        Stream::ready(m) = ready;
        return changed;
    }
    template <class Model>
    RG_INLINE uint32_t sample(Model& m, uint64_t now) {
        if (const char* broken = held_.check(m)) device->fail(name + ": " + broken);
        if (!(Stream::valid(m) && Stream::ready(m))) return 0;
        std::vector<uint8_t> bytes((Stream::width + 63) / 64 * 8);
        get_bytes(Stream::payload(m), 0, Stream::width, bytes.data());
        const unsigned width = unsigned(bytes.size());
        return deliver({now, std::move(bytes), false}, width);
    }

private:
    Held<Stream> held_;
};

}  // namespace rackgate
