// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "model/t5_layout.hpp"
#include "train/optimizer.hpp"

namespace spillway::train {

struct AdamWSettings {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.0;
};

/// AdamW in torch's form (kernels::AdamWStep), moments in any state format.
class AdamW : public Optimizer {
 public:
  AdamW(const OptimizerParts& parts, const model::T5Layout& layout, AdamWSettings settings);
  ~AdamW() override { stop(); }

 protected:
  void prepare(int, const UpdateNumbers&) override {}
  void update_extent(const ExtentUpdate& update, const UpdateNumbers& numbers) override;

 private:
  struct Segment {
    Range range;  // in the unit's owned elements
    bool decay;
  };
  AdamWSettings settings_;
  std::vector<std::vector<Segment>> segments_;  // of each unit
};

}  // namespace spillway::train
