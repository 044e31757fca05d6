// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "plan/ledger.hpp"
#include "plan/step_program.hpp"

namespace spillway::plan {

/// What `[offload]` asks for one kind of state; none: the planner decides.
using TierWish = std::optional<Tier>;

/// One kind of state, of one rank, extent by extent. The extents are common to all kinds.
struct KindFacts {
  std::string name;                       // of its ledger entries
  std::vector<std::size_t> bytes;         // of each extent: what is transferred, and stored in files
  std::vector<std::size_t> memory_bytes;  // what it takes in memory: with alignment, and with what only memory holds
  TierWish wish;                          // all of it goes there
  /// Which kinds leave the device first where memory is short and there is no wish: the highest number, kinds of one number together,
  /// extent by extent. 0: it stays.
  int leaves = 0;
  bool whole_units = false;    // all extents of a unit go together; what is of a persistent unit stays on the device
  Tier farthest = Tier::nvme;  // of where it may go without a wish

  [[nodiscard]] bool exists() const noexcept;
};

/// The places of these in JobFacts::kinds. Gradients at rest are the last one: they are neither on nvme nor in checkpoints, the update
/// reads them and writes nothing back.
inline constexpr std::size_t kWeightKind = 0, kMasterKind = 1, kGradientKind = 4;

/// What a GPU takes besides; nothing of it where device memory is host memory.
struct GpuFacts {
  bool present = false;
  std::size_t context_bytes = 0;    // of CUDA and its libraries, in device memory
  std::size_t workspace_bytes = 0;  // of kernels, in device memory
  std::size_t batch_bytes = 0;      // of a micro-batch's copy in host memory
  std::size_t pinned_to_a_byte_of_tables =
      0;  // pinned host memory for which page tables take a byte of the device's; 0: none do

  [[nodiscard]] std::size_t table_bytes(std::size_t pinned) const noexcept {
    return pinned_to_a_byte_of_tables == 0 ? 0 : pinned / pinned_to_a_byte_of_tables;
  }
};

/// Who updates the state that is not on the GPU: the GPU, which it is brought to, or the CPU, which gradients and weights are brought to.
enum class UpdateOn { gpu, automatic, cpu, split };

/// The update on the CPU beside a GPU; nothing of it where device memory is host memory.
struct CpuUpdateFacts {
  UpdateOn who = UpdateOn::gpu;
  std::size_t places =
      8;  // in pinned memory, for what comes from the device and goes back: copies of other queues go first
};

/// Activation checkpointing. host: on, with what stages that run again keep in host memory; without a GPU as on.
enum class Checkpointing { off, on, host, as_needed };

/// A job as sizes: all that the plan needs to know, as data. Bytes are those of one rank.
struct JobFacts {
  ProgramFacts program;                     // group_size is the largest to try
  bool training = true;                     // false: evaluation only, no gradients and no optimizer state
  std::vector<KindFacts> kinds;             // see kWeightKind, kMasterKind, kGradientKind
  std::vector<int> extent_units;            // the unit of each extent, ascending: extents never cross units
  std::size_t ring_slots = 4;               // extents that pass through memory at once
  std::size_t link_places = 4;              // in a GPU's memory, for extents from host memory
  std::size_t store_alignment = 4096;       // what extents are padded to in files and in the ring
  bool gathers_weights = false;             // wherever they are: they are shared out over ranks
  std::vector<std::size_t> gathered_bytes;  // of a unit's whole weights, in a place that they are brought to
  std::size_t weight_staging_bytes = 0;     // if weights are on nvme
  std::size_t gradient_bytes = 0;           // buffers of units, in fp32 and as they go to other ranks
  std::size_t gradient_sum_bytes = 0;       // besides, in any case
  std::size_t group_sum_bytes = 0;          // besides, with several groups of micro-batches
  std::size_t factor_bytes = 0;             // Adafactor's rows and columns
  std::size_t step_factor_bytes = 0;        // what an update makes of them, and its sums
  std::size_t parameter_bytes = 0;  // of a unit in fp32, where the update reads those that are not whole in one memory
  std::size_t program_bytes = 0;    // resident before anything is allocated
  std::size_t data_bytes = 0;
  /// Of each stage of one micro-batch, if it keeps its activations, and if it runs again in the backward pass.
  std::vector<std::size_t> kept_bytes, recomputed_bytes;
  Checkpointing checkpointing = Checkpointing::as_needed;
  std::size_t scratch_bytes = 0;
  std::size_t batch_bytes = 0;       // ids, labels and losses of one micro-batch
  std::size_t evaluation_bytes = 0;  // residuals and scratch of an evaluation batch
  std::size_t generation_bytes = 0;
  std::size_t generation_list_bytes = 0;  // what the host reads and writes while it generates
  std::size_t workspace_bytes = 0;        // what kernels and BLAS keep for themselves
  std::size_t reduce_bytes = 0;           // pieces that a reduction of the largest unit receives
  std::size_t staging_bytes = 0;          // a checkpoint's staging
  std::size_t transfer_bytes = 0;         // between state and a checkpoint's staging
  std::size_t result_bytes = 0;           // that kernels leave for the host
  GpuFacts gpu;
  CpuUpdateFacts cpu_update;
};

/// What one rank may take. On the CPU backend device and host memory are the same, so `host` bounds their sum.
struct Budgets {
  std::optional<std::size_t> device;  // as configured; of a GPU always
  std::size_t host = 0;               // configured or free, divided by the ranks of the node
  std::size_t nvme = 0;               // 0: there is no nvme tier
  std::size_t ranks = 1;              // of the node, that share its host memory and its disks
  std::string device_source = "memory.device", host_source, nvme_source;  // where the numbers come from, for messages
};

}  // namespace spillway::plan
