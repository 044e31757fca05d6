// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/sharded_weights.hpp"

#include <filesystem>

#include <gmock/gmock.h>

#include "checkpoint/fixtures.hpp"
#include "checkpoint/safetensors_writer.hpp"
#include "checkpoint/torch_bytes.hpp"
#include "core/error.hpp"

namespace spillway::checkpoint::test {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ShardedWeightsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    write_shard("model-1.safetensors", "a", 1.0F);
    write_shard("model-2.safetensors", "b", 3.0F);
    write_index(R"({"a": "model-1.safetensors", "b": "model-2.safetensors"})");
  }
  void write_shard(const std::string& name, const std::string& tensor, float first) {
    const SafetensorsWriter writer({{tensor, DType::f32, {2}}});
    writer.create(folder_ / name);
    writer.write_slice(folder_ / name, tensor, 0, std::vector<float>{first, first + 1.0F});
    writer.commit(folder_ / name);
  }
  void write_index(const std::string& map) {
    write_text_durably(index_, R"({"metadata": {}, "weight_map": )" + map + "}");
  }
  void expect_refused(const std::string& message) {
    EXPECT_THAT(message_of<DataError>([&] { (void)open_weights(index_); }),
                AllOf(HasSubstr(index_), HasSubstr(message)));
  }

  const ScratchFolder folder_;
  const std::string index_ = folder_ / "model.safetensors.index.json";
};

TEST_F(ShardedWeightsTest, GivesTheTensorsOfAllFiles) {
  const auto weights = open_weights(index_);
  std::vector<float> two(2);

  weights->read("b", 0, two);
  EXPECT_THAT(two, ElementsAre(3.0F, 4.0F));
  weights->read("a", 1, std::span(two).first(1));
  EXPECT_EQ(two[0], 2.0F);
  EXPECT_EQ(weights->tensors().size(), 2U);
  EXPECT_THAT(weights->find("a")->shape, ElementsAre(2));
  EXPECT_FALSE(weights->same_storage("a", "b"));
  EXPECT_THAT(message_of<DataError>([&] { weights->read("c", 0, two); }), HasSubstr("no tensor c"));
}

TEST_F(ShardedWeightsTest, OfTorchFiles_KnowsTensorsThatAreOne) {
  const std::string data = bytes_of(1.0F) + bytes_of(2.0F) + bytes_of(3.0F) + bytes_of(4.0F);
  write_text_durably(
      folder_ / "pytorch_model-1.bin",
      torch_zip(pickle_of(pickle_dict({{"a", pickle_tensor({})}, {"tied", pickle_tensor({})}})), {data}));
  const std::string index = folder_ / "pytorch_model.bin.index.json";
  write_text_durably(index, R"({"weight_map": {"a": "pytorch_model-1.bin", "b": "model-2.safetensors"}})");

  const auto weights = open_weights(index);

  EXPECT_TRUE(weights->same_storage("a", "tied"));
  EXPECT_FALSE(weights->same_storage("a", "b"));
}

TEST_F(ShardedWeightsTest, AnIndexThatIsWrong_IsRefused) {
  write_index("[]");
  expect_refused("expected a JSON object with \"weight_map\"");
  write_index("{}");
  expect_refused("the weight_map is empty");
  write_index(R"({"a": 1})");
  expect_refused("tensor a: expected the name of a .safetensors or .bin file beside it, found number");
  write_index(R"({"a": "../model-1.safetensors"})");
  expect_refused("tensor a: expected the name of");
  write_index(R"({"a": "model.safetensors.index.json"})");
  expect_refused("tensor a: expected the name of");
  write_text_durably(index_, "{");
  expect_refused("expected a JSON object");
}

TEST_F(ShardedWeightsTest, AnIndexThatIsHostile_IsRefused) {
  constexpr int kDepth = 1'000'000;
  write_index(R"({"a": )" + std::string(kDepth, '[') + std::string(kDepth, ']') + "}");
  expect_refused("the JSON nests deeper than 3 levels");
  write_index(R"({"a": [[]]})");
  expect_refused("the JSON nests deeper than 3 levels");
  write_index(R"({"a": []})");
  expect_refused("found array");
  write_index("{\"a\": \"\xff.safetensors\"}");
  expect_refused("expected a JSON object");
  write_index("{\"\xc3\x28\": \"model-1.safetensors\"}");
  expect_refused("expected a JSON object");
}

TEST_F(ShardedWeightsTest, NamesThatNoFileCanHave_AreRefused) {
  const std::string name = std::string(300, 'm') + ".safetensors";
  write_index(R"({"a": ")" + name + "\"}");
  EXPECT_THAT(message_of<DataError>([&] { (void)open_weights(index_); }), HasSubstr(name + ": cannot be read"));

  write_index(R"({"a": "loop.safetensors"})");
  std::filesystem::create_symlink("loop.safetensors", folder_ / "loop.safetensors");
  EXPECT_THAT(message_of<DataError>([&] { (void)open_weights(index_); }),
              HasSubstr(folder_ / "loop.safetensors: cannot be read"));
  remove_path(index_);
  std::filesystem::create_symlink("model.safetensors.index.json", index_);
  EXPECT_THAT(message_of<DataError>([&] { (void)open_weights(index_); }), HasSubstr(index_ + ": cannot be read"));
  EXPECT_THAT(message_of<DataError>([&] { (void)find_weights(folder_.path()); }), HasSubstr(index_));
}

TEST_F(ShardedWeightsTest, AnIndexThatIsAFolder_IsRefused) {
  remove_path(index_);
  std::filesystem::create_directory(index_);

  expect_refused("expected a file");
}

TEST_F(ShardedWeightsTest, FilesThatAreNotAsTheIndexSays_AreRefused) {
  write_index(R"({"a": "model-1.safetensors", "b": "model-3.safetensors"})");
  expect_refused("tensor b is in ");
  write_index(R"({"a": "model-2.safetensors", "b": "model-1.safetensors"})");
  expect_refused("tensor a is not in model-2.safetensors, where the index says");
  write_index(R"({"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-2.safetensors"})");
  expect_refused("tensor c is not in model-2.safetensors");
  write_index(R"({"a": "model-1.safetensors", "b": "model-2.safetensors"})");
  write_shard("model-2.safetensors", "a", 0.0F);
  expect_refused("tensor a is in ");
}

TEST_F(ShardedWeightsTest, ADirectorysWeights_AreThoseThatTransformersWouldRead) {
  const std::string folder = folder_.path();

  EXPECT_EQ(find_weights(folder), index_);
  write_text_durably(folder_ / "pytorch_model.bin", "");
  EXPECT_EQ(find_weights(folder), index_);
  write_text_durably(folder_ / "model.safetensors", "");
  EXPECT_EQ(find_weights(folder), folder_ / "model.safetensors");
  remove_path(folder_ / "model.safetensors");
  remove_path(index_);
  EXPECT_EQ(find_weights(folder), folder_ / "pytorch_model.bin");
  remove_path(folder_ / "pytorch_model.bin");
  EXPECT_EQ(find_weights(folder), "");
}

}  // namespace
}  // namespace spillway::checkpoint::test
