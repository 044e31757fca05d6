// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/pickle.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include <fmt/format.h>

#include "core/error.hpp"

namespace spillway::checkpoint {
namespace {

using Kind = PickleObject::Kind;

// Far more than a state dict has, and few enough that they fit in memory whatever a pickle says.
constexpr std::size_t kMostObjects = std::size_t{1} << 18;

constexpr std::string_view kOrderedDict = "collections.OrderedDict";
constexpr std::array<std::string_view, 13> kGlobals = {kOrderedDict,
                                                       "torch._utils._rebuild_tensor_v2",
                                                       "torch._utils._rebuild_parameter",
                                                       "torch.DoubleStorage",
                                                       "torch.FloatStorage",
                                                       "torch.HalfStorage",
                                                       "torch.LongStorage",
                                                       "torch.BFloat16Storage",
                                                       "torch.IntStorage",
                                                       "torch.ShortStorage",
                                                       "torch.CharStorage",
                                                       "torch.ByteStorage",
                                                       "torch.BoolStorage"};

class Parser {
 public:
  Parser(std::span<const std::byte> bytes, const std::string& origin)
      : bytes_(bytes.first(std::min(bytes.size(), kMaxPickleBytes))), origin_(origin) {}

  Pickle parse() {
    if (take_byte() != 0x80 || take_byte() != 2) fail("expected a pickle of protocol 2");
    while (!step(static_cast<unsigned char>(take_byte()))) {
    }
    pickle_.bytes = at_;
    return std::move(pickle_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw DataError(fmt::format("{}: byte {} of the pickle: {}", origin_, at_, what));
  }

  // --- reading
  std::span<const std::byte> take(std::size_t count) {
    if (count > bytes_.size() - at_)
      fail(bytes_.size() == kMaxPickleBytes
               ? fmt::format("it is larger than {} bytes", kMaxPickleBytes)
               : fmt::format("it is truncated: {} bytes are missing", count - (bytes_.size() - at_)));
    at_ += count;
    return bytes_.subspan(at_ - count, count);
  }
  int take_byte() { return static_cast<int>(take(1)[0]); }
  template <typename Number>
  Number take_number() {
    Number number;
    const auto from = take(sizeof(number));
    std::memcpy(&number, from.data(), sizeof(number));
    return number;
  }
  std::string take_text(std::size_t count) {
    const auto from = take(count);
    return {reinterpret_cast<const char*>(from.data()), from.size()};
  }
  std::string take_line() {
    constexpr std::size_t kLongest = 256;
    std::string line;
    for (int byte = take_byte(); byte != '\n'; byte = take_byte()) {
      line += static_cast<char>(byte);
      if (line.size() > kLongest) fail("a name that is too long");
    }
    return line;
  }

  // --- the stack
  std::uint32_t add(PickleObject object) {
    if (pickle_.objects.size() == kMostObjects) fail(fmt::format("more than {} objects", kMostObjects));
    pickle_.objects.push_back(std::move(object));
    return static_cast<std::uint32_t>(pickle_.objects.size() - 1);
  }
  void push(PickleObject object) { stack_.push_back(add(std::move(object))); }
  std::uint32_t pop() {
    if (stack_.empty() || (!marks_.empty() && marks_.back() == stack_.size())) fail("nothing is on the stack");
    const std::uint32_t top = stack_.back();
    stack_.pop_back();
    return top;
  }
  std::uint32_t top() {
    const std::uint32_t number = pop();
    stack_.push_back(number);
    return number;
  }
  /// What was pushed since the last mark.
  std::vector<std::uint32_t> pop_to_mark() {
    if (marks_.empty()) fail("no mark is on the stack");
    const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<std::uint32_t> items(begin, stack_.end());
    stack_.erase(begin, stack_.end());
    marks_.pop_back();
    return items;
  }
  void push_tuple(std::size_t count) {
    PickleObject tuple{.kind = Kind::tuple};
    for (std::size_t i = 0; i < count; ++i) tuple.items.push_back(pop());
    std::ranges::reverse(tuple.items);
    push(std::move(tuple));
  }
  /// The container that is on top gets `items`.
  void extend(Kind kind, const std::vector<std::uint32_t>& items) {
    PickleObject& target = pickle_.objects[top()];
    if (target.kind != kind) fail(kind == Kind::dict ? "items for what is no dict" : "items for what is no list");
    if (kind == Kind::dict && items.size() % 2 != 0) fail("a key without a value");
    target.items.insert(target.items.end(), items.begin(), items.end());
  }

  // --- opcodes
  void push_integer(std::int64_t value) { push({.kind = Kind::integer, .integer = value}); }
  void push_long() {
    const auto count = static_cast<std::size_t>(take_byte());
    if (count > sizeof(std::int64_t)) fail(fmt::format("an integer of {} bytes", count));
    std::int64_t value = 0;
    const auto from = take(count);
    std::memcpy(&value, from.data(), count);
    if (count > 0 && count < sizeof(value)) {  // two's complement: the last byte has the sign
      const int unused = static_cast<int>(8 * (sizeof(value) - count));
      value = static_cast<std::int64_t>(static_cast<std::uint64_t>(value) << unused) >> unused;
    }
    push_integer(value);
  }
  void push_real() {
    std::array<std::byte, sizeof(double)> bytes;
    std::ranges::reverse_copy(take(sizeof(double)), bytes.begin());  // big-endian
    double value = 0.0;
    std::memcpy(&value, bytes.data(), sizeof(value));
    push({.kind = Kind::real, .real = value});
  }
  void push_global() {
    const std::string module = take_line();
    const std::string name = module + "." + take_line();
    if (std::ranges::find(kGlobals, name) == kGlobals.end())
      fail(fmt::format("it names {}, which no file of tensors needs: refused, nothing was executed", name));
    push({.kind = Kind::global, .text = name});
  }
  void reduce() {
    const std::uint32_t arguments = pop();
    const std::uint32_t callee = pop();
    const std::string& name = pickle_.objects[callee].text;
    if (pickle_.objects[callee].kind != Kind::global || pickle_.objects[arguments].kind != Kind::tuple)
      fail("a call of what is no global, or without a tuple of arguments");
    if (name == kOrderedDict && pickle_.objects[arguments].items.empty()) return push({.kind = Kind::dict});
    if (!name.starts_with("torch._utils.")) fail(fmt::format("a call of {}, which is refused", name));
    push({.kind = Kind::call, .items = {callee, arguments}});
  }
  /// torch puts `_metadata` on a state dict: attributes of a dict are of no use to us.
  void build() {
    (void)pop();
    if (pickle_.objects[top()].kind != Kind::dict) fail("attributes for what is no dict");
  }
  void put(std::size_t index) {
    if (index >= kMostObjects) fail(fmt::format("memo {}, at most {} are allowed", index, kMostObjects));
    if (index >= memo_.size()) memo_.resize(index + 1, kNothing);
    memo_[index] = top();
  }
  void get(std::size_t index) {
    if (index >= memo_.size() || memo_[index] == kNothing) fail(fmt::format("memo {} was never set", index));
    stack_.push_back(memo_[index]);
  }
  void stop() {
    pickle_.root = pop();
    if (!stack_.empty() || !marks_.empty()) fail("it ends with objects left on the stack");
  }

  /// Runs one opcode. \return whether it was the last
  bool step(unsigned char opcode) {
    switch (opcode) {
      case 'N': push({.kind = Kind::none}); break;
      case 0x88: push({.kind = Kind::boolean, .integer = 1}); break;
      case 0x89: push({.kind = Kind::boolean, .integer = 0}); break;
      case 'K': push_integer(take_byte()); break;
      case 'M': push_integer(take_number<std::uint16_t>()); break;
      case 'J': push_integer(take_number<std::int32_t>()); break;
      case 0x8a: push_long(); break;
      case 'G': push_real(); break;
      case 'X':
      case 'T': push({.kind = Kind::text, .text = take_text(take_number<std::uint32_t>())}); break;
      case 'U': push({.kind = Kind::text, .text = take_text(static_cast<std::size_t>(take_byte()))}); break;
      case '(': marks_.push_back(stack_.size()); break;
      case ')': push({.kind = Kind::tuple}); break;
      case 0x85: push_tuple(1); break;
      case 0x86: push_tuple(2); break;
      case 0x87: push_tuple(3); break;
      case 't': push({.kind = Kind::tuple, .items = pop_to_mark()}); break;
      case ']': push({.kind = Kind::list}); break;
      case 'a': extend(Kind::list, {pop()}); break;
      case 'e': extend(Kind::list, pop_to_mark()); break;
      case '}': push({.kind = Kind::dict}); break;
      case 's': {
        const std::uint32_t value = pop();
        const std::uint32_t key = pop();
        extend(Kind::dict, {key, value});
        break;
      }
      case 'u': extend(Kind::dict, pop_to_mark()); break;
      case 'c': push_global(); break;
      case 'R': reduce(); break;
      case 'b': build(); break;
      case 'Q': push({.kind = Kind::persistent, .items = {pop()}}); break;
      case 'q': put(static_cast<std::size_t>(take_byte())); break;
      case 'r': put(take_number<std::uint32_t>()); break;
      case 'h': get(static_cast<std::size_t>(take_byte())); break;
      case 'j': get(take_number<std::uint32_t>()); break;
      case '.': stop(); return true;
      default: fail(fmt::format("opcode 0x{:02x}, which no file of tensors needs: refused", opcode));
    }
    return false;
  }

  static constexpr std::uint32_t kNothing = UINT32_MAX;

  std::span<const std::byte> bytes_;
  const std::string& origin_;
  std::size_t at_ = 0;
  Pickle pickle_;
  std::vector<std::uint32_t> stack_, memo_;
  std::vector<std::size_t> marks_;
};

}  // namespace

Pickle parse_pickle(std::span<const std::byte> bytes, const std::string& origin) {
  return Parser(bytes, origin).parse();
}

}  // namespace spillway::checkpoint
