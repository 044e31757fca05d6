// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/advance_beams.hpp"

#include <vector>

#include "kernels/beam_step.hpp"

namespace spillway::kernels::cpu {

void advance_beams(const AdvanceBeams& op) {
  const BeamStep step = beam_step_of(op);
  if (step.is_over()) return;
  const std::int64_t length = step.next_length();
  std::vector<std::int32_t> staged(static_cast<std::size_t>(op.beams));
  const Share whole{.first = 0, .stride = 1};
  for (std::int64_t item = 0; item < op.items; ++item) {
    const bool open = step.choose(item, length);
    step.copy_finished(item, length - 2, whole);
    step.reorder(item, length, whole, staged.data(), 1);
    if (!open || length < op.max_length) continue;
    step.close(item, length);
    step.copy_finished(item, length - 1, whole);
  }
  bool all_done = true;
  for (std::int64_t item = 0; item < op.items; ++item) all_done = all_done && step.done[item] != 0;
  step.tick(length, all_done);
}

}  // namespace spillway::kernels::cpu
