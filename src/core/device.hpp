// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>

namespace spillway {

/// What `Event` waits for. One implementation for each kind of device.
class EventState {
 public:
  virtual ~EventState() = default;
  /// Blocks the calling thread until the work before the event is done. \throws what that work threw
  virtual void wait() = 0;
  [[nodiscard]] virtual bool ready() = 0;
};

/// A point in a queue's work. Cheap to copy; a default-made event has already happened.
class Event {
 public:
  Event() = default;
  explicit Event(std::shared_ptr<EventState> state) : state_(std::move(state)) {}
  /// Blocks until everything before the event is done. \throws what that work threw
  void wait() const {
    if (state_) state_->wait();
  }
  /// The same for destructors, which only need the work to be over: its error is for those who use its result.
  void wait_quietly() const noexcept {
    try {
      wait();
    } catch (...) {
    }
  }
  [[nodiscard]] bool ready() const { return !state_ || state_->ready(); }
  /// For the queues of a device, which know events of their own kind; null of a default-made event.
  [[nodiscard]] const std::shared_ptr<EventState>& state() const noexcept { return state_; }

 private:
  std::shared_ptr<EventState> state_;
};

/// Work in order, as a CUDA stream: `submit` returns at once unless the queue is inline.
/// If a task throws, the tasks after it are skipped and every later event rethrows that error. What a GPU was given
/// besides (kernels, copies) still runs: its results are not to be used.
/// One thread at a time may submit to a queue.
class Queue {
 public:
  virtual ~Queue() = default;
  /// Runs `work` on the host after all earlier work of this queue. In the compute queue of a GPU `work`, and whatever it
  /// owns, must neither call CUDA nor wait for an event: a thread of the driver runs it.
  virtual void submit(std::function<void()> work) = 0;
  /// An event after everything submitted so far.
  [[nodiscard]] virtual Event record() = 0;
  /// Later work of this queue starts only after `event`; what the work before `event` threw counts as thrown here.
  /// Does not block the caller, with two exceptions, which wait and throw at once: an inline queue, and the compute queue
  /// of a GPU when `event` is not one of a compute queue of the same device.
  virtual void wait(const Event& event) = 0;
  /// Blocks until all submitted work is done. \throws what that work threw
  void synchronize() { record().wait(); }
};

enum class MemoryKind { device, pinned_host };

/// Frees what a Device allocated.
struct MemoryDeleter {
  std::function<void(std::byte*)> release;
  void operator()(std::byte* memory) const noexcept {
    if (release) release(memory);
  }
};

/// Owning, aligned memory of a device. Zero-filled, every page touched.
class Buffer {
 public:
  Buffer() = default;
  Buffer(std::unique_ptr<std::byte[], MemoryDeleter> memory, std::size_t bytes, MemoryKind kind)
      : memory_(std::move(memory)), bytes_(bytes), kind_(kind) {}
  [[nodiscard]] std::byte* data() const noexcept { return memory_.get(); }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] MemoryKind kind() const noexcept { return kind_; }

 private:
  std::unique_ptr<std::byte[], MemoryDeleter> memory_;
  std::size_t bytes_ = 0;
  MemoryKind kind_ = MemoryKind::device;
};

/// Work of a queue that can be run again and again.
class Recording {
 public:
  virtual ~Recording() = default;
  /// Submits the work once more to `queue`, of the device that recorded it; returns at once unless the queue is inline.
  virtual void run(Queue& queue) = 0;
};

/// Times at which the compute queues of a device came to marks in their work. All that it needs is made with it; a mark may be set again.
class Marks {
 public:
  virtual ~Marks() = default;
  /// Sets mark `index` after everything submitted to `queue`, a compute queue of the device. Does not block. Threads may set different
  /// marks at the same time.
  virtual void set(Queue& queue, std::size_t index) = 0;
  /// Compares the device's clock with the host's, so that at() drifts little for the marks set from now on. Does not wait for queues.
  virtual void synchronize_clocks() = 0;
  /// When a mark was reached, to about a microsecond. Blocks until then; the mark must have been set.
  [[nodiscard]] virtual std::chrono::steady_clock::time_point at(std::size_t index) = 0;
  /// Seconds from one mark to another. Blocks as at() does.
  [[nodiscard]] virtual double seconds(std::size_t from, std::size_t to) = 0;
};

/// Memory, queues and copies of one accelerator, or of the host.
class Device {
 public:
  virtual ~Device() = default;
  [[nodiscard]] virtual std::string name() const = 0;
  /// Whether device memory is host memory: tensors there may be read and written by the host without a copy.
  [[nodiscard]] virtual bool is_host() const noexcept = 0;
  /// Device memory, in bytes, that `allocate` could still give: what a GPU has free. On the host nothing but budgets limits it.
  [[nodiscard]] virtual std::size_t free_bytes() const = 0;
  /// Zero-filled memory on a 4 KiB boundary, all pages touched, `bytes` rounded up to 4 KiB.
  /// \throws Error (exit 5) with the amount asked; if it would exceed a budget, with the amount used and the budget too
  [[nodiscard]] virtual Buffer allocate(MemoryKind kind, std::size_t bytes) = 0;
  /// A queue that the caller's thread submits compute to. On the host it is inline: `submit` runs the work before it returns.
  [[nodiscard]] virtual std::unique_ptr<Queue> create_compute_queue() = 0;
  /// A queue with a thread of its own for host work (communication, optimizer, storage), named `name` in debuggers.
  [[nodiscard]] virtual std::unique_ptr<Queue> create_worker_queue(const std::string& name) = 0;
  /// Copies `bytes` between any two memories of this device in `queue`'s order. Both must live until then.
  /// \throws Error if `queue` is not of this device, or is a GPU's compute queue and host memory is not of `allocate`
  virtual void copy(Queue& queue, std::byte* to, const std::byte* from, std::size_t bytes) = 0;
  /// As copy, for the little that computing waits for: on a GPU it does not stand in line behind what other queues copy over the link.
  virtual void copy_little(Queue& queue, std::byte* to, const std::byte* from, std::size_t bytes) {
    copy(queue, to, from, bytes);
  }
  /// What `work` submits to `queue`, to be run later, once or often: a GPU is then given all of it at the cost of one launch. Values
  /// and addresses are those of now, what memory holds is read when it runs. `work` may submit GPU operations and copies only:
  /// it must not wait, nor call submit(), record() or wait() of the queue. The host calls `work` again each time.
  /// \throws CudaError if the driver cannot record it, or what `work` throws
  [[nodiscard]] virtual std::unique_ptr<Recording> record_work(Queue& queue, std::function<void()> work) = 0;
  /// \param count  of marks; the host's clock and the device's are compared once
  [[nodiscard]] virtual std::unique_ptr<Marks> create_marks(std::size_t count) = 0;
};

/// The host as a device: device memory and pinned host memory are both ordinary memory.
[[nodiscard]] std::unique_ptr<Device> make_host_device();

}  // namespace spillway
