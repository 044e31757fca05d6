// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.hpp"
#include "comm/node_layout.hpp"
#include "core/device.hpp"
#include "data/sampler.hpp"
#include "train/engine.hpp"
#include "train/job.hpp"
#include "train/run_options.hpp"

namespace spillway::test {

/// The sizes of a small T5; the rest of its configuration is v1.1's.
struct ModelSizes {
  int d_model = 32, d_kv = 8, heads = 4, d_ff = 64, layers = 2;
  bool gated = true;  // and untied; false: v1.0
};

/// Writes `folder`/model/config.json and `pairs` text pairs of different lengths, `folder`/pairs.source and .target, and makes
/// `folder`/nvme.
void write_training_folder(const std::string& folder, const ModelSizes& sizes = {}, int pairs = 37, int words = 6);

/// What trains on such a folder: a global batch of 8, dropout, clipping, extents of 4 KiB.
[[nodiscard]] train::RunOptions training_options(const std::string& folder);

/// A hash over every bit of one kind of state of the whole model: "master", "exp_avg", "exp_avg_sq".
using StateHashes = std::map<std::string, std::uint64_t>;

/// One rank of a training run, step by step, without the trainer around the engine.
class Trainee {
 public:
  /// \param replan  may give the job another plan before it is executed
  /// \param nodes   which ranks share a node; not given: all
  /// \param gpu     to train on instead of the host
  Trainee(const train::RunOptions& options, comm::Communicator& communicator, train::EngineSwitches switches = {},
          const std::function<void(train::Job&)>& replan = {}, std::optional<comm::NodeLayout> nodes = {},
          Device* gpu = nullptr);

  /// Collective, as all that follows. A step that overflows under `loss_scale` does not count for the optimizer and the schedule.
  train::StepResult step(std::optional<double> loss_scale = {});
  void run(int steps);
  /// Of all ranks' shards; that every rank of a replicated run has the same is checked by asking each of them.
  [[nodiscard]] StateHashes hashes();

  [[nodiscard]] train::Engine& engine() { return *engine_; }
  [[nodiscard]] const train::Job& job() const { return *job_; }
  /// Of every step so far.
  [[nodiscard]] const std::vector<double>& losses() const { return losses_; }
  [[nodiscard]] const std::vector<double>& gradient_norms() const { return gradient_norms_; }

 private:
  std::unique_ptr<Device> device_ = make_host_device();
  comm::Communicator& communicator_;
  train::Runtime runtime_;
  std::unique_ptr<train::Job> job_;
  std::unique_ptr<train::Engine> engine_;
  std::unique_ptr<data::BatchSampler> sampler_;
  data::Cursor cursor_;
  std::int64_t step_ = 0, optimizer_step_ = 0;
  std::vector<double> losses_, gradient_norms_;
};

}  // namespace spillway::test
