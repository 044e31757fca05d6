// SPDX-License-Identifier: Apache-2.0
#include "app/key_bindings.hpp"
#include "app/schema_sections.hpp"
#include "app/special_bindings.hpp"

namespace spillway::app {
namespace {

using namespace train;
using Run = RunOptions;

ConfigValue word(const char* text) { return {std::string(text)}; }

KeyBinding tier(TierChoice OffloadOptions::*member) {
  using enum TierChoice;
  return choice(&Run::offload, member,
                {{word("auto"), automatic}, {word("device"), device}, {word("host"), host}, {word("nvme"), nvme}});
}

}  // namespace

std::vector<ConfigKey> storage_keys() {
  return {
      {.section = "zero",
       .key = "stage",
       .binding = integer(&Run::zero, &ZeroOptions::stage, 0, 3),
       .doc = "0: every rank has everything; ranks share 1: optimizer state, 2: gradients too, 3: parameters too"},
      {.section = "zero",
       .key = "reduce_dtype",
       .binding = choice(&Run::zero, &ZeroOptions::reduce_dtype,
                         {{word("auto"), GradientDType::automatic}, {word("fp32"), GradientDType::fp32}}),
       .doc = "of gradients on the wire: \"auto\" (the weight's) or \"fp32\""},
      {.section = "zero",
       .key = "grad_dtype",
       .binding = choice(&Run::zero, &ZeroOptions::grad_dtype,
                         {{word("auto"), GradientDType::automatic}, {word("fp32"), GradientDType::fp32}}),
       .doc = "of gradients at rest: \"auto\" (the weight's) or \"fp32\""},
      {.section = "zero",
       .key = "shard_group",
       .binding = choice(&Run::zero, &ZeroOptions::shard_group,
                         {{word("all"), ShardGroup::all}, {word("node"), ShardGroup::node}}),
       .doc = "\"all\": shards go over all ranks; \"node\": over those of a node, and every node has a copy"},
      {.section = "memory",
       .key = "device",
       .binding = budget(&MemoryOptions::device),
       .doc = "bytes of one rank, \"24GiB\"; \"auto\": no limit but memory.host, which counts device memory too on the "
              "CPU"},
      {.section = "memory",
       .key = "host",
       .binding = budget(&MemoryOptions::host),
       .doc = "bytes of one node, an equal part for each of its ranks; \"auto\": what is free, less 5 %"},
      {.section = "memory",
       .key = "nvme",
       .binding = budget(&MemoryOptions::nvme),
       .doc =
           "bytes of one node in offload.nvme_dirs, an equal part for each of its ranks; \"auto\": what is free there"},
      {.section = "offload",
       .key = "placement",
       .binding = tier(&OffloadOptions::placement),
       .doc = "of what has \"auto\" below: \"device\", \"host\", \"nvme\"; \"auto\": the nearest of them that has "
              "room, extent by extent"},
      {.section = "offload",
       .key = "weight",
       .binding = tier(&OffloadOptions::weight),
       .doc = "\"auto\": offload.placement; \"device\", \"host\", \"nvme\""},
      {.section = "offload",
       .key = "master",
       .binding = tier(&OffloadOptions::master),
       .doc = "likewise; in fp32 the weight is its own master"},
      {.section = "offload",
       .key = "exp_avg",
       .binding = tier(&OffloadOptions::exp_avg),
       .doc = "\"auto\": offload.placement; \"device\", \"host\", \"nvme\""},
      {.section = "offload",
       .key = "exp_avg_sq",
       .binding = tier(&OffloadOptions::exp_avg_sq),
       .doc = "\"auto\": offload.placement; \"device\", \"host\", \"nvme\""},
      {.section = "offload",
       .key = "nvme_dirs",
       .binding = folders(),
       .doc = "directories, one for each drive; []: $SLURM_TMPDIR if set, otherwise there is no nvme tier"},
      {.section = "offload",
       .key = "optimizer_on",
       .binding = choice(&Run::offload, &OffloadOptions::optimizer_on,
                         {{word("auto"), OptimizerPlace::automatic},
                          {word("cpu"), OptimizerPlace::cpu},
                          {word("gpu"), OptimizerPlace::gpu},
                          {word("split"), OptimizerPlace::split}}),
       .doc = "beside a GPU, who updates what is not in its memory: \"cpu\", \"gpu\", \"split\" (a share each); "
              "\"auto\": the "
              "fastest of them"},
      {.section = "offload",
       .key = "store",
       .binding = choice(&Run::offload, &OffloadOptions::store,
                         {{word("auto"), StoreChoice::automatic},
                          {word("uring"), StoreChoice::uring},
                          {word("posix"), StoreChoice::posix},
                          {word("memory"), StoreChoice::memory}}),
       .doc = "\"auto\" (uring where the kernel has it), \"uring\", \"posix\"; \"memory\": tests"},
      {.section = "offload",
       .key = "queue_depth",
       .binding = integer(&Run::offload, &OffloadOptions::queue_depth, 1, 4096),
       .doc = "transfers in flight"},
      {.section = "offload",
       .key = "extent_size",
       .binding = size(&OffloadOptions::extent_size),
       .doc = "bytes of one transfer, a multiple of 4KiB"},
      {.section = "offload",
       .key = "checksum",
       .binding = boolean(&Run::offload, &OffloadOptions::checksum),
       .doc = "every extent read back is checked"},
      {.section = "checkpoint",
       .key = "dir",
       .binding = text(&Run::checkpoint, &CheckpointOptions::dir),
       .doc = "directory; \"\": checkpoints in train.output_dir"},
      {.section = "checkpoint",
       .key = "save_steps",
       .binding = interval(&Run::checkpoint, &CheckpointOptions::save_steps),
       .doc = "optimizer steps; 0: only at the end and on request; \"epoch\": at each epoch's end"},
      {.section = "checkpoint",
       .key = "save_total_limit",
       .binding = integer(&Run::checkpoint, &CheckpointOptions::save_total_limit, 0),
       .doc = "newest checkpoints that are kept, and the best besides; 0: all"},
      {.section = "checkpoint",
       .key = "load_best_model_at_end",
       .binding = boolean(&Run::checkpoint, &CheckpointOptions::load_best_model_at_end),
       .doc = "the checkpoint that did best in eval.metric is exported and evaluated at the end; save_steps must be a "
              "multiple of eval_steps, or both \"epoch\""},
      {.section = "checkpoint",
       .key = "export_dtype",
       .binding = choice(&Run::checkpoint, &CheckpointOptions::export_dtype,
                         {{word("auto"), ExportDType::automatic},
                          {word("fp32"), ExportDType::fp32},
                          {word("bf16"), ExportDType::bf16},
                          {word("fp16"), ExportDType::fp16}}),
       .doc = "of the exported model, rounded to nearest even; \"auto\": that of the model read"},
      {.section = "checkpoint",
       .key = "resume",
       .binding = text(&Run::checkpoint, &CheckpointOptions::resume, false),
       .doc = "\"auto\": the newest checkpoint in dir; \"none\"; or the path of a checkpoint"},
      {.section = "checkpoint",
       .key = "async",
       .binding = boolean(&Run::checkpoint, &CheckpointOptions::async),
       .doc = "training goes on while a checkpoint is written"},
      {.section = "checkpoint",
       .key = "save_final",
       .binding = boolean(&Run::checkpoint, &CheckpointOptions::save_final),
       .doc = "a checkpoint at the end of training"},
      {.section = "checkpoint",
       .key = "export",
       .binding = boolean(&Run::checkpoint, &CheckpointOptions::export_model),
       .doc = "a Hugging Face directory, model in train.output_dir, at the end of training"},
      {.section = "checkpoint",
       .key = "allow_changes",
       .binding = boolean(&Run::checkpoint, &CheckpointOptions::allow_changes),
       .doc = "resume although a key that must not change did"},
  };
}

}  // namespace spillway::app
