// SPDX-License-Identifier: Apache-2.0
#include "train/model_source.hpp"

#include <filesystem>

#include <gmock/gmock.h>

#include "checkpoint/safetensors_file.hpp"
#include "checkpoint/safetensors_writer.hpp"
#include "checkpoint/torch_bytes.hpp"
#include "core/error.hpp"
#include "support/scratch_directory.hpp"

namespace spillway::train {
namespace {

namespace fs = std::filesystem;
using namespace checkpoint::test;

const fs::path kReference = SPILLWAY_TEST_REFERENCE;

std::vector<float> values_of(const checkpoint::WeightReader& file, const std::string& name) {
  std::vector<float> values(static_cast<std::size_t>(file.find(name)->elements()));
  file.read(name, 0, values);
  return values;
}

std::string bytes_in(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

/// A directory with a reference model's config.json and weights in another form.
class ModelSourceTest : public ::testing::Test {
 protected:
  ModelSource open(ModelInit init = ModelInit::pretrained) const {
    return open_model({.path = folder_.path(), .init = init, .tokenizer = ""});
  }
  void take_config(const std::string& model) const {
    fs::copy_file(kReference / model / "config.json", folder_.file("config.json"));
  }

  /// pytorch_model.bin: storage i is tensor i, `aliases` are more names of one.
  void write_torch(const std::string& model, const std::vector<std::pair<std::string, std::string>>& aliases) const {
    const checkpoint::SafetensorsFile file((kReference / model / "model.safetensors").string());
    std::vector<std::pair<std::string, std::string>> entries;
    std::vector<std::string> storages;
    for (const checkpoint::StoredTensor& tensor : file.tensors()) {
      TensorText text{.key = std::to_string(storages.size()),
                      .storage_elements = static_cast<std::int32_t>(tensor.elements()),
                      .shape = {},
                      .strides = {}};
      std::int64_t stride = tensor.elements();
      for (const std::int64_t extent : tensor.shape) {
        stride /= extent;
        text.shape.push_back(static_cast<std::int32_t>(extent));
        text.strides.push_back(static_cast<std::int32_t>(stride));
      }
      entries.emplace_back(tensor.name, pickle_tensor(text));
      for (const auto& [alias, name] : aliases)
        if (name == tensor.name) entries.emplace_back(alias, pickle_tensor(text));
      storages.push_back(bytes_in(values_of(file, tensor.name)));
    }
    (void)folder_.write("pytorch_model.bin", torch_zip(pickle_of(pickle_dict(entries)), storages));
  }

  /// model.safetensors with the tensors of a reference model and one more.
  void write_safetensors(const std::string& model, const std::string& name, const std::vector<float>& values,
                         DType dtype = DType::f32) const {
    const checkpoint::SafetensorsFile file((kReference / model / "model.safetensors").string());
    std::vector<checkpoint::SafetensorsSpec> specs;
    for (const checkpoint::StoredTensor& tensor : file.tensors())
      specs.push_back({.name = tensor.name, .dtype = dtype, .shape = tensor.shape});
    if (!name.empty()) specs.push_back({.name = name, .dtype = dtype, .shape = file.find("shared.weight")->shape});
    const checkpoint::SafetensorsWriter writer(specs);
    const std::string path = folder_.file("model.safetensors");
    writer.create(path);
    for (const checkpoint::StoredTensor& tensor : file.tensors())
      writer.write_slice(path, tensor.name, 0, values_of(file, tensor.name));
    if (!name.empty()) writer.write_slice(path, name, 0, values);
    writer.commit(path);
  }
  static std::vector<float> embeddings(const std::string& model) {
    return values_of(checkpoint::SafetensorsFile((kReference / model / "model.safetensors").string()), "shared.weight");
  }

  test::ScratchDirectory folder_;
};

TEST_F(ModelSourceTest, APytorchModelBin_IsTheSameModel) {
  take_config("v11");
  write_torch("v11",
              {{"encoder.embed_tokens.weight", "shared.weight"}, {"decoder.embed_tokens.weight", "shared.weight"}});

  const ModelSource source = open();

  EXPECT_TRUE(source.config.untied_head);
  const auto weights = checkpoint::open_weights(source.weights);
  const checkpoint::SafetensorsFile wanted((kReference / "v11" / "model.safetensors").string());
  for (const checkpoint::StoredTensor& tensor : wanted.tensors())
    EXPECT_EQ(values_of(*weights, tensor.name), values_of(wanted, tensor.name)) << tensor.name;
}

TEST_F(ModelSourceTest, AHeadThatIsTheEmbeddingsInOneStorage_IsTied) {
  take_config("v10");
  write_torch("v10", {{"lm_head.weight", "shared.weight"}});

  EXPECT_FALSE(open().config.untied_head);
}

TEST_F(ModelSourceTest, AHeadThatRepeatsTheEmbeddings_IsTiedWhereTheConfigurationTies) {
  take_config("v10");
  write_safetensors("v10", "lm_head.weight", embeddings("v10"));

  EXPECT_FALSE(open().config.untied_head);
}

TEST_F(ModelSourceTest, AHeadOfItsOwn_IsUntied_WhateverTheConfigurationSays) {
  take_config("v10");
  std::vector<float> other = embeddings("v10");
  other.back() += 1.0F;
  write_safetensors("v10", "lm_head.weight", other);

  EXPECT_TRUE(open().config.untied_head);
}

TEST_F(ModelSourceTest, TheDtypeIsThatOfTheWeights) {
  take_config("v10");
  write_safetensors("v10", "", {}, DType::bf16);

  EXPECT_EQ(open().dtype, DType::bf16);
}

TEST_F(ModelSourceTest, ADirectoryOfByT5_HasAByteTokenizer) {
  fs::copy(kReference / "byt5", folder_.path(), fs::copy_options::recursive);

  const ModelSource source = open();

  EXPECT_EQ(source.tokenizer, "bytes");
  EXPECT_EQ(open_tokenizer(source)->encode("a"), std::vector<std::int32_t>{100});
}

TEST_F(ModelSourceTest, TokenizerConfigDecides_ThenSpieceModel_ThenTheVocabulary) {
  take_config("v10");  // a vocabulary of 384
  EXPECT_EQ(open(ModelInit::random).tokenizer, "bytes");

  (void)folder_.write("spiece.model", "");
  EXPECT_EQ(open(ModelInit::random).tokenizer, folder_.file("spiece.model"));

  (void)folder_.write("tokenizer_config.json", R"({"tokenizer_class": "ByT5Tokenizer"})");
  EXPECT_EQ(open(ModelInit::random).tokenizer, "bytes");

  (void)folder_.write("tokenizer_config.json", "[");
  EXPECT_THROW((void)open(ModelInit::random), DataError);
}

TEST_F(ModelSourceTest, WithoutATokenizerAndBytes_ThereIsNone) {
  take_config("odd_heads");

  EXPECT_EQ(open(ModelInit::random).tokenizer, "");
}

TEST(PresetSource, ByT5Alone_HasAByteTokenizer) {
  EXPECT_EQ(open_model({.path = "byt5-small", .init = ModelInit::random}).tokenizer, "bytes");
  EXPECT_EQ(open_model({.path = "mt5-small", .init = ModelInit::random}).tokenizer, "");
}

TEST(ExportDType, IsTheModelsUnlessAskedOtherwise) {
  EXPECT_EQ(export_dtype(ExportDType::automatic, DType::bf16), DType::bf16);
  EXPECT_EQ(export_dtype(ExportDType::fp32, DType::bf16), DType::f32);
  EXPECT_EQ(export_dtype(ExportDType::bf16, DType::f32), DType::bf16);
  EXPECT_EQ(export_dtype(ExportDType::fp16, DType::f32), DType::f16);
}

}  // namespace
}  // namespace spillway::train
