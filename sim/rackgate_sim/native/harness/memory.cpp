// SPDX-License-Identifier: Apache-2.0
#include "memory.hpp"

namespace rackgate {

void Memory::seed(uint64_t value) {
    Chance* stalls[] = {&stall_aw, &stall_w, &stall_b, &stall_ar, &stall_r};
    for (Chance* stall : stalls) stall->seed(value++);
    random_.seed(value);
}

uint64_t Memory::next_action(uint64_t now) const {
    const bool stalls = !(stall_aw.never() && stall_w.never() && stall_ar.never());
    return stalls || !reads_.empty() || !writes_.empty() || !answers_.empty() ? now : NEVER;
}

std::string Memory::state() const {
    return name + ": " + std::to_string(reads_.size()) + " reads and " + std::to_string(writes_.size()) + " writes under way, "
           + std::to_string(answers_.size()) + " writes to be answered; " + std::to_string(statistics.read_bursts) + " read and "
           + std::to_string(statistics.write_bursts) + " write bursts so far";
}

uint8_t* Memory::search(uint64_t address, unsigned size) {
    for (size_t k = 0; k < windows.size(); ++k) {
        const Window& w = windows[k];
        if (address - w.base < w.size && w.size - (address - w.base) >= size) {
            last_ = k;
            return w.bytes + (address - w.base);
        }
    }
    return nullptr;
}

bool Memory::touches_watched(uint64_t address, unsigned size) const {
    for (const Window& w : watched)
        if (address < w.base + w.size && w.base < address + size) return true;
    return false;
}

unsigned Memory::fault(bool write, uint64_t start, uint64_t end) {
    for (Fault& f : faults) {
        if (!(write ? f.write : f.read) || end <= f.start || f.end <= start) continue;
        if (f.after) {
            --f.after;
        } else if (f.hits < f.count) {
            ++f.hits;
            return f.response;
        }
    }
    return 0;
}

void Memory::accept(bool write, uint64_t now, uint64_t address, uint64_t id, unsigned length, unsigned size, unsigned burst, unsigned bus_size) {
    const std::string channel = name + (write ? ".aw" : ".ar");
    const uint64_t start = address & ~uint64_t(bus_size - 1), end = start + uint64_t(length + 1) * bus_size;
    if (burst != 1) device->fail(channel + ": burst type " + std::to_string(burst) + ", only INCR is allowed");
    if (1u << size != bus_size) device->fail(channel + ": beats of " + std::to_string(1u << size) + " bytes on a bus of " + std::to_string(bus_size));
    // IHI 0022 A3.4.1: a burst must not cross a 4 KiB address boundary.
    if (start >> 12 != (end - 1) >> 12)
        device->fail(channel + ": burst of " + std::to_string(length + 1) + " beats at address " + std::to_string(address) + " crosses a 4 KiB boundary");
    Burst entry{now + (write ? write_latency : latency), address, id, length + 1, fault(write, start, end)};
    if (!write && jitter) entry.ready += random_.below(jitter + 1);
    if (!entry.response)
        for (uint64_t page = start; page < end; page += bus_size)
            if (!locate(page, bus_size)) {
                ++statistics.outside;
                entry.response = 3;
                break;
            }
    device->log.add(now, index, address << 1 | write);
    device->log.add(now, index, id << 8 | length);
    auto& queue = write ? writes_ : reads_;
    queue.push_back(entry);
    ++(write ? statistics.write_bursts : statistics.read_bursts);
    if (entry.response) ++(write ? statistics.write_errors : statistics.read_errors);
    uint64_t& most = write ? statistics.outstanding_writes : statistics.outstanding_reads;
    if (queue.size() > most) most = queue.size();
}

size_t Memory::choose(const std::deque<Burst>& bursts, uint64_t now, bool any_order) {
    if (!any_order) return !bursts.empty() && bursts.front().ready <= now ? 0 : bursts.size();
    // Only the oldest burst of an id may be answered (IHI 0022 A5.3). Among those, all are as likely.
    size_t chosen = bursts.size(), candidates = 0;
    for (size_t k = 0; k < bursts.size(); ++k) {
        if (bursts[k].ready > now) continue;
        bool oldest = true;
        for (size_t j = 0; j < k && oldest; ++j) oldest = bursts[j].id != bursts[k].id;
        if (oldest && random_.below(++candidates) == 0) chosen = k;
    }
    return chosen;
}

bool Memory::choose_read(uint64_t now) {
    if (!reading_started_ || interleave) {
        const size_t chosen = choose(reads_, now, reorder || interleave);
        if (chosen == reads_.size()) return false;
        reading_ = chosen;
    }
    return may_transfer(now, read_free_);
}

bool Memory::choose_answer(uint64_t now) {
    answering_ = choose(answers_, now, reorder);
    return answering_ != answers_.size();
}

}  // namespace rackgate
