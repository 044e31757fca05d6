// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi_peers.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <list>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>

#include <mpi.h>

#include "comm/mpi_call.hpp"
#include "core/host_name.hpp"

namespace spillway::comm {
namespace {

constexpr int kQuestion = 1, kAnswer = 2;  // tags
constexpr std::size_t kAnswerBytes = 512;  // short enough to be sent without the receiver's help
constexpr std::size_t kHostBytes = 64;
constexpr std::chrono::milliseconds kPause{10};
constexpr std::chrono::milliseconds kGatePatience{100};  // calls take microseconds

using Message = std::array<char, kAnswerBytes>;

template <std::size_t size>
std::array<char, size> cut(const std::string& text) {
  std::array<char, size> bytes{};
  std::memcpy(bytes.data(), text.data(), std::min(text.size(), size - 1));
  return bytes;
}

Message packed(const Position& position) {
  std::ostringstream text;
  text << position.number << ' ' << position.inside << '\n' << position.collective << '\n' << position.subject;
  return cut<kAnswerBytes>(text.str());
}

Position unpacked(const Message& message) {
  std::istringstream text(message.data());
  Position position;
  text >> position.number >> position.inside;
  text.ignore();
  std::getline(text, position.collective);
  std::getline(text, position.subject);
  return position;
}

/// Other ranks may be gone, and another thread's call may hang: what fails is an answer that does not come.
template <typename Call>
bool succeeds(Call call) {
  const std::unique_lock lock = mpi_gate_within(kGatePatience);
  return lock.owns_lock() && call() == MPI_SUCCESS;
}

class MpiPeers : public Peers {
 public:
  MpiPeers(int rank, int size) : rank_(rank) {
    mpi_call("MPI_Comm_dup", rank, [this] { return MPI_Comm_dup(MPI_COMM_WORLD, &group_); });
    const auto mine = cut<kHostBytes>(host_name());
    std::vector<std::array<char, kHostBytes>> names(static_cast<std::size_t>(size));
    mpi_call("MPI_Allgather", rank, [&] {
      return MPI_Allgather(mine.data(), kHostBytes, MPI_CHAR, names.data(), kHostBytes, MPI_CHAR, group_);
    });
    for (const auto& name : names) hosts_.emplace_back(name.data());
    listen();
  }
  MpiPeers(const MpiPeers&) = delete;
  MpiPeers& operator=(const MpiPeers&) = delete;
  ~MpiPeers() override {
    const std::scoped_lock lock(mpi_gate());
    due_.push_back(question_);
    for (MPI_Request& request : due_) {
      if (request == MPI_REQUEST_NULL) continue;
      MPI_Cancel(&request);
      MPI_Wait(&request, MPI_STATUS_IGNORE);
    }
    MPI_Comm_free(&group_);
  }

  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] const std::vector<std::string>& hosts() const override { return hosts_; }

  void answer(const Position& mine) override {
    if (question_ == MPI_REQUEST_NULL) listen();
    for (int asked = 1; asked != 0 && question_ != MPI_REQUEST_NULL;) {
      MPI_Status status;
      if (!succeeds([&] { return MPI_Test(&question_, &asked, &status); }) || asked == 0) break;
      send(answers_.emplace_back(packed(mine)), status.MPI_SOURCE, kAnswer);
      listen();
    }
  }

  [[nodiscard]] std::vector<std::optional<Position>> ask(const Position& mine,
                                                         std::chrono::milliseconds patience) override {
    std::vector<std::optional<Position>> positions(hosts_.size());
    positions[static_cast<std::size_t>(rank_)] = mine;
    received_.resize(hosts_.size());
    due_.resize(hosts_.size(), MPI_REQUEST_NULL);
    static const Message empty{};
    const auto end = std::chrono::steady_clock::now() + patience;
    const auto time_is_left = [&] { return std::chrono::steady_clock::now() < end; };
    for (std::size_t rank = 0; rank < hosts_.size() && time_is_left(); ++rank) {
      if (static_cast<int>(rank) == rank_) continue;
      succeeds([&] {
        return MPI_Irecv(received_[rank].data(), kAnswerBytes, MPI_CHAR, static_cast<int>(rank), kAnswer, group_,
                         &due_[rank]);
      });
      send(empty, static_cast<int>(rank), kQuestion);
    }
    while (time_is_left()) {
      bool all = true;
      for (std::size_t rank = 0; rank < due_.size(); ++rank) {
        if (due_[rank] == MPI_REQUEST_NULL) continue;
        int there = 0;
        succeeds([&] { return MPI_Test(&due_[rank], &there, MPI_STATUS_IGNORE); });
        if (there != 0) positions[rank] = unpacked(received_[rank]);
        all = all && there != 0;
      }
      if (all) break;
      answer(mine);
      std::this_thread::sleep_for(kPause);
    }
    return positions;
  }

 private:
  void listen() {
    const bool listens = succeeds([this] {
      return MPI_Irecv(asked_.data(), kAnswerBytes, MPI_CHAR, MPI_ANY_SOURCE, kQuestion, group_, &question_);
    });
    if (!listens) question_ = MPI_REQUEST_NULL;
  }

  /// `message` lives as long as this.
  void send(const Message& message, int to, int tag) {
    MPI_Request request = MPI_REQUEST_NULL;
    succeeds([&] { return MPI_Isend(message.data(), kAnswerBytes, MPI_CHAR, to, tag, group_, &request); });
    if (request != MPI_REQUEST_NULL) succeeds([&] { return MPI_Request_free(&request); });
  }

  int rank_;
  MPI_Comm group_ = MPI_COMM_NULL;
  std::vector<std::string> hosts_;
  MPI_Request question_ = MPI_REQUEST_NULL;
  Message asked_{};
  std::list<Message> answers_;  // an answer is given once to each rank that asks, and then the job ends
  // Of the only question that this rank asks: an answer for each rank, and what it is received with.
  std::vector<Message> received_;
  std::vector<MPI_Request> due_;
};

}  // namespace

std::unique_ptr<Peers> make_mpi_peers(int rank, int size) { return std::make_unique<MpiPeers>(rank, size); }

}  // namespace spillway::comm
