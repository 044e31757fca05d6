// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/state_dict.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <string_view>

#include <fmt/format.h>

#include "core/error.hpp"

namespace spillway::checkpoint {
namespace {

using Kind = PickleObject::Kind;

constexpr std::array<std::pair<std::string_view, std::string_view>, 10> kStorages = {{{"torch.DoubleStorage", "F64"},
                                                                                      {"torch.FloatStorage", "F32"},
                                                                                      {"torch.HalfStorage", "F16"},
                                                                                      {"torch.BFloat16Storage", "BF16"},
                                                                                      {"torch.LongStorage", "I64"},
                                                                                      {"torch.IntStorage", "I32"},
                                                                                      {"torch.ShortStorage", "I16"},
                                                                                      {"torch.CharStorage", "I8"},
                                                                                      {"torch.ByteStorage", "U8"},
                                                                                      {"torch.BoolStorage", "BOOL"}}};
constexpr std::size_t kMostAxes = 8;
// A pickle may name one long string many times; these keep what is copied out of it small.
constexpr std::size_t kLongestKey = 64;
constexpr std::size_t kLongestName = 1024;

/// Looks at objects of a pickle and throws Error with what was expected.
class Objects {
 public:
  explicit Objects(const Pickle& pickle) : pickle_(pickle) {}

  const PickleObject& of_kind(std::uint32_t number, Kind kind, const char* expected) const {
    const PickleObject& object = pickle_.objects[number];
    if (object.kind != kind) throw Error(fmt::format("expected {}", expected));
    return object;
  }
  const PickleObject& tuple(std::uint32_t number, std::size_t least) const {
    const PickleObject& object = of_kind(number, Kind::tuple, "a tuple");
    if (object.items.size() < least)
      throw Error(fmt::format("a tuple of {}, expected at least {}", object.items.size(), least));
    return object;
  }
  std::int64_t integer(std::uint32_t number) const { return of_kind(number, Kind::integer, "an integer").integer; }
  const std::string& text(std::uint32_t number) const {
    const std::string& text = of_kind(number, Kind::text, "a string").text;
    if (text.size() > kLongestKey) throw Error(fmt::format("a key of {} bytes", text.size()));
    return text;
  }
  std::vector<std::int64_t> integers(std::uint32_t number) const {
    std::vector<std::int64_t> values;
    for (const std::uint32_t item : tuple(number, 0).items) values.push_back(integer(item));
    if (values.size() > kMostAxes) throw Error(fmt::format("{} axes", values.size()));
    return values;
  }
  /// The arguments of a call of torch._utils.NAME, or null if it is none.
  const PickleObject* call(std::uint32_t number, std::string_view name) const {
    const PickleObject& object = pickle_.objects[number];
    if (object.kind != Kind::call || pickle_.objects[object.items[0]].text != name) return nullptr;
    return &pickle_.objects[object.items[1]];
  }

 private:
  const Pickle& pickle_;
};

/// ('storage', torch.FloatStorage, key, location, elements[, view]). A view is what torch below 0.4 wrote.
void read_storage(const Objects& objects, std::uint32_t number, StateDictTensor& tensor) {
  const PickleObject& persistent = objects.of_kind(number, Kind::persistent, "a storage");
  const PickleObject& id = objects.tuple(persistent.items[0], 5);
  if (objects.text(id.items[0]) != "storage") throw Error("expected a storage");
  const std::string& type = objects.of_kind(id.items[1], Kind::global, "a type of storage").text;
  const auto* const found = std::ranges::find(kStorages, type, [](const auto& entry) { return entry.first; });
  if (found == kStorages.end()) throw Error(fmt::format("{} is no type of storage", type));
  tensor.dtype = found->second;
  tensor.storage = objects.text(id.items[2]);
  tensor.storage_elements = objects.integer(id.items[4]);
  if (id.items.size() > 5) (void)objects.of_kind(id.items[5], Kind::none, "a storage that is no view of another");
}

StateDictTensor read_tensor(const Objects& objects, std::uint32_t number) {
  if (const PickleObject* parameter = objects.call(number, "torch._utils._rebuild_parameter")) {
    if (parameter->items.empty()) throw Error("expected a tensor");
    number = parameter->items[0];
  }
  const PickleObject* call = objects.call(number, "torch._utils._rebuild_tensor_v2");
  if (call == nullptr || call->items.size() < 4) throw Error("expected a tensor");
  StateDictTensor tensor;
  read_storage(objects, call->items[0], tensor);
  tensor.offset = objects.integer(call->items[1]);
  tensor.shape = objects.integers(call->items[2]);
  tensor.strides = objects.integers(call->items[3]);
  return tensor;
}

}  // namespace

std::vector<StateDictTensor> read_state_dict(const Pickle& pickle, const std::string& origin) {
  const Objects objects(pickle);
  const PickleObject& root = pickle.objects[pickle.root];
  if (root.kind != Kind::dict) throw DataError(fmt::format("{}: expected a dict of tensors", origin));
  std::vector<StateDictTensor> tensors;
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < root.items.size(); i += 2) {
    const PickleObject& key = pickle.objects[root.items[i]];
    if (key.kind != Kind::text || key.text.size() > kLongestName)
      throw DataError(fmt::format("{}: a key of the state dict is no name", origin));
    if (!names.insert(key.text).second) throw DataError(fmt::format("{}: tensor {} is there twice", origin, key.text));
    try {
      tensors.push_back(read_tensor(objects, root.items[i + 1]));
      tensors.back().name = key.text;
    } catch (const Error& error) {
      throw DataError(fmt::format("{}: tensor {}: {}", origin, key.text, error.what()));
    }
  }
  return tensors;
}

}  // namespace spillway::checkpoint
