// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/thread_placement.hpp"

#include <numeric>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include "kernels/cpu/cpu_kernels.hpp"
#include "kernels/cpu/thread_pool.hpp"

namespace spillway::kernels::cpu {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kTwoSockets = "pack:2 core:4 pu:2";  // CPUs 2c and 2c + 1 are core c

std::vector<int> range(int begin, int end) {
  std::vector<int> numbers(static_cast<std::size_t>(end - begin));
  std::iota(numbers.begin(), numbers.end(), begin);
  return numbers;
}

std::vector<int> cpus_of_this_thread() {
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof set, &set);
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  return cpus;
}

TEST(ThreadPlacement, RanksOfANode_GetASocketEach_AndEveryThreadACore) {
  const auto first = place_threads({.threads = 4, .rank = 0, .ranks = 2, .allowed = range(0, 16)}, kTwoSockets);
  const auto second = place_threads({.threads = 4, .rank = 1, .ranks = 2, .allowed = range(0, 16)}, kTwoSockets);

  using Core = std::vector<int>;
  EXPECT_THAT(first.cpus, ElementsAre(Core{0, 1}, Core{2, 3}, Core{4, 5}, Core{6, 7}));
  EXPECT_THAT(second.cpus, ElementsAre(Core{8, 9}, Core{10, 11}, Core{12, 13}, Core{14, 15}));
  EXPECT_EQ(second.text, "compute threads are bound to CPUs 8+9, 10+11, 12+13, 14+15");
}

TEST(ThreadPlacement, NoTwoThreadsOfTheNode_ShareACpu_AtAnyNumbers) {
  for (int ranks = 1; ranks <= 8; ++ranks)
    for (int threads = 2; threads * ranks <= 16; ++threads) {
      std::multiset<int> used;
      for (int rank = 0; rank < ranks; ++rank) {
        const auto placement =
            place_threads({.threads = threads, .rank = rank, .ranks = ranks, .allowed = range(0, 16)}, kTwoSockets);
        ASSERT_EQ(placement.cpus.size(), static_cast<std::size_t>(threads));
        for (const auto& cpus : placement.cpus) {
          ASSERT_FALSE(cpus.empty());
          used.insert(cpus.begin(), cpus.end());
        }
      }
      EXPECT_EQ(used.size(), std::set<int>(used.begin(), used.end()).size()) << ranks << " x " << threads;
    }
}

TEST(ThreadPlacement, StaysInsideWhatTheLauncherAllows) {
  const auto placement = place_threads({.threads = 2, .rank = 0, .ranks = 1, .allowed = {10, 11, 12, 13}}, kTwoSockets);

  EXPECT_THAT(placement.cpus, ElementsAre(std::vector<int>{10, 11}, std::vector<int>{12, 13}));
}

TEST(ThreadPlacement, WithFewerCpusThanThreads_OrASingleThread_BindsNothing) {
  const auto narrow = place_threads({.threads = 2, .rank = 1, .ranks = 2, .allowed = {3, 4, 5}}, kTwoSockets);
  const auto single = place_threads({.threads = 1, .rank = 0, .ranks = 2, .allowed = range(0, 16)}, kTwoSockets);
  const auto unknown = place_threads({.threads = 2, .rank = 0, .ranks = 1, .allowed = {70, 71}}, kTwoSockets);

  EXPECT_THAT(narrow.cpus, IsEmpty());
  EXPECT_EQ(narrow.text, "4 compute threads of 2 ranks have 3 CPUs: they are not bound");
  EXPECT_THAT(single.cpus, IsEmpty());
  EXPECT_EQ(single.text, "");
  EXPECT_THAT(unknown.cpus, IsEmpty());
  EXPECT_THAT(unknown.text, HasSubstr("not bound"));
}

TEST(ThreadPlacement, APoolsWorkers_RunWhereTheyAreBound_AndTheCallerAnywhere) {
  const std::vector<int> allowed = cpus_of_this_thread();
  if (allowed.size() < 2) GTEST_SKIP() << "one CPU";
  const ThreadPlacement placement = place_threads({.threads = 2, .rank = 0, .ranks = 1, .allowed = allowed});
  ASSERT_EQ(placement.cpus.size(), 2U) << placement.text;
  const auto pool = make_thread_pool(placement);
  std::mutex mutex;
  std::vector<int> of_worker;

  // A task of the caller waits until the worker has had one.
  pool->parallel_for(64, [&, caller = std::this_thread::get_id()](std::int64_t) {
    for (bool waiting = true; waiting;) {
      const std::scoped_lock lock(mutex);
      if (std::this_thread::get_id() != caller) of_worker = cpus_of_this_thread();
      waiting = of_worker.empty();
    }
  });

  EXPECT_EQ(of_worker, placement.cpus[1]);
  EXPECT_EQ(cpus_of_this_thread(), allowed);
}

}  // namespace
}  // namespace spillway::kernels::cpu
