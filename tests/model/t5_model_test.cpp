// SPDX-License-Identifier: Apache-2.0
#include "model/t5_model.hpp"

#include <cmath>
#include <map>

#include <gmock/gmock.h>

#include "core/philox.hpp"
#include "model/tiny_model.hpp"

namespace spillway::model::test {
namespace {

double norm_of(std::span<const float> values) {
  double sum = 0.0;
  for (const float value : values) sum += static_cast<double>(value) * static_cast<double>(value);
  return std::sqrt(sum);
}

using Gradients = std::vector<std::vector<float>>;  // of every tensor

Gradients copy_gradients(TinyModel& model) {
  Gradients gradients;
  for (const TensorSpec& tensor : model.layout().tensors()) {
    const auto values = model.parameters().gradient_of(tensor);
    gradients.emplace_back(values.begin(), values.end());
  }
  return gradients;
}

void expect_norms(TinyModel& model, const nlohmann::json& expected) {
  EXPECT_EQ(model.layout().tensors().size(), expected.size());
  for (const TensorSpec& tensor : model.layout().tensors()) {
    const double wanted = expected.at(tensor.name).get<double>();
    EXPECT_NEAR(norm_of(model.parameters().gradient_of(tensor)), wanted, 1e-3 * wanted) << tensor.name;
  }
}

class AgainstTransformers : public ::testing::TestWithParam<const char*> {
 protected:
  nlohmann::json reference = reference_numbers(GetParam());
  std::unique_ptr<TinyModel> model = TinyModel::read(GetParam());
  PackedBatch batch{reference.at("sources").get<Ids>(), reference.at("targets").get<Ids>(),
                    model->config().decoder_start_token_id};
};

TEST_P(AgainstTransformers, LossIsEqual) {
  const double wanted = reference.at("loss").get<double>();

  const double forward_only = model->loss({&batch}, {});
  const double in_training = model->loss_and_gradients({&batch}, {});

  EXPECT_NEAR(forward_only, wanted, 1e-5 * wanted);
  EXPECT_EQ(in_training, forward_only);
  EXPECT_TRUE(model->parameters().all_released());
}

INSTANTIATE_TEST_SUITE_P(Models, AgainstTransformers,
                         ::testing::Values("v10", "v11", "odd_heads", "uneven_2_3", "uneven_3_1", "mt5", "umt5", "byt5",
                                           "silu", "v10_resaved", "v11_resaved"),
                         [](const auto& folder) { return std::string(folder.param); });

class GradientsAgainstTransformers : public AgainstTransformers {};

TEST_P(GradientsAgainstTransformers, EveryNormIsEqual) {
  (void)model->loss_and_gradients({&batch}, {});

  expect_norms(*model, reference.at("gradient_norms"));
}

TEST_P(GradientsAgainstTransformers, WithLabelSmoothingLossAndNormsAreEqual) {
  const PassOptions options{.label_smoothing = reference.at("label_smoothing_factor").get<float>()};
  const double wanted = reference.at("label_smoothed_loss").get<double>();

  const double loss = model->loss_and_gradients({&batch}, options);

  EXPECT_NEAR(loss, wanted, 1e-5 * wanted);
  expect_norms(*model, reference.at("label_smoothed_gradient_norms"));
}

TEST_P(GradientsAgainstTransformers, EncoderOutputIsEqual) {
  const auto rows = reference.at("encoder_output_of_first").get<std::vector<std::vector<float>>>();

  const std::vector<float> output = model->encoder_output(batch);

  const auto width = static_cast<std::size_t>(model->config().d_model);
  ASSERT_EQ(rows.front().size(), width);
  ASSERT_LE(rows.size() * width, output.size());
  for (std::size_t row = 0; row < rows.size(); ++row)
    for (std::size_t column = 0; column < width; ++column)
      EXPECT_NEAR(output[row * width + column], rows[row][column], 1e-5 * (1.0 + std::abs(rows[row][column])))
          << row << ", " << column;
}

INSTANTIATE_TEST_SUITE_P(Models, GradientsAgainstTransformers,
                         ::testing::Values("v10", "v11", "odd_heads", "uneven_2_3", "uneven_3_1", "mt5", "umt5", "byt5",
                                           "silu"),
                         [](const auto& folder) { return std::string(folder.param); });

class WholeModel : public ::testing::TestWithParam<const char*> {
 protected:
  /// The batch whole, or its first sample and the others apart, with the same sample numbers.
  std::unique_ptr<PackedBatch> samples(std::size_t begin, std::size_t end) const {
    return std::make_unique<PackedBatch>(
        Ids(sources.begin() + static_cast<std::ptrdiff_t>(begin), sources.begin() + static_cast<std::ptrdiff_t>(end)),
        Ids(targets.begin() + static_cast<std::ptrdiff_t>(begin), targets.begin() + static_cast<std::ptrdiff_t>(end)),
        model->config().decoder_start_token_id, static_cast<std::int32_t>(begin));
  }
  static std::unique_ptr<PackedBatch> with_key(std::unique_ptr<PackedBatch> batch, std::uint64_t key) {
    batch->batch.dropout_key = key;
    return batch;
  }
  static constexpr std::uint64_t kKey = mix_key(42, 3);
  const PassOptions with_dropout{.dropout = 0.25F, .label_smoothing = 0.1F};

  nlohmann::json reference = reference_numbers(GetParam());
  std::unique_ptr<TinyModel> model = TinyModel::read(GetParam());
  Ids sources = reference.at("sources").get<Ids>();
  Ids targets = reference.at("targets").get<Ids>();
};

TEST_P(WholeModel, ActivationCheckpointing_GivesTheSameBits) {
  const auto batch = with_key(samples(0, 3), kKey);
  PassOptions recomputing = with_dropout;
  recomputing.first_kept_stage = PassOptions::kRecomputeAll;

  const double kept_loss = model->loss_and_gradients({batch.get()}, with_dropout);
  const Gradients kept = copy_gradients(*model);
  model->parameters().clear_gradients();
  const double recomputed_loss = model->loss_and_gradients({batch.get()}, recomputing);

  EXPECT_EQ(recomputed_loss, kept_loss);
  EXPECT_EQ(copy_gradients(*model), kept);
  EXPECT_GT(norm_of(kept.front()), 0.0);
}

TEST_P(WholeModel, TwoMicroBatches_GiveTheGradientsOfOne) {
  const auto whole = with_key(samples(0, 3), kKey);
  const auto first = with_key(samples(0, 1), kKey);
  const auto second = with_key(samples(1, 3), kKey);

  const double whole_loss = model->loss_and_gradients({whole.get()}, with_dropout);
  const Gradients wanted = copy_gradients(*model);
  model->parameters().clear_gradients();
  const double split_loss = model->loss_and_gradients({first.get(), second.get()}, with_dropout);
  const Gradients found = copy_gradients(*model);

  EXPECT_NEAR(split_loss, whole_loss, 1e-6 * whole_loss);
  for (std::size_t tensor = 0; tensor < wanted.size(); ++tensor) {
    std::vector<float> difference = wanted[tensor];
    for (std::size_t i = 0; i < difference.size(); ++i) difference[i] -= found[tensor][i];
    EXPECT_LE(norm_of(difference), 1e-5 * norm_of(wanted[tensor])) << model->layout().tensors()[tensor].name;
  }
}

TEST_P(WholeModel, Dropout_DependsOnItsKeyAlone) {
  const auto batch = with_key(samples(0, 3), kKey);
  const auto again = with_key(samples(0, 3), kKey);
  const auto other = with_key(samples(0, 3), kKey + 1);

  const double loss = model->loss({batch.get()}, with_dropout);

  EXPECT_EQ(model->loss({again.get()}, with_dropout), loss);
  EXPECT_NE(model->loss({other.get()}, with_dropout), loss);
  EXPECT_NE(model->loss({batch.get()}, {.label_smoothing = 0.1F}), loss);
}

TEST_P(WholeModel, Dropout_DrawsTheMasksThatItAlwaysDrew) {
  // Computed by this program. A change of sites, streams or keys would give a resumed run other masks.
  const std::map<std::string, double> losses = {
      {"v10", 4.63631256},        {"v11", 9.78830651},  {"odd_heads", 5.22507879}, {"uneven_2_3", 10.0969658},
      {"uneven_3_1", 5.14950016}, {"umt5", 11.3691371}, {"silu", 5.45596167}};
  const auto batch = with_key(samples(0, 3), kKey);

  const double loss = model->loss({batch.get()}, with_dropout);

  EXPECT_NEAR(loss, losses.at(GetParam()), 1e-5 * loss);
}

TEST_P(WholeModel, Frozen_TheOtherGradientsAreThoseOfTheWholeModel) {
  for (const bool keep : {true, false}) {
    PassOptions options = with_dropout;
    options.first_kept_stage = keep ? 0 : PassOptions::kRecomputeAll;
    const auto batch = with_key(samples(0, 3), kKey);
    const double loss = model->loss_and_gradients({batch.get()}, options);
    std::map<std::string, std::vector<float>> wanted;
    for (const TensorSpec& tensor : model->layout().tensors()) {
      const auto values = model->parameters().gradient_of(tensor);
      wanted[tensor.name].assign(values.begin(), values.end());
    }
    model->parameters().clear_gradients();

    for (const Freezing& freezing : {Freezing{.embeddings = true}, Freezing{.encoder = true}}) {
      const auto frozen = TinyModel::read(GetParam(), freezing);
      EXPECT_EQ(frozen->loss_and_gradients({batch.get()}, options), loss);
      for (const TensorSpec& tensor : frozen->layout().tensors()) {
        const auto found = frozen->parameters().gradient_of(tensor);
        const bool trainable = frozen->layout().trainable(tensor.unit);
        // The tied head and the embeddings are one tensor, frozen or not as a whole.
        EXPECT_EQ(std::vector<float>(found.begin(), found.end()),
                  trainable ? wanted.at(tensor.name) : std::vector<float>(found.size(), 0.0F))
            << tensor.name;
      }
      EXPECT_TRUE(frozen->parameters().all_released());
    }
  }
}

/// d loss / d t of weights + t · direction, by central differences.
double slope(TinyModel& model, const TensorSpec& tensor, std::span<const float> direction, PackedBatch& batch,
             const PassOptions& options) {
  constexpr float kStep = 2e-4F;  // short: relu has kinks
  const auto weights = model.parameters().weights_of(tensor);
  const std::vector<float> saved(weights.begin(), weights.end());
  const auto loss_at = [&](float t) {
    for (std::size_t i = 0; i < saved.size(); ++i) weights[i] = saved[i] + t * direction[i];
    return model.loss({&batch}, options);
  };
  const double after = loss_at(kStep);
  const double before = loss_at(-kStep);
  std::copy(saved.begin(), saved.end(), weights.begin());
  return (after - before) / (2.0 * static_cast<double>(kStep));
}

TEST_P(WholeModel, WithDropout_GradientsAreTheSlopesOfTheLoss) {
  const auto batch = with_key(samples(0, 3), kKey);

  (void)model->loss_and_gradients({batch.get()}, with_dropout);

  std::uint64_t stream = 0;
  for (const TensorSpec& tensor : model->layout().tensors()) {
    const auto gradient = model->parameters().gradient_of(tensor);
    const double norm = norm_of(gradient);
    // Uphill, a little to the side: a gradient that is too long, too short or turned gives another slope.
    PhiloxStream noise(9, stream++);
    const double side = 0.5 * norm / std::sqrt(static_cast<double>(gradient.size()));
    std::vector<float> direction;
    for (const float value : gradient) direction.push_back(value + static_cast<float>(side) * noise.normal());
    const double length = norm_of(direction);
    double wanted = 0.0;
    for (std::size_t i = 0; i < direction.size(); ++i) {
      direction[i] /= static_cast<float>(length);
      wanted += static_cast<double>(direction[i]) * static_cast<double>(gradient[i]);
    }
    EXPECT_NEAR(slope(*model, tensor, direction, *batch, with_dropout), wanted, 0.01 * norm + 5e-4) << tensor.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, WholeModel,
                         ::testing::Values("v10", "v11", "odd_heads", "uneven_2_3", "uneven_3_1", "umt5", "silu"),
                         [](const auto& folder) { return std::string(folder.param); });

}  // namespace
}  // namespace spillway::model::test
