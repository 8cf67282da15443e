// SPDX-License-Identifier: Apache-2.0
// What the Verilator runtime has to say goes to the device it speaks of, not to the terminal.
#pragma once
#include "device.hpp"
#include "verilated.h"

namespace rackgate {

/// The runtime knows the context it evaluates; this one knows its device.
struct Context : VerilatedContext {
    Device* device = nullptr;
};

/// Thrown where the model cannot go on (it does not settle, say); Verilator's own way is to end the process.
struct Fatal {};

}  // namespace rackgate
