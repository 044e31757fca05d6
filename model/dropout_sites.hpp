// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace spillway::model::dropout_sites {

/// Every dropout of the model has a number of its own: kPerStage times the stage, plus one of these. They key the random stream, so
/// they must never change: a resumed run would draw other masks.
inline constexpr int kPerStage = 8;
inline constexpr int kOutput = 0;  // embeddings, and the final norm's output
inline constexpr int kSelfProbabilities = 1;
inline constexpr int kSelfBranch = 2;
inline constexpr int kCrossProbabilities = 3;
inline constexpr int kCrossBranch = 4;
inline constexpr int kFeedForward = 5;  // before wo
inline constexpr int kFeedForwardBranch = 6;

}  // namespace spillway::model::dropout_sites
