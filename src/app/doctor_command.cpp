// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "app/commands.hpp"
#include "app/machine_file.hpp"
#include "core/cuda_device.hpp"
#include "core/log.hpp"
#include "core/text_file.hpp"
#include "plan/ledger.hpp"
#include "train/agreement.hpp"
#include "train/kernel_set.hpp"
#include "train/machine.hpp"
#include "train/machine_findings.hpp"
#include "train/measure_gpu.hpp"
#include "train/measure_host.hpp"
#include "train/measure_store.hpp"

namespace spillway::app {
namespace {

using train::Finding;

constexpr double kGiga = 1e9, kTera = 1e12;

/// The first GPU that is visible, if there is one.
std::optional<CudaGpu> first_gpu(std::vector<Finding>& findings) {
  if (!cuda_compiled()) {
    findings.push_back(
        {"this build has no CUDA: GPUs are not used", "configure with SPILLWAY_CUDA=ON and nvcc on the PATH"});
    return std::nullopt;
  }
  try {
    const std::vector<CudaGpu> gpus = list_cuda_gpus();
    if (!gpus.empty()) return gpus.front();
    findings.push_back(
        {"no GPU is visible to this process", "look at nvidia-smi and CUDA_VISIBLE_DEVICES; ask Slurm for one"});
  } catch (const CudaError& error) {
    findings.push_back({error.what(), "install NVIDIA's driver for CUDA 13, or train on the CPU"});
  }
  return std::nullopt;
}

/// Nothing of it is measured: there is one process.
plan::LinksProfile assumed_links(const plan::MachineProfile& profile) {
  constexpr double kOfPcie = 0.8, kOfMemory = 0.25;
  return {.ranks_per_node = 1,
          .node_rate = profile.pcie ? kOfPcie * profile.pcie->up_rate : kOfMemory * profile.host.memory_rate,
          .network_rate = 0.0,
          .start_seconds = 30e-6,
          .source =
              "assumed: 0.8 of PCIe's rate between GPUs of this machine, a quarter of memory's between processes; the "
              "network is not known"};
}

std::string profile_text(const plan::MachineProfile& profile) {
  std::string text;
  if (profile.gpu) {
    const plan::GpuProfile& gpu = *profile.gpu;
    text += fmt::format("GPU     {}, {}\n", gpu.name, plan::bytes_text(gpu.memory_bytes));
    text += fmt::format(
        "        products: bf16 {:.0f}, fp16 {:.0f}, TF32 {:.0f}, fp32 {:.1f} TFLOP/s; T5's reach {:.0f} %\n",
        gpu.bf16_flops / kTera, gpu.fp16_flops / kTera, gpu.tf32_flops / kTera, gpu.fp32_flops / kTera,
        100.0 * gpu.product_share);
    text += fmt::format("        memory: {:.0f} GB/s; AdamW: {:.1f} billion parameters a second\n",
                        gpu.memory_rate / kGiga, gpu.adamw_rate / kGiga);
    text +=
        fmt::format("PCIe    {:.1f} GB/s to the GPU, {:.1f} from it, {:.1f} both ways\n", profile.pcie->up_rate / kGiga,
                    profile.pcie->down_rate / kGiga, profile.pcie->both_rate / kGiga);
  }
  text += fmt::format(
      "host    {} threads, {} of memory free, {:.1f} GB/s; products: {:.0f} GFLOP/s\n"
      "        AdamW: {:.2f} billion parameters a second, with moments in bf16 {:.2f}, in int8 {:.2f}\n",
      profile.host.cores, plan::bytes_text(profile.host.memory_bytes), profile.host.memory_rate / kGiga,
      profile.host.product_flops / kGiga, profile.host.adamw_rate / kGiga, profile.host.adamw_bf16_rate / kGiga,
      profile.host.adamw_int8_rate / kGiga);
  return text;
}

std::string store_text(const train::StoreMeasures& store) {
  std::string text;
  for (const train::StoreRates& rates : store.depths)
    text += fmt::format("{} {:>2} in flight: {:.2f} GB/s read, {:.2f} written, {:.2f} both at once\n",
                        text.empty() ? "drives " : "       ", rates.depth, rates.read / kGiga, rates.write / kGiga,
                        rates.both / kGiga);
  if (store.drives) text += fmt::format("        {} free\n", plan::bytes_text(store.drives->free_bytes));
  return text;
}

std::string report_json(const plan::MachineProfile& profile, const train::StoreMeasures& store,
                        const std::vector<Finding>& findings, const std::string& saved) {
  nlohmann::ordered_json object;
  object["profile"] = nlohmann::ordered_json::parse(plan::profile_json(profile));
  object["queue_depths"] = nlohmann::ordered_json::array();
  for (const train::StoreRates& rates : store.depths)
    object["queue_depths"].push_back({{"in_flight", rates.depth},
                                      {"read_rate", rates.read},
                                      {"write_rate", rates.write},
                                      {"both_rate", rates.both}});
  object["findings"] = nlohmann::ordered_json::array();
  for (const Finding& finding : findings)
    object["findings"].push_back({{"what", finding.what}, {"remedy", finding.remedy}});
  object["saved"] = saved;
  return object.dump(2) + "\n";
}

/// \return where; "" if there is no place for it
std::string save(const plan::MachineProfile& profile, const std::string& asked) {
  const std::string path = asked.empty() ? saved_profile_path() : asked;
  if (path.empty()) return path;
  std::error_code error;
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (!folder.empty()) std::filesystem::create_directories(folder, error);
  if (error) throw IoError(fmt::format("{}: {}", folder.string(), error.message()));
  write_text(path, plan::profile_json(profile));
  return path;
}

void measure(const CudaGpu& gpu, int threads, plan::MachineProfile& profile, std::vector<Finding>& findings) {
  log::info(fmt::format("measuring {}", gpu.name));
  try {
    const std::size_t before = train::resident_bytes();
    const auto device = make_cuda_device({.uuid = gpu.uuid});
    train::GpuMeasures measures = train::measure_gpu(*device, gpu);
    // Its buffers are gone again: what is left is what CUDA and cuBLASLt have loaded.
    const std::size_t after = train::resident_bytes();
    measures.gpu.host_bytes = after - std::min(before, after);
    profile.gpu = std::move(measures.gpu);
    profile.pcie = std::move(measures.pcie);
    // Beside a GPU that is what counts.
    profile.host.memory_rate =
        train::memory_rate_beside_copies(*device, train::threads_beside_gpu({.threads = threads}).threads);
  } catch (const Error& error) {
    findings.push_back({error.what(),
                        "look at nvidia-smi: end what else runs on the GPU, or choose another one with "
                        "CUDA_VISIBLE_DEVICES"});
  }
}

std::string examine(const DoctorArguments& arguments, int threads) {
  const auto start = std::chrono::steady_clock::now();
  constexpr std::chrono::duration<double> kEachTraffic{1.0};
  std::vector<Finding> findings;
  plan::MachineProfile profile{.name = "this machine"};
  const std::optional<CudaGpu> gpu = first_gpu(findings);
  log::info("measuring the CPUs and their memory");
  profile.host = train::measure_host(threads);
  if (gpu) measure(*gpu, threads, profile, findings);
  train::StoreMeasures store;
  if (!arguments.nvme.empty()) {
    log::info("measuring the drives");
    store = train::measure_store(arguments.nvme, kEachTraffic, findings);
    profile.nvme = store.drives;
  }
  profile.links = assumed_links(profile);
  const train::SystemState system = train::read_system_state(gpu ? gpu->pci_bus_id : "");
  for (Finding& finding : train::findings_of(system, profile.pcie ? &*profile.pcie : nullptr))
    findings.push_back(std::move(finding));
  const std::string saved = save(profile, arguments.save);
  if (arguments.json) return report_json(profile, store, findings, saved);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return profile_text(profile) + store_text(store) + "\n" + train::findings_text(findings) + "\n" +
         (saved.empty() ? std::string("the profile is not saved: HOME is not set, and there is no --save\n")
                        : fmt::format("measured in {:.0f} s; the profile is in {}\n", seconds, saved));
}

}  // namespace

ExitCode doctor_command(const DoctorArguments& arguments, Runtime& runtime) {
  const kernels::cpu::ThreadPlacement placement = train::place_compute_threads(runtime.communicator);
  train::agree(runtime.communicator, [&] {
    if (runtime.communicator.rank() == 0) std::cout << examine(arguments, placement.threads) << std::flush;
  });
  return ExitCode::done;
}

}  // namespace spillway::app
