// SPDX-License-Identifier: Apache-2.0
#include "core/profiler_range.hpp"

#include <nvtx3/nvToolsExt.h>

namespace spillway {

ProfilerRange::ProfilerRange(const char* name) noexcept { nvtxRangePushA(name); }
ProfilerRange::~ProfilerRange() { nvtxRangePop(); }

}  // namespace spillway
