// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/device.hpp"
#include "kernels/optimizer_ops.hpp"
#include "offload/extent_store.hpp"
#include "offload/state_ring.hpp"
#include "plan/plan.hpp"
#include "train/arena.hpp"
#include "train/cpu_ring.hpp"
#include "train/extents.hpp"
#include "train/link_ring.hpp"
#include "train/state_layout.hpp"
#include "train/state_places.hpp"
#include "train/zero.hpp"

namespace spillway::train {

/// How a rank's state is kept; set by the plan and the configuration.
struct ShardStateOptions {
  plan::Placement placement;   // of the extents of extent_elements
  bool whole_weights = false;  // weights in memory are those of whole units, and not only what this rank owns
  std::int64_t extent_elements = 0;
  offload::ExtentStoreOptions files;      // kinds are filled in
  std::vector<std::size_t> link_offsets;  // of kinds and the gradient in a place of the link's ring, and where it ends
  std::vector<std::size_t> cpu_offsets;   // likewise of the CPU's ring
  bool wait_at_once = false;              // test-only: nothing that moves overlaps anything
};

/// All state that a rank owns, every extent of every kind on its tier: in memory, or on nvme, from where it passes through a ring. What
/// lies in host memory beside a GPU passes through a ring in the GPU's memory, unless the CPU updates it: then what the GPU has of it passes
/// through a ring in pinned memory.
class ShardState {
 public:
  /// Slots of the ring of extents on nvme.
  static constexpr int kRingSlots = 4;
  /// Elements that read() and write() pass on at a time, through pinned memory.
  static constexpr std::int64_t kTransferElements = std::int64_t{1} << 18;

  /// \param store  for extents on nvme; null if there are none
  ShardState(const Zero& zero, StateLayout layout, ShardStateOptions options, const Arena& arena,
             offload::BlockStore* store, kernels::OptimizerOps& ops, Device& device);

  [[nodiscard]] const StateLayout& layout() const noexcept { return layout_; }
  [[nodiscard]] const std::vector<Extent>& extents() const noexcept { return extents_; }
  /// Their numbers, of one unit.
  [[nodiscard]] const std::vector<std::size_t>& extents_of(int unit) const {
    return extents_of_.at(static_cast<std::size_t>(unit));
  }
  /// Whether any extent of the kind is on nvme.
  [[nodiscard]] bool on_nvme(StateKind kind) const { return nvme_kind(kind).has_value(); }
  /// Whether anything of the extent is on nvme: its lease then waits for it.
  [[nodiscard]] bool uses_ring(std::size_t extent) const { return uses_ring_[extent]; }
  /// Whether the CPU updates the extent beside a GPU.
  [[nodiscard]] bool updated_on_cpu(std::size_t extent) const { return options_.placement.updated_on_cpu(extent); }
  /// What is updated at a time: an extent that passes through a ring, or neighbouring extents of a unit of which every kind lies as one in one
  /// memory. The fewer, the better: a GPU's queue takes about a thousand launches before it blocks the thread that should be
  /// giving it the next forward pass.
  struct Stretch {
    std::size_t first = 0;  // of the extents
    Extent whole;
    bool through_ring = false;
    bool over_link = false;
    bool on_cpu = false;  // beside a GPU
  };
  /// The extent behind the last one of a stretch.
  [[nodiscard]] std::size_t end_of(const Stretch& stretch) const;
  /// Of a unit, in order.
  [[nodiscard]] const std::vector<Stretch>& stretches_of(int unit) const {
    return stretches_of_.at(static_cast<std::size_t>(unit));
  }
  /// Whether any extent is.
  [[nodiscard]] bool uses_ring() const noexcept { return ring_ != nullptr; }
  /// Of a stretch, what lies in host memory or on nvme.
  [[nodiscard]] std::size_t bytes_outside_device(const Stretch& stretch) const;
  /// A unit's weights in memory: whole ones, or what this rank owns. Not for weights on nvme.
  [[nodiscard]] TensorView weights(int unit) const;
  /// Whether what this rank owns of a unit's weights lies whole in one memory, and its masters likewise.
  [[nodiscard]] bool parameters_in_memory(int unit) const;
  /// Part of what this rank owns of such a unit, exactly, where it lies.
  [[nodiscard]] kernels::ParameterView parameter(int unit, Range owned) const;
  /// The files of the extents, and the number that a kind has there.
  [[nodiscard]] offload::ExtentStore& files() const { return *files_; }
  [[nodiscard]] std::optional<std::size_t> nvme_kind(StateKind kind) const {
    return nvme_kinds_[static_cast<std::size_t>(kind)];
  }

  /// An extent's state, to be changed. Ends as the ring's lease does.
  class Lease {
   public:
    [[nodiscard]] const StateViews& views() const noexcept { return views_; }
    /// Starts the write-back of what passes through a ring, after what the queue of an update has been given so far. \throws IoError
    void release();

   private:
    friend class ShardState;
    std::optional<offload::StateRing::Lease> ring_;
    LinkRing* link_ = nullptr;
    CpuRing* cpu_ = nullptr;
    Queue* queue_ = nullptr;
    StateViews views_;
  };
  /// Blocks until the extent's state is in memory; those after it start to come. One thread at a time for extents that use the ring,
  /// any for others, whose lease is only where they lie. \throws IoError
  [[nodiscard]] Lease acquire(std::size_t extent);
  /// The same for all of a stretch, which `queue` is going to update: what is in host memory is on its way to a GPU, without blocking.
  /// \param gradient  of the stretch; where the plan has it in host memory it comes with the rest
  [[nodiscard]] Lease acquire(const Stretch& stretch, Queue& queue, const GradientAtRest& gradient = {});
  /// Whether another stretch may be given to the link, see LinkRing.
  [[nodiscard]] bool link_has_room() { return link_->has_room(); }
  /// Blocks until then.
  void wait_for_link_room() { link_->wait_for_room(); }
  /// Whether another stretch can be fetched for the CPU.
  [[nodiscard]] bool can_fetch() const { return cpu_ring_->has_room(); }
  /// Starts to bring what the GPU has of a stretch that the CPU updates. Nobody may change that until it is released.
  void fetch(const Stretch& stretch, const GradientAtRest& gradient);
  /// Blocks until the stretch that was fetched first is in host memory, for the CPU to update. One thread, as for the ring. \throws IoError
  [[nodiscard]] Lease acquire_on_cpu(const Stretch& stretch, const GradientAtRest& gradient);
  /// What the CPU has updated of released leases is in device memory.
  [[nodiscard]] Event back_on_device() const { return cpu_ring_ ? cpu_ring_->back() : Event(); }
  /// What `queue` is given from now on finds the unit's state in host memory as its last update left it.
  void wait_until_back(Queue& queue, int unit);
  /// Blocks until what was released is written back. \throws IoError
  void flush();
  /// The same; what was read ahead is forgotten. \throws IoError
  void drain();
  /// Seconds that acquire and drain have waited for the nvme tier so far.
  [[nodiscard]] double nvme_seconds() const noexcept { return ring_ ? ring_->blocked_seconds() : 0.0; }

  [[nodiscard]] plan::Tier tier(StateKind kind, std::size_t extent) const {
    return places_[static_cast<std::size_t>(kind)][extent].tier;
  }
  /// Of each extent, when what was given to a GPU's update so far is back in host memory; empty where nothing passes over a link. The
  /// thread that starts updates.
  [[nodiscard]] std::vector<Event> back_on_host() const { return link_ ? link_->back() : std::vector<Event>(); }
  /// How copy_out() copies what lies in device memory.
  struct CopyOut {
    Device& device;
    Queue& queue;
  };
  /// Copies a kind of an extent as it is stored: from memory `part`, in elements of what this rank owns of the unit, as a run of its own,
  /// and all of what lies in a file. Device memory in the queue's order, without blocking. Any thread, as long as the extent does not change.
  /// \param to  from a multiple of 4 KiB, and as long; host memory of Device::allocate if the device is a GPU
  /// \return bytes copied \throws IoError
  std::size_t copy_out(StateKind kind, std::size_t extent, Range part, std::span<std::byte> to,
                       const CopyOut& copies) const;

  /// Copies part of a unit's owned elements out and in, as fp32: "master" is the exact parameter (of a frozen unit its weight). No
  /// update may be under way. Writes come in ascending order, each from where the last ended or from a multiple of 256, and are over
  /// after finish_writes(); what they leave out in a block of 256 becomes zero.
  void read(const std::string& kind, int unit, Range range, std::span<float> to);
  void write(const std::string& kind, int unit, Range range, std::span<const float> from);
  void finish_writes();

 private:
  /// Values of int8 blocks that write() has in part.
  struct Pending {
    StateKind kind{};
    int unit = -1;
    std::int64_t begin = 0;
    std::vector<float> values;
  };

  void make_files(const Arena& arena, offload::BlockStore* store);
  void check_memory(StateKind kind, std::size_t extent) const;
  [[nodiscard]] bool on_nvme(StateKind kind, std::size_t extent) const {
    return tier(kind, extent) == plan::Tier::nvme;
  }
  /// Where the run of an extent in memory begins: with those of its unit that lie beside it.
  [[nodiscard]] std::byte* run(StateKind kind, std::size_t extent) const;
  /// \param part  in elements of what this rank owns of the unit, inside the extent's run
  [[nodiscard]] kernels::StateView resident(StateKind kind, std::size_t extent, Range part) const;
  void make_stretches();
  [[nodiscard]] std::vector<CpuRing::Piece> move_down(const Stretch& stretch, std::byte* place,
                                                      StateViews& views) const;
  [[nodiscard]] TensorView gradient_for_cpu(const Stretch& stretch, const GradientAtRest& gradient,
                                            std::byte* place) const;
  [[nodiscard]] StateViews views_of(const Stretch& stretch, const offload::StateRing::Lease* lease) const;
  [[nodiscard]] bool over_link(StateKind kind, std::size_t extent) const;
  [[nodiscard]] bool gradient_over_link(std::size_t extent) const;
  [[nodiscard]] StateViews bring(const Stretch& stretch, Queue& queue, const GradientAtRest& gradient);
  [[nodiscard]] kernels::StateView stored(StateKind kind, std::size_t extent, Range part);
  void read_part(StateKind kind, std::size_t extent, Range part, std::span<float> to);
  void write_part(StateKind kind, std::size_t extent, Range part, std::span<const float> from);
  void write_pending();
  void write_blocks(StateKind kind, int unit, std::int64_t begin, std::span<const float> from);
  void prefetch_after(std::size_t extent);
  void release_written();
  template <typename Visit>
  void visit_extents(int unit, Range range, const Visit& visit);

  Zero zero_;
  StateLayout layout_;
  ShardStateOptions options_;
  kernels::OptimizerOps& ops_;
  std::vector<Extent> extents_;
  std::vector<std::vector<std::size_t>> extents_of_;  // of each unit
  std::vector<bool> uses_ring_;                       // of each extent
  std::vector<std::vector<Stretch>> stretches_of_;    // of each unit
  std::array<std::vector<StatePlaces::Place>, kStateKinds> places_;
  std::array<std::array<TensorView, 2>, kStateKinds> memory_;  // on the device, in host memory
  std::array<std::optional<std::size_t>, kStateKinds> nvme_kinds_;
  std::unique_ptr<offload::ExtentStore> files_;
  std::span<std::byte> ring_memory_;
  std::unique_ptr<offload::StateRing> ring_;
  std::unique_ptr<LinkRing> link_;
  std::unique_ptr<CpuRing> cpu_ring_;
  std::array<std::size_t, kStateKinds> buffer_offsets_{};         // in the idle ring's memory, for read()
  std::array<std::optional<std::size_t>, kStateKinds> buffered_;  // the extent that read() left there
  std::optional<std::size_t> written_;                            // the extent of the last write()
  std::optional<Lease> written_lease_;
  Pending pending_;
  std::span<float> transfer_;  // kTransferElements
  std::unique_ptr<Queue> queue_;
};

}  // namespace spillway::train
