// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <filesystem>
#include <iostream>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "app/commands.hpp"
#include "checkpoint/directory.hpp"
#include "checkpoint/files.hpp"
#include "checkpoint/reader.hpp"
#include "offload/block_store.hpp"
#include "train/agreement.hpp"
#include "train/bulk_files.hpp"
#include "train/hugging_face.hpp"
#include "train/run_state.hpp"

namespace spillway::app {
namespace {

void list(const std::string& directory) {
  if (checkpoint::type_of_input(directory) != std::filesystem::file_type::directory)
    throw DataError(fmt::format("{}: no such directory", directory));
  for (const checkpoint::CheckpointEntry& entry : checkpoint::list(directory))
    std::cout << fmt::format("step {:>9}  {:>3} rank{}  {}\n", entry.step, entry.world_size,
                             entry.world_size == 1 ? " " : "s", entry.path);
}

void show(const std::string& folder) {
  const checkpoint::CheckpointReader reader(folder);
  const train::RunState state = train::run_state_from_json(reader.metadata(), folder);
  std::cout << fmt::format("step {} of {}, epoch {}, {} samples into it, global batch {}\n", state.step,
                           state.total_steps, state.cursor.epoch, state.cursor.position, state.global_batch_size);
  if (state.best_metric)
    std::cout << fmt::format("best {} so far: {:.4f} at step {}\n", state.best_metric_name, *state.best_metric,
                             state.best_step);
  std::cout << fmt::format("written by {} ranks; numeric signature:", reader.world_size());
  for (const auto& [part, value] : state.signature) std::cout << fmt::format(" {} {};", part, value);
  std::cout << "\n";
  for (const auto& [kind, layout] : reader.kinds())
    std::cout << fmt::format("{:<16} {:>14} elements in {} tensors\n", kind, layout->parameters(),
                             layout->tensors().size());
  for (const checkpoint::FileRecord& file : reader.files())
    std::cout << fmt::format("{:>14}  {}\n", file.bytes, file.name);
  for (const TensorSpec& tensor : reader.layout("master").tensors())
    std::cout << fmt::format("{:<24} {}\n", tensor.shape.text(), tensor.name);
}

void verify(const std::string& folder, checkpoint::BulkStorage& bulk) {
  checkpoint::CheckpointReader reader(folder);
  const std::vector<std::string> wrong = reader.verify(bulk);
  if (!wrong.empty()) throw DataError(fmt::format("{} is damaged:\n{}", folder, fmt::join(wrong, "\n")));
  std::cout << fmt::format("{}: all {} files are as they were written\n", folder, reader.files().size());
}

void export_model(const std::string& folder, const std::string& output, checkpoint::BulkStorage& bulk) {
  checkpoint::CheckpointReader reader(folder);
  const train::RunState state = train::run_state_from_json(reader.metadata(), folder);
  train::ModelSource source;
  source.config = model::parse_t5_config(state.model_json, folder + ": config.json in the checkpoint");
  const auto& tensors = reader.layout("master").tensors();
  source.config.untied_head = std::any_of(tensors.begin(), tensors.end(),
                                          [](const TensorSpec& tensor) { return tensor.name == "lm_head.weight"; });
  source.dtype = state.model_dtype;
  source.generation_json = state.generation_json;
  std::error_code code;
  if (state.tokenizer == "bytes" || std::filesystem::exists(state.tokenizer, code)) source.tokenizer = state.tokenizer;
  else if (!state.tokenizer.empty())
    std::cerr << fmt::format("warning: {}: the run's tokenizer is not there any more: {} has none\n", state.tokenizer,
                             output);
  const model::T5Layout layout(source.config);
  const train::HuggingFaceWriter writer(output, source, layout);
  writer.create();
  std::vector<float> values(std::size_t{1} << 20);
  for (const TensorSpec& tensor : layout.tensors()) {
    for (std::int64_t begin = 0; begin < tensor.shape.elements(); begin += static_cast<std::int64_t>(values.size())) {
      const std::int64_t end = std::min(begin + static_cast<std::int64_t>(values.size()), tensor.shape.elements());
      const std::span<float> part(values.data(), static_cast<std::size_t>(end - begin));
      reader.read_tensor("master", tensor.name, {begin, end}, bulk, part);
      writer.write(tensor.name, begin, part);
    }
  }
  writer.commit();
  std::cout << output << "\n";
}

}  // namespace

ExitCode checkpoint_command(const CheckpointArguments& arguments, Runtime& runtime) {
  // One rank is enough; the others learn how it went.
  train::agree(runtime.communicator, [&] {
    if (runtime.communicator.rank() != 0) return;
    const auto store = offload::make_posix_store({.queue_depth = 4, .direct = false});
    train::BulkFiles bulk(*store);
    switch (arguments.action) {
      case CheckpointAction::list: return list(arguments.path);
      case CheckpointAction::show: return show(arguments.path);
      case CheckpointAction::verify: return verify(arguments.path, bulk);
      case CheckpointAction::export_model: return export_model(arguments.path, arguments.output, bulk);
    }
  });
  std::cout << std::flush;
  return ExitCode::done;
}

}  // namespace spillway::app
