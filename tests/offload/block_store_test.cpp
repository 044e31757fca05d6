// SPDX-License-Identifier: Apache-2.0
#include "offload/block_store.hpp"

#include <algorithm>
#include <random>
#include <thread>
#include <vector>

#include <gmock/gmock.h>

#include "offload/store_fixture.hpp"

namespace spillway::offload {
namespace {

using test::AlignedBytes;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr std::size_t kBlock = 64 << 10;

bool equal(std::span<const std::byte> left, std::span<const std::byte> right) {
  return std::equal(left.begin(), left.end(), right.begin(), right.end());
}

TEST_P(EveryStore, WhatWasWritten_IsReadBack) {
  const AlignedBytes written(4 * kBlock, 1);
  const AlignedBytes read(4 * kBlock);
  const FileId file = store().open(path("a"), OpenMode::create_new, 8 * kBlock);

  store().write(file, 2 * kBlock, written.span()).wait();
  store().read(file, 2 * kBlock, read.span()).wait();

  EXPECT_TRUE(equal(read.span(), written.span()));
  store().close(file, true);
}

TEST_P(EveryStore, ReservedBytes_ReadAsZeros) {
  const AlignedBytes read(kBlock, 3);
  const FileId file = store().open(path("a"), OpenMode::create_new, 2 * kBlock);

  store().read(file, kBlock, read.span()).wait();

  EXPECT_TRUE(equal(read.span(), AlignedBytes(kBlock).span()));
}

TEST_P(EveryStore, ClosedFile_KeepsItsBytesAndMayBeOpenedAgain) {
  const AlignedBytes written(kBlock, 1);
  const AlignedBytes read(kBlock);
  const FileId first = store().open(path("a"), OpenMode::create_new, 0);
  store().write(first, 0, written.span()).wait();
  store().close(first, true);

  const FileId second = store().open(path("a"), OpenMode::open_existing, 0);
  store().read(second, 0, read.span()).wait();

  EXPECT_TRUE(equal(read.span(), written.span()));
  EXPECT_THROW((void)store().read(first, 0, read.span()), IoError);
  EXPECT_THROW(store().close(first, false), IoError);
}

TEST_P(EveryStore, ManyInFlight_InAnyOrder_GoToTheirPlaces) {
  make({.queue_depth = 8});
  constexpr int kBlocks = 64;
  std::vector<int> order(kBlocks);
  for (int i = 0; i < kBlocks; ++i) order[static_cast<std::size_t>(i)] = i;
  std::shuffle(order.begin(), order.end(), std::mt19937(7));
  std::vector<AlignedBytes> written, read;
  for (int i = 0; i < kBlocks; ++i) {
    written.emplace_back(kBlock, static_cast<unsigned>(i));
    read.emplace_back(kBlock);
  }
  const FileId file = store().open(path("a"), OpenMode::create_new, kBlocks * kBlock);
  const auto at = [](int block) { return static_cast<std::uint64_t>(block) * kBlock; };

  std::vector<Completion> writes, reads;
  for (const int i : order) writes.push_back(store().write(file, at(i), written[static_cast<std::size_t>(i)].span()));
  for (auto& write : writes) write.wait();
  std::reverse(order.begin(), order.end());
  for (const int i : order) reads.push_back(store().read(file, at(i), read[static_cast<std::size_t>(i)].span()));
  for (auto& one : reads) one.wait();

  for (std::size_t i = 0; i < kBlocks; ++i) EXPECT_TRUE(equal(read[i].span(), written[i].span())) << "block " << i;
  const auto counters = store().counters();
  EXPECT_EQ(counters.reads, kBlocks);
  EXPECT_EQ(counters.writes, kBlocks);
  EXPECT_EQ(counters.read_bytes, kBlocks * kBlock);
  EXPECT_EQ(counters.written_bytes, kBlocks * kBlock);
}

TEST_P(EveryStore, LongTransfer_IsContinuedUntilItIsWhole) {
  make({.call_bytes = 8192});
  const AlignedBytes written(17 * 4096, 1);
  const AlignedBytes read(17 * 4096);
  const FileId file = store().open(path("a"), OpenMode::create_new, 0);

  store().write(file, 4096, written.span()).wait();
  store().read(file, 4096, read.span()).wait();

  EXPECT_TRUE(equal(read.span(), written.span()));
  EXPECT_EQ(store().counters().reads, 1u);
  EXPECT_EQ(store().counters().read_bytes, 17u * 4096);
}

TEST_P(EveryStore, ThreadsThatComeAndGo_MayShareIt) {
  make({.queue_depth = 4});
  constexpr std::size_t kThreads = 4, kBlocks = 16;
  const AlignedBytes written(kThreads * kBlocks * kBlock, 1);
  const AlignedBytes read(written.span().size());
  const FileId file = store().open(path("a"), OpenMode::create_new, written.span().size());
  std::vector<std::vector<Completion>> reads(kThreads);

  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = t * kBlocks; i < (t + 1) * kBlocks; ++i) {
        store().write(file, i * kBlock, written.span().subspan(i * kBlock, kBlock)).wait();
        // These are still under way when their thread ends.
        reads[t].push_back(store().read(file, i * kBlock, read.span().subspan(i * kBlock, kBlock)));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (auto& of_thread : reads) {
    for (auto& one : of_thread) one.wait();
  }

  EXPECT_TRUE(equal(read.span(), written.span()));
}

TEST_P(EveryStore, Close_WaitsForTheTransfersOfTheFile) {
  const AlignedBytes written(64 * kBlock, 1);
  const FileId file = store().open(path("a"), OpenMode::create_new, 0);
  std::vector<Completion> writes;
  for (std::size_t i = 0; i < 16; ++i) {
    writes.push_back(store().write(file, i * 4 * kBlock, written.span().subspan(i * 4 * kBlock, 4 * kBlock)));
  }

  store().close(file, false);

  EXPECT_EQ(store().counters().writes, 16u);
  for (auto& write : writes) write.wait();
}

TEST_P(EveryStore, Completion_MayOutliveTheStore) {
  const AlignedBytes written(16 * kBlock, 1);
  const FileId file = store().open(path("a"), OpenMode::create_new, 0);
  Completion write = store().write(file, 0, written.span());

  store_.reset();

  EXPECT_TRUE(write.ready());
  write.wait();
}

TEST_P(EveryStore, DroppedCompletion_IsWaitedFor) {
  const AlignedBytes written(16 * kBlock, 1);
  const FileId file = store().open(path("a"), OpenMode::create_new, 0);

  { const Completion dropped = store().write(file, 0, written.span()); }

  EXPECT_EQ(store().counters().writes, 1u);
}

TEST_P(EveryStore, UnalignedTransfer_IsRefusedIfTheStoreAsksForAlignment) {
  const AlignedBytes memory(4 * kBlock);
  const FileId file = store().open(path("a"), OpenMode::create_new, 4 * kBlock);
  if (store().alignment() == 1) {
    store().write(file, 1, memory.span().subspan(3, 1001)).wait();
    EXPECT_EQ(store().counters().written_bytes, 1001u);
    return;
  }

  const auto offset = message_of<IoError>([&] { (void)store().read(file, 512, memory.span()); });
  const auto length = message_of<IoError>([&] { (void)store().write(file, 0, memory.span().first(1000)); });
  const auto address = message_of<IoError>([&] { (void)store().read(file, 0, memory.span().subspan(8, kBlock)); });

  EXPECT_THAT(offset, AllOf(HasSubstr(path("a")), HasSubstr("offset 512"), HasSubstr("multiples of 4096")));
  EXPECT_THAT(length, HasSubstr("write of 1000 bytes"));
  EXPECT_THAT(address, HasSubstr("here 8 beyond"));
  EXPECT_EQ(store().counters().reads + store().counters().writes, 0u);
}

TEST_P(EveryStore, ReadPastTheEnd_NamesFileAndOffset) {
  const AlignedBytes memory(2 * kBlock);
  const FileId file = store().open(path("a"), OpenMode::create_new, kBlock);
  Completion read = store().read(file, 4096, memory.span());

  const auto message = message_of<IoError>([&] { read.wait(); });

  EXPECT_THAT(message, AllOf(HasSubstr(path("a")), HasSubstr("read of 131072 bytes at offset 4096"),
                             HasSubstr("end of the file after 61440 bytes")));
  EXPECT_EQ(store().counters().reads, 0u);
  read.wait();  // a second wait returns at once
}

TEST_P(EveryStore, CreatingAnExistingFile_OrOpeningAMissingOne_NamesIt) {
  (void)store().open(path("a"), OpenMode::create_new, 0);

  const auto existing = message_of<IoError>([&] { (void)store().open(path("a"), OpenMode::create_new, 0); });
  const auto missing = message_of<IoError>([&] { (void)store().open(path("b"), OpenMode::open_existing, 0); });

  EXPECT_THAT(existing, AllOf(HasSubstr(path("a")), HasSubstr("File exists")));
  EXPECT_THAT(missing, AllOf(HasSubstr(path("b")), HasSubstr("No such file")));
}

INSTANTIATE_TEST_SUITE_P(Stores, EveryStore,
                         ::testing::Values(StoreKind{"memory"}, StoreKind{"posix"}, StoreKind{"posix", false},
                                           StoreKind{"uring"}, StoreKind{"uring", false}),
                         test_name);

}  // namespace
}  // namespace spillway::offload
