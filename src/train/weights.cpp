// SPDX-License-Identifier: Apache-2.0
#include "train/weights.hpp"

#include <algorithm>

#include "checkpoint/weight_reader.hpp"
#include "core/philox.hpp"
#include "train/hugging_face.hpp"

namespace spillway::train {
namespace {

constexpr std::uint64_t kInitialisation = 0x1717;  // keeps this stream apart from shuffling and dropout

}  // namespace

void load_weights(const ModelSource& source, const model::T5Layout& layout, std::uint64_t seed, double embedding_std,
                  const Zero& zero, Parameters& parameters) {
  std::unique_ptr<checkpoint::WeightReader> file;
  if (!source.weights.empty()) file = checkpoint::open_weights(source.weights);
  for (int unit = 0; unit < zero.map->units(); ++unit) {
    const auto values = parameters.owned(unit).as<float>();
    for (const TensorPiece& piece : zero.map->pieces(unit, zero.owned(unit))) {
      const auto index = static_cast<std::size_t>(piece.tensor);
      const std::string& name = zero.map->tensors()[index].name;
      const auto to =
          values.subspan(static_cast<std::size_t>(piece.range_begin), static_cast<std::size_t>(piece.count));
      if (file) {
        file->read(name, piece.tensor_begin, to);
        continue;
      }
      float deviation = layout.traits()[index].deviation;
      if ((name == "shared.weight" || name == "lm_head.weight") && embedding_std > 0.0)
        deviation = static_cast<float>(embedding_std);
      // Two draws make a normal number, so any piece of a tensor can be drawn alone.
      PhiloxStream stream(mix_key(seed, kInitialisation), index, 2 * static_cast<std::uint64_t>(piece.tensor_begin));
      for (float& value : to) value = deviation > 0.0F ? deviation * stream.normal() : 1.0F;
    }
  }
}

void export_model(const std::string& directory, const ModelSource& source, const model::T5Layout& layout,
                  const Zero& zero, const Parameters& parameters, comm::Communicator& communicator) {
  HuggingFaceWriter writer(directory, source, layout);
  agree(communicator, [&] {
    if (communicator.rank() == 0) writer.create();
  });
  agree(communicator, [&] {
    for (int unit = 0; unit < zero.map->units(); ++unit) {
      const auto values = parameters.shard(unit).as<float>();
      for (const TensorPiece& piece : zero.map->pieces(unit, zero.map->shard(unit, zero.rank)))
        writer.write(
            zero.map->tensors()[static_cast<std::size_t>(piece.tensor)].name, piece.tensor_begin,
            values.subspan(static_cast<std::size_t>(piece.range_begin), static_cast<std::size_t>(piece.count)));
    }
  });
  agree(communicator, [&] {
    if (communicator.rank() == 0) writer.commit();
  });
}

}  // namespace spillway::train
