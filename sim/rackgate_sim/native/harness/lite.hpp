// SPDX-License-Identifier: Apache-2.0
// Register access: the initiator on a device's AXI4-Lite target.
#pragma once
#include "bits.hpp"
#include "device.hpp"

namespace rackgate {

/// One access at a time. Address and data are offered together, so a device may take them in any order.
struct RegisterPort : Port {
    bool busy = false, write = false, fresh = false;  // fresh: the payload is still to be put
    bool address_sent = false, data_sent = false;
    uint64_t address = 0;
    uint32_t value = 0;       // to write, or as read
    unsigned response = 0;

    void begin(bool is_write, uint64_t where, uint32_t what) {
        device->events &= ~uint32_t(REGISTER);  // of an access that somebody gave up waiting for
        busy = fresh = true;
        write = is_write;
        address = where;
        value = what;
        address_sent = data_sent = false;
    }
    uint64_t next_action(uint64_t now) const override { return busy ? now : NEVER; }
    std::string state() const override {
        if (!busy) return name + ": no access under way";
        std::string text = name + (write ? ": write" : ": read") + " at " + std::to_string(address);
        text += address_sent ? ", address taken" : ", address not taken";
        if (write) text += data_sent ? ", data taken" : ", data not taken";
        return text + ", no response";
    }
};

template <class Signals>
class LiteTarget final : public RegisterPort {
public:
    template <class Model>
    RG_INLINE bool drive(Model& m, uint64_t) {
        if (!busy && !driving_) return false;
        if (fresh) {
            fresh = false;
            if (write) {
                put(Signals::aw::payload(m), Signals::aw::addr_lsb, Signals::aw::addr_width, address);
                put(Signals::w::payload(m), Signals::w::data_lsb, 32, value);
                put(Signals::w::payload(m), Signals::w::strb_lsb, 4, 15);
            } else {
                put(Signals::ar::payload(m), Signals::ar::addr_lsb, Signals::ar::addr_width, address);
            }
        }
        driving_ = busy;
        Signals::aw::valid(m) = busy && write && !address_sent;
        Signals::w::valid(m) = busy && write && !data_sent;
        Signals::ar::valid(m) = busy && !write && !address_sent;
        Signals::b::ready(m) = busy && write;
        Signals::r::ready(m) = busy && !write;
        return true;
    }
    template <class Model>
    RG_INLINE uint32_t sample(Model& m, uint64_t now) {
        if (__builtin_expect(!busy, 1)) return 0;
        return transfer(m, now);
    }

private:
    bool driving_ = false;

    template <class Model>
    uint32_t transfer(Model& m, uint64_t now) {
        if (write) {
            if (Signals::aw::valid(m) && Signals::aw::ready(m)) address_sent = true;
            if (Signals::w::valid(m) && Signals::w::ready(m)) data_sent = true;
            if (!Signals::b::valid(m)) return ACTIVE;
            // A write is answered after its address and data (IHI 0022 A3.3.1).
            if (!(address_sent && data_sent)) device->fail(name + ": write response before the write was taken");
            response = unsigned(get(Signals::b::payload(m), Signals::b::resp_lsb, 2));
        } else {
            if (Signals::ar::valid(m) && Signals::ar::ready(m)) address_sent = true;
            if (!Signals::r::valid(m)) return ACTIVE;
            if (!address_sent) device->fail(name + ": read data before the address was taken");
            value = uint32_t(get(Signals::r::payload(m), Signals::r::data_lsb, 32));
            response = unsigned(get(Signals::r::payload(m), Signals::r::resp_lsb, 2));
        }
        busy = false;
        device->log.add(now, index, address << 1 | write);
        device->log.add(now, index, uint64_t(response) << 32 | value);
        return REGISTER | ACTIVE;
    }
};

}  // namespace rackgate
