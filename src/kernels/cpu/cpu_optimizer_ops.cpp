// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "kernels/cpu/adamw.hpp"
#include "kernels/cpu/checks.hpp"
#include "kernels/cpu/cpu_kernels.hpp"
#include "kernels/cpu/sum_of_squares.hpp"
#include "kernels/cpu/thread_pool.hpp"

namespace spillway::kernels::cpu {
namespace {

class CpuOptimizerOps : public OptimizerOps {
 public:
  explicit CpuOptimizerOps(std::shared_ptr<ThreadPool> pool) : pool_(std::move(pool)) {}

  void adamw(Queue& queue, const AdamWStep& step) override {
    check(step);
    queue.submit([pool = pool_, step] { cpu::adamw(*pool, step); });
  }
  void sum_of_squares(Queue& queue, const SumOfSquares& op) override {
    check(op);
    queue.submit([pool = pool_, op] { cpu::sum_of_squares(*pool, op); });
  }

 private:
  std::shared_ptr<ThreadPool> pool_;
};

}  // namespace

std::unique_ptr<OptimizerOps> make_optimizer_ops(std::shared_ptr<ThreadPool> pool) {
  return std::make_unique<CpuOptimizerOps>(std::move(pool));
}

}  // namespace spillway::kernels::cpu
