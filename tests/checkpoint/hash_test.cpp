// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/hash.hpp"

#include <gtest/gtest.h>

namespace spillway::checkpoint {
namespace {

TEST(Hash, IsXxh3WithSeedZero) {
  EXPECT_EQ(hash_text(hash_of({})), "2d06800538d394c2");  // the value that xxHash's own test program has for no input
}

TEST(Hash, IsMadeForEveryBlockAndTheShorterRest) {
  const std::vector<std::byte> bytes(2 * kHashBlock + 5, std::byte{7});
  std::vector<std::uint64_t> hashes = {1};

  append_block_hashes(bytes, hashes);

  ASSERT_EQ(hashes.size(), 4U);
  EXPECT_EQ(hashes[1], hash_of(std::span(bytes).first(kHashBlock)));
  EXPECT_EQ(hashes[2], hashes[1]);
  EXPECT_EQ(hashes[3], hash_of(std::span(bytes).last(5)));
}

TEST(Hash, TextKeepsLeadingZeros) { EXPECT_EQ(hash_text(0xAB), "00000000000000ab"); }

}  // namespace
}  // namespace spillway::checkpoint
