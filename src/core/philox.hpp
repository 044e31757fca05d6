// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

namespace spillway {

/// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11): four 32-bit draws
/// from a counter and a key, with no state. The same on every device, rank and thread.
struct Philox {
  using Counter = std::array<std::uint32_t, 4>;

  [[nodiscard]] static constexpr Counter draw(std::uint64_t key, Counter counter) noexcept {
    auto key0 = static_cast<std::uint32_t>(key);
    auto key1 = static_cast<std::uint32_t>(key >> 32);
    for (int round = 0; round < 10; ++round) {
      const std::uint64_t product0 = std::uint64_t{0xD2511F53U} * counter[0];
      const std::uint64_t product1 = std::uint64_t{0xCD9E8D57U} * counter[2];
      counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key0, static_cast<std::uint32_t>(product1),
                 static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key1, static_cast<std::uint32_t>(product0)};
      key0 += 0x9E3779B9U;
      key1 += 0xBB67AE85U;
    }
    return counter;
  }
};

/// One well-mixed 64-bit key from two numbers (splitmix64's finaliser): of a run's seed and its step, for example.
[[nodiscard]] constexpr std::uint64_t mix_key(std::uint64_t a, std::uint64_t b) noexcept {
  std::uint64_t z = a * 0x9E3779B97F4A7C15ULL + b + 0x632BE59BD9B4E019ULL;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

/// A sequential stream over Philox for what is drawn one number after the other (shuffles, initialisation).
class PhiloxStream {
 public:
  /// \param skip  draws to leave out, so that any part of a stream can be made alone
  PhiloxStream(std::uint64_t key, std::uint64_t stream, std::uint64_t skip = 0)
      : key_(key), stream_(stream), next_(skip) {}
  /// Uniform over all 32-bit numbers.
  std::uint32_t next();
  /// Uniform over [0, bound), without bias. bound > 0
  std::uint64_t below(std::uint64_t bound);
  /// Standard normal (Box-Muller); value `i` of a stream uses draws 2i and 2i + 1.
  float normal();

 private:
  std::uint64_t key_;
  std::uint64_t stream_;
  std::uint64_t next_;
  std::uint64_t block_ = ~std::uint64_t{0};
  Philox::Counter draws_{};
};

}  // namespace spillway
