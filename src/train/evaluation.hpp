// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.hpp"
#include "data/bleu.hpp"
#include "data/rouge.hpp"
#include "train/engine.hpp"

namespace spillway::train {

/// What an evaluation found. The same on every rank.
struct Evaluation {
  double loss = 0.0;  // mean over all target tokens
  std::int64_t samples = 0;
  std::int64_t batches = 0;  // that the samples came in
  double seconds = 0.0;
  bool generated = false;                // what follows is set with predict_with_generate only
  std::optional<data::Bleu> bleu;        // eval.metric = "bleu"
  std::optional<data::Bleu> copied;      // what copying the sources would reach
  std::optional<data::Rouge> rouge;      // eval.metric = "rouge", in percent
  double generated_length = 0.0;         // mean tokens of a prediction that are not padding (Hugging Face gen_len)
  std::vector<std::string> predictions;  // in data order
};

/// Evaluates the job's evaluation data with the engine's weights, the samples spread over the ranks. Collective. The result does not
/// depend on how they are spread.
[[nodiscard]] Evaluation evaluate(Engine& engine, comm::Communicator& communicator);

}  // namespace spillway::train
