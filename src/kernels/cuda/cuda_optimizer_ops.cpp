// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "core/cuda/cuda_queue.hpp"
#include "core/error.hpp"
#include "kernels/checks.hpp"
#include "kernels/cuda/adafactor.hpp"
#include "kernels/cuda/adamw.hpp"
#include "kernels/cuda/cuda_kernels.hpp"
#include "kernels/cuda/state_codec.hpp"
#include "kernels/cuda/sum_of_squares.hpp"

namespace spillway::kernels::cuda {
namespace {

using spillway::cuda::stream_of;

class CudaOptimizerOps : public OptimizerOps {
 public:
  CudaOptimizerOps(Queue& setup, std::span<std::byte> workspace)
      : codes_(upload_state_codes(stream_of(setup), workspace.data())),
        partial_sums_(reinterpret_cast<double*>(workspace.data() + kTableBytes), kAdafactorPartialSums) {}

  void adamw(Queue& queue, const AdamWStep& op) override {
    check(op);
    cuda::adamw(stream_of(queue), op, codes_);
  }
  void sum_of_squares(Queue& queue, const SumOfSquares& op) override {
    check(op);
    cuda::sum_of_squares(stream_of(queue), op);
  }

  void adafactor_sums(Queue& queue, const AdafactorSums& op) override {
    check(op);
    cuda::adafactor_sums(stream_of(queue), op, partial_sums_);
  }
  void adafactor_factors(Queue& queue, const AdafactorFactors& op) override {
    check(op);
    cuda::adafactor_factors(stream_of(queue), op, partial_sums_);
  }
  void adafactor_second_moment(Queue& queue, const AdafactorSecondMoment& op) override {
    check(op);
    cuda::adafactor_second_moment(stream_of(queue), op);
  }
  void adafactor_update_sum(Queue& queue, const AdafactorUpdateSum& op) override {
    check(op);
    cuda::adafactor_update_sum(stream_of(queue), op, partial_sums_);
  }
  void adafactor_step(Queue& queue, const AdafactorStep& op) override {
    check(op);
    cuda::adafactor_step(stream_of(queue), op);
  }

  void decode_parameter(Queue& queue, const DecodeParameter& op) override {
    check(op);
    cuda::decode_parameter(stream_of(queue), op);
  }
  void encode_parameter(Queue& queue, const EncodeParameter& op) override {
    check(op);
    cuda::encode_parameter(stream_of(queue), op);
  }
  void decode_state(Queue& queue, const DecodeState& op) override {
    check(op);
    cuda::decode_state(stream_of(queue), op, codes_);
  }
  void encode_state(Queue& queue, const EncodeState& op) override {
    check(op);
    cuda::encode_state(stream_of(queue), op, codes_);
  }

 private:
  const StateCodeTables* codes_;
  std::span<double> partial_sums_;
};

}  // namespace

std::unique_ptr<OptimizerOps> make_optimizer_ops(Queue& setup, std::span<std::byte> workspace) {
  if (workspace.size() < optimizer_workspace_bytes())
    throw Error(fmt::format("optimizer ops of a GPU: a workspace of {} bytes is needed, found {}",
                            optimizer_workspace_bytes(), workspace.size()));
  return std::make_unique<CudaOptimizerOps>(setup, workspace);
}

}  // namespace spillway::kernels::cuda
