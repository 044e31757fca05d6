// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "kernels/checks.hpp"
#include "kernels/cpu/adafactor.hpp"
#include "kernels/cpu/adamw.hpp"
#include "kernels/cpu/cpu_kernels.hpp"
#include "kernels/cpu/state_codec.hpp"
#include "kernels/cpu/sum_of_squares.hpp"
#include "kernels/cpu/thread_pool.hpp"

namespace spillway::kernels::cpu {
namespace {

class CpuOptimizerOps : public OptimizerOps {
 public:
  explicit CpuOptimizerOps(std::shared_ptr<ThreadPool> pool) : pool_(std::move(pool)) {}

  void adamw(Queue& queue, const AdamWStep& op) override {
    check(op);
    queue.submit([pool = pool_, op] { cpu::adamw(*pool, op); });
  }
  void sum_of_squares(Queue& queue, const SumOfSquares& op) override {
    check(op);
    queue.submit([pool = pool_, op] { cpu::sum_of_squares(*pool, op); });
  }

  void adafactor_sums(Queue& queue, const AdafactorSums& op) override {
    check(op);
    queue.submit([pool = pool_, op] { cpu::adafactor_sums(*pool, op); });
  }
  void adafactor_factors(Queue& queue, const AdafactorFactors& op) override {
    check(op);
    queue.submit([op] { cpu::adafactor_factors(op); });
  }
  void adafactor_second_moment(Queue& queue, const AdafactorSecondMoment& op) override {
    check(op);
    queue.submit([pool = pool_, op] { cpu::adafactor_second_moment(*pool, op); });
  }
  void adafactor_update_sum(Queue& queue, const AdafactorUpdateSum& op) override {
    check(op);
    queue.submit([pool = pool_, op] { cpu::adafactor_update_sum(*pool, op); });
  }
  void adafactor_step(Queue& queue, const AdafactorStep& op) override {
    check(op);
    queue.submit([pool = pool_, op] { cpu::adafactor_step(*pool, op); });
  }

  void decode_parameter(Queue& queue, const DecodeParameter& op) override {
    check(op);
    queue.submit([pool = pool_, op] { cpu::decode_parameter(*pool, op); });
  }
  void encode_parameter(Queue& queue, const EncodeParameter& op) override {
    check(op);
    queue.submit([pool = pool_, op] { cpu::encode_parameter(*pool, op); });
  }
  void decode_state(Queue& queue, const DecodeState& op) override {
    check(op);
    queue.submit([pool = pool_, op] { cpu::decode_state(*pool, op); });
  }
  void encode_state(Queue& queue, const EncodeState& op) override {
    check(op);
    queue.submit([pool = pool_, op] { cpu::encode_state(*pool, op); });
  }

 private:
  std::shared_ptr<ThreadPool> pool_;
};

}  // namespace

std::unique_ptr<OptimizerOps> make_optimizer_ops(std::shared_ptr<ThreadPool> pool) {
  return std::make_unique<CpuOptimizerOps>(std::move(pool));
}

}  // namespace spillway::kernels::cpu
