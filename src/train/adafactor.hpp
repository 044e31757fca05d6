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
  /// \param layout  whose traits say what decays; \param state  bound to memory. They outlive this object, as `world` does.
  Adafactor(const OptimizerParts& parts, const model::T5Layout& layout, kernels::AdafactorSettings settings,
            double weight_decay, AdafactorState& state, comm::Communicator& world,
            const std::vector<plan::UnitRole>& units);
  ~Adafactor() override { stop(); }

  /// Bytes that a rank takes for a unit's sums, its own and those of all ranks, and for looking at the unit's parameters.
  [[nodiscard]] static std::size_t workspace_bytes(const Zero& zero, const std::vector<plan::UnitRole>& units,
                                                   bool collects_parameters);

 protected:
  void prepare(int unit, const UpdateNumbers& numbers) override;
  void update_extent(const ExtentUpdate& update, const UpdateNumbers& numbers) override;

 private:
  /// Numbers that the largest unit's update needs in memory of the host that the device reads too.
  struct Workspace {
    std::size_t sums = 0, vector = 0, parameters = 0;
    [[nodiscard]] std::size_t bytes() const { return sums * sizeof(double) + (vector + parameters) * sizeof(float); }
  };
  [[nodiscard]] static Workspace workspace(const Zero& zero, const std::vector<plan::UnitRole>& units,
                                           bool collects_parameters);
  /// What the current step does with a tensor.
  struct Step {
    double learning_rate = 0.0;
    double divisor = 1.0;
  };
  /// Where a tensor's sums lie among those of its unit: its rows and columns (a vector: its gradient), and Σ p².
  struct Sums {
    int tensor = 0;
    std::size_t rows = 0, columns = 0, parameter = 0;
  };

  [[nodiscard]] bool is_matrix(int tensor) const;
  [[nodiscard]] kernels::MatrixPiece matrix_piece(int tensor, std::int64_t tensor_begin, std::int64_t count,
                                                  std::int64_t first) const;
  [[nodiscard]] kernels::AdafactorUpdate update_of(const TensorPiece& piece, std::int64_t unit_begin,
                                                   ConstTensorView gradient, float gradient_scale) const;
  void sum_piece(int unit, const UpdateNumbers& numbers);
  void sum_updates_of_piece(int unit, const UpdateNumbers& numbers);
  [[nodiscard]] kernels::ParameterView parameters_of_piece(int unit);
  void sum_over_pieces(std::span<double> sums);
  void update_factors(int unit, const UpdateNumbers& numbers);
  [[nodiscard]] std::span<double> zeroed_sums(std::size_t count);

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
  std::span<double> sums_of_unit_;       // in it
  std::span<float> vector_;              // likewise: of the longest vector
  std::span<float> parameters_;          // likewise: of the largest piece, if parameters come from nvme
};

}  // namespace spillway::train
