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
            double weight_decay, AdafactorState& state, comm::Communicator& world);
  ~Adafactor() override { stop(); }

  /// Bytes that a rank takes for a unit's sums, its own and those of all ranks, and for looking at the unit's parameters.
  [[nodiscard]] static std::size_t workspace_bytes(const Zero& zero, const std::vector<plan::UnitRole>& units,
                                                   bool scale_parameter);

 protected:
  void prepare(int unit, const UpdateNumbers& numbers) override;
  void update_extent(const Extent& extent, const StateViews& views, const UpdateNumbers& numbers) override;

 private:
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
  [[nodiscard]] std::vector<double> sums_of_piece(int unit, const UpdateNumbers& numbers);
  [[nodiscard]] std::vector<double> update_sums_of_piece(int unit, const UpdateNumbers& numbers);
  [[nodiscard]] std::vector<float> parameters_of_piece(int unit);
  [[nodiscard]] std::vector<double> sum_over_pieces(const std::vector<double>& mine);
  void update_factors(int unit, std::vector<double>& sums, const UpdateNumbers& numbers);

  const model::T5Layout& layout_;
  kernels::AdafactorSettings settings_;
  double weight_decay_;
  AdafactorState& state_;
  comm::Communicator& world_;
  std::unique_ptr<Queue> queue_;         // of ops on the calling thread
  std::vector<std::vector<Sums>> sums_;  // of each unit
  std::vector<std::size_t> sums_size_;   // likewise
  std::vector<Step> steps_;              // of each tensor
};

}  // namespace spillway::train
