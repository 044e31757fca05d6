// SPDX-License-Identifier: Apache-2.0
#include "train/run_results.hpp"

#include <fstream>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <xxhash.h>

#include "checkpoint/reader.hpp"
#include "train/bulk_files.hpp"

namespace spillway::test {
namespace {

std::map<int, double> read_metrics(const train::RunOptions& options, const char* name) {
  std::map<int, double> values;
  std::ifstream file(options.train.output_dir + "/metrics.jsonl");
  for (std::string line; std::getline(file, line);) {
    const auto object = nlohmann::json::parse(line);
    if (object.contains(name)) values[object.at("step")] = object.at(name);
  }
  return values;
}

}  // namespace

std::string checkpoint_of(const train::RunOptions& options, int step) {
  return fmt::format("{}/checkpoints/step-{:09}", options.train.output_dir, step);
}

StateHashes hashes_of(const std::string& checkpoint) {
  const auto store = offload::make_posix_store({.queue_depth = 1, .direct = false});
  train::BulkFiles bulk(*store);
  checkpoint::CheckpointReader reader(checkpoint);
  StateHashes hashes;
  for (const auto& [kind, layout] : reader.kinds())
    for (const TensorSpec& tensor : layout->tensors()) {
      std::vector<float> values(static_cast<std::size_t>(tensor.shape.elements()));
      reader.read_tensor(kind, tensor.name, {0, tensor.shape.elements()}, bulk, values);
      hashes[kind + " of " + tensor.name] = XXH3_64bits(values.data(), values.size() * sizeof(float));
    }
  return hashes;
}

std::map<int, double> losses_of(const train::RunOptions& options) { return read_metrics(options, "loss"); }

std::map<int, double> evaluation_losses_of(const train::RunOptions& options) {
  return read_metrics(options, "eval_loss");
}

}  // namespace spillway::test
