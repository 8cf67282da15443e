// SPDX-License-Identifier: Apache-2.0
// Memory behind a device's AXI4 initiator. The bytes are NumPy's own: nothing is copied.
#pragma once
#include <string>

#include "bits.hpp"
#include "device.hpp"

namespace rackgate {

/// What does not depend on the widths: windows, timing, order, faults, statistics.
struct Memory : Port {
    struct Window {
        uint8_t* bytes;
        uint64_t base, size;
    };
    struct Fault {
        uint64_t start, end;
        unsigned response;
        bool read, write;
        uint64_t after, count;  // bursts let pass first; bursts hit then
        uint64_t hits;
    };
    struct Burst {
        uint64_t ready;    // first cycle at which it may be answered
        uint64_t address;  // of the next beat
        uint64_t id;
        uint32_t beats;    // still to come
        unsigned response;
    };
    struct Statistics {
        uint64_t read_bursts = 0, write_bursts = 0, read_bytes = 0, write_bytes = 0;
        uint64_t read_errors = 0, write_errors = 0, outside = 0, outstanding_reads = 0, outstanding_writes = 0;
    };

    std::vector<Window> windows;
    std::vector<Window> watched;
    std::vector<Fault> faults;
    uint32_t latency = 20, write_latency = 4, jitter = 0, outstanding = 16;
    uint64_t beat_cost = 0;  // 1/256 cycles that a beat occupies its direction; 0: no limit but the bus
    bool reorder = false, interleave = false;
    Chance stall_aw, stall_w, stall_b, stall_ar, stall_r;
    Statistics statistics;

    void seed(uint64_t value) override;
    uint64_t next_action(uint64_t now) const override;
    std::string state() const override;

protected:
    std::deque<Burst> reads_, writes_, answers_;  // accepted addresses, and writes to be answered
    uint64_t read_free_ = 0, write_free_ = 0;     // in 1/256 cycles
    size_t reading_ = 0;                          // the read being answered
    bool reading_started_ = false;
    size_t answering_ = 0;
    Random random_;

    void accept(bool write, uint64_t now, uint64_t address, uint64_t id, unsigned length, unsigned size, unsigned burst, unsigned bus_size);
    /// Pick the read whose next beat goes out; false if none may.
    bool choose_read(uint64_t now);
    bool choose_answer(uint64_t now);
    /// Bytes at an aligned address, or nullptr outside all windows.
    uint8_t* locate(uint64_t address, unsigned size) {
        if (last_ < windows.size()) {
            const Window& w = windows[last_];
            if (address - w.base < w.size && w.size - (address - w.base) >= size) return w.bytes + (address - w.base);
        }
        return search(address, size);
    }
    bool touches_watched(uint64_t address, unsigned size) const;
    bool may_transfer(uint64_t now, uint64_t& free) {
        if (!beat_cost) return true;
        if (now * 256 < free) return false;
        free = (free + 255 < now * 256 ? now * 256 : free) + beat_cost;
        return true;
    }

private:
    size_t last_ = 0;
    uint8_t* search(uint64_t address, unsigned size);
    size_t choose(const std::deque<Burst>& bursts, uint64_t now, bool any_order);
    unsigned fault(bool write, uint64_t start, uint64_t end);
};

template <class Signals>
class MemoryPort final : public Memory {
    using AW = typename Signals::aw;
    using W = typename Signals::w;
    using B = typename Signals::b;
    using AR = typename Signals::ar;
    using R = typename Signals::r;
    static constexpr unsigned BYTES = W::data_width / 8;

public:
    template <class Model>
    RG_INLINE bool drive(Model& m, uint64_t now) {
        bool changed = false;
        changed |= set(AW::ready(m), writes_.size() < outstanding && !stall_aw.strikes());
        changed |= set(AR::ready(m), reads_.size() < outstanding && !stall_ar.strikes());
        bool take = !writes_.empty() && !stall_w.strikes();
        if (take && beat_cost) take = now * 256 >= write_free_;
        changed |= set(W::ready(m), take);
        if (!read_offered_) {
            if (!reads_.empty() && !stall_r.strikes() && choose_read(now)) {
                offer_read(m);
                changed = true;
            } else {
                changed |= set(R::valid(m), false);
            }
        }
        if (!answer_offered_) {
            if (!answers_.empty() && !stall_b.strikes() && choose_answer(now)) {
                put(B::payload(m), B::id_lsb, B::id_width, answers_[answering_].id);
                put(B::payload(m), B::resp_lsb, 2, answers_[answering_].response);
                B::valid(m) = 1;
                answer_offered_ = changed = true;
            } else {
                changed |= set(B::valid(m), false);
            }
        }
        return changed;
    }
    template <class Model>
    RG_INLINE uint32_t sample(Model& m, uint64_t now) {
        uint32_t events = 0;
        if (const char* broken = aw_held_.check(m)) device->fail(name + ".aw: " + broken);
        if (const char* broken = w_held_.check(m)) device->fail(name + ".w: " + broken);
        if (const char* broken = ar_held_.check(m)) device->fail(name + ".ar: " + broken);
        if (AR::valid(m) && AR::ready(m)) {
            address<AR>(m, now, false);
            events |= ACTIVE;
        }
        if (W::valid(m) && W::ready(m)) events |= write_beat(m, now);
        if (AW::valid(m) && AW::ready(m)) {
            address<AW>(m, now, true);
            events |= ACTIVE;
        }
        if (read_offered_ && R::ready(m)) {
            read_offered_ = false;
            Burst& burst = reads_[reading_];
            if (burst.response) events |= FAULT;
            burst.address = (burst.address & ~uint64_t(BYTES - 1)) + BYTES;
            reading_started_ = true;
            statistics.read_bytes += BYTES;
            if (--burst.beats == 0) {
                reads_.erase(reads_.begin() + long(reading_));
                reading_started_ = false;
            }
            events |= ACTIVE;
        }
        if (answer_offered_ && B::ready(m)) {
            answer_offered_ = false;
            if (answers_[answering_].response) events |= FAULT;
            answers_.erase(answers_.begin() + long(answering_));
            events |= ACTIVE;
        }
        return events;
    }

private:
    bool read_offered_ = false, answer_offered_ = false;
    Held<AW> aw_held_;
    Held<W> w_held_;
    Held<AR> ar_held_;

    template <class Signal>
    static RG_INLINE bool set(Signal& signal, bool value) {
        const bool changed = bool(signal) != value;
        signal = value;
        return changed;
    }
    template <class A, class Model>
    void address(Model& m, uint64_t now, bool write) {
        const auto& p = A::payload(m);
        accept(write, now, get(p, A::addr_lsb, A::addr_width), get(p, A::id_lsb, A::id_width), unsigned(get(p, A::len_lsb, 8)),
               unsigned(get(p, A::size_lsb, 3)), unsigned(get(p, A::burst_lsb, 2)), BYTES);
    }
    template <class Model>
    void offer_read(Model& m) {
        Burst& burst = reads_[reading_];
        auto& p = R::payload(m);
        const uint8_t* bytes = burst.response ? nullptr : locate(burst.address & ~uint64_t(BYTES - 1), BYTES);
        static const uint8_t nothing[BYTES] = {};
        put_bytes(p, R::data_lsb, R::data_width, bytes ? bytes : nothing);
        put(p, R::id_lsb, R::id_width, burst.id);
        put(p, R::resp_lsb, 2, burst.response);
        put(p, R::last_lsb, 1, burst.beats == 1);
        R::valid(m) = 1;
        read_offered_ = true;
    }
    template <class Model>
    uint32_t write_beat(Model& m, uint64_t now) {
        uint32_t events = ACTIVE;
        Burst& burst = writes_.front();
        const auto& p = W::payload(m);
        may_transfer(now, write_free_);
        const bool last = get(p, W::last_lsb, 1);
        if (last != (burst.beats == 1)) {
            device->fail(name + ".w: last is " + (last ? "1" : "0") + " on a beat with " + std::to_string(burst.beats - 1) + " beats of its burst to come");
            return FAILURE;
        }
        uint8_t data[BYTES];
        get_bytes(p, W::data_lsb, W::data_width, data);
        const uint64_t strobe = get(p, W::strb_lsb, BYTES), aligned = burst.address & ~uint64_t(BYTES - 1);
        uint8_t* to = burst.response ? nullptr : locate(aligned, BYTES);
        if (to) {
            if (strobe == ones(BYTES)) memcpy(to, data, BYTES);
            else
                for (unsigned k = 0; k < BYTES; ++k)
                    if (strobe >> k & 1) to[k] = data[k];
            statistics.write_bytes += unsigned(__builtin_popcountll(strobe));
            if (!watched.empty() && touches_watched(aligned, BYTES)) events |= WATCH;
        }
        device->log.add(now, index, aligned ^ strobe << 48);
        for (unsigned k = 0; k < BYTES; k += 8) {
            uint64_t word = 0;
            memcpy(&word, data + k, BYTES < 8 ? BYTES : 8);
            device->log.add(now, index, word);
        }
        burst.address = aligned + BYTES;
        if (--burst.beats == 0) {
            burst.ready = now + write_latency + (jitter ? random_.below(jitter + 1) : 0);
            answers_.push_back(burst);
            writes_.pop_front();
        }
        return events;
    }
};

}  // namespace rackgate
