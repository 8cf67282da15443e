// SPDX-License-Identifier: Apache-2.0
// The clock: one Verilated model, its ports, its trace. Glue is generated from the design's signature.
#pragma once
#include <algorithm>
#include <memory>

#include "bits.hpp"
#include "device.hpp"
#include "lite.hpp"
#include "memory.hpp"
#include "report.hpp"
#include "stream.hpp"
#if VM_TRACE_FST
#include "verilated_fst_c.h"
#endif
#if VM_COVERAGE
#include "verilated_cov.h"
#endif

namespace rackgate {

/// Glue has the ports and tells how to drive and sample them; Signals names clock, reset, interrupt.
template <class Glue, class Signals>
class Simulation : public Device {
protected:
    using Model = typename Signals::Model;

public:
    Simulation() {
        context_.device = this;
        context_.traceEverOn(VM_TRACE);
        Verilated::threadContextp(&context_);
        model_.reset(new Model(&context_, "top"));
    }
    ~Simulation() override {
        trace(nullptr);
        model_->final();
    }

    void reset(uint32_t cycles) override {
        Verilated::threadContextp(&context_);
        Signals::reset(*model_, 1);
        for (uint32_t k = 0; k < cycles; ++k) {
            edge(0);
            edge(1);
        }
        Signals::reset(*model_, 0);
        poked_ = true;
    }

    uint32_t run(uint64_t cycles, uint32_t mask) override {
        mask |= FAILURE;
        if (failed) return FAILURE;
        if (const uint32_t due = events & mask) {
            events &= ~due;
            return due;
        }
        Verilated::threadContextp(&context_);
        try {
            return loop(cycles, mask);
        } catch (const Fatal&) {
            return FAILURE;
        }
    }

    bool irq() override {
        settle();
        return Signals::irq(*model_);
    }
    bool rests_until(uint64_t end) const override { return resting_ && next_action(end) >= end; }
    uint64_t peek(uint32_t signal) override {
        settle();
        return static_cast<Glue&>(*this).look(*model_, signal);
    }
    void poke(uint32_t signal, uint64_t value) override {
        static_cast<Glue&>(*this).set(*model_, signal, value);
        poked_ = true;
        stir();
    }

    /// 0: done; 1: this variant has no waves.
    int trace(const char* path) override {
#if VM_TRACE_FST
        if (trace_) trace_->close();
        trace_.reset();
        if (path) {
            trace_.reset(new VerilatedFstC);
            model_->trace(trace_.get(), 99);
            trace_->open(path);
        }
        return 0;
#else
        return path ? 1 : 0;
#endif
    }
    int coverage(const char* path) override {
#if VM_COVERAGE
        context_.coveragep()->write(path);
        return 0;
#else
        return path ? 1 : 0;
#endif
    }

protected:
    template <class P>
    void add(P& port, const char* name) {
        port.device = this;
        port.index = uint32_t(ports.size());
        port.name = name;
        ports.push_back(&port);
    }

private:
    static constexpr uint64_t LEAST_PATIENCE = 64, MOST_PATIENCE = 65536;
    Context context_;
    std::unique_ptr<Model> model_;
    bool irq_ = false, poked_ = true;
    uint64_t still_ = 0, patience_ = LEAST_PATIENCE;  // cycles without a transfer or a new input
    bool resting_ = false;
    std::vector<uint8_t> before_;  // the model's state at the last look
#if VM_TRACE_FST
    std::unique_ptr<VerilatedFstC> trace_;
    bool tracing() const { return bool(trace_); }
#else
    static constexpr bool tracing() { return false; }
#endif

    uint32_t loop(uint64_t cycles, uint32_t mask) {
        Glue& glue = static_cast<Glue&>(*this);
        Model& m = *model_;
        for (const uint64_t end = cycle + cycles; cycle < end;) {
            bool changed = glue.drive(m, cycle) | poked_;
            poked_ = false;
            if (changed) {
                stir();
            } else if (__builtin_expect(still_ >= patience_, 0)) {
                if (const uint64_t leap = rest(end)) {
                    cycle += leap;
                    skipped += leap;
                    continue;
                }
            }
            // The low phase only lets new inputs reach the outputs; without new inputs there is nothing to do
            // but to arm the edge detector.
            if (changed || tracing() || !Signals::rearm(m)) edge(0);
            uint32_t seen = glue.sample(m, cycle);
            const bool irq = Signals::irq(m);
            if (irq != irq_) {
                irq_ = irq;
                log.add(cycle, ~0u, irq);
                seen |= irq ? IRQ | ACTIVE : uint32_t(ACTIVE);
            }
            edge(1);
            ++cycle;
            if (seen & ACTIVE) stir();
            else ++still_;
            if (__builtin_expect(failed, 0)) return FAILURE;
            if (__builtin_expect(seen & ~ACTIVE, 0)) {
                events |= seen & ~ACTIVE;
                if (const uint32_t due = events & mask) {
                    events &= ~due;
                    return due;
                }
            }
        }
        return LIMIT;
    }

    RG_INLINE void stir() {
        still_ = 0;
        resting_ = false;
    }
    RG_INLINE void edge(bool level) {
        Signals::clock(*model_, level);
        model_->eval();
        ++evaluations;
#if VM_TRACE_FST
        if (trace_) trace_->dump(cycle * 2 + level);
#endif
    }
    uint64_t next_action(uint64_t end) const {
        for (const Port* port : ports) end = std::min(end, port->next_action(cycle));
        return end;
    }
    void settle() {
        if (!poked_) return;
        Verilated::threadContextp(&context_);
        model_->eval();
    }

    /// Cycles that can be left out, because one cycle with these inputs leaves every bit of the model as it
    /// was and no port has anything to do. Such a model stays as it is until an input changes, so leaving
    /// the cycles out cannot be told from running them. A design with a counter that runs freely is never
    /// still; for it the comparison is made ever more rarely.
    uint64_t rest(uint64_t end) {
        const uint64_t until = next_action(end);
        if (until <= cycle || tracing()) return 0;
        if (!resting_) {
            const auto* state = static_cast<const uint8_t*>(Signals::state(*model_));
            if (still_ == patience_) {
                before_.assign(state, state + Signals::STATE_SIZE);
                return 0;
            }
            if (still_ > patience_ + 1 || before_.empty()) return 0;  // compared without success since the last transfer
            if (memcmp(before_.data(), state, Signals::STATE_SIZE)) {
                patience_ = patience_ < MOST_PATIENCE ? patience_ * 2 : MOST_PATIENCE;
                return 0;
            }
            patience_ = LEAST_PATIENCE;
            resting_ = true;
        }
        return until - cycle;
    }
};

}  // namespace rackgate
