// SPDX-License-Identifier: Apache-2.0
#include "train/weights.hpp"

#include <algorithm>
#include <optional>
#include <thread>

#include "checkpoint/weight_reader.hpp"
#include "core/philox.hpp"
#include "kernels/cpu/thread_pool.hpp"
#include "train/hugging_face.hpp"

namespace spillway::train {
namespace {

constexpr std::uint64_t kInitialisation = 0x1717;       // keeps this stream apart from shuffling and dropout
constexpr std::int64_t kSlice = std::int64_t{1} << 18;  // elements in transit

/// The tensors of a range of a unit, ascending, in slices.
template <typename Visit>
void for_each_slice(const ShardMap& map, int unit, Range range, const Visit& visit) {
  for (const TensorPiece& piece : map.pieces(unit, range))
    for (std::int64_t done = 0; done < piece.count; done += kSlice)
      visit(TensorPiece{.tensor = piece.tensor,
                        .tensor_begin = piece.tensor_begin + done,
                        .range_begin = piece.range_begin + done,
                        .count = std::min(kSlice, piece.count - done)});
}

/// Two draws make a normal number, so any piece of a tensor can be drawn alone, and several at once: one thread makes about 30 million a
/// second, and a large model has billions.
void draw(kernels::cpu::ThreadPool& pool, std::uint64_t key, int number, std::int64_t begin, float deviation,
          std::span<float> to) {
  if (deviation <= 0.0F) {
    std::ranges::fill(to, 1.0F);
    return;
  }
  constexpr std::int64_t kPiece = std::int64_t{1} << 13;
  const auto count = static_cast<std::int64_t>(to.size());
  pool.parallel_for((count + kPiece - 1) / kPiece, [&](std::int64_t piece) {
    const std::int64_t first = piece * kPiece;
    PhiloxStream stream(key, static_cast<std::uint64_t>(number), 2 * static_cast<std::uint64_t>(begin + first));
    for (float& value :
         to.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(std::min(kPiece, count - first))))
      value = deviation * stream.normal();
  });
}

}  // namespace

void load_weights(const ModelSource& source, const model::T5Layout& layout, std::uint64_t seed, double embedding_std,
                  const Zero& zero, ShardState& state) {
  std::unique_ptr<checkpoint::WeightReader> file;
  std::optional<kernels::cpu::ThreadPool> pool;
  if (!source.weights.empty()) file = checkpoint::open_weights(source.weights);
  else pool.emplace(std::max(1, static_cast<int>(std::thread::hardware_concurrency())));
  std::vector<float> slice;
  for (int unit = 0; unit < zero.map->units(); ++unit)
    for_each_slice(*zero.map, unit, zero.owned(unit), [&](const TensorPiece& piece) {
      slice.resize(static_cast<std::size_t>(piece.count));
      const std::string& name = zero.map->tensors()[static_cast<std::size_t>(piece.tensor)].name;
      if (file) {
        file->read(name, piece.tensor_begin, slice);
      } else {
        const model::TensorTraits& traits = layout.traits()[static_cast<std::size_t>(piece.tensor)];
        float deviation = traits.deviation;
        if ((name == "shared.weight" || name == "lm_head.weight") && embedding_std > 0.0)
          deviation = static_cast<float>(embedding_std);
        draw(*pool, mix_key(seed, kInitialisation), traits.stream, piece.tensor_begin, deviation, slice);
      }
      state.write(name_of(StateKind::master), unit, {piece.range_begin, piece.range_begin + piece.count}, slice);
    });
  state.finish_writes();
}

void export_model(const std::string& directory, const ModelSource& source, const model::T5Layout& layout,
                  const Zero& zero, ShardState& state, comm::Communicator& communicator) {
  HuggingFaceWriter writer(directory, source, layout);
  agree(communicator, [&] {
    if (communicator.rank() == 0) writer.create();
  });
  agree(communicator, [&] {
    std::vector<float> slice;
    for (int unit = 0; unit < zero.map->units(); ++unit) {
      const std::int64_t begin = zero.piece_in_owned(unit).begin;
      for_each_slice(*zero.map, unit, zero.map->shard(unit, zero.piece()), [&](const TensorPiece& piece) {
        slice.resize(static_cast<std::size_t>(piece.count));
        const std::int64_t from = begin + piece.range_begin;
        state.read(name_of(StateKind::master), unit, {from, from + piece.count}, slice);
        writer.write(zero.map->tensors()[static_cast<std::size_t>(piece.tensor)].name, piece.tensor_begin, slice);
      });
    }
  });
  agree(communicator, [&] {
    if (communicator.rank() == 0) writer.commit();
  });
}

}  // namespace spillway::train
