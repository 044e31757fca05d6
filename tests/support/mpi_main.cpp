// SPDX-License-Identifier: Apache-2.0
#include "support/mpi_main.hpp"

#include <cstdio>

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace spillway::test {
namespace {

comm::MpiEnvironment* current = nullptr;

/// Ends the job at the first failure: the other ranks would wait for this one until the test's timeout, and mpirun
/// would hide why.
class AbortAtFailure : public testing::EmptyTestEventListener {
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    fmt::print(stderr, "[rank {}] {}:{}: {}\n", current->rank(),
               result.file_name() == nullptr ? "unknown file" : result.file_name(), result.line_number(),
               result.message());
    std::fflush(stderr);
    comm::MpiEnvironment::abort(1);
  }
};

}  // namespace

comm::MpiEnvironment& environment() { return *current; }

}  // namespace spillway::test

int main(int argc, char** argv) {
  spillway::comm::MpiEnvironment environment(&argc, &argv);
  spillway::test::current = &environment;
  testing::InitGoogleTest(&argc, argv);
  auto& listeners = testing::UnitTest::GetInstance()->listeners();
  if (environment.rank() != 0) delete listeners.Release(listeners.default_result_printer());
  if (environment.size() > 1) listeners.Append(new spillway::test::AbortAtFailure);
  return RUN_ALL_TESTS();
}
