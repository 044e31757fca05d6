// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace spillway::plan {

/// One GPU. Rates of products are operations a second, a multiply-add counted as two; 0: the GPU has none of that kind.
struct GpuProfile {
  std::string name;                 // as the driver calls it: "NVIDIA H200"
  std::uint64_t memory_bytes = 0;   // of the card
  std::uint64_t driver_bytes = 0;   // of them, what the driver keeps to itself
  std::uint64_t context_bytes = 0;  // of them, what CUDA's context and libraries take
  std::uint64_t host_bytes = 0;     // host memory that CUDA's context and libraries take
  double bf16_flops = 0.0;          // of a large product
  double fp16_flops = 0.0;          // likewise
  double fp32_flops = 0.0;          // likewise
  double tf32_flops = 0.0;          // likewise
  double product_share = 0.0;       // of that rate, what products of T5's shapes reach
  double attention_share = 0.0;     // likewise, attention
  double memory_rate = 0.0;         // bytes a second, read and written together, of a large copy
  double memory_share = 0.0;        // of that rate, what norms, activations and the like reach
  double adamw_rate = 0.0;          // parameters a second that AdamW updates in place: kAdamWBytes for each
  double kernel_seconds = 0.0;      // that every kernel costs besides
  std::string source;
};

/// Bytes read and written for a parameter at GpuProfile::adamw_rate: bf16 weight, its remainder and gradient, fp32 moments.
inline constexpr double kAdamWBytes = 26.0;
/// The same at HostProfile::adamw_rate: weight, gradient and moments in fp32.
inline constexpr double kHostAdamWBytes = 28.0;

/// Between host memory and one GPU, bytes a second.
struct PcieProfile {
  double up_rate = 0.0;    // to the GPU, alone
  double down_rate = 0.0;  // from the GPU, alone
  double both_rate = 0.0;  // the sum of both ways at once
  std::string source;
};

/// What AdamW's moments are stored in.
enum class MomentFormat { fp32, bf16, int8 };

/// Memory and cores of one node.
struct HostProfile {
  std::uint64_t memory_bytes = 0;  // that jobs may take
  std::int64_t cores = 0;
  double memory_rate = 0.0;      // bytes a second that CPUs and GPUs read and write together
  double product_flops = 0.0;    // operations a second of a large fp32 product on all cores
  double adamw_rate = 0.0;       // parameters a second that AdamW updates on all cores: kHostAdamWBytes for each
  double adamw_bf16_rate = 0.0;  // likewise with moments in bf16
  double adamw_int8_rate = 0.0;  // likewise with moments in int8
  /// The rate with moments in `format`.
  [[nodiscard]] double rate_of(MomentFormat format) const;
  std::string source;
};

/// The drives of one node together, bytes a second.
struct NvmeProfile {
  double read_rate = 0.0;   // alone
  double write_rate = 0.0;  // alone
  double both_rate = 0.0;   // the sum of both at once
  std::uint64_t free_bytes = 0;
  std::uint64_t endurance_bytes = 0;  // that may be written in the drives' life (TBW); 0: not known
  std::string source;
};

/// Between ranks, bytes a second each way of one rank.
struct LinksProfile {
  std::int64_t ranks_per_node = 1;  // GPUs of a node
  double node_rate = 0.0;           // within a node: NVLink, PCIe or memory
  double network_rate = 0.0;        // between nodes; 0: there is one node
  double start_seconds = 0.0;       // that every collective costs besides
  std::string source;
};

/// What the planner knows of a machine: measured, or stated by data sheets. Every group says where its numbers come from.
struct MachineProfile {
  /// Of the file format: a file of another version is refused.
  static constexpr int kVersion = 1;
  std::string name;
  std::optional<GpuProfile> gpu;
  std::optional<PcieProfile> pcie;  // with a GPU, and only then
  HostProfile host;
  std::optional<NvmeProfile> nvme;
  LinksProfile links;
};

/// As JSON that parse_profile reads again: every key, absent groups as null.
[[nodiscard]] std::string profile_json(const MachineProfile& profile);

/// \param origin  file name, for messages
/// \throws ConfigError naming file and key: text that is not JSON, another version, a key that is missing or not known, a number that
///         is none or negative, a rate or a share that is 0
[[nodiscard]] MachineProfile parse_profile(const std::string& text, const std::string& origin);

/// The profiles that come with the program, by name: "rtx3090-24gb".
[[nodiscard]] const std::vector<MachineProfile>& named_profiles();
/// \throws ConfigError with the names that there are
[[nodiscard]] const MachineProfile& named_profile(const std::string& name);
/// The named profile of a GPU as the driver calls it; null if there is none.
[[nodiscard]] const MachineProfile* profile_of_gpu(const std::string& name);

}  // namespace spillway::plan
