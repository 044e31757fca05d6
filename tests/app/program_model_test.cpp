// SPDX-License-Identifier: Apache-2.0
// Models that are missing, damaged, hostile, or at odds with themselves: exit code 4, with the file and the tensor.
#include <cstring>
#include <filesystem>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "app/workplace.hpp"

namespace spillway::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

std::string safetensors(const std::string& header, std::size_t data_bytes) {
  std::string file(8, '\0');
  const std::uint64_t length = header.size();
  std::memcpy(file.data(), &length, sizeof(length));
  return file + header + std::string(data_bytes, 'x');
}

class ProgramModel : public testing::TestWithParam<int> {
 protected:
  [[nodiscard]] ProgramResult train() const {
    return place_.train(GetParam(), {"model.path=pretrained", "model.init=pretrained", "model.embedding_std=0"});
  }
  void expect_refused(const std::string& message) {
    const ProgramResult result = train();
    EXPECT_EQ(result.exit_code, 4) << describe(result);
    EXPECT_THAT(result.err, HasSubstr(message));
    EXPECT_EQ(result.err.find(message), result.err.rfind(message)) << "said more than once\n" << describe(result);
    EXPECT_FALSE(place_.exists("out/checkpoints"));
  }
  void write_weights(const std::string& bytes) { place_.write("pretrained/model.safetensors", bytes); }

  Workplace place_;
};

INSTANTIATE_TEST_SUITE_P(Ranks, ProgramModel, testing::Values(1, 2));

TEST_P(ProgramModel, AsItIs_Trains) { EXPECT_EQ(train().exit_code, 0); }

TEST_P(ProgramModel, AMissingFolder_IsNamed) {
  const ProgramResult result = place_.train(GetParam(), {"model.path=no/such/model"});

  EXPECT_EQ(result.exit_code, 4) << describe(result);
  EXPECT_THAT(result.err, HasSubstr("no/such/model: no such directory (model.path)"));
}

TEST_P(ProgramModel, APathThatCannotBeFollowed_IsRefusedWithTheReason) {
  std::filesystem::create_symlink("loop", place_.path("loop"));

  const ProgramResult result = place_.train(GetParam(), {"model.path=loop/model"});

  EXPECT_EQ(result.exit_code, 4) << describe(result);
  EXPECT_THAT(result.err, HasSubstr("loop/model: cannot be read: Too many levels of symbolic links"));
}

TEST_P(ProgramModel, WithoutConfigJson_IsRefused) {
  place_.write("empty/note", "");

  const ProgramResult result = place_.train(GetParam(), {"model.path=empty"});

  EXPECT_EQ(result.exit_code, 4) << describe(result);
  EXPECT_THAT(result.err, HasSubstr("empty/config.json: cannot be read: No such file or directory"));
}

TEST_P(ProgramModel, WithoutWeights_IsRefused) {
  const ProgramResult result = place_.train(GetParam(), {"model.init=pretrained"});

  EXPECT_EQ(result.exit_code, 4) << describe(result);
  EXPECT_THAT(result.err,
              HasSubstr("model: no model.safetensors or pytorch_model.bin (model.init = \"random\" needs none)"));
}

TEST_P(ProgramModel, AGenerationConfigThatNestsTooDeep_IsRefused) {
  place_.write("pretrained/generation_config.json",
               "{\"min_length\": " + std::string(50000, '[') + std::string(50000, ']') + "}");

  expect_refused("pretrained/generation_config.json: the JSON nests deeper than 64 levels");
}

TEST_P(ProgramModel, MoreSentinelsThanTheVocabularyHolds_AreRefusedBeforeTheyAreMade) {
  for (const std::string count : {"4000000000", "18446744073709551615", "-1"}) {
    place_.write("pretrained/tokenizer_config.json", "{\"extra_ids\": " + count + "}");

    const ProgramResult result = place_.train(
        GetParam(), {"model.path=pretrained", "model.init=pretrained", "model.tokenizer=pretrained/spiece.model"});

    EXPECT_EQ(result.exit_code, 4) << describe(result);
    EXPECT_THAT(result.err, HasSubstr("pretrained/tokenizer_config.json: key \"extra_ids\": expected 0 to vocab_size, "
                                      "which is 384, found " +
                                      count));
  }
}

TEST_P(ProgramModel, TruncatedWeights_AreRefused) {
  const std::string whole = place_.read("pretrained/model.safetensors");
  write_weights(whole.substr(0, whole.size() - 1000));

  expect_refused("pretrained/model.safetensors: tensor ");
}

TEST_P(ProgramModel, AHeaderTruncatedWithTheFile_IsRefused) {
  write_weights(place_.read("pretrained/model.safetensors").substr(0, 100));

  expect_refused("pretrained/model.safetensors: a header of ");
}

TEST_P(ProgramModel, AHugeHeader_IsRefusedBeforeItIsRead) {
  write_weights(std::string("\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10));

  expect_refused("pretrained/model.safetensors: a header of 9223372036854775807 bytes, at most ");
}

TEST_P(ProgramModel, TensorsThatOverlap_AreRefused) {
  write_weights(safetensors(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                            R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
                            12));

  expect_refused("pretrained/model.safetensors: tensor b: starts at byte 4, expected 8: tensors overlap");
}

TEST_P(ProgramModel, OffsetsOutsideTheFile_AreRefused) {
  write_weights(safetensors(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 4));

  expect_refused("pretrained/model.safetensors: tensor a: data_offsets 0 to 8 do not lie in the 4 bytes of data");
}

TEST_P(ProgramModel, AShapeWhoseSizeOverflows_IsRefused) {
  write_weights(safetensors(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0));

  expect_refused("pretrained/model.safetensors: tensor a: the size of shape [4294967296,4294967296] overflows");
}

TEST_P(ProgramModel, AnInnerSizeOtherThanConfigJsons_IsRefused) {
  place_.replace("pretrained/config.json", "\"d_ff\": 48", "\"d_ff\": 64");

  expect_refused(
      "pretrained/model.safetensors: tensor encoder.block.0.layer.1.DenseReluDense.wi.weight: config.json expects "
      "shape (64, 24), found (48, 24)");
}

TEST_P(ProgramModel, APickleThatCallsSomething_IsRefusedAndNothingIsExecuted) {
  // torch's older form: magic number, version, facts about the machine, then the pickle: os.system("touch executed").
  std::string bytes("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e\x80\x02\x4d\xe9\x03\x2e", 21);
  bytes += "\x80\x02}.";
  bytes += std::string(
      "\x80\x02"
      "cposix\nsystem\nX\x0e\0\0\0touch executed\x85R.",
      38);
  std::filesystem::remove(place_.path("pretrained/model.safetensors"));
  place_.write("pretrained/pytorch_model.bin", bytes);

  expect_refused(
      "pretrained/pytorch_model.bin: byte 16 of the pickle: it names posix.system, which no file of tensors needs");
  EXPECT_FALSE(place_.exists("executed"));
}

TEST_P(ProgramModel, FewerLayersThanConfigJsonSays_AreRefused) {
  place_.replace("pretrained/config.json", "\"num_layers\": 2", "\"num_layers\": 3");

  expect_refused(
      "tensor encoder.block.2.layer.0.layer_norm.weight: config.json expects shape (24), found no such "
      "tensor");
}

TEST_P(ProgramModel, MoreLayersThanConfigJsonSays_AreRefused) {
  place_.replace("pretrained/config.json", "\"num_layers\": 2", "\"num_layers\": 1");

  expect_refused(": config.json has no place for it");
}

/// pretrained/ as it would be with a lm_head.weight that is `factor` times shared.weight.
class ProgramModelWithHead : public ProgramModel {
 protected:
  void add_head(float factor) {
    const std::string file = place_.read("pretrained/model.safetensors");
    std::uint64_t length = 0;
    std::memcpy(&length, file.data(), sizeof(length));
    json header = json::parse(file.substr(8, length));
    std::string data = file.substr(8 + length);
    const auto& shared = header["shared.weight"]["data_offsets"];
    const std::size_t begin = shared[0], end = shared[1];
    std::vector<float> head((end - begin) / sizeof(float));
    std::memcpy(head.data(), data.data() + begin, end - begin);
    for (float& value : head) value *= factor;
    header["lm_head.weight"] = header["shared.weight"];
    header["lm_head.weight"]["data_offsets"] = {data.size(), data.size() + end - begin};
    data.append(reinterpret_cast<const char*>(head.data()), end - begin);
    place_.write("pretrained/model.safetensors", safetensors(header.dump(), 0) + data);
  }
  /// Reads a model, changes nothing and writes it again. \return the loss on the held-out pairs
  double pass_through(const std::string& model, const std::string& output) const {
    const ProgramResult result =
        place_.train(GetParam(), {"model.path=" + model, "model.init=pretrained", "model.embedding_std=0",
                                  "train.max_steps=1", "optimizer.learning_rate=0", "train.output_dir=" + output});
    EXPECT_EQ(result.exit_code, 0) << describe(result);
    return json::parse(place_.read(output + "/all_results.json")).at("eval_loss");
  }
  json exported_config() const { return json::parse(place_.read("out/model/config.json")); }
};

INSTANTIATE_TEST_SUITE_P(Ranks, ProgramModelWithHead, testing::Values(1, 2));

TEST_P(ProgramModelWithHead, AHeadThatIsTheEmbeddingAgain_IsTied) {
  const double without = pass_through("pretrained", "before");
  add_head(1.0F);

  const double with = pass_through("pretrained", "out");

  EXPECT_EQ(with, without);
  EXPECT_EQ(exported_config().at("tie_word_embeddings"), true);
  EXPECT_EQ(place_.read("out/model/model.safetensors").find("lm_head"), std::string::npos);
}

TEST_P(ProgramModelWithHead, AHeadOfItsOwnThatIsScaled_IsExportedSoThatItNeedsNoScaling) {
  add_head(-0.5F);

  const double before = pass_through("pretrained", "out");
  const double after = pass_through("out/model", "again");

  EXPECT_EQ(after, before);
  EXPECT_EQ(exported_config().at("tie_word_embeddings"), false);
  EXPECT_EQ(exported_config().at("scale_decoder_outputs"), false);
}

}  // namespace
}  // namespace spillway::test
