// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/generation_ops.hpp"

namespace spillway::kernels {

/// Whether every tensor that an op needs is given, with the dtype and the shape that the others imply. Nothing is read but the
/// views. \throws Error naming op and tensor, with what was expected and found
void check(const CachedSelfAttention& op);
void check(const CachedCrossAttention& op);
void check(const LogSoftmax& op);
void check(const ProcessScores& op);
void check(const TopContinuations& op);
void check(const AdvanceBeams& op);

}  // namespace spillway::kernels
