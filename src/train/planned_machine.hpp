// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "comm/communicator.hpp"
#include "comm/node_layout.hpp"
#include "kernels/cpu/thread_placement.hpp"
#include "plan/machine_profile.hpp"

namespace spillway::train {

struct Runtime;

/// Device memory of a context, code and cuBLASLt: 540 to 560 MiB were seen on an H200 with CUDA 13 while t5-large and t5-3b trained. Code that
/// is loaded when it is first run must find room.
inline constexpr std::size_t kContextBytes = std::size_t{576} << 20;
/// Of host memory: what cuBLASLt and kernels take when they are first used, as measured.
inline constexpr std::size_t kGpuLibraryBytes = std::size_t{170} << 20;

/// What planning asks of the machine that a job is planned for: this one as it is, or one that a profile describes.
class PlannedMachine {
 public:
  virtual ~PlannedMachine() = default;
  /// Of all ranks of the job, which a description may have more of than there are processes.
  [[nodiscard]] virtual const comm::NodeLayout& nodes() const = 0;
  [[nodiscard]] virtual bool has_gpu() const = 0;
  /// Of the GPU, or the host.
  [[nodiscard]] virtual std::string device_name() const = 0;
  /// Device memory that CUDA's context and libraries take.
  [[nodiscard]] virtual std::size_t context_bytes() const = 0;
  /// Device memory that a rank's plan may take, the context's included.
  [[nodiscard]] virtual std::size_t device_room() const = 0;
  /// Host memory that all ranks of this rank's node may still take together.
  [[nodiscard]] virtual std::size_t available_host_bytes() const = 0;
  /// Host memory that a rank holds before it allocates what is planned, and whether it is out of what is available already.
  [[nodiscard]] virtual std::size_t program_bytes() const = 0;
  [[nodiscard]] virtual bool holds_program() const = 0;
  /// What kernels and libraries take of it besides once they are used.
  [[nodiscard]] virtual std::size_t library_bytes() const = 0;
  /// Room in the directories of the nvme tier. \throws ConfigError if one is not there
  [[nodiscard]] virtual std::size_t disk_room(const std::vector<std::string>& directories) const = 0;
  /// Threads that each rank computes with. Collective.
  [[nodiscard]] virtual kernels::cpu::ThreadPlacement threads(comm::Communicator& communicator) const = 0;
  /// Its rates; null if they are not known.
  [[nodiscard]] virtual const plan::MachineProfile* profile() const = 0;
};

/// This machine as it is now, with the runtime's profile. Where `nodes` of the runtime have more ranks than its communicator, it is
/// asked what each of so many would have.
class ThisMachine : public PlannedMachine {
 public:
  /// Keeps the reference.
  explicit ThisMachine(const Runtime& runtime) : runtime_(runtime) {}
  [[nodiscard]] const comm::NodeLayout& nodes() const override;
  [[nodiscard]] bool has_gpu() const override;
  [[nodiscard]] std::string device_name() const override;
  [[nodiscard]] std::size_t context_bytes() const override;
  [[nodiscard]] std::size_t device_room() const override;
  [[nodiscard]] std::size_t available_host_bytes() const override;
  [[nodiscard]] std::size_t program_bytes() const override;
  [[nodiscard]] bool holds_program() const override { return true; }
  [[nodiscard]] std::size_t library_bytes() const override;
  [[nodiscard]] std::size_t disk_room(const std::vector<std::string>& directories) const override;
  [[nodiscard]] kernels::cpu::ThreadPlacement threads(comm::Communicator& communicator) const override;
  [[nodiscard]] const plan::MachineProfile* profile() const override;

 private:
  const Runtime& runtime_;
};

/// A machine that need not be there: all of its memory is free. Ranks fill its nodes one after the other.
class DescribedMachine : public PlannedMachine {
 public:
  /// \param gpu  false: only its host is used
  DescribedMachine(plan::MachineProfile profile, int ranks, bool gpu);
  [[nodiscard]] const comm::NodeLayout& nodes() const override { return nodes_; }
  [[nodiscard]] bool has_gpu() const override { return gpu_; }
  [[nodiscard]] std::string device_name() const override { return gpu_ ? profile_.gpu->name : "cpu"; }
  [[nodiscard]] std::size_t context_bytes() const override { return gpu_ ? profile_.gpu->context_bytes : 0; }
  [[nodiscard]] std::size_t device_room() const override;
  [[nodiscard]] std::size_t available_host_bytes() const override { return profile_.host.memory_bytes; }
  [[nodiscard]] std::size_t program_bytes() const override;
  [[nodiscard]] bool holds_program() const override { return false; }
  [[nodiscard]] std::size_t library_bytes() const override { return 0; }  // the profile has all of it
  [[nodiscard]] std::size_t disk_room(const std::vector<std::string>& directories) const override;
  [[nodiscard]] kernels::cpu::ThreadPlacement threads(comm::Communicator& communicator) const override;
  [[nodiscard]] const plan::MachineProfile* profile() const override { return &profile_; }

 private:
  plan::MachineProfile profile_;
  comm::NodeLayout nodes_;
  bool gpu_;
};

}  // namespace spillway::train
