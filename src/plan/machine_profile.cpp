// SPDX-License-Identifier: Apache-2.0
#include "plan/machine_profile.hpp"

#include <cmath>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "core/json_depth.hpp"

namespace spillway::plan {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

/// A number that something is divided by or multiplied with: 0 would say that nothing ever moves.
struct Positive {};

// The keys of every group, once, for reading and for writing.

template <typename Group, typename Visit>
void visit_fields(Group& g, const Visit& visit) requires std::is_same_v<std::remove_const_t<Group>, GpuProfile> {
  visit("name", g.name);
  visit("memory_bytes", g.memory_bytes, Positive{});
  visit("driver_bytes", g.driver_bytes);
  visit("context_bytes", g.context_bytes);
  visit("host_bytes", g.host_bytes);
  visit("bf16_flops", g.bf16_flops);
  visit("fp16_flops", g.fp16_flops);
  visit("fp32_flops", g.fp32_flops, Positive{});
  visit("tf32_flops", g.tf32_flops);
  visit("product_share", g.product_share, Positive{});
  visit("attention_share", g.attention_share, Positive{});
  visit("memory_rate", g.memory_rate, Positive{});
  visit("memory_share", g.memory_share, Positive{});
  visit("adamw_rate", g.adamw_rate, Positive{});
  visit("kernel_seconds", g.kernel_seconds);
  visit("source", g.source);
}

template <typename Group, typename Visit>
void visit_fields(Group& g, const Visit& visit) requires std::is_same_v<std::remove_const_t<Group>, PcieProfile> {
  visit("up_rate", g.up_rate, Positive{});
  visit("down_rate", g.down_rate, Positive{});
  visit("both_rate", g.both_rate, Positive{});
  visit("source", g.source);
}

template <typename Group, typename Visit>
void visit_fields(Group& g, const Visit& visit) requires std::is_same_v<std::remove_const_t<Group>, HostProfile> {
  visit("memory_bytes", g.memory_bytes, Positive{});
  visit("cores", g.cores, Positive{});
  visit("memory_rate", g.memory_rate, Positive{});
  visit("product_flops", g.product_flops, Positive{});
  visit("adamw_rate", g.adamw_rate, Positive{});
  visit("adamw_bf16_rate", g.adamw_bf16_rate, Positive{});
  visit("adamw_int8_rate", g.adamw_int8_rate, Positive{});
  visit("source", g.source);
}

template <typename Group, typename Visit>
void visit_fields(Group& g, const Visit& visit) requires std::is_same_v<std::remove_const_t<Group>, NvmeProfile> {
  visit("read_rate", g.read_rate, Positive{});
  visit("write_rate", g.write_rate, Positive{});
  visit("both_rate", g.both_rate, Positive{});
  visit("free_bytes", g.free_bytes);
  visit("endurance_bytes", g.endurance_bytes);
  visit("source", g.source);
}

template <typename Group, typename Visit>
void visit_fields(Group& g, const Visit& visit) requires std::is_same_v<std::remove_const_t<Group>, LinksProfile> {
  visit("ranks_per_node", g.ranks_per_node, Positive{});
  visit("node_rate", g.node_rate, Positive{});
  visit("network_rate", g.network_rate);
  visit("start_seconds", g.start_seconds);
  visit("source", g.source);
}

/// Reads one object and knows which of its keys were asked for.
class GroupReader {
 public:
  GroupReader(const json& object, std::string place) : object_(object), place_(std::move(place)) {
    if (!object_.is_object()) throw ConfigError(fmt::format("{}: expected an object", place_));
  }

  [[nodiscard]] const json& value(const char* key) const {
    asked_.insert(key);
    const auto found = object_.find(key);
    if (found == object_.end()) throw ConfigError(fmt::format("{}{}: this key is missing", place_, dotted(key)));
    return *found;
  }

  void operator()(const char* key, std::string& to) const {
    const json& from = value(key);
    if (!from.is_string()) throw ConfigError(wrong(key, "a text", from));
    to = from.get<std::string>();
  }
  void operator()(const char* key, double& to) const {
    const json& from = value(key);
    if (!from.is_number() || !std::isfinite(from.get<double>()) || from.get<double>() < 0.0)
      throw ConfigError(wrong(key, "a number that is not negative", from));
    to = from.get<double>();
  }
  void operator()(const char* key, std::uint64_t& to) const {
    const json& from = value(key);
    if (!from.is_number_unsigned()) throw ConfigError(wrong(key, "a whole number that is not negative", from));
    to = from.get<std::uint64_t>();
  }
  void operator()(const char* key, std::int64_t& to) const {
    constexpr std::int64_t kMost = 1'000'000;  // of anything that is counted
    const json& from = value(key);
    if (!from.is_number_unsigned() || from.get<std::uint64_t>() > kMost)
      throw ConfigError(wrong(key, "a whole number from 0 to a million", from));
    to = from.get<std::int64_t>();
  }
  template <typename Number>
  void operator()(const char* key, Number& to, Positive /*required*/) const {
    (*this)(key, to);
    if (to == Number{}) throw ConfigError(wrong(key, "a number above 0", value(key)));
  }

  /// After all that is known was read. \throws ConfigError naming a key that nobody asked for
  void finish() const {
    for (const auto& [key, unused] : object_.items())
      if (!asked_.contains(key)) throw ConfigError(fmt::format("{}{}: no such key", place_, dotted(key)));
  }
  [[nodiscard]] std::string place(const char* key) const { return place_ + dotted(key); }

 private:
  [[nodiscard]] std::string dotted(const std::string& key) const { return (place_.ends_with(": ") ? "" : ".") + key; }
  [[nodiscard]] std::string wrong(const char* key, const char* expected, const json& found) const {
    return fmt::format("{}{}: expected {}, found {}", place_, dotted(key), expected, found.dump());
  }

  const json& object_;
  std::string place_;
  mutable std::set<std::string> asked_;
};

template <typename Group>
Group read_group(const GroupReader& whole, const char* key) {
  const GroupReader reader(whole.value(key), whole.place(key));
  Group group;
  visit_fields(group, reader);
  reader.finish();
  return group;
}

template <typename Group>
std::optional<Group> read_optional(const GroupReader& whole, const char* key) {
  if (whole.value(key).is_null()) return std::nullopt;
  return read_group<Group>(whole, key);
}

template <typename Group>
ordered_json group_json(const Group& group) {
  ordered_json object;
  visit_fields(group, [&object](const char* key, const auto& value, auto... /*required*/) { object[key] = value; });
  return object;
}

template <typename Group>
ordered_json group_json(const std::optional<Group>& group) {
  return group ? group_json(*group) : ordered_json(nullptr);
}

}  // namespace

double HostProfile::rate_of(MomentFormat format) const {
  switch (format) {
    case MomentFormat::fp32: return adamw_rate;
    case MomentFormat::bf16: return adamw_bf16_rate;
    case MomentFormat::int8: return adamw_int8_rate;
  }
  return adamw_rate;
}

std::string profile_json(const MachineProfile& profile) {
  ordered_json object;
  object["version"] = MachineProfile::kVersion;
  object["name"] = profile.name;
  object["gpu"] = group_json(profile.gpu);
  object["pcie"] = group_json(profile.pcie);
  object["host"] = group_json(profile.host);
  object["nvme"] = group_json(profile.nvme);
  object["links"] = group_json(profile.links);
  return object.dump(2) + "\n";
}

MachineProfile parse_profile(const std::string& text, const std::string& origin) {
  json object;
  try {
    check_json_depth(text, origin);
    object = json::parse(text);
  } catch (const std::exception& error) {
    throw ConfigError(fmt::format("{}: this is not a machine profile: {}", origin, error.what()));
  }
  const GroupReader whole(object, origin + ": ");
  std::int64_t version = 0;
  whole("version", version);
  if (version != MachineProfile::kVersion)
    throw ConfigError(fmt::format("{}: version {} is expected, {} was found: run spillway doctor again", origin,
                                  MachineProfile::kVersion, version));
  MachineProfile profile;
  whole("name", profile.name);
  profile.gpu = read_optional<GpuProfile>(whole, "gpu");
  profile.pcie = read_optional<PcieProfile>(whole, "pcie");
  profile.host = read_group<HostProfile>(whole, "host");
  profile.nvme = read_optional<NvmeProfile>(whole, "nvme");
  profile.links = read_group<LinksProfile>(whole, "links");
  whole.finish();
  if (profile.gpu.has_value() != profile.pcie.has_value())
    throw ConfigError(fmt::format("{}: gpu and pcie go together: give both, or null for both", origin));
  if (profile.gpu && profile.gpu->driver_bytes + profile.gpu->context_bytes >= profile.gpu->memory_bytes)
    throw ConfigError(
        fmt::format("{}: gpu.driver_bytes and gpu.context_bytes leave nothing of gpu.memory_bytes", origin));
  return profile;
}

}  // namespace spillway::plan
