// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <vector>

#include "plan/facts.hpp"

namespace spillway::plan {

/// Where every extent of every kind of state lies. An extent that a kind has no bytes of counts as on the device.
struct Placement {
  std::vector<std::vector<Tier>> tiers;  // [kind][extent], as in JobFacts::kinds
  std::vector<bool> on_cpu = {};         // beside a GPU, of each extent: the CPU updates it; empty: none

  /// What the job's wishes leave no choice about, and all else on the device.
  [[nodiscard]] static Placement wished(const JobFacts& job);

  [[nodiscard]] Tier tier(std::size_t kind, std::size_t extent) const { return tiers[kind][extent]; }
  [[nodiscard]] bool updated_on_cpu(std::size_t extent) const { return extent < on_cpu.size() && on_cpu[extent]; }
  /// Whether any extent of the kind is there.
  [[nodiscard]] bool uses(std::size_t kind, Tier tier) const;
  /// Whether extents [first, last) of a kind are in memory and all on one tier.
  [[nodiscard]] bool in_one_memory(std::size_t kind, std::size_t first, std::size_t last) const;
  /// What a kind takes on a tier: memory, or room in files.
  [[nodiscard]] std::size_t bytes(const JobFacts& job, std::size_t kind, Tier tier) const;
  /// What an update or a use of a unit moves to or from a tier, of one kind.
  [[nodiscard]] std::size_t unit_bytes(const JobFacts& job, std::size_t kind, int unit, Tier tier) const;
  /// Of all kinds outside the device.
  [[nodiscard]] std::size_t bytes_outside(const JobFacts& job) const;
  /// Of the ring that everything on nvme passes through: every slot holds the largest extent of each kind that is there.
  [[nodiscard]] std::size_t ring_bytes(const JobFacts& job) const;
  /// Of the ring that extents in host memory pass through to a GPU and back: every place holds the largest there is of each kind, and
  /// there are no more places than extents. 0 without a GPU. What is on nvme makes its extent pass through the other ring, and what the CPU
  /// updates through the CPU's.
  [[nodiscard]] std::size_t link_ring_bytes(const JobFacts& job) const;
  /// Device memory of a GPU's page tables for the state in pinned host memory, see GpuFacts.
  [[nodiscard]] std::size_t page_table_bytes(const JobFacts& job) const;
  /// Where a kind begins in such a place.
  [[nodiscard]] std::vector<std::size_t> link_offsets(const JobFacts& job) const;
  /// Whether the extent passes.
  [[nodiscard]] bool passes_link(const JobFacts& job, std::size_t extent) const;
  /// Whether each unit's weights are brought to a place in device memory before use: from nvme, or from host memory to a GPU.
  [[nodiscard]] std::vector<bool> streamed_units(const JobFacts& job) const;
  /// Of those places, and of places for weights that are gathered from other ranks: one for each persistent unit, kGatherSlots that
  /// hold the largest of the others.
  [[nodiscard]] std::size_t gathered_bytes(const JobFacts& job) const;
  /// Of kGradientSlots that hold the largest gradient that rests in host memory beside a GPU, which makes it in device memory.
  [[nodiscard]] std::size_t gradient_slot_bytes(const JobFacts& job) const;
  /// Of extents' weights on their way from nvme.
  [[nodiscard]] std::size_t weight_staging_bytes(const JobFacts& job) const;
  /// Host memory for a copy of a unit's parameters that the update looks at, where some unit's are not whole in one memory.
  [[nodiscard]] std::size_t parameter_bytes(const JobFacts& job) const;
  friend bool operator==(const Placement&, const Placement&) = default;
};

/// Memory that is left for state when everything else has its place.
struct Room {
  std::size_t device = 0;
  std::size_t host = 0;
  bool shared = false;  // device memory is host memory: `host` bounds the sum of both
};

/// Memory of everything without a wish that may leave the device.
[[nodiscard]] std::size_t movable_bytes(const JobFacts& job);

/// The nearest place for everything without a wish: kinds that stay longest first, each from its first extent on, as much as fits on
/// the device, then in host memory, then nvme. Units are updated in forward order and the next step's forward pass starts on those
/// that are updated, so what is near is there when it is asked for, and the transfers of the last units have the longest time. Kinds that
/// leave together (both moments) do so extent by extent: an update waits for the slower of them anyway. Weights and gradients leave by
/// unit, those of persistent units not at all; of weights in host memory the last two units' stay in their places from the forward to the backward pass.
/// \param room  for movable_bytes(); rings, places and parameter_bytes() are taken from it where they are needed
/// \param on_cpu  extents that the CPU updates, see Placement: what of their masters and moments has no wish has no place on the device
[[nodiscard]] Placement place_nearest(const JobFacts& job, Room room, const std::vector<bool>& on_cpu = {});

}  // namespace spillway::plan
