// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/hash.hpp"

#include <algorithm>
#include <bit>

#include <fmt/format.h>
#include <xxhash.h>

namespace spillway::checkpoint {

static_assert(std::endian::native == std::endian::little, "checkpoints are hashed as little-endian bytes");

std::uint64_t hash_of(std::span<const std::byte> bytes) noexcept { return XXH3_64bits(bytes.data(), bytes.size()); }

std::uint64_t hash_of_hashes(std::span<const std::uint64_t> hashes) noexcept { return hash_of(std::as_bytes(hashes)); }

void append_block_hashes(std::span<const std::byte> bytes, std::vector<std::uint64_t>& hashes) {
  for (std::size_t begin = 0; begin < bytes.size(); begin += kHashBlock)
    hashes.push_back(hash_of(bytes.subspan(begin, std::min(kHashBlock, bytes.size() - begin))));
}

std::string hash_text(std::uint64_t hash) { return fmt::format("{:016x}", hash); }

}  // namespace spillway::checkpoint
