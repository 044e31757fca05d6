// SPDX-License-Identifier: Apache-2.0
#include "app/workplace.hpp"

#include <array>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include <gtest/gtest.h>

namespace spillway::test {
namespace {

namespace fs = std::filesystem;

constexpr const char* kModel = R"({
  "architectures": ["T5ForConditionalGeneration"], "model_type": "t5",
  "vocab_size": 384, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_heads": 4,
  "num_layers": 1, "num_decoder_layers": 1,
  "relative_attention_num_buckets": 8, "relative_attention_max_distance": 16,
  "dropout_rate": 0.1, "layer_norm_epsilon": 1e-06, "feed_forward_proj": "relu",
  "tie_word_embeddings": true, "is_encoder_decoder": true,
  "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0
}
)";

constexpr const char* kRun = R"([model]
path = "model"
init = "random"
tokenizer = "bytes"
embedding_std = 0.1

[data]
train = "data/train"
val = "data/val"
test = "data/test"

[train]
output_dir = "out"
per_device_train_batch_size = 4
global_batch_size = 8
max_steps = 6
logging_steps = 2

[optimizer]
learning_rate = 3e-3

[checkpoint]
save_steps = 3

[eval]
num_beams = 2
max_length = 16
)";

/// English words and their translations.
constexpr std::array<std::pair<const char*, const char*>, 7> kWords = {{{"one", "un"},
                                                                        {"two", "doi"},
                                                                        {"red", "rosu"},
                                                                        {"old", "vechi"},
                                                                        {"cat", "pisica"},
                                                                        {"dog", "caine"},
                                                                        {"house", "casa"}}};

/// Pairs of two to five words, others for another `first`.
void write_pairs(const Workplace& place, const std::string& base, std::size_t first, std::size_t count) {
  std::string sources, targets;
  for (std::size_t i = first; i < first + count; ++i) {
    for (std::size_t word = 0; word < 2 + i % 4; ++word) {
      const auto& [source, target] = kWords[(i * i + word * (i / 7 + 1)) % kWords.size()];
      sources += std::string(word > 0 ? " " : "") + source;
      targets += std::string(word > 0 ? " " : "") + target;
    }
    sources += '\n';
    targets += '\n';
  }
  place.write(base + ".source", sources);
  place.write(base + ".target", targets);
}

}  // namespace

Workplace::Workplace() {
  write("model/config.json", kModel);
  write("run.toml", kRun);
  write_pairs(*this, "data/train", 0, 30);
  write_pairs(*this, "data/val", 40, 7);
  write_pairs(*this, "data/test", 60, 4);
  for (const char* name : {"config.json", "generation_config.json", "model.safetensors"}) {
    fs::create_directories(path("pretrained"));
    fs::copy(fs::path(SPILLWAY_REFERENCE_DIR) / "v10" / name, path("pretrained"));
  }
}

ProgramCall Workplace::call(int ranks, const std::vector<std::string>& arguments) const {
  std::vector<std::string> command = {SPILLWAY_PROGRAM};
  command.insert(command.end(), arguments.begin(), arguments.end());
  ProgramCall made = on_ranks(ranks, std::move(command));
  made.directory = directory_.path();
  return made;
}

ProgramCall Workplace::train_call(int ranks, const std::vector<std::string>& settings) const {
  std::vector<std::string> arguments = {"train", "run.toml"};
  for (const std::string& setting : settings) arguments.insert(arguments.end(), {"--set", setting});
  return call(ranks, arguments);
}

ProgramResult Workplace::run(int ranks, const std::vector<std::string>& arguments) const {
  return run_program(call(ranks, arguments));
}

ProgramResult Workplace::train(int ranks, const std::vector<std::string>& settings) const {
  return run_program(train_call(ranks, settings));
}

bool Workplace::exists(const std::string& name) const { return fs::exists(path(name)); }

std::string Workplace::read(const std::string& name) const {
  std::ifstream file(path(name), std::ios::binary);
  EXPECT_TRUE(file) << name << " cannot be read";
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void Workplace::write(const std::string& name, const std::string& text) const {
  fs::create_directories(fs::path(path(name)).parent_path());
  std::ofstream(path(name), std::ios::binary) << text;
}

void Workplace::copy(const std::string& from, const std::string& to) const {
  fs::copy(path(from), path(to), fs::copy_options::recursive);
}

void Workplace::replace(const std::string& name, const std::string& from, const std::string& to) const {
  std::string text = read(name);
  const std::size_t place = text.find(from);
  ASSERT_NE(place, std::string::npos) << name << " has no " << from;
  ASSERT_EQ(text.find(from, place + 1), std::string::npos) << name << " has several " << from;
  write(name, text.replace(place, from.size(), to));
}

std::string describe(const ProgramResult& result) {
  return "exit code " + std::to_string(result.exit_code) + "\n--- standard output\n" + result.out +
         "--- standard error\n" + result.err + "---";
}

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

}  // namespace spillway::test
