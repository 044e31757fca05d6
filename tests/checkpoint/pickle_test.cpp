// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/pickle.hpp"

#include <gmock/gmock.h>

#include "checkpoint/fixtures.hpp"
#include "checkpoint/torch_bytes.hpp"
#include "core/error.hpp"

namespace spillway::checkpoint::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Kind = PickleObject::Kind;

Pickle parse(const std::string& bytes) { return parse_pickle(std::as_bytes(std::span(bytes)), "model.bin"); }

std::string refusal(const std::string& bytes) {
  return message_of<DataError>([&] { (void)parse(bytes); });
}

std::string repeated(std::string_view text, std::size_t count) {
  std::string all;
  for (std::size_t i = 0; i < count; ++i) all += text;
  return all;
}

TEST(ParsePickle, GivesNumbersTextsAndContainers) {
  const std::string body =
      pickle_tuple({pickle_integer(-7), "K\xff", "M\x01\x02", "\x8a\x01\xff", std::string("\x8a\x05\0\0\0\0\1", 7), "N",
                    "\x88", pickle_text("weight"), std::string("G\xbf\xf8\0\0\0\0\0\0", 9), "]", "](K\1K\2e"});

  const Pickle pickle = parse(pickle_of(body));

  std::vector<PickleObject> items;
  ASSERT_EQ(pickle.objects[pickle.root].kind, Kind::tuple);
  for (const std::uint32_t number : pickle.objects[pickle.root].items) items.push_back(pickle.objects[number]);
  ASSERT_EQ(items.size(), 11U);
  EXPECT_EQ(items[0].integer, -7);
  EXPECT_EQ(items[1].integer, 255);
  EXPECT_EQ(items[2].integer, 513);
  EXPECT_EQ(items[3].integer, -1);
  EXPECT_EQ(items[4].integer, std::int64_t{1} << 32);
  EXPECT_EQ(items[5].kind, Kind::none);
  EXPECT_EQ(items[6].kind, Kind::boolean);
  EXPECT_EQ(items[7].text, "weight");
  EXPECT_EQ(items[8].real, -1.5);
  EXPECT_TRUE(items[9].items.empty());
  EXPECT_EQ(items[10].items.size(), 2U);
  EXPECT_EQ(pickle.bytes, body.size() + 3);
}

TEST(ParsePickle, StopsAtItsEnd_WhateverFollows) { EXPECT_EQ(parse(pickle_of("N") + "more").bytes, 4U); }

struct Hostile {
  const char* name;
  std::string bytes;
  const char* message;
};
void PrintTo(const Hostile& hostile, std::ostream* out) { *out << hostile.name; }
class HostilePickle : public ::testing::TestWithParam<Hostile> {};

TEST_P(HostilePickle, IsRefusedNamingFileByteAndReason) {
  EXPECT_THAT(refusal(GetParam().bytes), AllOf(HasSubstr("model.bin: byte "), HasSubstr(GetParam().message)));
}

const std::string kSystem = pickle_global("posix", "system") + pickle_tuple({pickle_text("touch executed")}) + "R";

INSTANTIATE_TEST_SUITE_P(
    Pickles, HostilePickle,
    ::testing::Values(
        Hostile{"call", pickle_of(kSystem), "it names posix.system, which no file of tensors needs"},
        Hostile{"builtin", pickle_of(pickle_global("builtins", "eval")), "it names builtins.eval"},
        Hostile{"other_of_torch", pickle_of(pickle_global("torch.hub", "load")), "it names torch.hub.load"},
        Hostile{"dotted_name", pickle_of(pickle_global("torch", "_utils.os.system")),
                "it names torch._utils.os.system"},
        Hostile{"storage_called", pickle_of(pickle_global("torch", "FloatStorage") + "K\1\x85R"),
                "a call of torch.FloatStorage"},
        Hostile{"dict_called_with_arguments", pickle_of(pickle_global("collections", "OrderedDict") + "]\x85R"),
                "a call of collections.OrderedDict"},
        Hostile{"text_called", pickle_of(pickle_text("torch._utils._rebuild_tensor_v2") + ")R"),
                "a call of what is no global"},
        Hostile{"inst", pickle_of("(ios\nsystem\n"), "opcode 0x69"},
        Hostile{"obj",
                pickle_of("(N"
                          "o"),
                "opcode 0x6f"},
        Hostile{"newobj", pickle_of(pickle_global("collections", "OrderedDict") + ")\x81"), "opcode 0x81"},
        Hostile{"stack_global", pickle_of(pickle_text("os") + pickle_text("system") + "\x93"), "opcode 0x93"},
        Hostile{"extension", pickle_of("\x82\x01"), "opcode 0x82"},
        Hostile{"state_of_no_dict", pickle_of("NNb"), "attributes for what is no dict"},
        Hostile{"other_protocol", "\x80\x04N.", "expected a pickle of protocol 2"},
        Hostile{"no_pickle", "{}", "expected a pickle of protocol 2"}, Hostile{"empty", "", "it is truncated"},
        Hostile{"truncated_text",
                "\x80\x02X\xff\xff\xff\x7f"
                "abc",
                "it is truncated"},
        Hostile{"truncated_global",
                "\x80\x02"
                "ccollections",
                "it is truncated"},
        Hostile{"long_global", pickle_of("c" + std::string(1000, 'a') + "\nb\n"), "a name that is too long"},
        Hostile{"long_integer",
                pickle_of("\x8a\x09"
                          "123456789"),
                "an integer of 9 bytes"},
        Hostile{"empty_stack", pickle_of("\x85"), "nothing is on the stack"},
        Hostile{"below_a_mark", pickle_of("N(\x85"), "nothing is on the stack"},
        Hostile{"no_mark", pickle_of("Nt"), "no mark is on the stack"},
        Hostile{"left_over", pickle_of("NN"), "ends with objects left on the stack"},
        Hostile{"items_of_no_dict", pickle_of("](NNu"), "items for what is no dict"},
        Hostile{"key_without_value", pickle_of("}(Nu"), "a key without a value"},
        Hostile{"items_of_no_list", pickle_of("}(Ne"), "items for what is no list"},
        Hostile{"memo_never_set", pickle_of("h\x05"), "memo 5 was never set"},
        Hostile{"memo_bomb", pickle_of("Nr\xff\xff\xff\x7f"), "memo 2147483647, at most 262144"},
        Hostile{"object_bomb", pickle_of(repeated("N", 300000)), "more than 262144 objects"},
        Hostile{"oversized", pickle_of(repeated("(", kMaxPickleBytes)), "it is larger than 16777216 bytes"}),
    [](const auto& hostile) { return hostile.param.name; });

TEST(ParsePickle, WhatContainsItself_IsTakenApartOnce) {
  const Pickle list = parse(pickle_of("]q\1h\1a"));
  const Pickle dict = parse(pickle_of("}q\1(K\1h\1u"));

  EXPECT_EQ(list.objects[list.root].items, std::vector<std::uint32_t>{list.root});
  EXPECT_EQ(dict.objects[dict.root].items.back(), dict.root);
}

TEST(ParsePickle, DeepNesting_NeedsNoStackOfTheMachine) {
  const Pickle pickle = parse(pickle_of("N" + repeated("\x85", 200000)));

  EXPECT_EQ(pickle.objects.size(), 200001U);
}

TEST(ParsePickle, EveryTruncation_IsRefused) {
  const std::string whole = pickle_of(pickle_dict({{"w", pickle_tensor({})}}));
  for (std::size_t size = 0; size < whole.size(); ++size)
    EXPECT_THAT(refusal(whole.substr(0, size)), HasSubstr("model.bin")) << size;
}

}  // namespace
}  // namespace spillway::checkpoint::test
