// SPDX-License-Identifier: Apache-2.0
#include "support/thread_ranks.hpp"

#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace spillway::test {

void run_on_thread_ranks(int ranks, const std::function<void(comm::Communicator&)>& body) {
  const auto communicators = comm::make_thread_communicators(ranks);
  std::mutex mutex;
  std::exception_ptr first_error;
  std::vector<std::thread> threads;
  for (const auto& communicator : communicators)
    threads.emplace_back([&, rank = communicator.get()] {
      std::string reason = "a rank failed";
      try {
        body(*rank);
        return;
      } catch (const std::exception& error) {
        reason = error.what();
        const std::scoped_lock lock(mutex);
        if (!first_error) first_error = std::current_exception();
      } catch (...) {
        const std::scoped_lock lock(mutex);
        if (!first_error) first_error = std::current_exception();
      }
      rank->abort(1, reason);  // after the error is kept: the others' errors only follow from it
    });
  for (std::thread& thread : threads) thread.join();
  if (first_error) std::rethrow_exception(first_error);
}

}  // namespace spillway::test
