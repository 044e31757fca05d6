// SPDX-License-Identifier: Apache-2.0
#include "model/tiny_model.hpp"

#include <algorithm>
#include <fstream>
#include <limits>
#include <numeric>
#include <sstream>
#include <stdexcept>

#include "checkpoint/safetensors_file.hpp"
#include "core/shard_map.hpp"

namespace spillway::model::test {
namespace {

std::string path_of(const std::string& file) { return std::string(SPILLWAY_TEST_REFERENCE) + "/" + file; }

std::vector<std::byte> nan_bytes(std::size_t bytes) { return std::vector<std::byte>(bytes, std::byte{0xFF}); }

BatchLimits limits_of(const std::vector<PackedBatch*>& batches) {
  BatchLimits limits;
  for (const PackedBatch* packed : batches) {
    limits.sequences = std::max(limits.sequences, packed->batch.source.count);
    limits.source_rows = std::max(limits.source_rows, packed->batch.source.rows);
    limits.target_rows = std::max(limits.target_rows, packed->batch.target.rows);
  }
  return limits;
}

/// Scratch and the NaN-filled memory behind it.
struct OwnedScratch {
  OwnedScratch(const T5Config& config, DType dtype, const BatchLimits& limits, bool training) {
    Carver counted;
    (void)carve_scratch(counted, config, dtype, limits, training);
    memory = nan_bytes(counted.bytes());
    Carver carver(memory.data());
    views = carve_scratch(carver, config, dtype, limits, training);
  }
  std::vector<std::byte> memory;
  Scratch views;
};

}  // namespace

VectorParameters::VectorParameters(const T5Layout& layout) {
  const ShardMap map(layout.tensors(), 1);
  for (int unit = 0; unit < map.units(); ++unit)
    weights_.emplace_back(static_cast<std::size_t>(map.unit_elements(unit)), 0.0F);
  gradients_ = weights_;
  for (int unit = 0; unit < map.units(); ++unit) {
    trainable_.push_back(layout.trainable(unit));
    held_.push_back(layout.persistent(unit) ? 1 : 0);
  }
  users_ = held_;
}

ConstTensorView VectorParameters::weights(int unit) {
  const auto index = static_cast<std::size_t>(unit);
  if (users_.at(index) < 1) throw std::logic_error("unit " + std::to_string(unit) + " is read but not acquired");
  if (dtype() == DType::bf16)
    return {std::span<const BFloat16>(halves_[index]), {static_cast<std::int64_t>(halves_[index].size())}};
  const std::vector<float>& values = weights_[index];
  return {std::span<const float>(values), {static_cast<std::int64_t>(values.size())}};
}

TensorView VectorParameters::gradient(int unit) {
  if (!trainable_.at(static_cast<std::size_t>(unit)))
    throw std::logic_error("unit " + std::to_string(unit) + " is frozen, but its gradient is asked for");
  std::vector<float>& values = gradients_.at(static_cast<std::size_t>(unit));
  return {std::span<float>(values), {static_cast<std::int64_t>(values.size())}};
}

std::span<float> VectorParameters::weights_of(const TensorSpec& tensor) {
  return std::span(weights_.at(static_cast<std::size_t>(tensor.unit)))
      .subspan(static_cast<std::size_t>(tensor.offset), static_cast<std::size_t>(tensor.shape.elements()));
}

std::span<const float> VectorParameters::gradient_of(const TensorSpec& tensor) const {
  return std::span(gradients_.at(static_cast<std::size_t>(tensor.unit)))
      .subspan(static_cast<std::size_t>(tensor.offset), static_cast<std::size_t>(tensor.shape.elements()));
}

void VectorParameters::clear_gradients() {
  for (std::vector<float>& unit : gradients_) std::ranges::fill(unit, 0.0F);
}

void VectorParameters::round_weights(DType dtype) {
  std::vector<std::vector<BFloat16>> halves;
  for (std::vector<float>& unit : weights_) {
    std::vector<BFloat16>& half = halves.emplace_back();
    for (float& weight : unit) weight = float_from_bf16(half.emplace_back(BFloat16{bf16_from_float(weight)}).bits);
  }
  halves_.clear();
  if (dtype == DType::bf16) halves_ = std::move(halves);
}

bool VectorParameters::all_released() const { return users_ == held_; }

VectorResiduals::VectorResiduals(const std::vector<Stage>& stages, const T5Config& config, DType dtype,
                                 const BatchLimits& limits, bool training, bool keep_activations, int slots) {
  for (int slot = 0; slot < slots; ++slot) {
    auto& of_slot = memory_.emplace_back();
    for (const Stage& stage : stages)
      of_slot.push_back(nan_bytes(stage_bytes(stage, config, dtype, limits, training, keep_activations)));
  }
}

std::byte* VectorResiduals::stage_memory(int stage, int slot) {
  return memory_.at(static_cast<std::size_t>(slot)).at(static_cast<std::size_t>(stage)).data();
}

kernels::PackedSequences PackedBatch::Side::add(const Ids& sequences, std::int32_t first_sample) {
  std::size_t longest = 0;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    for (std::size_t position = 0; position < sequences[i].size(); ++position) {
      row_sample.push_back(first_sample + static_cast<std::int32_t>(i));
      row_position.push_back(static_cast<std::int32_t>(position));
      ids.push_back(sequences[i][position]);
    }
    offsets.push_back(static_cast<std::int32_t>(ids.size()));
    longest = std::max(longest, sequences[i].size());
  }
  const auto count = static_cast<std::int64_t>(sequences.size());
  const auto rows = static_cast<std::int64_t>(ids.size());
  return {.offsets = {std::span<const std::int32_t>(offsets), {count + 1}},
          .row_sample = {std::span<const std::int32_t>(row_sample), {rows}},
          .row_position = {std::span<const std::int32_t>(row_position), {rows}},
          .count = count,
          .rows = rows,
          .longest = static_cast<std::int64_t>(longest)};
}

PackedBatch::PackedBatch(const Ids& sources, const Ids& targets, std::int32_t start_token, std::int32_t first_sample) {
  batch.source = source_.add(sources, first_sample);
  batch.target = target_.add(targets, first_sample);
  for (const auto& target : targets) {
    decoder_ids_.push_back(start_token);
    decoder_ids_.insert(decoder_ids_.end(), target.begin(), target.end() - 1);
  }
  losses_.assign(target_.ids.size(), std::numeric_limits<float>::quiet_NaN());
  const auto rows = static_cast<std::int64_t>(target_.ids.size());
  batch.source_ids = {std::span<const std::int32_t>(source_.ids), {batch.source.rows}};
  batch.decoder_ids = {std::span<const std::int32_t>(decoder_ids_), {rows}};
  batch.labels = {std::span<const std::int32_t>(target_.ids), {rows}};
  batch.losses = {std::span<float>(losses_), {rows}};
}

TinyModel::TinyModel(const T5Config& config, const Freezing& freezing, int threads)
    : config_(config),
      layout_(config_, freezing),
      parameters_(layout_),
      pool_(kernels::cpu::make_thread_pool(threads)) {}

std::unique_ptr<TinyModel> TinyModel::read(const std::string& folder, const Freezing& freezing, int threads) {
  T5Config config = parse_t5_config(reference_text(folder + "/config.json"), folder);
  const checkpoint::SafetensorsFile file(path_of(folder + "/model.safetensors"));
  config.untied_head = file.find("lm_head.weight") != nullptr;
  auto model = std::make_unique<TinyModel>(config, freezing, threads);
  for (const TensorSpec& tensor : model->layout().tensors())
    file.read(tensor.name, 0, model->parameters().weights_of(tensor));
  return model;
}

double TinyModel::loss(const std::vector<PackedBatch*>& batches, const PassOptions& options) {
  return run(batches, options, false);
}

double TinyModel::loss_and_gradients(const std::vector<PackedBatch*>& batches, const PassOptions& options) {
  return run(batches, options, true);
}

double TinyModel::run(const std::vector<PackedBatch*>& batches, const PassOptions& options, bool training) {
  const BatchLimits limits = limits_of(batches);
  const OwnedScratch scratch(config_, parameters_.dtype(), limits, training);
  const std::vector<Stage> stages = t5_stages(config_, layout_);
  VectorResiduals residuals(stages, config_, parameters_.dtype(), limits, training, options.keeps(0),
                            static_cast<int>(batches.size()));
  T5Model t5(config_, layout_, *ops_, parameters_, residuals, scratch.views);
  std::int64_t tokens = 0;
  for (const PackedBatch* packed : batches) tokens += packed->batch.target.rows;
  for (std::size_t slot = 0; slot < batches.size(); ++slot) {
    batches[slot]->batch.slot = static_cast<int>(slot);
    batches[slot]->batch.gradient_scale = training ? 1.0F / static_cast<float>(tokens) : 0.0F;
  }

  const auto visit = [&](int stage, auto&& pass) {
    const int unit = stages[static_cast<std::size_t>(stage)].unit;
    if (unit != 0) parameters_.acquire(unit);
    for (PackedBatch* packed : batches) pass(packed->batch);
    if (unit != 0) parameters_.release(unit);
  };
  const int count = static_cast<int>(stages.size());
  for (int stage = 0; stage < count; ++stage)
    visit(stage, [&](const MicroBatch& batch) { t5.forward(*queue_, stage, batch, options); });
  for (int stage = count - 1; training && stage >= 0; --stage)
    visit(stage, [&](const MicroBatch& batch) { t5.backward(*queue_, stage, batch, options); });
  queue_->synchronize();

  double sum = 0.0;
  for (const PackedBatch* packed : batches)
    for (const float loss : packed->batch.losses.as<float>()) sum += static_cast<double>(loss);
  return sum / static_cast<double>(tokens);
}

std::vector<float> TinyModel::encoder_output(PackedBatch& batch) {
  const BatchLimits limits = limits_of({&batch});
  const OwnedScratch scratch(config_, parameters_.dtype(), limits, false);
  const std::vector<Stage> stages = t5_stages(config_, layout_);
  VectorResiduals residuals(stages, config_, parameters_.dtype(), limits, false, false, 1);
  T5Model t5(config_, layout_, *ops_, parameters_, residuals, scratch.views);
  batch.batch.slot = 0;
  batch.batch.gradient_scale = 0.0F;
  for (int stage = 0; stages[static_cast<std::size_t>(stage)].kind != StageKind::decoder_embedding; ++stage) {
    const int unit = stages[static_cast<std::size_t>(stage)].unit;
    parameters_.acquire(unit);
    t5.forward(*queue_, stage, batch.batch, {});
    parameters_.release(unit);
  }
  queue_->synchronize();
  const auto values = t5.encoder_output(batch.batch).as<float>();
  return {values.begin(), values.end()};
}

std::vector<std::vector<Hypothesis>> TinyModel::generate(const Ids& sources, const GenerationOptions& options,
                                                         const std::function<bool(bool)>& all_done, bool weights_stay) {
  PackedBatch packed(sources, {}, config_.decoder_start_token_id);
  const auto items = static_cast<std::int64_t>(sources.size());
  const BatchLimits limits{.sequences = items, .source_rows = packed.batch.source.rows, .target_rows = items};
  const OwnedScratch scratch(config_, parameters_.dtype(), limits, false);
  VectorResiduals residuals(t5_stages(config_, layout_), config_, parameters_.dtype(), limits, false, false, 1);
  T5Model t5(config_, layout_, *ops_, parameters_, residuals, scratch.views);
  const GenerationLimits generation{.items = items, .source_rows = packed.batch.source.rows, .options = options};
  Carver counted, counted_lists;
  (void)carve_generation(counted, counted_lists, config_, parameters_.dtype(), generation);
  std::vector<std::byte> memory = nan_bytes(counted.bytes()), list_memory = nan_bytes(counted_lists.bytes());
  Carver carver(memory.data()), lists(list_memory.data());
  Generator generator(*device_, config_, layout_, t5, *ops_, *generation_ops_, parameters_,
                      carve_generation(carver, lists, config_, parameters_.dtype(), generation), weights_stay);
  return generator.generate(*queue_, packed.batch, options, all_done);
}

std::string reference_text(const std::string& file) {
  std::ifstream stream(path_of(file), std::ios::binary);
  if (!stream) throw std::runtime_error(path_of(file) + ": cannot be read");
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

nlohmann::json reference_numbers(const std::string& folder) {
  return nlohmann::json::parse(reference_text(folder + "/reference.json"));
}

}  // namespace spillway::model::test
