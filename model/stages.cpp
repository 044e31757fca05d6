// SPDX-License-Identifier: Apache-2.0
#include "model/stages.hpp"

#include "model/activations.hpp"

namespace spillway::model {

std::vector<Stage> t5_stages(const T5Config& config, const T5Layout& layout) {
  const bool embeddings = layout.trainable(layout.places().shared.unit);
  const bool encoder = layout.trainable(layout.places().encoder_norms.front().unit);
  const int head = layout.head().unit;
  std::vector<Stage> stages;
  stages.push_back({.kind = StageKind::encoder_embedding, .backward = embeddings});
  for (std::int64_t block = 0; block < config.num_layers; ++block)
    stages.push_back(
        {.kind = StageKind::encoder_block, .block = block, .unit = layout.encoder_unit(block), .backward = encoder});
  stages.push_back({.kind = StageKind::encoder_output, .backward = encoder});
  stages.push_back({.kind = StageKind::decoder_embedding, .backward = embeddings});
  for (std::int64_t block = 0; block < config.num_decoder_layers; ++block)
    stages.push_back({.kind = StageKind::decoder_block, .block = block, .unit = layout.decoder_unit(block)});
  stages.push_back({.kind = StageKind::head, .unit = layout.persistent(head) ? 0 : head});
  return stages;
}

std::size_t stage_bytes(const Stage& stage, const T5Config& config, DType dtype, const BatchLimits& limits,
                        bool training, bool keep_activations) {
  const bool gradients = training && stage.backward;
  Carver carver;
  switch (stage.kind) {
    case StageKind::encoder_embedding:
    case StageKind::decoder_embedding: break;
    case StageKind::encoder_block:
      (void)carver.take({limits.source_rows, config.d_model});
      if (gradients && keep_activations) (void)carve_block(carver, config, dtype, limits.source_rows, 0, false);
      break;
    case StageKind::decoder_block:
      (void)carver.take({limits.target_rows, config.d_model});
      if (gradients && keep_activations)
        (void)carve_block(carver, config, dtype, limits.target_rows, limits.source_rows, true);
      break;
    case StageKind::encoder_output: (void)carve_output(carver, config, dtype, limits.source_rows, gradients); break;
    case StageKind::head: (void)carve_output(carver, config, dtype, limits.target_rows, gradients); break;
  }
  return carver.bytes();
}

}  // namespace spillway::model
