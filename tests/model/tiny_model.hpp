// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/device.hpp"
#include "kernels/cpu/cpu_kernels.hpp"
#include "model/generator.hpp"
#include "model/t5_model.hpp"

namespace spillway::model::test {

using Ids = std::vector<std::vector<std::int32_t>>;

/// Weights and gradients whole in vectors, the weights in fp32 or bf16. It refuses to show a unit that is not acquired, and the gradient
/// of a frozen one.
class VectorParameters final : public ParameterSource {
 public:
  explicit VectorParameters(const T5Layout& layout);
  void prefetch(int /*unit*/) override {}
  void acquire(int unit) override { ++users_.at(static_cast<std::size_t>(unit)); }
  void release(int unit) override { --users_.at(static_cast<std::size_t>(unit)); }
  [[nodiscard]] ConstTensorView weights(int unit) override;
  [[nodiscard]] TensorView gradient(int unit) override;

  [[nodiscard]] std::span<float> weights_of(const TensorSpec& tensor);
  [[nodiscard]] std::span<const float> gradient_of(const TensorSpec& tensor) const;
  void clear_gradients();
  /// Rounds every weight to bf16 and hands them out as `dtype` from now on: f32 for the same numbers in fp32.
  void round_weights(DType dtype);
  [[nodiscard]] DType dtype() const noexcept { return halves_.empty() ? DType::f32 : DType::bf16; }
  /// False if some unit is acquired still.
  [[nodiscard]] bool all_released() const;

 private:
  std::vector<std::vector<float>> weights_, gradients_;
  std::vector<std::vector<BFloat16>> halves_;  // in bf16 what is handed out
  std::vector<bool> trainable_;
  std::vector<int> users_, held_;
};

/// A vector of its own for every stage and slot, exactly as large as stage_bytes says and full of NaN: a sanitizer sees what is written
/// outside, and numbers that nobody wrote spoil the result.
class VectorResiduals final : public ResidualStore {
 public:
  VectorResiduals(const std::vector<Stage>& stages, const T5Config& config, DType dtype, const BatchLimits& limits,
                  bool training, bool keep_activations, int slots);
  [[nodiscard]] std::byte* stage_memory(int stage, int slot) override;

 private:
  std::vector<std::vector<std::vector<std::byte>>> memory_;  // [slot][stage]
};

/// Samples packed end to end, with the memory that the views look at. Sample i has the number first_sample + i.
class PackedBatch {
 public:
  PackedBatch(const Ids& sources, const Ids& targets, std::int32_t start_token, std::int32_t first_sample = 0);
  PackedBatch(const PackedBatch&) = delete;
  PackedBatch& operator=(const PackedBatch&) = delete;
  MicroBatch batch;

 private:
  struct Side {
    std::vector<std::int32_t> offsets{0}, row_sample, row_position, ids;
    [[nodiscard]] kernels::PackedSequences add(const Ids& sequences, std::int32_t first_sample);
  };
  Side source_, target_;
  std::vector<std::int32_t> decoder_ids_;
  std::vector<float> losses_;
};

/// A whole model on one rank.
class TinyModel {
 public:
  explicit TinyModel(const T5Config& config, const Freezing& freezing = {}, int threads = 1);
  /// Reads tests/reference/FOLDER.
  static std::unique_ptr<TinyModel> read(const std::string& folder, const Freezing& freezing = {}, int threads = 1);

  /// The mean loss over all target tokens of the micro-batches; they run together, stage by stage.
  double loss(const std::vector<PackedBatch*>& batches, const PassOptions& options);
  /// The same, and the gradients of that mean, added to what is there.
  double loss_and_gradients(const std::vector<PackedBatch*>& batches, const PassOptions& options);
  /// (source rows, d_model) of a batch.
  std::vector<float> encoder_output(PackedBatch& batch);
  std::vector<std::vector<Hypothesis>> generate(
      const Ids& sources, const GenerationOptions& options,
      const std::function<bool(bool)>& all_done = [](bool done) { return done; }, bool weights_stay = false);

  [[nodiscard]] const T5Config& config() const noexcept { return config_; }
  [[nodiscard]] const T5Layout& layout() const noexcept { return layout_; }
  [[nodiscard]] VectorParameters& parameters() noexcept { return parameters_; }

 private:
  double run(const std::vector<PackedBatch*>& batches, const PassOptions& options, bool training);

  T5Config config_;
  T5Layout layout_;
  VectorParameters parameters_;
  std::unique_ptr<Device> device_ = make_host_device();
  std::unique_ptr<Queue> queue_ = device_->create_compute_queue();
  std::shared_ptr<kernels::cpu::ThreadPool> pool_;
  std::unique_ptr<kernels::ModelOps> ops_ = kernels::cpu::make_model_ops(pool_);
  std::unique_ptr<kernels::GenerationOps> generation_ops_ = kernels::cpu::make_generation_ops(pool_);
};

/// The text of a file of tests/reference, and reference.json parsed.
[[nodiscard]] std::string reference_text(const std::string& file);
[[nodiscard]] nlohmann::json reference_numbers(const std::string& folder);

}  // namespace spillway::model::test
