// SPDX-License-Identifier: Apache-2.0
#include "train/op_names.hpp"

#include <fmt/format.h>

namespace spillway::train {
namespace {

std::string name_of(const model::Stage& stage) {
  switch (stage.kind) {
    case model::StageKind::encoder_embedding: return "encoder.embedding";
    case model::StageKind::encoder_block: return fmt::format("encoder.{}", stage.block);
    case model::StageKind::encoder_output: return "encoder.output";
    case model::StageKind::decoder_embedding: return "decoder.embedding";
    case model::StageKind::decoder_block: return fmt::format("decoder.{}", stage.block);
    case model::StageKind::head: return "head";
  }
  return "stage";
}

}  // namespace

OpNames::OpNames(const plan::StepProgram& program, const model::T5Layout& layout,
                 const std::vector<model::Stage>& stages) {
  for (const plan::Op& op : program.ops) {
    std::string name = plan::name_of(op.kind);
    if (op.stage >= 0) name += " " + name_of(stages.at(static_cast<std::size_t>(op.stage)));
    else if (op.unit >= 0) name += " " + layout.unit_name(op.unit);
    ops_.push_back(std::move(name));
  }
  for (int unit = 0; unit < layout.units(); ++unit) updates_.push_back("update " + layout.unit_name(unit));
}

}  // namespace spillway::train
