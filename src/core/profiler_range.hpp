// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace spillway {

/// A named range on the calling thread's row of NVIDIA's profilers, from its making to its end (NVTX). Costs a test of a pointer when
/// no profiler is attached, and nothing in a build without CUDA.
class ProfilerRange {
 public:
  /// \param name  copied by the profiler
  explicit ProfilerRange(const char* name) noexcept;
  ~ProfilerRange();
  ProfilerRange(const ProfilerRange&) = delete;
  ProfilerRange& operator=(const ProfilerRange&) = delete;
};

}  // namespace spillway
