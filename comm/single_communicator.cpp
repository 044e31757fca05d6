// SPDX-License-Identifier: Apache-2.0
#include <atomic>

#include "comm/queued_communicator.hpp"
#include "comm/rank_order_sum.hpp"
#include "core/error.hpp"
#include "core/log.hpp"

namespace spillway::comm {
namespace {

class SingleCommunicator : public QueuedCommunicator {
 public:
  SingleCommunicator()
      : QueuedCommunicator(0, 1, make_host_device()->create_worker_queue("comm"), std::make_shared<Watchdog>()),
        aborted_(std::make_shared<std::atomic<bool>>(false)) {}
  explicit SingleCommunicator(SingleCommunicator& parent)
      : QueuedCommunicator(0, 1, parent), aborted_(parent.aborted_) {}
  SingleCommunicator(const SingleCommunicator&) = delete;
  SingleCommunicator& operator=(const SingleCommunicator&) = delete;
  ~SingleCommunicator() override { leave_queue(); }

  void reserve(std::size_t) override {}

  void abort(int, const std::string& reason) noexcept override {
    log::error(reason);
    *aborted_ = true;
  }

 protected:
  void do_all_gather(std::span<const std::byte> shard, std::byte* full) override {
    require_whole();
    copy_unless_same(full, shard);
  }
  void do_reduce_scatter(ConstTensorView full, TensorView shard, std::span<const int>) override {
    require_whole();
    const std::byte* piece = full.data();
    sum_in_rank_order({&piece, 1}, full.dtype(), shard);
  }
  void do_broadcast(std::span<std::byte>, int) override { require_whole(); }
  void do_barrier() override { require_whole(); }
  std::vector<std::vector<std::byte>> do_exchange(std::span<const std::byte> bytes) override {
    require_whole();
    return {{bytes.begin(), bytes.end()}};
  }
  std::unique_ptr<Communicator> do_split(int, int) override {
    run_on_queue({"split"}, [this] { require_whole(); });
    return std::make_unique<SingleCommunicator>(*this);
  }

 private:
  void require_whole() const {
    if (*aborted_) throw CommunicationError("the group of one rank was aborted");
  }

  std::shared_ptr<std::atomic<bool>> aborted_;  // with its groups
};

}  // namespace

std::unique_ptr<Communicator> make_single_communicator() { return std::make_unique<SingleCommunicator>(); }

}  // namespace spillway::comm
