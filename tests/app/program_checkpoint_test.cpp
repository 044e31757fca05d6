// SPDX-License-Identifier: Apache-2.0
// checkpoint list, show, verify and export; resuming from checkpoints that fit, and from those that do not.
#include <tuple>

#include <gmock/gmock.h>

#include "app/workplace.hpp"

namespace spillway::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::SizeIs;

constexpr const char* kStep3 = "out/checkpoints/step-000000003";
constexpr const char* kStep6 = "out/checkpoints/step-000000006";

/// A run of two ranks, which the tests only read.
const Workplace& trained() {
  static const Workplace place;
  static const ProgramResult result = place.train(2);
  EXPECT_EQ(result.exit_code, 0) << describe(result);
  return place;
}

class ProgramCheckpoint : public testing::TestWithParam<int> {
 protected:
  /// `spillway checkpoint ARGUMENTS`
  [[nodiscard]] ProgramResult checkpoint(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), "checkpoint");
    return place_.run(GetParam(), arguments);
  }
  /// A copy of a checkpoint for this test to damage.
  [[nodiscard]] std::string copied(const std::string& checkpoint) const {
    const std::string copy = "copies/" + std::to_string(++copies_) + "/step-000000006";
    place_.write(copy + "/../note", "");
    place_.copy(checkpoint, copy);
    return copy;
  }
  void flip_byte(const std::string& file, std::size_t at) const {
    std::string bytes = place_.read(file);
    ASSERT_LT(at, bytes.size());
    bytes[at] = static_cast<char>(bytes[at] ^ 1);
    place_.write(file, bytes);
  }
  [[nodiscard]] std::string output() const { return "resumed-" + std::to_string(++copies_); }

  const Workplace& place_ = trained();

 private:
  static inline int copies_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Ranks, ProgramCheckpoint, testing::Values(1, 2));

TEST_P(ProgramCheckpoint, List_GivesALineForEach) {
  const ProgramResult result = checkpoint({"list", "out/checkpoints"});

  EXPECT_EQ(result.exit_code, 0) << describe(result);
  const auto lines = lines_of(result.out);
  ASSERT_THAT(lines, SizeIs(2));
  EXPECT_THAT(lines[0], MatchesRegex("step +3 +2 ranks +out/checkpoints/step-000000003"));
  EXPECT_THAT(lines[1], MatchesRegex("step +6 +2 ranks +out/checkpoints/step-000000006"));
}

TEST_P(ProgramCheckpoint, Show_NamesStepFilesAndTensors) {
  const ProgramResult result = checkpoint({"show", kStep3});

  EXPECT_EQ(result.exit_code, 0) << describe(result);
  EXPECT_THAT(
      result.out,
      AllOf(HasSubstr("step 3 of 6, epoch 0, 24 samples into it, global batch 8\n"), HasSubstr("written by 2 ranks"),
            MatchesRegex(".*\nmaster +[0-9]+ elements in [0-9]+ tensors\nexp_avg .*\nexp_avg_sq .*"),
            HasSubstr("rank-00001-of-00002.h5\n"), MatchesRegex(".*\\(384, 32\\) +shared.weight\n.*")));
}

TEST_P(ProgramCheckpoint, Verify_OfWhatWasWritten_IsContent) {
  const ProgramResult result = checkpoint({"verify", kStep6});

  EXPECT_EQ(result.exit_code, 0) << describe(result);
  EXPECT_THAT(result.out, HasSubstr("all 3 files are as they were written"));
}

TEST_P(ProgramCheckpoint, Verify_OfAFlippedByte_NamesFileAndMiB) {
  const std::string copy = copied(kStep6);
  flip_byte(copy + "/rank-00001-of-00002.h5", 50000);

  const ProgramResult result = checkpoint({"verify", copy});

  EXPECT_EQ(result.exit_code, 4) << describe(result);
  EXPECT_THAT(result.err,
              AllOf(HasSubstr(copy + " is damaged"), HasSubstr("rank-00001-of-00002.h5"), HasSubstr("MiB 0"),
                    HasSubstr("; it holds "), Not(HasSubstr("rank-00000-of-00002.h5"))));
  EXPECT_THAT(result.out, IsEmpty());
}

TEST_P(ProgramCheckpoint, Verify_OfAFlippedByteInTheManifest_NamesIt) {
  const std::string copy = copied(kStep6);
  flip_byte(copy + "/manifest.json", 200);

  const ProgramResult result = checkpoint({"verify", copy});

  EXPECT_EQ(result.exit_code, 4) << describe(result);
  EXPECT_THAT(result.err, HasSubstr(copy + "/manifest.json"));
}

TEST_P(ProgramCheckpoint, Verify_OfSomethingElse_SaysSo) {
  const ProgramResult result = checkpoint({"verify", "data"});

  EXPECT_EQ(result.exit_code, 4) << describe(result);
  EXPECT_THAT(result.err,
              HasSubstr("data is no checkpoint: data/manifest.json: cannot be read: No such file or directory"));
}

TEST_P(ProgramCheckpoint, List_OfAMissingFolder_SaysSo) {
  const ProgramResult result = checkpoint({"list", "nowhere"});

  EXPECT_EQ(result.exit_code, 4) << describe(result);
  EXPECT_THAT(result.err, HasSubstr("nowhere: no such directory"));
}

TEST_P(ProgramCheckpoint, Export_GivesTheModelThatTrainExported) {
  const std::string exported = output();

  const ProgramResult result = checkpoint({"export", kStep6, "--output", exported});

  ASSERT_EQ(result.exit_code, 0) << describe(result);
  EXPECT_EQ(place_.read(exported + "/model.safetensors"), place_.read("out/model/model.safetensors"));
  EXPECT_EQ(place_.read(exported + "/config.json"), place_.read("out/model/config.json"));
}

TEST_P(ProgramCheckpoint, Export_WithASlashAtTheEnd_ReplacesAnEarlierOneAndLeavesNothingBeside) {
  const std::string folder = output();
  const std::string exported = folder + "/hf";
  ASSERT_EQ(checkpoint({"export", kStep3, "--output", exported}).exit_code, 0);
  place_.write(exported + "/README.md", "of the earlier export");

  const ProgramResult result = checkpoint({"export", kStep6, "--output", exported + "/"});

  ASSERT_EQ(result.exit_code, 0) << describe(result);
  EXPECT_EQ(place_.read(exported + "/model.safetensors"), place_.read("out/model/model.safetensors"));
  EXPECT_FALSE(place_.exists(exported + "/README.md"));
  EXPECT_EQ(run_program({.command = {"ls", "-A", place_.path(folder)}}).out, "hf\n");
}

TEST_P(ProgramCheckpoint, Export_OntoSomethingElse_IsRefusedAndLeavesItAsItWas) {
  place_.write("papers/one.txt", "work of years");

  for (const char* other : {"out", "out/", "papers", "papers/one.txt", "model", "pretrained", "."}) {
    const ProgramResult result = checkpoint({"export", kStep6, "--output", other});

    EXPECT_EQ(result.exit_code, 2) << other << ": " << describe(result);
    EXPECT_THAT(result.err, HasSubstr("an export replaces all of it")) << other;
  }
  EXPECT_EQ(place_.read("papers/one.txt"), "work of years");
  EXPECT_TRUE(place_.exists(std::string(kStep6) + "/manifest.json"));
  EXPECT_TRUE(place_.exists("model/config.json"));
  EXPECT_TRUE(place_.exists("pretrained/model.safetensors"));
}

TEST_P(ProgramCheckpoint, Train_WhoseExportWouldReplaceSomethingElse_IsRefusedAtTheStart) {
  const std::string run = output();
  place_.write(run + "/model/notes.txt", "not a model");

  const ProgramResult result = place_.train(GetParam(), {"train.output_dir=" + run});

  EXPECT_EQ(result.exit_code, 2) << describe(result);
  EXPECT_THAT(result.err, HasSubstr(run + "/model: an export replaces all of it"));
  EXPECT_FALSE(place_.exists(run + "/checkpoints"));
}

TEST_P(ProgramCheckpoint, Resume_FromADamagedOne_NamesTheDamage) {
  const std::string copy = copied(kStep6);
  flip_byte(copy + "/rank-00000-of-00002.h5", 50000);

  const ProgramResult result =
      place_.train(GetParam(), {"checkpoint.resume=" + copy, "train.max_steps=8", "train.output_dir=" + output()});

  EXPECT_EQ(result.exit_code, 4) << describe(result);
  EXPECT_THAT(result.err,
              AllOf(HasSubstr(copy + "/rank-00000-of-00002.h5"), HasSubstr("MiB 0"), HasSubstr("; it holds ")));
}

TEST_P(ProgramCheckpoint, Resume_WhenTheNewestIsDamaged_GoesBackToTheOneBefore) {
  // On nvme what the first try has left would stand in the second one's way.
  std::vector<std::string> settings = {"train.logging_steps=1"};
  if (!place_.in_memory()) settings.insert(settings.end(), {"offload.placement=nvme", "offload.nvme_dirs=[\"nvme\"]"});
  place_.write("nvme/note", "");
  for (const auto& [file, at, words] : {std::tuple{"manifest.json", 200, "checkpoint left out: "},
                                        {"checkpoint.h5", 100, "cannot be resumed from: "},
                                        {"rank-00001-of-00002.h5", 50000, "cannot be resumed from: "}}) {
    SCOPED_TRACE(file);
    const std::string root = copied("out/checkpoints"), resumed = output();
    flip_byte(root + "/step-000000006/" + file, static_cast<std::size_t>(at));

    std::vector<std::string> here = settings;
    here.insert(here.end(), {"checkpoint.dir=" + root, "train.output_dir=" + resumed});
    const ProgramResult result = place_.train(GetParam(), here);

    EXPECT_EQ(result.exit_code, 0) << describe(result);
    EXPECT_THAT(result.err, AllOf(HasSubstr("warning: "), HasSubstr(words), HasSubstr(root + "/step-000000006/" + file),
                                  HasSubstr("resumed from " + root + "/step-000000003 at step 3")));
    if (GetParam() == 2) {
      EXPECT_TRUE(place_.read(resumed + "/model/model.safetensors") == place_.read("out/model/model.safetensors"));
    }
    EXPECT_EQ(checkpoint({"verify", root + "/step-000000006"}).exit_code, 0) << "it was saved again";
  }
}

TEST_P(ProgramCheckpoint, Resume_WhenAllAreDamaged_EndsAndBeginsNothingAnew) {
  for (const auto& [file, at] : {std::pair{"rank-00000-of-00002.h5", 50000}, {"manifest.json", 200}}) {
    SCOPED_TRACE(file);
    const std::string root = copied("out/checkpoints");
    for (const char* step : {"/step-000000003/", "/step-000000006/"})
      flip_byte(root + step + file, static_cast<std::size_t>(at));

    const ProgramResult result = place_.train(GetParam(), {"checkpoint.dir=" + root, "train.output_dir=" + output()});

    EXPECT_EQ(result.exit_code, 4) << describe(result);
    EXPECT_THAT(result.err,
                AllOf(HasSubstr(root + "/step-000000003"), HasSubstr(root + "/step-000000006"),
                      HasSubstr(std::string(file) == "manifest.json" ? "left out: " : "cannot be resumed from: "),
                      HasSubstr(root + ": every checkpoint is damaged")));
  }
}

TEST_P(ProgramCheckpoint, Resume_OfAnotherModelsCheckpoint_NamesTheTensor) {
  const std::string wider = output();
  place_.copy("model", wider);
  place_.replace(wider + "/config.json", "\"d_ff\": 64", "\"d_ff\": 128");

  const ProgramResult result =
      place_.train(GetParam(), {"model.path=" + wider, std::string("checkpoint.resume=") + kStep3,
                                "train.output_dir=" + output(), "checkpoint.allow_changes=true"});

  EXPECT_EQ(result.exit_code, 4) << describe(result);
  EXPECT_THAT(result.err,
              HasSubstr("out/checkpoints/step-000000003, master: tensor encoder.block.0.layer.1.DenseReluDense.wi."
                        "weight: expected (128, 32), found (64, 32)"));
}

TEST_P(ProgramCheckpoint, Resume_WithAModelOfAnotherFunction_GivesBothValues) {
  const std::string other = output();
  place_.copy("model", other);
  place_.replace(other + "/config.json", "\"relative_attention_max_distance\": 16",
                 "\"relative_attention_max_distance\": 32");

  const ProgramResult result = place_.train(
      GetParam(), {"model.path=" + other, std::string("checkpoint.resume=") + kStep3, "train.output_dir=" + output()});

  EXPECT_EQ(result.exit_code, 2) << describe(result);
  EXPECT_THAT(result.err, HasSubstr("model: relative_attention_max_distance: the checkpoint has 16, this run 32"));
}

TEST_P(ProgramCheckpoint, Resume_WithOtherTrainingData_GivesBothValues) {
  const std::string folder = output();
  for (const char* side : {".source", ".target"}) place_.copy(std::string("data/train") + side, folder + side);
  place_.write(folder + ".target", place_.read(folder + ".target") + "inca una\n");
  place_.write(folder + ".source", place_.read(folder + ".source") + "one more\n");
  const std::vector<std::string> settings = {"train.max_steps=8", std::string("checkpoint.resume=") + kStep3};
  const Workplace& place = place_;
  const auto swap = [&] {
    for (const char* side : {".source", ".target"}) {
      const std::string now = place.read(std::string("data/train") + side);
      place.write(std::string("data/train") + side, place.read(folder + side));
      place.write(folder + side, now);
    }
  };

  swap();
  auto refused = settings;
  refused.push_back("train.output_dir=" + output());
  const ProgramResult result = place_.train(GetParam(), refused);
  swap();

  EXPECT_EQ(result.exit_code, 2) << describe(result);
  EXPECT_THAT(result.err, AllOf(HasSubstr("data.train: pairs: the checkpoint has 30, this run 31"),
                                HasSubstr("data.train: hash of all tokens: the checkpoint has ")));
}

TEST_P(ProgramCheckpoint, Show_KnowsTheBestOfTheFinalEvaluation) {
  const ProgramResult result = checkpoint({"show", kStep6});

  EXPECT_THAT(result.out, MatchesRegex(".*\nbest bleu so far: [0-9.]+ at step 6\n.*"));
}

TEST_P(ProgramCheckpoint, SavedBesideTraining_HasTheBytesOfOneThatTrainingWaitedFor) {
  std::vector<std::string> outputs;
  for (const char* beside : {"true", "false"}) {
    outputs.push_back(output());
    const ProgramResult result =
        place_.train(GetParam(), {std::string("checkpoint.async=") + beside, "checkpoint.save_steps=1",
                                  "checkpoint.save_total_limit=0", "train.output_dir=" + outputs.back()});
    ASSERT_EQ(result.exit_code, 0) << describe(result);
  }

  for (int step = 1; step <= 6; ++step)
    for (int rank = 0; rank < GetParam(); ++rank) {
      const std::string file = "/checkpoints/step-00000000" + std::to_string(step) + "/rank-0000" +
                               std::to_string(rank) + "-of-0000" + std::to_string(GetParam()) + ".h5";
      EXPECT_TRUE(place_.read(outputs[0] + file) == place_.read(outputs[1] + file)) << file;
    }
  EXPECT_TRUE(place_.read(outputs[0] + "/model/model.safetensors") ==
              place_.read(outputs[1] + "/model/model.safetensors"));
}

TEST_P(ProgramCheckpoint, UnderWayWhenTrainingDiverges_IsFinishedFirst) {
  const std::string diverged = output();

  // The first update makes weights of which fp32 cannot hold the products.
  const ProgramResult result = place_.train(
      GetParam(), {"optimizer.learning_rate=1e30", "checkpoint.save_steps=1", "train.output_dir=" + diverged});

  EXPECT_EQ(result.exit_code, 5) << describe(result);
  const std::size_t saved = result.err.find("saved " + diverged + "/checkpoints/step-000000001");
  const std::size_t failed = result.err.find("training has diverged");
  EXPECT_NE(saved, std::string::npos) << result.err;
  EXPECT_NE(failed, std::string::npos) << result.err;
  EXPECT_LT(saved, failed);
  EXPECT_EQ(checkpoint({"verify", diverged + "/checkpoints/step-000000001"}).exit_code, 0);
}

/// A folder for each of two ranks, as nodes without a shared file system have them.
class TwoFolders : public testing::Test {
 protected:
  TwoFolders() {
    for (const char* name : {"model", "data", "run.toml"})
      for (const char* rank : {"0/", "1/"}) {
        place_.write(std::string(rank) + "note", "");
        place_.copy(name, rank + std::string(name));
      }
  }
  [[nodiscard]] ProgramResult train(const std::vector<std::string>& settings) const {
    const ProgramCall alone = place_.train_call(1, settings);
    ProgramCall call = on_ranks(2, {"sh", "-c", "cd $OMPI_COMM_WORLD_RANK && exec \"$@\"", "sh"});
    call.command.insert(call.command.end(), alone.command.begin(), alone.command.end());
    call.directory = place_.path(".");
    return run_program(call);
  }
  Workplace place_;
  const std::string shared_ = "train.output_dir=" + place_.path("shared");
};

TEST_F(TwoFolders, WithoutOneFolderForCheckpoints_AreRefusedBeforeTheFirstStep) {
  const ProgramResult result = train({});

  EXPECT_EQ(result.exit_code, 2) << describe(result);
  EXPECT_THAT(result.err, HasSubstr("[rank 1] train.output_dir = \"out\": this is another folder than rank 0's"));
  EXPECT_FALSE(place_.exists("0/out/metrics.jsonl"));
}

TEST_F(TwoFolders, WithACheckpointOnlyInTheFirst_EveryRankTakesThatOne) {
  ProgramCall first = place_.train_call(1, {"train.max_steps=3"});
  first.directory = place_.path("0");
  ASSERT_EQ(run_program(first).exit_code, 0);

  const ProgramResult result = train({shared_, "checkpoint.resume=out/checkpoints/step-000000003"});

  EXPECT_EQ(result.exit_code, 4) << describe(result);
  EXPECT_THAT(result.err, HasSubstr("[rank 1] out/checkpoints/step-000000003"));
}

TEST_F(TwoFolders, WithOtherDataOnARank_SaysSoBeforeTheFirstStep) {
  place_.replace("1/data/train.target", "un doi\n", "un trei\n");

  const ProgramResult result = train({shared_});

  EXPECT_EQ(result.exit_code, 4) << describe(result);
  EXPECT_THAT(result.err, HasSubstr("data.train: hash of all tokens: rank 0 has "));
}

TEST_P(ProgramCheckpoint, Resume_WithAKeyThatMustNotChange_GivesBothValues) {
  const ProgramResult result = place_.train(GetParam(), {"train.seed=7", "train.max_steps=8"});

  EXPECT_EQ(result.exit_code, 2) << describe(result);
  EXPECT_THAT(result.err, AllOf(HasSubstr("checkpoint.allow_changes = true"),
                                HasSubstr("train.seed: the checkpoint has 42, the configuration 7")));
}

TEST_P(ProgramCheckpoint, Resume_WithAllowChanges_GoesOn) {
  const ProgramResult result =
      place_.train(GetParam(), {"train.seed=7", "checkpoint.allow_changes=true",
                                std::string("checkpoint.resume=") + kStep3, "train.output_dir=" + output()});

  EXPECT_EQ(result.exit_code, 0) << describe(result);
  EXPECT_THAT(result.err, HasSubstr("warning: resuming with changes"));
}

TEST_P(ProgramCheckpoint, Resume_AtAnyNumberOfRanks_GoesOnToTheEnd) {
  const std::string resumed = output();

  const ProgramResult result =
      place_.train(GetParam(), {std::string("checkpoint.resume=") + kStep3, "train.output_dir=" + resumed});

  EXPECT_EQ(result.exit_code, 0) << describe(result);
  EXPECT_THAT(result.err, HasSubstr("resumed from out/checkpoints/step-000000003 at step 3"));
  if (GetParam() == 2) {
    EXPECT_EQ(place_.read(resumed + "/model/model.safetensors"), place_.read("out/model/model.safetensors"));
  } else {
    EXPECT_THAT(result.err, HasSubstr("the numeric signature changed: "));
  }
}

TEST_P(ProgramCheckpoint, Resume_FromAPathThatIsNotThere_NamesIt) {
  const ProgramResult result = place_.train(GetParam(), {"checkpoint.resume=nowhere", "train.output_dir=" + output()});

  EXPECT_EQ(result.exit_code, 4) << describe(result);
  EXPECT_THAT(result.err, HasSubstr("nowhere: no such checkpoint (checkpoint.resume)"));
}

}  // namespace
}  // namespace spillway::test
