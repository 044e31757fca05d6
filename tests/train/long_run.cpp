// SPDX-License-Identifier: Apache-2.0
#include "train/long_run.hpp"

#include <fstream>

#include <gtest/gtest.h>

namespace spillway::test {
namespace {

constexpr std::int64_t kTokens = 2048;
constexpr int kPairs = 2;

}  // namespace

void write_long_texts(const std::string& folder) {
  write_training_folder(folder);
  for (const char* side : {"/pairs.source", "/pairs.target"}) {
    std::ofstream file(folder + side);
    for (int pair = 0; pair < kPairs; ++pair) {
      std::string text;
      for (int word = 0; static_cast<std::int64_t>(text.size()) < kTokens; ++word)
        text += std::to_string(word * (pair + 7)) + (side[7] == 's' ? ' ' : ',');
      file << text << '\n';
    }
  }
}

StateHashes train_long(const std::string& folder, train::GradientCheckpointing checkpointing,
                       const std::function<void(train::Job&)>& replan, Device* gpu) {
  train::RunOptions options = training_options(folder);
  options.data.max_source_length = options.data.max_target_length = kTokens;
  options.train.precision = train::Precision::bf16;
  options.train.per_device_train_batch_size = 1;
  options.train.global_batch_size = kPairs;
  options.train.gradient_checkpointing = checkpointing;
  const auto communicator = comm::make_single_communicator();
  Trainee trainee(options, *communicator, {}, replan, {}, gpu);
  EXPECT_EQ(trainee.job().train_limits.source_rows, kTokens);
  EXPECT_EQ(trainee.job().train_limits.target_rows, kTokens);
  trainee.run(2);
  return trainee.hashes();
}

}  // namespace spillway::test
