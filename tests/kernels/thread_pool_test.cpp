// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/thread_pool.hpp"

#include <atomic>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

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

// Sanitizers need more address space than the next test leaves.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

/// Exits with the code of the error that a pool without room for its threads' stacks ends in.
[[noreturn]] void make_pool_without_room() {
  std::size_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  const std::size_t room_bytes = pages * 4096 + (std::size_t{256} << 20);  // some tens of stacks
  const rlimit room{.rlim_cur = room_bytes, .rlim_max = room_bytes};
  if (pages == 0 || ::setrlimit(RLIMIT_AS, &room) != 0) ::_exit(1);
  try {
    const ThreadPool pool(100000);
  } catch (const Error& error) {
    std::fputs(error.what(), stderr);
    ::_exit(static_cast<int>(error.exit_code()));
  }
  ::_exit(0);
}

TEST(ThreadPoolDeathTest, WhenAThreadCannotBeStarted_EndsTheOthersAndSaysSo) {
  if (kSanitized) GTEST_SKIP() << "no room for a sanitizer";
  GTEST_FLAG_SET(death_test_style, "threadsafe");

  EXPECT_EXIT(make_pool_without_room(), testing::ExitedWithCode(5), "of 100000 compute threads could be started");
}

TEST(ThreadPool, MakeThreadPool_WithoutThreads_Throws) {
  EXPECT_EQ(make_thread_pool(2)->threads(), 2);
  EXPECT_THROW((void)make_thread_pool(0), Error);
}

}  // namespace
}  // namespace spillway::kernels::cpu
