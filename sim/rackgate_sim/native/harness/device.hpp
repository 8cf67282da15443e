// SPDX-License-Identifier: Apache-2.0
// What a simulated device looks like from outside, whatever its design: ports, a clock, events, a log.
// No Verilator header is needed here, so the scheduler and the C interface are compiled once for all.
#pragma once
#include <cstdint>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

namespace rackgate {

/// Reasons to stop running. They stay set until run() has reported them, so that an interrupt which
/// rises during a register access is not lost.
enum Event : uint32_t {
    PACKET = 1,     // an output stream delivered a packet or an element
    IRQ = 2,        // the interrupt rose
    DRAIN = 4,      // an input stream's queue ran empty
    WATCH = 8,      // the device wrote into a watched range of memory
    REGISTER = 16,  // a register access ended
    FAULT = 32,     // a memory access was answered with an error response
    FAILURE = 64,   // an assertion failed or a port broke its protocol: see Device::failure
    LIMIT = 128,    // the cycles asked for have passed
    ACTIVE = 1u << 31,  // internal: something was transferred in this cycle
};

constexpr uint64_t NEVER = ~uint64_t(0);

/// Small deterministic generator (xorshift64*); every port and channel has its own.
class Random {
public:
    void seed(uint64_t value) {
        // SplitMix64 spreads neighbouring seeds; xorshift must not start at zero.
        value += 0x9e3779b97f4a7c15u;
        value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
        value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
        state_ = (value ^ (value >> 31)) | 1;
    }
    uint64_t next() {
        state_ ^= state_ >> 12;
        state_ ^= state_ << 25;
        state_ ^= state_ >> 27;
        return state_ * 0x2545f4914f6cdd1du;
    }
    /// Uniform in [0, bound).
    uint64_t below(uint64_t bound) { return uint64_t((unsigned __int128)(next()) * bound >> 64); }

private:
    uint64_t state_ = 1;
};

/// Something that happens with a given probability each time it is asked.
class Chance {
public:
    void set(double probability) { threshold_ = probability >= 1 ? NEVER : uint64_t(probability * 18446744073709551616.0); }
    void seed(uint64_t value) { random_.seed(value); }
    bool never() const { return threshold_ == 0; }
    bool strikes() { return threshold_ && random_.next() < threshold_; }

private:
    uint64_t threshold_ = 0;
    Random random_;
};

/// Running hash of everything that crossed a device's ports, with the cycle at which it did.
class Log {
public:
    void add(uint64_t cycle, uint32_t port, uint64_t value) {
        hash_ = (hash_ ^ cycle) * 0x9e3779b97f4a7c15u;
        hash_ = (hash_ ^ (hash_ >> 29) ^ port) * 0xbf58476d1ce4e5b9u;
        hash_ = (hash_ ^ (hash_ >> 32) ^ value) * 0x94d049bb133111ebu;
    }
    void add(uint64_t cycle, uint32_t port, const std::vector<uint8_t>& bytes) {
        add(cycle, port, bytes.size());
        for (size_t k = 0; k < bytes.size(); k += 8) {
            uint64_t word = 0;
            memcpy(&word, &bytes[k], bytes.size() - k < 8 ? bytes.size() - k : 8);
            add(cycle, port, word);
        }
    }
    uint64_t value() const { return hash_; }

private:
    uint64_t hash_ = 0x52414747415445;
};

struct Device;

/// One port of a device. The generated glue adds drive() and sample(), which know the signals.
struct Port {
    Device* device = nullptr;
    uint32_t index = 0;
    std::string name;
    virtual ~Port() = default;
    virtual void seed(uint64_t) {}
    /// First cycle at which the port may want to change an input of the device; NEVER if it only reacts.
    virtual uint64_t next_action(uint64_t now) const = 0;
    /// One line for a time-out's message.
    virtual std::string state() const = 0;
};

/// One simulated device and its clock.
struct Device {
    uint64_t cycle = 0;
    uint32_t events = 0;
    uint64_t evaluations = 0, skipped = 0;  // work done, and cycles that were known to change nothing
    bool failed = false;
    std::string failure;   // what broke; an assertion's own text if it had one
    std::string printed;   // text the gateware printed and nobody has fetched yet
    std::vector<Port*> ports;
    Log log;

    virtual ~Device() = default;
    /// Run until one of the masked events, or for so many cycles.
    virtual uint32_t run(uint64_t cycles, uint32_t mask) = 0;
    virtual void reset(uint32_t cycles) = 0;
    virtual uint64_t peek(uint32_t signal) = 0;
    virtual void poke(uint32_t signal, uint64_t value) = 0;
    virtual bool irq() = 0;
    /// Whether the device is known to be still until this cycle at least.
    virtual bool rests_until(uint64_t cycle) const = 0;
    virtual int trace(const char* path) = 0;
    virtual int coverage(const char* path) = 0;

    void fail(const std::string& what) {
        if (!failed) failure = what;
        failed = true;
    }
};

/// Made by the generated glue.
Device* make_device();

}  // namespace rackgate
