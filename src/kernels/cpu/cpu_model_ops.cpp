// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "kernels/checks.hpp"
#include "kernels/cpu/activation.hpp"
#include "kernels/cpu/attention.hpp"
#include "kernels/cpu/cpu_kernels.hpp"
#include "kernels/cpu/cross_entropy.hpp"
#include "kernels/cpu/elementwise.hpp"
#include "kernels/cpu/embedding.hpp"
#include "kernels/cpu/linear.hpp"
#include "kernels/cpu/residual_norm.hpp"
#include "kernels/cpu/thread_pool.hpp"

namespace spillway::kernels::cpu {
namespace {

class CpuModelOps : public ModelOps {
 public:
  explicit CpuModelOps(std::shared_ptr<ThreadPool> pool) : pool_(std::move(pool)) {}

  void linear(Queue& queue, const Linear& op) override { submit<cpu::linear>(queue, op); }
  void linear_input_gradient(Queue& queue, const LinearInputGradient& op) override {
    submit<cpu::linear_input_gradient>(queue, op);
  }
  void linear_weight_gradient(Queue& queue, const LinearWeightGradient& op) override {
    submit<cpu::linear_weight_gradient>(queue, op);
  }
  void embedding(Queue& queue, const Embedding& op) override { submit<cpu::embedding>(queue, op); }
  void embedding_gradient(Queue& queue, const EmbeddingGradient& op) override {
    submit<cpu::embedding_gradient>(queue, op);
  }
  void residual_norm(Queue& queue, const ResidualNorm& op) override { submit<cpu::residual_norm>(queue, op); }
  void residual_norm_gradient(Queue& queue, const ResidualNormGradient& op) override {
    submit<cpu::residual_norm_gradient>(queue, op);
  }
  void residual_add(Queue& queue, const ResidualAdd& op) override { submit<cpu::residual_add>(queue, op); }
  void residual_add_gradient(Queue& queue, const ResidualAddGradient& op) override {
    submit<cpu::residual_add_gradient>(queue, op);
  }
  void activation(Queue& queue, const Activation& op) override { submit<cpu::activation>(queue, op); }
  void activation_gradient(Queue& queue, const ActivationGradient& op) override {
    submit<cpu::activation_gradient>(queue, op);
  }
  void attention(Queue& queue, const Attention& op) override { submit<cpu::attention>(queue, op); }
  void attention_gradient(Queue& queue, const AttentionGradient& op) override {
    submit<cpu::attention_gradient>(queue, op);
  }
  void cross_entropy(Queue& queue, const CrossEntropy& op) override { submit<cpu::cross_entropy>(queue, op); }
  void fill_zero(Queue& queue, TensorView tensor) override {
    queue.submit([pool = pool_, tensor] { cpu::fill_zero(*pool, tensor); });
  }
  void add(Queue& queue, ConstTensorView from, TensorView to) override {
    check_add(from, to);
    queue.submit([pool = pool_, from, to] { cpu::add(*pool, from, to); });
  }
  void convert(Queue& queue, ConstTensorView from, TensorView to) override {
    check_convert(from, to);
    queue.submit([pool = pool_, from, to] { cpu::convert(*pool, from, to); });
  }

 private:
  /// The queue may run the op later, so it keeps its own copy of the views.
  template <auto Function, typename Op>
  void submit(Queue& queue, const Op& op) {
    check(op);
    queue.submit([pool = pool_, op] { Function(*pool, op); });
  }

  std::shared_ptr<ThreadPool> pool_;
};

}  // namespace

std::unique_ptr<ModelOps> make_model_ops(std::shared_ptr<ThreadPool> pool) {
  return std::make_unique<CpuModelOps>(std::move(pool));
}

}  // namespace spillway::kernels::cpu
