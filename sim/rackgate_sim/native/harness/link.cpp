// SPDX-License-Identifier: Apache-2.0
#include "link.hpp"

#include "queue.hpp"

namespace rackgate {

void Link::seed(uint64_t value) {
    loss.seed(value);
    duplicate.seed(value + 1);
    reorder.seed(value + 2);
    corrupt.seed(value + 3);
    random_.seed(value + 4);
}

void Link::choose(const uint8_t* bytes, std::vector<uint32_t>& chosen) const {
    chosen.clear();
    uint64_t port = route.width ? route.field(bytes) : 0;
    if (route.broadcasts && port == route.broadcast) {
        for (uint32_t k = 0; k < receivers.size(); ++k)
            if (k != source) chosen.push_back(k);
        return;
    }
    if (route.mapped) {
        const auto found = route.map.find(port);
        port = found == route.map.end() ? NEVER : found->second;
    }
    if (port < receivers.size()) chosen.push_back(uint32_t(port));
}

void Link::count(const std::vector<uint32_t>& chosen, size_t size, unsigned width) {
    statistics.bytes += size;
    statistics.words += (size + width - 1) / width;
    if (chosen.empty()) ++statistics.unrouted;
    for (const uint32_t k : chosen) {
        ++traffic[k].packets;
        traffic[k].bytes += size;
    }
}

void Link::send(Packet&& packet, unsigned width) {
    ++statistics.sent;
    packet.cycle += latency;
    packet.source = source;
    if (packet.bytes.size() < route.reach()) chosen_.clear();
    else choose(packet.bytes.data(), chosen_);
    count(chosen_, packet.bytes.size(), width);
    if (loss.strikes()) {
        ++statistics.lost;
        return;
    }
    if (corrupt.strikes() && !packet.bytes.empty()) {
        ++statistics.corrupted;
        const uint64_t bit = random_.below(packet.bytes.size() * 8);
        packet.bytes[bit / 8] ^= uint8_t(1u << bit % 8);
    }
    const bool twice = duplicate.strikes();
    if (twice) ++statistics.duplicated;
    uint64_t late = 0;
    if (reorder.strikes() && spread) {
        ++statistics.reordered;
        late = 1 + random_.below(spread);
    }
    for (const uint32_t k : chosen_) {
        if (twice) flights_.push_back({receivers[k], 0, packet});
        flights_.push_back({receivers[k], late, packet});
        flights_.back().packet.cycle += late;
    }
}

void Link::begin() {
    ++statistics.sent;
    words_ = 0;
    before_.clear();
    chosen_.clear();
    departed_ = false;
    late_ = 0;
    corrupted_ = twice_ = false;
    if ((lost_ = loss.strikes())) {
        ++statistics.lost;
        return;
    }
    // The packet's length is not known yet: the word is drawn as for the longest one so far, and a packet that ends
    // before it is hit in its last word.
    if ((corrupted_ = corrupt.strikes())) {
        ++statistics.corrupted;
        flipped_ = random_.below(longest_);
    }
    if ((twice_ = duplicate.strikes())) ++statistics.duplicated;
    if (reorder.strikes() && spread) {
        ++statistics.reordered;
        late_ = 1 + random_.below(spread);
    }
}

void Link::depart(uint64_t now) {
    departed_ = true;
    if (lost_) return;
    for (const uint32_t k : chosen_)
        for (const bool copy : {true, false}) {
            if (copy && !twice_) continue;
            const uint64_t late = copy ? 0 : late_, due = now + latency + late;
            flights_.push_back({receivers[k], late, {due, before_, false, source, false, std::vector<uint64_t>(words_, due)}});
            ++open_;
        }
}

void Link::word(uint64_t now, const std::vector<uint8_t>& packet, unsigned size, unsigned width, bool last, bool error) {
    if (packet.size() <= width) begin();
    const size_t start = packet.size() - width;
    uint8_t bytes[64];
    memcpy(bytes, &packet[start], size);
    if (corrupted_ && (words_ == flipped_ || last)) {
        corrupted_ = false;
        const uint64_t bit = random_.below(size * 8);
        bytes[bit / 8] ^= uint8_t(1u << bit % 8);
    }
    ++words_;
    if (departed_) {
        for (size_t k = flights_.size() - open_; k < flights_.size(); ++k) {
            Packet& part = flights_[k].packet;
            part.bytes.insert(part.bytes.end(), bytes, bytes + size);
            part.due.push_back(now + latency + flights_[k].late);
        }
    } else {
        before_.insert(before_.end(), bytes, bytes + size);
        if (start + size >= route.reach()) {
            choose(packet.data(), chosen_);
            depart(now);
        }
    }
    if (!last) return;
    count(chosen_, start + size, width);
    longest_ = words_ > longest_ ? words_ : longest_;
    for (; open_; --open_) {
        Packet& part = flights_[flights_.size() - open_].packet;
        part.whole = true;
        part.error = error;
    }
}

void Link::carry() {
    size_t kept = 0;
    for (Flight& flight : flights_) {
        if (flight.placed) flight.to->extend(*flight.placed, flight.packet);
        else flight.placed = flight.to->enqueue(std::move(flight.packet));
        if (flight.placed->whole) continue;
        flight.packet = Packet{0, {}, false, source, false, {}};
        if (&flight != &flights_[kept]) flights_[kept] = std::move(flight);
        ++kept;
    }
    flights_.resize(kept);
}

}  // namespace rackgate
