// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/model_ops.hpp"
#include "kernels/optimizer_ops.hpp"

namespace spillway::kernels {

/// Whether every tensor that an op needs is given, with the dtype and the shape that the others imply. Nothing is
/// read but the views. \throws Error naming op and tensor, with what was expected and found
void check(const Linear& op);
void check(const LinearInputGradient& op);
void check(const LinearWeightGradient& op);
void check(const Embedding& op);
void check(const EmbeddingGradient& op);
void check(const ResidualNorm& op);
void check(const ResidualNormGradient& op);
void check(const ResidualAdd& op);
void check(const ResidualAddGradient& op);
void check(const Activation& op);
void check(const ActivationGradient& op);
void check(const Attention& op);
void check(const AttentionGradient& op);
void check(const CrossEntropy& op);
void check_add(const ConstTensorView& from, const ConstTensorView& to);
void check_convert(const ConstTensorView& from, const ConstTensorView& to);
void check(const AdamWStep& op);
void check(const SumOfSquares& op);
void check(const AdafactorSums& op);
void check(const AdafactorFactors& op);
void check(const AdafactorSecondMoment& op);
void check(const AdafactorUpdateSum& op);
void check(const AdafactorStep& op);
void check(const DecodeParameter& op);
void check(const EncodeParameter& op);
void check(const DecodeState& op);
void check(const EncodeState& op);

}  // namespace spillway::kernels
