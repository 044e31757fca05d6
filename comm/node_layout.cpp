// SPDX-License-Identifier: Apache-2.0
#include "comm/node_layout.hpp"

#include <algorithm>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.hpp"

namespace spillway::comm {

NodeLayout::NodeLayout(std::span<const int> labels) {
  if (labels.empty()) throw Error("a layout of nodes without ranks");
  std::map<int, int> node_of_label;
  for (const int label : labels) {
    const int node = node_of_label.try_emplace(label, nodes()).first->second;
    if (node == nodes()) ranks_on_.push_back(0);
    node_of_.push_back(node);
    local_rank_of_.push_back(ranks_on_[static_cast<std::size_t>(node)]++);
  }
}

NodeLayout NodeLayout::filled(int nodes, int ranks_per_node) {
  std::vector<int> labels;
  for (int node = 0; node < nodes; ++node) labels.insert(labels.end(), static_cast<std::size_t>(ranks_per_node), node);
  return NodeLayout(labels);
}

bool NodeLayout::even() const noexcept {
  return std::all_of(ranks_on_.begin(), ranks_on_.end(), [this](int ranks) { return ranks == ranks_on_.front(); });
}

std::vector<int> NodeLayout::piece_of_rank() const {
  if (!even())
    throw Error(fmt::format("nodes with {} ranks: all must have the same number", fmt::join(ranks_on_, ", ")));
  std::vector<int> pieces;
  for (int rank = 0; rank < ranks(); ++rank) pieces.push_back(local_rank_of(rank) * nodes() + node_of(rank));
  return pieces;
}

}  // namespace spillway::comm
