// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/shard_map.hpp"
#include "plan/step_program.hpp"

namespace spillway::train {

/// Adafactor's second moment: of every trainable matrix a row and a column of means, of every vector all of it. So little that each
/// rank has all of it; a checkpoint shares it out like any other state.
class AdafactorState {
 public:
  /// Of one tensor, in fp32. The factors are what the current step makes of the means.
  struct Factors {
    std::span<float> exp_avg_sq_row, exp_avg_sq_col;  // of a matrix
    std::span<float> row_factors, column_factors;     // likewise
    std::span<float> exp_avg_sq;                      // of a vector
  };

  /// \param map  of the model's tensors
  AdafactorState(const ShardMap& map, const std::vector<plan::UnitRole>& units);
  /// Bytes that bind() needs for what is kept, and for what each step makes of it.
  [[nodiscard]] std::size_t mean_bytes() const;
  [[nodiscard]] std::size_t factor_bytes() const;
  /// \param means    zeros that the host reads and writes too; \param factors  of the device. Both outlive this object.
  void bind(std::span<std::byte> means, std::span<std::byte> factors);

  [[nodiscard]] const Factors& factors(int tensor) const { return factors_[static_cast<std::size_t>(tensor)]; }

  /// "exp_avg_sq_row", ... those that any tensor has; and how a checkpoint shares a kind out.
  [[nodiscard]] std::vector<std::string> kinds() const;
  [[nodiscard]] const ShardMap& layout(const std::string& kind) const { return *kind_of(kind).map; }
  /// All values of a kind, in its layout's only unit.
  [[nodiscard]] std::span<float> values(const std::string& kind) const { return kind_of(kind).values; }

 private:
  struct Kind {
    std::string name;
    std::vector<int> tensors;  // of the model
    std::unique_ptr<ShardMap> map;
    std::span<float> values;
    std::int64_t elements = 0;
  };
  [[nodiscard]] const Kind& kind_of(const std::string& name) const;

  std::vector<Kind> kinds_;
  std::vector<Factors> factors_;  // of every tensor of the model
};

}  // namespace spillway::train
