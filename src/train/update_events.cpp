// SPDX-License-Identifier: Apache-2.0
#include "train/update_events.hpp"

#include <utility>

#include <fmt/format.h>

#include "core/error.hpp"

namespace spillway::train {
namespace {

class BothEvents final : public EventState {
 public:
  BothEvents(Event one, Event other) : one_(std::move(one)), other_(std::move(other)) {}
  void wait() override {
    one_.wait();
    other_.wait();
  }
  [[nodiscard]] bool ready() override { return one_.ready() && other_.ready(); }

 private:
  Event one_, other_;
};

class WithCopies final : public EventState {
 public:
  WithCopies(Event work, std::shared_ptr<const Event> copies) : work_(std::move(work)), copies_(std::move(copies)) {}
  void wait() override {
    work_.wait();
    copies_->wait();
  }
  [[nodiscard]] bool ready() override { return work_.ready() && copies_->ready(); }

 private:
  Event work_;
  std::shared_ptr<const Event> copies_;
};

class NotStarted final : public EventState {
 public:
  explicit NotStarted(int unit) : unit_(unit) {}
  void wait() override { throw Error(fmt::format("unit {} is waited for before its update was started", unit_)); }
  [[nodiscard]] bool ready() override { return false; }

 private:
  int unit_;
};

}  // namespace

Event both(Event one, Event other) { return Event(std::make_shared<BothEvents>(std::move(one), std::move(other))); }

Event with_copies(Event work, std::shared_ptr<const Event> copies) {
  return Event(std::make_shared<WithCopies>(std::move(work), std::move(copies)));
}

Event not_started(int unit) { return Event(std::make_shared<NotStarted>(unit)); }

}  // namespace spillway::train
