// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/generation_ops.hpp"

namespace spillway::kernels::cpu {

/// The op of the same name. Shapes, rows and tokens are the caller's care.
void advance_beams(const AdvanceBeams& op);

}  // namespace spillway::kernels::cpu
