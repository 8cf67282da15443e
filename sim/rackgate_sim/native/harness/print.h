// SPDX-License-Identifier: Apache-2.0
// Included before everything else: Verilator's runtime prints through this function.
#pragma once
void rackgate_print(const char* format, ...) __attribute__((format(printf, 1, 2)));
#define VL_PRINTF rackgate_print
