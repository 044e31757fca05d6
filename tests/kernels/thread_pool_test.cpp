// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/thread_pool.hpp"

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "core/error.hpp"
#include "kernels/cpu/cpu_kernels.hpp"

namespace spillway::kernels::cpu {
namespace {

TEST(ThreadPool, ParallelFor_RunsEveryTaskOnce) {
  for (const int threads : {1, 2, 4}) {
    ThreadPool pool(threads);
    std::vector<std::atomic<int>> runs(1000);

    pool.parallel_for(1000, [&](std::int64_t i) { ++runs[static_cast<std::size_t>(i)]; });

    for (const auto& count : runs) EXPECT_EQ(count, 1) << threads << " threads";
  }
}

TEST(ThreadPool, ParallelFor_FromSeveralThreads_KeepsTheLoopsApart) {
  ThreadPool pool(3);
  std::vector<std::int64_t> sums(4);

  {
    std::vector<std::jthread> callers;
    for (std::size_t caller = 0; caller < sums.size(); ++caller) {
      callers.emplace_back([&pool, &sum = sums[caller], caller] {
        for (int repeat = 0; repeat < 50; ++repeat) {
          std::vector<std::int64_t> parts(17);
          pool.parallel_for(
              17, [&](std::int64_t i) { parts[static_cast<std::size_t>(i)] = i * static_cast<std::int64_t>(caller); });
          for (const std::int64_t part : parts) sum += part;
        }
      });
    }
  }

  for (std::size_t caller = 0; caller < sums.size(); ++caller)
    EXPECT_EQ(sums[caller], 50 * 136 * static_cast<std::int64_t>(caller));
}

TEST(ThreadPool, ParallelFor_WhenATaskThrows_FinishesTheOthersAndRethrows) {
  for (const int threads : {2, 3}) {
    ThreadPool pool(threads);
    std::atomic<int> finished = 0;

    EXPECT_THROW(pool.parallel_for(100,
                                   [&](std::int64_t i) {
                                     if (i == 37) throw std::runtime_error("task 37");
                                     ++finished;
                                   }),
                 std::runtime_error);

    EXPECT_EQ(finished, 99);
  }
}

TEST(ThreadPool, MakeThreadPool_WithoutThreads_Throws) {
  EXPECT_EQ(make_thread_pool(2)->threads(), 2);
  EXPECT_THROW((void)make_thread_pool(0), Error);
}

}  // namespace
}  // namespace spillway::kernels::cpu
