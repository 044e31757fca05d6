// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <vector>

namespace spillway::comm {

/// Which ranks share a node. Nodes are numbered from 0 in the order of their first ranks, and the ranks of a node in
/// the order of their own numbers. Over MPI, MpiEnvironment knows it; tests make up their own.
class NodeLayout {
 public:
  /// One rank alone.
  NodeLayout() : NodeLayout(std::vector<int>{0}) {}
  /// \param labels  of every rank; ranks with equal labels share a node. One or more
  explicit NodeLayout(std::span<const int> labels);
  /// `nodes` nodes of `ranks_per_node` ranks each, filled one after the other. Both 1 or more.
  [[nodiscard]] static NodeLayout filled(int nodes, int ranks_per_node);

  [[nodiscard]] int ranks() const noexcept { return static_cast<int>(node_of_.size()); }
  [[nodiscard]] int nodes() const noexcept { return static_cast<int>(ranks_on_.size()); }
  [[nodiscard]] int node_of(int rank) const { return node_of_.at(static_cast<std::size_t>(rank)); }
  /// The number of `rank` among the ranks of its node.
  [[nodiscard]] int local_rank_of(int rank) const { return local_rank_of_.at(static_cast<std::size_t>(rank)); }
  [[nodiscard]] int ranks_on(int node) const { return ranks_on_.at(static_cast<std::size_t>(node)); }
  /// Whether every node has as many ranks as the others.
  [[nodiscard]] bool even() const noexcept;

  /// The piece of each rank where a tensor is first cut into one shard for each local rank, and each shard into one
  /// piece for each node: local_rank * nodes + node. All-gathered over the ranks of one local rank in the order of their
  /// nodes, pieces join to shards; over the ranks of a node, shards join to the tensor. For
  /// Communicator::reduce_scatter. \throws Error unless the layout is even
  [[nodiscard]] std::vector<int> piece_of_rank() const;

 private:
  std::vector<int> node_of_, local_rank_of_;  // by rank
  std::vector<int> ranks_on_;                 // by node
};

}  // namespace spillway::comm
