// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include <fmt/format.h>

#include "comm/communicator.hpp"
#include "core/error.hpp"

namespace spillway::comm {
namespace {

std::vector<double> doubles_of(const std::vector<std::byte>& bytes) {
  std::vector<double> values(bytes.size() / sizeof(double));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

}  // namespace

std::vector<double> ordered_sum(Communicator& communicator, std::span<const double> values) {
  const auto all = communicator.exchange(std::as_bytes(values));
  std::vector<double> sum;
  for (std::size_t r = 0; r < all.size(); ++r) {
    const std::vector<double> part = doubles_of(all[r]);
    if (part.size() != values.size())
      throw CommunicationError(fmt::format("ordered_sum: rank {} has {} values, rank {} has {}", communicator.rank(),
                                           values.size(), r, part.size()));
    if (r == 0) sum = part;
    else
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += part[i];
  }
  return sum;
}

std::vector<double> all_gather_doubles(Communicator& communicator, std::span<const double> values) {
  std::vector<double> joined;
  for (const auto& bytes : communicator.exchange(std::as_bytes(values))) {
    const std::vector<double> part = doubles_of(bytes);
    joined.insert(joined.end(), part.begin(), part.end());
  }
  return joined;
}

std::string broadcast_text(Communicator& communicator, const std::string& text, int root) {
  if (root < 0 || root >= communicator.size())
    throw Error(fmt::format("broadcast_text: root {} of {} ranks", root, communicator.size()));
  std::span<const std::byte> mine;
  if (communicator.rank() == root) mine = std::as_bytes(std::span(text));
  const auto all = communicator.exchange(mine);
  const std::vector<std::byte>& bytes = all[static_cast<std::size_t>(root)];
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace spillway::comm
