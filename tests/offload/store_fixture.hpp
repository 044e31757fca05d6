// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <ostream>
#include <string>

#include <gtest/gtest.h>

#include "core/error.hpp"
#include "offload/block_store.hpp"
#include "support/scratch_directory.hpp"

namespace spillway::offload {

struct StoreKind {
  std::string name;
  bool direct = true;
};

inline void PrintTo(const StoreKind& kind, std::ostream* out) {
  *out << kind.name << (kind.direct ? "" : ", buffered");
}

inline std::string test_name(const ::testing::TestParamInfo<StoreKind>& info) {
  return info.param.name + (info.param.direct ? "" : "_buffered");
}

/// A test over every kind of store; skipped, with the reason, where the kernel refuses io_uring.
class EveryStore : public ::testing::TestWithParam<StoreKind> {
 protected:
  void SetUp() override { make({}); }

  void make(StoreOptions options) {
    options.direct = GetParam().direct;
    store_.reset();
    try {
      store_ = make_store(GetParam().name, options);
    } catch (const Error& error) {
      if (GetParam().name != "uring") throw;
      GTEST_SKIP() << error.what();
    }
  }

  [[nodiscard]] BlockStore& store() { return *store_; }
  [[nodiscard]] std::string path(const std::string& name) const { return directory_.file(name); }

  test::ScratchDirectory directory_;
  std::unique_ptr<BlockStore> store_;
};

/// What `action` throws, as text; a failure of the test if it throws nothing or something else.
template <typename Expected, typename Action>
std::string message_of(Action action) {
  try {
    action();
  } catch (const Expected& error) {
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another kind of error: " << error.what();
    return "";
  }
  ADD_FAILURE() << "no error";
  return "";
}

}  // namespace spillway::offload
