// SPDX-License-Identifier: Apache-2.0
#include "plan/simulation.hpp"

#include <algorithm>
#include <optional>
#include <vector>

#include <fmt/format.h>

#include "core/error.hpp"
#include "plan/plan.hpp"
#include "plan/residual_times.hpp"

namespace spillway::plan {
namespace {

constexpr std::array<const char*, kResources> kNames = {"compute",   "device_memory", "pcie_up",   "pcie_down",
                                                        "pcie_both", "host_memory",   "nvme_read", "nvme_write",
                                                        "nvme_both", "network",       "cpu_update"};
constexpr std::array<const char*, kResources> kWords = {
    "computing",         "device memory",  "PCIe to the GPU", "PCIe from the GPU",          "PCIe both ways",
    "host memory",       "reading drives", "writing drives",  "reading and writing drives", "links between ranks",
    "updates on the CPU"};

/// Rates as one rank has them.
struct Rates {
  double products = 1.0, attention = 1.0;
  double memory = 1.0;  // bytes a second of kernels that it binds
  double update = 1.0;  // likewise of the optimizer
  double kernel_seconds = 0.0;
  double pcie_up = 1.0, pcie_down = 1.0, pcie_both = 1.0;
  double host_memory = 1.0;
  double cpu_update = 1.0;  // parameters a second of the CPU's optimizer beside a GPU
  double nvme_read = 1.0, nvme_write = 1.0, nvme_both = 1.0;
  double network = 1.0, network_start = 0.0;
};

Rates rates_of(const MachineProfile& profile, const StepCosts& costs) {
  const double share = 1.0 / costs.ranks_on_node;
  Rates rates;
  rates.host_memory = profile.host.memory_rate * share;
  rates.products = product_rate(profile, costs);
  rates.attention = rates.products;
  rates.memory = rates.host_memory;
  rates.update = profile.host.adamw_rate * share * kHostAdamWBytes;
  rates.cpu_update = profile.host.rate_of(costs.moments) * share;
  if (costs.gpu) {
    const GpuProfile& gpu = *profile.gpu;
    rates.attention *= gpu.attention_share;
    rates.products *= gpu.product_share;
    rates.memory = gpu.memory_rate * gpu.memory_share;
    rates.update = gpu.adamw_rate * kAdamWBytes;
    rates.kernel_seconds = gpu.kernel_seconds;
    rates.pcie_up = profile.pcie->up_rate;
    rates.pcie_down = profile.pcie->down_rate;
    rates.pcie_both = profile.pcie->both_rate;
  }
  if (profile.nvme) {
    rates.nvme_read = profile.nvme->read_rate * share;
    rates.nvme_write = profile.nvme->write_rate * share;
    rates.nvme_both = profile.nvme->both_rate * share;
  }
  rates.network = costs.several_nodes ? profile.links.network_rate : profile.links.node_rate;
  rates.network_start = profile.links.start_seconds;
  return rates;
}

/// What a unit's update moves.
struct UpdateBytes {
  double device = 0.0, host = 0.0, nvme = 0.0;
  [[nodiscard]] double all() const { return device + host + nvme; }
  [[nodiscard]] double outside() const { return host + nvme; }
};

class Simulator {
 public:
  Simulator(const StepProgram& program, int first_kept_stage, const StepCosts& costs, const StateBytes& state,
            const MachineProfile& profile)
      : program_(program),
        first_kept_stage_(first_kept_stage),
        costs_(costs),
        state_(state),
        rates_(rates_of(profile, costs)),
        residuals_(state.host_residuals, program.group_size,
                   [this](double start, double up, double down) { return move_residuals(start, up, down); }),
        updated_(costs.units.size(), 0.0),
        arrived_(costs.units.size(), 0.0),
        at_rest_(costs.units.size(), 0.0) {
    for (std::size_t unit = 0; unit < costs.units.size(); ++unit) passing_ += bytes_of(unit).outside();
  }

  Prediction run() {
    walk();  // there is nothing to update yet
    const double first = norm_done_;
    result_ = {};
    walk();
    result_.seconds = norm_done_ - first;
    for (const ResourceUse& use : result_.resources)
      result_.bound_seconds = std::max(result_.bound_seconds, use.busy_seconds);
    return result_;
  }

 private:
  static constexpr std::size_t kWeight = 0, kMaster = 1;  // of JobFacts::kinds

  ResourceUse& use(Resource resource) { return result_.resources[static_cast<std::size_t>(resource)]; }

  /// What is moved over a resource after all that it was given before. \return when that is over
  double take(Resource resource, double start, double bytes, double rate, double fixed = 0.0) {
    if (bytes <= 0.0) return start;
    const double seconds = bytes / rate + fixed;
    double& free = free_[static_cast<std::size_t>(resource)];
    free = std::max(free, start) + seconds;
    use(resource).busy_seconds += seconds;
    use(resource).bytes += bytes;
    return free;
  }

  double pcie(double start, double up, double down) {
    return std::max({take(Resource::pcie_up, start, up, rates_.pcie_up),
                     take(Resource::pcie_down, start, down, rates_.pcie_down),
                     take(Resource::pcie_both, start, up + down, rates_.pcie_both)});
  }
  double nvme(double start, double read, double written) {
    return std::max({take(Resource::nvme_read, start, read, rates_.nvme_read),
                     take(Resource::nvme_write, start, written, rates_.nvme_write),
                     take(Resource::nvme_both, start, read + written, rates_.nvme_both)});
  }

  void walk() {
    for (const Op& op : program_.ops) run_op(op);
  }

  void run_op(const Op& op) {
    const auto unit = static_cast<std::size_t>(std::max(op.unit, 0));
    const auto stage = static_cast<std::size_t>(std::max(op.stage, 0));
    switch (op.kind) {
      case OpKind::prefetch: prefetch(unit); break;
      case OpKind::acquire:
        prefetch(unit);
        wait_until(std::max(updated_[unit], arrived_[unit]));
        break;
      case OpKind::forward:
        wait_until(residuals_.before_forward(op.stage, now_));
        compute(costs_.stages[stage].forward);
        if (residuals_.written_by(op.stage)) update_ahead(op.stage);
        residuals_.after_forward(op.stage, now_);
        break;
      case OpKind::backward:
        wait_until(residuals_.before_backward(op.stage, now_));
        if (op.stage < first_kept_stage_) compute(costs_.stages[stage].recompute);
        compute(costs_.stages[stage].backward);
        residuals_.after_backward(op.stage, now_);
        break;
      case OpKind::reduce:
        compute(costs_.units[unit].reduce);
        reduced_ = std::max(reduced_, take(Resource::network, now_, costs_.units[unit].reduce_link_bytes,
                                           rates_.network, rates_.network_start));
        if (gradient_on_host(unit) > 0.0) take_down_gradient(unit);
        break;
      case OpKind::norm: norm(); break;
      case OpKind::update:
        compute(costs_.units[unit].prepare);
        waiting_.push_back(unit);
        break;
      case OpKind::begin_gradient:
        if (gradient_on_host(unit) > 0.0) wait_until(gradient_slots_[next_gradient_slot_]);
        break;
      case OpKind::release: break;
    }
  }

  void wait_until(double time) {
    if (time <= now_) return;
    result_.waiting_seconds += time - now_;
    update_beside_ = std::max(0.0, update_beside_ - (time - now_));  // an update runs on meanwhile
    now_ = time;
  }

  /// On the compute queue, after what is there.
  void compute(const Work& work) {
    const double memory = work.bytes / rates_.memory;
    const double alone = work.product_flops / rates_.products + work.attention_flops / rates_.attention + memory +
                         work.kernels * rates_.kernel_seconds;
    if (alone <= 0.0) return;
    // An update beside it takes its share of the memory from the part that memory binds.
    const double beside = std::min(update_beside_, alone);
    update_beside_ -= beside;
    const double seconds = alone + beside * memory / alone;
    now_ += seconds;
    use(Resource::compute).busy_seconds += seconds;
    // Both together cannot have more of the memory than there is.
    if (costs_.gpu) (void)take(Resource::device_memory, 0.0, work.bytes, rates_.memory);
  }

  void norm() {
    update_until(std::nullopt);
    wait_until(reduced_);
    Work work;
    for (std::size_t unit = 0; unit < costs_.units.size(); ++unit) {
      if (gradient_on_host(unit) > 0.0) continue;  // its part was taken when it was made
      work.bytes += costs_.units[unit].gradient_bytes;
      work.kernels += 1.0;
    }
    compute(work);
    norm_done_ = now_;
    held_.clear();  // what is updated is gathered anew
    passed_ = 0.0;
  }

  /// Starts the updates that wait, up to that of a unit, or all. Later ones come after the weights that this unit needs.
  void update_until(std::optional<std::size_t> unit) {
    if (unit && std::ranges::find(waiting_, *unit) == waiting_.end()) return;
    while (!waiting_.empty()) {
      const std::size_t next = waiting_.front();
      waiting_.erase(waiting_.begin());
      update(next);
      if (unit == next) return;
    }
  }

  /// Updates run on while residuals leave, and have their share of the link: they are as far as the forward pass, and a few stages more.
  void update_ahead(int stage) {
    constexpr double kAhead = 4.0;
    const double share = (stage + kAhead) / static_cast<double>(costs_.stages.size());
    while (!waiting_.empty() && passed_ < share * passing_) update_until(waiting_.front());
  }

  double move_residuals(double start, double up, double down) {
    return std::max(pcie(start, up, down), take(Resource::host_memory, start, up + down, rates_.host_memory));
  }

  /// Bytes of it beside a GPU.
  [[nodiscard]] double gradient_on_host(std::size_t unit) const {
    if (!costs_.gpu || state_.kinds.size() <= kGradientKind) return 0.0;
    return state_.kinds[kGradientKind][unit][static_cast<std::size_t>(Tier::host)];
  }

  /// The norm's part of it is taken while it is in device memory; its slot is free when it has left.
  void take_down_gradient(std::size_t unit) {
    const double bytes = gradient_on_host(unit);
    compute({.bytes = costs_.units[unit].gradient_bytes, .kernels = 1.0});
    at_rest_[unit] = std::max(pcie(now_, 0.0, bytes), take(Resource::host_memory, now_, bytes, rates_.host_memory));
    gradient_slots_[next_gradient_slot_] = at_rest_[unit];
    next_gradient_slot_ = (next_gradient_slot_ + 1) % gradient_slots_.size();
  }

  [[nodiscard]] UpdateBytes bytes_of(std::size_t unit) const {
    UpdateBytes bytes;
    for (std::size_t i = 0; i < std::min(state_.kinds.size(), kGradientKind); ++i) {
      const std::vector<TierBytes>& kind = state_.kinds[i];
      bytes.device += kind[unit][static_cast<std::size_t>(Tier::device)];
      bytes.host += kind[unit][static_cast<std::size_t>(Tier::host)];
      bytes.nvme += kind[unit][static_cast<std::size_t>(Tier::nvme)];
    }
    return bytes;
  }

  /// Beside a GPU: what lies on the device comes down and goes up again, but for the gradient, what is on drives lies in host memory when it is
  /// updated, and is written there and read again besides. \return when it is over
  double update_on_cpu(std::size_t unit, const UpdateBytes& bytes, double gradient) {
    const double gradient_down = gradient_on_host(unit) > 0.0 ? 0.0 : gradient;
    const double here = std::max(pcie(norm_done_, 0.0, bytes.device + gradient_down), at_rest_[unit]);
    const double read = nvme(norm_done_, bytes.nvme, bytes.nvme);
    const double touched = 2.0 * bytes.all() + gradient;
    const double parameters =
        static_cast<double>(costs_.units[unit].parameters) * gradient / costs_.units[unit].update_read_bytes;
    const double updated =
        take(Resource::cpu_update, std::max(here, read), touched, touched / parameters * rates_.cpu_update);
    const double moved = touched + 2.0 * bytes.device + gradient_down + 2.0 * bytes.nvme;
    // Room on the link is taken in the order of units: what goes up late does not hold up what could go before.
    const double up = std::max(pcie(norm_done_, bytes.device, 0.0), updated + bytes.device / rates_.pcie_up);
    return std::max(up, take(Resource::host_memory, norm_done_, moved, rates_.host_memory));
  }

  /// Parameters outside the device that kernels reach for over the link. Their reads are small: a copy is several times as fast.
  double read_in_place(std::size_t unit, double start) {
    constexpr double kOfCopies = 0.2;
    double bytes = 0.0;
    for (const std::size_t kind : {kWeight, kMaster})
      bytes += state_.kinds[kind][unit][static_cast<std::size_t>(Tier::host)] +
               state_.kinds[kind][unit][static_cast<std::size_t>(Tier::nvme)];
    return take(Resource::pcie_up, start, costs_.reads_in_place * bytes, kOfCopies * rates_.pcie_up);
  }

  /// State is read once and written once; the gradient is read.
  void update(std::size_t unit) {
    UpdateBytes bytes = bytes_of(unit);
    const double outside = bytes.outside();
    double gradient = costs_.units[unit].update_read_bytes;
    double gradient_there = gradient_on_host(unit);
    double on_cpu = norm_done_;
    if (!state_.on_cpu.empty() && state_.on_cpu[unit].gradient > 0.0) {
      const CpuUpdateBytes& its = state_.on_cpu[unit];
      const UpdateBytes cpu{.device = its.state[static_cast<std::size_t>(Tier::device)],
                            .host = its.state[static_cast<std::size_t>(Tier::host)],
                            .nvme = its.state[static_cast<std::size_t>(Tier::nvme)]};
      on_cpu = update_on_cpu(unit, cpu, its.gradient);
      bytes = {.device = bytes.device - cpu.device, .host = bytes.host - cpu.host, .nvme = bytes.nvme - cpu.nvme};
      gradient = std::max(0.0, gradient - its.gradient);
      gradient_there = std::max(0.0, gradient_there - its.gradient);
    }
    double done = nvme(norm_done_, bytes.nvme, bytes.nvme);
    done = std::max(done, on_cpu);
    if (costs_.gpu) {
      const double on_device = 2.0 * bytes.device + gradient;
      done = std::max(done, take(Resource::device_memory, norm_done_, on_device, rates_.update));
      update_beside_ += on_device / rates_.update;
      // As often as the update reads it.
      const double gradient_up = gradient_there > 0.0 ? std::max(gradient_there, gradient) : 0.0;
      const double start = std::max(norm_done_, at_rest_[unit]);
      done = std::max(done, read_in_place(unit, start));
      done = std::max(done, pcie(start, bytes.host + bytes.nvme + gradient_up, bytes.host + bytes.nvme));
      // Those on drives pass through host memory twice each way.
      done = std::max(done, take(Resource::host_memory, start, 2.0 * bytes.host + 4.0 * bytes.nvme + gradient_up,
                                 rates_.host_memory));
    } else {
      // The update has the same cores as the next forward pass.
      const double seconds = (2.0 * (bytes.device + bytes.host + bytes.nvme) + gradient) / rates_.update;
      now_ += seconds;
      use(Resource::compute).busy_seconds += seconds;
      done = std::max({done, now_, take(Resource::host_memory, norm_done_, 2.0 * bytes.nvme, rates_.host_memory)});
    }
    if (!costs_.gathers_on_acquire)
      done = take(Resource::network, done, costs_.units[unit].gather_link_bytes, rates_.network, rates_.network_start);
    updated_[unit] = done;
    passed_ += outside;
  }

  /// Gives a unit a place, as train does: the one that was used longest ago. \return whether it had one
  bool hold(std::size_t unit) {
    const auto place = std::ranges::find(held_, unit);
    const bool there = place != held_.end();
    if (there) held_.erase(place);
    held_.push_back(unit);
    const auto shared = [this](std::size_t held) { return !costs_.units[held].persistent; };
    if (std::ranges::count_if(held_, shared) > kGatherSlots) held_.erase(std::ranges::find_if(held_, shared));
    return there;
  }

  /// Brings a unit's weights to where they are used, unless they are there.
  void prefetch(std::size_t unit) {
    update_until(unit);
    const TierBytes& weight = state_.kinds[kWeight][unit];
    const double on_host = costs_.gpu ? weight[static_cast<std::size_t>(Tier::host)] : 0.0;
    const double on_nvme = weight[static_cast<std::size_t>(Tier::nvme)];
    const double gathered = costs_.gathers_on_acquire ? costs_.units[unit].gather_link_bytes : 0.0;
    if (on_host + on_nvme + gathered <= 0.0) return;
    if (hold(unit)) return;
    const double start = std::max(now_, updated_[unit]);
    double done = nvme(start, on_nvme, 0.0);
    if (costs_.gpu) done = std::max(done, pcie(start, on_host + on_nvme, 0.0));
    done = std::max(done, take(Resource::host_memory, start, on_host + 2.0 * on_nvme, rates_.host_memory));
    arrived_[unit] = take(Resource::network, done, gathered, rates_.network, rates_.network_start);
  }

  const StepProgram& program_;
  const int first_kept_stage_;
  const StepCosts& costs_;
  const StateBytes& state_;
  const Rates rates_;
  ResidualTimes residuals_;
  Prediction result_;
  std::array<double, kResources> free_{};  // when each has done what it was given
  double now_ = 0.0;                       // when the compute queue has
  double norm_done_ = 0.0, reduced_ = 0.0;
  double update_beside_ = 0.0;  // seconds of device memory that updates need and no kernel has run beside yet
  double passing_ = 0.0;        // bytes over the link that the updates of a step move each way
  double passed_ = 0.0;         // of these, of updates that were started
  std::vector<double> updated_, arrived_;                // of each unit
  std::vector<double> at_rest_;                          // likewise: when its gradient is in host memory
  std::array<double, kGradientSlots> gradient_slots_{};  // when each is free
  std::size_t next_gradient_slot_ = 0;
  std::vector<std::size_t> waiting_;  // for their update, in order
  std::vector<std::size_t> held_;     // gathered units, the one used last at the end
};

}  // namespace

const char* name_of(Resource resource) noexcept { return kNames[static_cast<std::size_t>(resource)]; }
const char* words_of(Resource resource) noexcept { return kWords[static_cast<std::size_t>(resource)]; }

Resource Prediction::bound() const {
  const auto busiest = std::ranges::max_element(resources, {}, &ResourceUse::busy_seconds);
  return static_cast<Resource>(busiest - resources.begin());
}

double Prediction::nvme_bytes_a_day(int ranks_on_node) const {
  constexpr double kDay = 86400.0;
  return use(Resource::nvme_write).bytes * ranks_on_node * kDay / seconds;
}

double product_rate(const MachineProfile& profile, const StepCosts& costs) {
  if (!costs.gpu) return profile.host.product_flops / costs.ranks_on_node;
  if (!profile.gpu) return 0.0;
  switch (costs.product) {
    case ProductType::bf16: return profile.gpu->bf16_flops;
    case ProductType::fp16: return profile.gpu->fp16_flops;
    case ProductType::fp32: return profile.gpu->fp32_flops;
    case ProductType::tf32: return profile.gpu->tf32_flops;
  }
  return 0.0;
}

std::string missing_rates(const MachineProfile& profile, const StepCosts& costs, const StateBytes& state) {
  if (costs.gpu && !profile.gpu) return "a GPU";
  if (product_rate(profile, costs) <= 0.0) return "products of this precision";
  bool drives = false, links = false;
  for (const auto& kind : state.kinds)
    for (const TierBytes& unit : kind) drives = drives || unit[static_cast<std::size_t>(Tier::nvme)] > 0.0;
  for (const UnitCosts& unit : costs.units) links = links || unit.reduce_link_bytes + unit.gather_link_bytes > 0.0;
  if (drives && !profile.nvme) return "NVMe drives";
  if (links && costs.several_nodes && profile.links.network_rate <= 0.0) return "a network between nodes";
  return {};
}

Prediction simulate(const StepProgram& program, int first_kept_stage, const StepCosts& costs, const StateBytes& state,
                    const MachineProfile& profile) {
  if (const std::string missing = missing_rates(profile, costs, state); !missing.empty())
    throw ConfigError(fmt::format("the machine profile \"{}\" says nothing about {}", profile.name, missing));
  return Simulator(program, first_kept_stage, costs, state, profile).run();
}

}  // namespace spillway::plan
