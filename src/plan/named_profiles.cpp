// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.hpp"
#include "plan/machine_profile.hpp"

namespace spillway::plan {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;
constexpr double kTera = 1e12;
constexpr double kGiga = 1e9;

// What the kernels reach of a GPU's rates. On an H200: products of T5's shapes 590 to 780 of 797 TFLOP/s, attention 71 to 85 TFLOP/s,
// norms and activations 0.64 to 0.8 of a copy's rate. A data sheet's rate of products is above what any product reaches (797 of 989 on
// an H200). Attention is bound by other things than the tensor cores' rate, so a slower card reaches more of its own.
constexpr double kShareOfSheet = 0.65;
constexpr double kAttentionOfSheet = 0.25;
constexpr double kMemoryShare = 0.7;
// Of a card's stated memory rate a copy reaches 4.1 of 4.8 TB/s on an H200, AdamW 3.7.
constexpr double kCopyOfSheet = 0.85;
constexpr double kAdamWOfCopy = 0.9;

/// A card by its data sheet. \param sheet_rate  of its memory, bytes a second
GpuProfile card(GpuProfile gpu, double sheet_rate) {
  gpu.driver_bytes = gpu.driver_bytes != 0 ? gpu.driver_bytes : 350 * kMiB;
  gpu.context_bytes = 600 * kMiB;
  gpu.host_bytes = 600 * kMiB;
  gpu.product_share = kShareOfSheet;
  gpu.attention_share = kAttentionOfSheet;
  gpu.memory_rate = kCopyOfSheet * sheet_rate;
  gpu.memory_share = kMemoryShare;
  gpu.adamw_rate = kAdamWOfCopy * gpu.memory_rate / kAdamWBytes;
  gpu.kernel_seconds = 5e-6;
  gpu.source +=
      "; assumed, as measured on an H200 with the same kernels: what the kernels reach of it, 0.85 of the memory's "
      "rate in a "
      "copy, 600 MiB for context and libraries";
  return gpu;
}

// PCIe as measured in machines of that generation: about 0.8 of what 16 lanes could carry.
PcieProfile pcie3() {
  return {.up_rate = 12.5 * kGiga,
          .down_rate = 12.8 * kGiga,
          .both_rate = 21.0 * kGiga,
          .source = "assumed: PCIe 3.0 x16 with pinned memory, 12.5 GB/s each way as commonly measured, 21 both ways"};
}
PcieProfile pcie4() {
  return {.up_rate = 25.0 * kGiga,
          .down_rate = 25.0 * kGiga,
          .both_rate = 43.0 * kGiga,
          .source = "assumed: PCIe 4.0 x16 with pinned memory, 25 GB/s each way as commonly measured, 43 both ways"};
}

/// A host whose AdamW is bound by its memory: 28 bytes a parameter at 0.9 of its rate.
HostProfile host(std::uint64_t memory_bytes, std::int64_t cores, double memory_rate, std::string source) {
  constexpr double kFlopsOfCore = 60e9;                               // AVX2 at 3 GHz and less than its peak
  constexpr double kHostAdamWBf16Bytes = 20.0;                        // of kHostAdamWBytes, moments of 2 bytes
  constexpr double kBf16RateOfCore = 1.6e8, kInt8RateOfCore = 0.7e8;  // as measured on the H200's host
  const auto cores_of_node = static_cast<double>(cores);
  return {.memory_bytes = memory_bytes,
          .cores = cores,
          .memory_rate = memory_rate,
          .product_flops = kFlopsOfCore * static_cast<double>(cores),
          .adamw_rate = 0.9 * memory_rate / kHostAdamWBytes,
          .adamw_bf16_rate = std::min(0.9 * memory_rate / kHostAdamWBf16Bytes, kBf16RateOfCore * cores_of_node),
          .adamw_int8_rate = kInt8RateOfCore * cores_of_node,
          .source = std::move(source) +
                    "; AdamW at 0.9 of the memory's rate, with moments in bf16 or int8 at no more "
                    "than 1.6e8 or 0.7e8 parameters a second and core; 60 GFLOP/s a core"};
}

/// One drive. \param terabytes_written  that its maker promises
NvmeProfile drive(double read, double write, double both, std::uint64_t free_bytes, double terabytes_written,
                  std::string source) {
  return {.read_rate = read,
          .write_rate = write,
          .both_rate = both,
          .free_bytes = free_bytes,
          .endurance_bytes = static_cast<std::uint64_t>(terabytes_written * kTera),
          .source = std::move(source)};
}

NvmeProfile consumer_pcie3_drive() {
  return drive(3.3 * kGiga, 2.5 * kGiga, 3.0 * kGiga, 800 * kGiB, 600,
               "Samsung 970 EVO Plus 1 TB data sheet: 3.5 and 3.3 GB/s, 600 TBW; assumed: 2.5 GB/s for long writes, "
               "800 GiB free");
}
NvmeProfile consumer_pcie4_drive() {
  return drive(6.5 * kGiga, 4.5 * kGiga, 6.0 * kGiga, 1600 * kGiB, 1200,
               "Samsung 980 PRO 2 TB data sheet: 7.0 and 5.1 GB/s, 1200 TBW; assumed: a tenth less for long transfers, "
               "1600 GiB free");
}

LinksProfile one_gpu() {
  return {.ranks_per_node = 1,
          .node_rate = 10.0 * kGiga,
          .network_rate = 1.1 * kGiga,
          .start_seconds = 30e-6,
          .source = "assumed: one GPU a node, 10 Gbit/s Ethernet between nodes"};
}
/// GPUs that see one another over PCIe alone.
LinksProfile two_gpus(double pcie) {
  return {
      .ranks_per_node = 2,
      .node_rate = 0.8 * pcie,
      .network_rate = 1.1 * kGiga,
      .start_seconds = 30e-6,
      .source =
          "assumed: two GPUs a node that reach one another at 0.8 of PCIe's rate, 10 Gbit/s Ethernet between nodes"};
}

MachineProfile titan_rtx() {
  const PcieProfile pcie = pcie3();
  return {.name = "titan-rtx-24gb",
          .gpu = card({.name = "TITAN RTX",
                       .memory_bytes = 24576 * kMiB,
                       .fp16_flops = 130.5 * kTera,
                       .fp32_flops = 16.3 * kTera,
                       .source = "NVIDIA Turing GPU Architecture white paper (WP-09183-001), TITAN RTX: 130.5 TFLOP/s "
                                 "in fp16, 16.3 in fp32, 672 GB/s"},
                      672.0 * kGiga),
          .pcie = pcie,
          .host = host(
              64 * kGiB, 16, 35.0 * kGiga,
              "assumed: a workstation of 2019 with 64 GiB, 16 cores and two channels of DDR4-2933, 0.75 of 47 GB/s"),
          .nvme = consumer_pcie3_drive(),
          .links = two_gpus(pcie.up_rate)};
}

MachineProfile rtx3090() {
  return {
      .name = "rtx3090-24gb",
      .gpu = card({.name = "NVIDIA GeForce RTX 3090",
                   .memory_bytes = 24576 * kMiB,
                   .bf16_flops = 71.0 * kTera,
                   .fp16_flops = 71.0 * kTera,
                   .fp32_flops = 35.6 * kTera,
                   .tf32_flops = 35.6 * kTera,
                   .source = "NVIDIA Ampere GA102 GPU Architecture white paper (V2.1), GeForce RTX 3090: 71 TFLOP/s in "
                             "bf16 and fp16 with fp32 sums, 35.6 in TF32 and fp32, 936 GB/s"},
                  936.0 * kGiga),
      .pcie = pcie4(),
      .host = host(64 * kGiB, 16, 38.0 * kGiga,
                   "assumed: a workstation with 64 GiB, 16 cores and two channels of DDR4-3200, 0.75 of 51 GB/s"),
      .nvme = consumer_pcie4_drive(),
      .links = one_gpu()};
}

MachineProfile rtx4090() {
  return {.name = "rtx4090-24gb",
          .gpu = card(
              {.name = "NVIDIA GeForce RTX 4090",
               .memory_bytes = 24564 * kMiB,
               .bf16_flops = 165.2 * kTera,
               .fp16_flops = 165.2 * kTera,
               .fp32_flops = 82.6 * kTera,
               .tf32_flops = 82.6 * kTera,
               .source = "NVIDIA Ada GPU Architecture white paper (V2.1), GeForce RTX 4090: 165.2 TFLOP/s in bf16 and "
                         "fp16 with fp32 sums, 82.6 in TF32 and fp32, 1008 GB/s"},
              1008.0 * kGiga),
          .pcie = pcie4(),
          .host = host(64 * kGiB, 16, 60.0 * kGiga,
                       "assumed: a workstation with 64 GiB, 16 cores and two channels of DDR5-5200, 0.72 of 83 GB/s"),
          .nvme = consumer_pcie4_drive(),
          .links = one_gpu()};
}

MachineProfile a10g() {
  return {
      .name = "a10g-24gb",
      .gpu =
          card({.name = "NVIDIA A10G",
                .memory_bytes = 23028 * kMiB,
                .bf16_flops = 70.0 * kTera,
                .fp16_flops = 70.0 * kTera,
                .fp32_flops = 35.0 * kTera,
                .tf32_flops = 35.0 * kTera,
                .source = "NVIDIA A10G data sheet: 70 TFLOP/s in bf16 and fp16, 35 in TF32 and fp32, 600 GB/s, 24 GB "
                          "of which ECC leaves 23028 MiB"},
               600.0 * kGiga),
      .pcie = pcie4(),
      .host = host(120 * kGiB, 16, 70.0 * kGiga,
                   "Amazon EC2 instance types page, g5.8xlarge: 128 GiB, 32 virtual CPUs (16 cores); assumed: 120 GiB "
                   "free, 70 GB/s of memory"),
      .nvme = drive(3.0 * kGiga, 1.5 * kGiga, 2.5 * kGiga, 800 * kGiB, 0,
                    "Amazon EC2 instance types page, g5.8xlarge: one local drive of 900 GB; assumed: 3.0 and 1.5 GB/s"),
      .links = one_gpu()};
}

MachineProfile a100() {
  return {
      .name = "a100-40gb",
      .gpu =
          card({.name = "NVIDIA A100-SXM4-40GB",
                .memory_bytes = 40960 * kMiB,
                .driver_bytes = 560 * kMiB,
                .bf16_flops = 312.0 * kTera,
                .fp16_flops = 312.0 * kTera,
                .fp32_flops = 19.5 * kTera,
                .tf32_flops = 156.0 * kTera,
                .source = "NVIDIA A100 data sheet: 312 TFLOP/s in bf16 and fp16, 156 in TF32, 19.5 in fp32, 1555 GB/s"},
               1555.0 * kGiga),
      .pcie = pcie4(),
      .host =
          host(1100 * kGiB, 48, 250.0 * kGiga,
               "Amazon EC2 instance types page, p4d.24xlarge: 1152 GiB, 96 virtual CPUs (48 cores); assumed: 1100 GiB "
               "free, 250 GB/s of memory"),
      .nvme =
          drive(16.0 * kGiga, 8.0 * kGiga, 14.0 * kGiga, 7000 * kGiB, 0,
                "Amazon EC2 instance types page, p4d.24xlarge: 8 local drives of 1 TB, 16 GB/s read; assumed: 8 GB/s "
                "written"),
      .links = {.ranks_per_node = 8,
                .node_rate = 230.0 * kGiga,
                .network_rate = 6.0 * kGiga,
                .start_seconds = 20e-6,
                .source =
                    "NVIDIA A100 data sheet: NVLink 600 GB/s, 300 each way; assumed: 230 of them, and an eighth of "
                    "400 Gbit/s of network for each GPU"}};
}

MachineProfile h200() {
  return {
      .name = "h200-141gb",
      .gpu =
          GpuProfile{.name = "NVIDIA H200",
                     .memory_bytes = 143771 * kMiB,
                     .driver_bytes = 600 * kMiB,
                     .context_bytes = 600 * kMiB,
                     .host_bytes = 600 * kMiB,
                     .bf16_flops = 797.0 * kTera,
                     .fp16_flops = 797.0 * kTera,
                     .fp32_flops = 50.0 * kTera,
                     .tf32_flops = 380.0 * kTera,
                     .product_share = 0.85,
                     .attention_share = 0.115,
                     .memory_rate = 4.1 * kTera,
                     .memory_share = kMemoryShare,
                     .adamw_rate = 1.43e11,
                     .kernel_seconds = 5e-6,
                     .source =
                         "measured on an H200 (driver 580, CUDA 13): a bf16 product of 8192 cubed at 797 TFLOP/s, "
                         "T5's own at 590 to 780, a copy at 4.1 TB/s, AdamW 7 ms for 1e9 parameters; assumed: fp16 as "
                         "bf16; fp32 and TF32: 0.75 of the H200 data sheet's 67 and 495 TFLOP/s"},
      .pcie = PcieProfile{.up_rate = 55.0 * kGiga,
                          .down_rate = 55.0 * kGiga,
                          .both_rate = 100.0 * kGiga,
                          .source = "measured: PCIe 5.0 x16, 55 GB/s each way, 100 both ways"},
      .host = {.memory_bytes = 125 * kGiB,
               .cores = 16,
               .memory_rate = 100.0 * kGiga,
               .product_flops = 1.2 * kTera,
               .adamw_rate = 3.38e9,
               .adamw_bf16_rate = 2.6e9,
               .adamw_int8_rate = 1.1e9,
               .source =
                   "measured: 16 cores with AVX-512, 100 GB/s, AdamW with fp32 moments 296 ms for 1e9 parameters, "
                   "with bf16 ones 2.6e9 and with int8 ones 1.1e9 a second; "
                   "assumed: 75 GFLOP/s a core"},
      .nvme = drive(1.7 * kGiga, 1.7 * kGiga, 1.7 * kGiga, 55 * kGiB, 0,
                    "measured: 1.5 to 1.9 GB/s each way alone, about half of it each at once; the drive's endurance is "
                    "not known"),
      .links = {.ranks_per_node = 8,
                .node_rate = 360.0 * kGiga,
                .network_rate = 40.0 * kGiga,
                .start_seconds = 20e-6,
                .source =
                    "NVIDIA H200 data sheet: NVLink 900 GB/s, 450 each way; assumed: 360 of them, and 400 Gbit/s of "
                    "network for each GPU"}};
}

}  // namespace

const std::vector<MachineProfile>& named_profiles() {
  static const std::vector<MachineProfile> profiles = {titan_rtx(), rtx3090(), rtx4090(), a10g(), a100(), h200()};
  return profiles;
}

const MachineProfile& named_profile(const std::string& name) {
  const std::vector<MachineProfile>& all = named_profiles();
  const auto found = std::ranges::find(all, name, &MachineProfile::name);
  if (found != all.end()) return *found;
  std::vector<std::string> names;
  for (const MachineProfile& profile : all) names.push_back(profile.name);
  throw ConfigError(
      fmt::format("there is no file and no profile named \"{}\"; there are {}", name, fmt::join(names, ", ")));
}

const MachineProfile* profile_of_gpu(const std::string& name) {
  for (const MachineProfile& profile : named_profiles())
    if (profile.gpu->name == name) return &profile;
  return nullptr;
}

}  // namespace spillway::plan
