// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "data/examples.hpp"
#include "model/stages.hpp"
#include "plan/step_costs.hpp"
#include "train/job.hpp"

namespace spillway::train {

/// What decides how long a micro-batch takes: its tokens, and the pairs of tokens that attend to one another. Sums over its samples.
struct BatchShape {
  double samples = 0.0;
  double source_tokens = 0.0, target_tokens = 0.0;
  double source_pairs = 0.0;  // of the encoder: source tokens squared
  double target_pairs = 0.0;  // of the decoder, where a token attends to those before it, in tiles
  double cross_pairs = 0.0;   // target by source tokens

  void add(double source, double target);
  [[nodiscard]] BatchShape times(double factor) const;
};

/// All of a data set together.
[[nodiscard]] BatchShape shape_of(const data::Examples& examples);
/// The mean micro-batch of a training job: of its data, or of the longest sequences where there are none.
[[nodiscard]] BatchShape mean_micro_batch(const Job& job);

/// Work of one stage on such a micro-batch. \param accumulates  gradients are added to those of other micro-batches
[[nodiscard]] plan::StageCosts stage_costs(const model::Stage& stage, const Job& job, const BatchShape& batch,
                                           bool accumulates);

/// Operations of one training step's products and attention on such samples, forward and backward: nothing that runs again, and three
/// times the forward pass also where something is frozen.
[[nodiscard]] double model_flops(const model::T5Config& config, const BatchShape& samples);

/// One training step of this rank, for the simulation. The job is known but for its plan.
[[nodiscard]] plan::StepCosts costs_of(const Job& job);

}  // namespace spillway::train
