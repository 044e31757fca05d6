// SPDX-License-Identifier: Apache-2.0
#include "core/profiler_range.hpp"

namespace spillway {

ProfilerRange::ProfilerRange(const char* /*name*/) noexcept {}
ProfilerRange::~ProfilerRange() = default;

}  // namespace spillway
