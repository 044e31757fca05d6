// SPDX-License-Identifier: Apache-2.0
#include "train/machine_findings.hpp"

#include <cctype>
#include <fstream>
#include <sstream>
#include <thread>

#include <fmt/format.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include "plan/ledger.hpp"
#include "train/machine.hpp"

namespace spillway::train {
namespace {

std::string text_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

/// The first number of a file: "16", "32.0 GT/s PCIe"; 0 if there is none.
double number_of(const std::string& path) {
  std::istringstream text(text_of(path));
  double number = 0.0;
  return text >> number ? number : 0.0;
}

/// Of "Key:   number kB" lines, in bytes.
std::uint64_t meminfo(const std::string& key) {
  std::istringstream lines(text_of("/proc/meminfo"));
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with(key + ":")) return std::stoull(line.substr(key.size() + 1)) * 1024;
  return 0;
}

std::optional<PciLink> link_of(const std::string& pci_bus_id, const std::string& devices) {
  if (pci_bus_id.empty()) return std::nullopt;
  std::string device = devices + "/";
  for (const char letter : pci_bus_id) device += static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  const PciLink link{.width = static_cast<int>(number_of(device + "/current_link_width")),
                     .best_width = static_cast<int>(number_of(device + "/max_link_width")),
                     .speed = number_of(device + "/current_link_speed"),
                     .best_speed = number_of(device + "/max_link_speed")};
  if (link.width == 0 || link.speed == 0.0) return std::nullopt;
  return link;
}

std::string size(double bytes) { return plan::bytes_text(static_cast<std::size_t>(bytes)); }

/// Bytes a second that the lanes could carry: 8 of 10 bits below 8 GT/s, nearly all of them above.
double rate_of(const PciLink& link) { return link.width * link.speed * 1e9 / 8.0 * (link.speed < 8.0 ? 0.8 : 0.985); }

void look_at_pcie(std::vector<Finding>& findings, const PciLink& link, const plan::PcieProfile* pcie) {
  if (link.width < link.best_width)
    findings.push_back(
        {fmt::format("the GPU is connected by {} PCIe lanes and could have {}", link.width, link.best_width),
         "put it in a slot with all lanes (the board's manual says which), without a riser, and look for a "
         "second device that shares them"});
  constexpr double kGood = 0.65;  // of what the lanes could carry
  if (pcie == nullptr) return;
  const double slower = std::min(pcie->up_rate, pcie->down_rate);
  if (slower < kGood * rate_of(link))
    findings.push_back(
        {fmt::format("copies to or from the GPU reach {:.1f} GB/s, where {} lanes of {} GT/s carry {:.1f}",
                     slower / 1e9, link.width, link.speed, rate_of(link) / 1e9),
         "bind the process to the cores next to the GPU (nvidia-smi topo -m), and look whether the machine "
         "is virtual or another job uses the link"});
}

}  // namespace

SystemState read_system_state(const std::string& pci_bus_id, const std::string& pci_devices) {
  SystemState state;
  rlimit locked{};
  if (getrlimit(RLIMIT_MEMLOCK, &locked) == 0 && locked.rlim_cur != RLIM_INFINITY) state.locked_bytes = locked.rlim_cur;
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  state.online_cpus = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  state.usable_cpus = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? CPU_COUNT(&cpus) : state.online_cpus;
  state.memory_bytes = meminfo("MemTotal");
  state.swap_bytes = meminfo("SwapTotal");
  state.free_swap_bytes = meminfo("SwapFree");
  if (const auto room = control_group_room("/sys/fs/cgroup", text_of("/proc/self/cgroup"))) state.room_bytes = *room;
  state.huge_pages = text_of("/sys/kernel/mm/transparent_hugepage/enabled").find("[never]") == std::string::npos;
  state.gpu_link = link_of(pci_bus_id, pci_devices);
  return state;
}

std::vector<Finding> findings_of(const SystemState& state, const plan::PcieProfile* pcie) {
  std::vector<Finding> findings;
  constexpr std::uint64_t kEnoughLocked = std::uint64_t{512} << 20;  // a ring of large extents
  if (state.locked_bytes && *state.locked_bytes < kEnoughLocked)
    findings.push_back(
        {fmt::format("only {} of memory may be locked, so io_uring cannot keep its buffers pinned",
                     plan::bytes_text(*state.locked_bytes)),
         "raise `ulimit -l`: memlock unlimited in /etc/security/limits.conf, or LimitMEMLOCK=infinity for "
         "slurmd"});
  if (state.usable_cpus * 2 < state.online_cpus)
    findings.push_back(
        {fmt::format("this process may use {} of {} CPUs, so updates on the CPU and checksums are slow",
                     state.usable_cpus, state.online_cpus),
         "ask for more: --cpus-per-task under Slurm, --bind-to none or --map-by ppr:1:node:PE=N under mpirun"});
  if (state.room_bytes && *state.room_bytes * 2 < state.memory_bytes)
    findings.push_back({fmt::format("a control group leaves {} of the machine's {}",
                                    plan::bytes_text(*state.room_bytes), plan::bytes_text(state.memory_bytes)),
                        "ask for more memory: --mem under Slurm, --memory of a container"});
  if (state.swap_bytes > state.memory_bytes)
    findings.push_back(
        {fmt::format("there is {} of swap, more than memory: a job that takes too much gets slow instead of "
                     "failing",
                     plan::bytes_text(state.swap_bytes)),
         "set memory.host to what the machine really has to spare, or switch swap off"});
  else if (state.swap_bytes - state.free_swap_bytes > state.memory_bytes / 16)
    findings.push_back({fmt::format("{} is swapped out: this machine is short of memory now",
                                    size(static_cast<double>(state.swap_bytes - state.free_swap_bytes))),
                        "end what is not needed before training; rates measured now are too low"});
  if (!state.huge_pages)
    findings.push_back({"transparent huge pages are switched off: streams over host memory are about a fifth slower",
                        "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"});
  if (state.gpu_link) look_at_pcie(findings, *state.gpu_link, pcie);
  return findings;
}

std::string findings_text(const std::vector<Finding>& findings) {
  if (findings.empty()) return "nothing is wrong with this machine\n";
  std::string text;
  for (const Finding& finding : findings) text += fmt::format("- {}\n  {}\n", finding.what, finding.remedy);
  return text;
}

}  // namespace spillway::train
