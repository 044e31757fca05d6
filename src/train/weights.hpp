// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "comm/communicator.hpp"
#include "model/t5_layout.hpp"
#include "train/model_source.hpp"
#include "train/shard_state.hpp"

namespace spillway::train {

/// Fills this rank's weights, slice by slice: from the model's files, or drawn from `seed` as T5 initialises itself. The values
/// do not depend on ranks or stage, and no rank reads or draws more than it owns.
/// \param embedding_std  above 0: deviation of the embeddings (shared.weight, and lm_head.weight if the head is untied) when they are drawn
void load_weights(const ModelSource& source, const model::T5Layout& layout, std::uint64_t seed, double embedding_std,
                  const Zero& zero, ShardState& state);

/// Writes the weights as a Hugging Face directory: config.json, model.safetensors, generation_config.json, the tokenizer. Every
/// rank writes its own shards into the one file. Collective, blocks; the directory appears under its name only when it is whole.
void export_model(const std::string& directory, const ModelSource& source, const model::T5Layout& layout,
                  const Zero& zero, ShardState& state, comm::Communicator& communicator);

}  // namespace spillway::train
