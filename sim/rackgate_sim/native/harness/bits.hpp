// SPDX-License-Identifier: Apache-2.0
// Fields of Verilator's port types: integers up to 64 bits, arrays of 32-bit words above.
#pragma once
#include <cstdint>
#include <cstring>

#include "verilated.h"

namespace rackgate {

#define RG_INLINE inline __attribute__((always_inline))

constexpr uint64_t ones(unsigned width) { return width >= 64 ? ~uint64_t(0) : (uint64_t(1) << width) - 1; }

template <class Signal>
RG_INLINE uint64_t get(const Signal& signal, unsigned lsb, unsigned width) {
    return uint64_t(signal) >> lsb & ones(width);
}

template <std::size_t WORDS>
RG_INLINE uint64_t get(const VlWide<WORDS>& signal, unsigned lsb, unsigned width) {
    const unsigned word = lsb / 32, shift = lsb % 32;
    uint64_t value = signal[word];
    if (word + 1 < WORDS) value |= uint64_t(signal[word + 1]) << 32;
    value >>= shift;
    if (shift && shift + width > 64 && word + 2 < WORDS) value |= uint64_t(signal[word + 2]) << (64 - shift);
    return value & ones(width);
}

template <class Signal>
RG_INLINE void put(Signal& signal, unsigned lsb, unsigned width, uint64_t value) {
    const uint64_t mask = ones(width) << lsb;
    signal = Signal((uint64_t(signal) & ~mask) | (value << lsb & mask));
}

template <std::size_t WORDS>
RG_INLINE void put(VlWide<WORDS>& signal, unsigned lsb, unsigned width, uint64_t value) {
    while (width) {
        const unsigned word = lsb / 32, shift = lsb % 32, count = 32 - shift < width ? 32 - shift : width;
        const uint32_t mask = uint32_t(ones(count)) << shift;
        signal[word] = (signal[word] & ~mask) | (uint32_t(value) << shift & mask);
        value >>= count;
        lsb += count;
        width -= count;
    }
}

/// Copy a field between a signal and memory, 64 bits at a time.
template <class Signal>
RG_INLINE void get_bytes(const Signal& signal, unsigned lsb, unsigned width, uint8_t* to) {
    for (unsigned k = 0; k < width; k += 64) {
        const unsigned count = width - k < 64 ? width - k : 64;
        const uint64_t value = get(signal, lsb + k, count);
        memcpy(to + k / 8, &value, (count + 7) / 8);
    }
}

template <class Signal>
RG_INLINE void put_bytes(Signal& signal, unsigned lsb, unsigned width, const uint8_t* from) {
    for (unsigned k = 0; k < width; k += 64) {
        const unsigned count = width - k < 64 ? width - k : 64;
        uint64_t value = 0;
        memcpy(&value, from + k / 8, (count + 7) / 8);
        put(signal, lsb + k, count, value);
    }
}

/// The stream rule that a valid payload stays until it is taken, checked on a device's output.
template <class Stream>
class Held {
public:
    /// Returns what was broken, or nullptr.
    template <class Model>
    RG_INLINE const char* check(Model& model) {
        const bool valid = Stream::valid(model), ready = Stream::ready(model);
        if (__builtin_expect(held_, 0)) {
            held_ = false;
            if (!valid) return "valid fell before the transfer";
            if (memcmp(&kept_, &Stream::payload(model), sizeof kept_)) return "the payload changed before the transfer";
        }
        if (__builtin_expect(valid && !ready, 0)) {
            held_ = true;
            memcpy(&kept_, &Stream::payload(model), sizeof kept_);
        }
        return nullptr;
    }

private:
    bool held_ = false;
    typename Stream::Payload kept_;
};

}  // namespace rackgate
