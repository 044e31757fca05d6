// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "comm/communicator.hpp"
#include "kernels/adafactor_ops.hpp"
#include "model/t5_layout.hpp"
#include "train/adafactor_state.hpp"
#include "train/optimizer.hpp"

namespace spillway::train {

/// Hugging Face's Adafactor (transformers.optimization.Adafactor, beta1 = None), exact under sharding: every rank takes the sums of its
/// piece of a unit's tensors, all ranks add them up in the order of pieces, so row and column means and both root mean squares are
/// those of whole tensors, and the same bits at every stage.
class Adafactor : public Optimizer {
 public:
  /// \param layout  whose traits say what decays; \param state  bound to memory
  /// \param device_sums  sum_bytes() of the device, 8-byte aligned
  /// They outlive this object, as `world` does.
  Adafactor(const OptimizerParts& parts, const model::T5Layout& layout, kernels::AdafactorSettings settings,
            double weight_decay, AdafactorState& state, std::span<std::byte> device_sums, comm::Communicator& world,
            const std::vector<plan::UnitRole>& units);
  ~Adafactor() override { stop(); }

  /// Bytes that a rank takes for a unit's sums, its own and those of all ranks, and for looking at the unit's parameters.
  [[nodiscard]] static std::size_t workspace_bytes(const Zero& zero, const std::vector<plan::UnitRole>& units,
                                                   bool collects_parameters);
  /// Bytes of the device for a unit's sums.
  [[nodiscard]] static std::size_t sum_bytes(const Zero& zero, const std::vector<plan::UnitRole>& units);

 protected:
  void prepare(int unit, const UpdateNumbers& numbers) override;
  void update_extent(const ExtentUpdate& update, const UpdateNumbers& numbers) override;

 private:
  /// Numbers that the update of any unit needs: sums on the device and in memory of the host that the device copies, the others in the
  /// latter, which the device reads too.
  struct Workspace {
    std::size_t sums = 0, tensors = 0, vectors = 0, parameters = 0;
    [[nodiscard]] std::size_t sum_bytes() const { return (sums + tensors) * sizeof(double); }
    [[nodiscard]] std::size_t bytes() const { return sum_bytes() + (vectors + parameters) * sizeof(float); }
  };
  [[nodiscard]] static Workspace workspace(const Zero& zero, const std::vector<plan::UnitRole>& units,
                                           bool collects_parameters);
  /// What the current step does with a tensor.
  struct Step {
    double learning_rate = 0.0;
    double divisor = 1.0;
  };
  /// Where a tensor's sums lie among those of its unit: its rows and columns (a vector: its gradient), and Σ p². Where its numbers lie
  /// among those of the unit's vectors.
  struct Sums {
    int tensor = 0;
    std::size_t rows = 0, columns = 0, parameter = 0, vector = 0;
  };
  /// Sums of a unit, on the host and on the device.
  struct SumMemory {
    std::span<double> host, device;
  };

  [[nodiscard]] bool is_matrix(int tensor) const;
  [[nodiscard]] kernels::MatrixPiece matrix_piece(const TensorPiece& piece) const;
  [[nodiscard]] kernels::AdafactorUpdate update_of(const TensorPiece& piece, ConstTensorView gradient,
                                                   float gradient_scale) const;
  void clear(const SumMemory& sums);
  void copy(std::span<double> from, std::span<double> to);
  void sum_piece(int unit, const SumMemory& sums, const UpdateNumbers& numbers);
  [[nodiscard]] kernels::ParameterView parameters_of_piece(int unit);
  void sum_over_pieces(std::span<double> sums);
  void update_factors(int unit, const SumMemory& sums, const UpdateNumbers& numbers);
  void sum_updates_of_piece(int unit, const SumMemory& sums, const UpdateNumbers& numbers);

  const model::T5Layout& layout_;
  kernels::AdafactorSettings settings_;
  double weight_decay_;
  AdafactorState& state_;
  comm::Communicator& world_;
  std::unique_ptr<Queue> queue_;         // of ops on the calling thread
  std::vector<std::vector<Sums>> sums_;  // of each unit
  std::vector<std::size_t> sums_size_;   // likewise
  std::vector<Step> steps_;              // of each tensor
  Buffer memory_;                        // pinned: the ops and this class read and write it in turn
  SumMemory sum_memory_;                 // of the largest unit, with the device's memory that was given
  SumMemory update_sum_memory_;          // likewise: Σ u² of each of a unit's tensors
  std::span<float> vectors_;             // of the unit whose vectors have the most numbers
  std::span<float> parameters_;          // of the largest piece, if parameters come from nvme
};

}  // namespace spillway::train
