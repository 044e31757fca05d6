#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tests/bench/state_formats.sh: the quickstart's model on its sentence pairs with optimizer state in fp32, bf16 and int8. The losses
# of the narrow states must be within 1 % of those of fp32: of the last 20 of the steps, and held out.
#
# Environment: BUILD_DIR (build), STATE_FORMATS_DIR (BUILD_DIR/state-formats), STATE_FORMATS_RANKS (2), STATE_FORMATS_STEPS (300).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"

build=$(realpath -m "${BUILD_DIR:-build}")
work=$(realpath -m "${STATE_FORMATS_DIR:-$build/state-formats}")
ranks=${STATE_FORMATS_RANKS:-2}
formats=(fp32 bf16 int8)

export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_btl_vader_single_copy_mechanism=none
if [[ $(id -u) -eq 0 ]]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi

jobs/prepare-catalogue.sh "$work/data"
mkdir -p "$work/model"
cp jobs/quickstart_model.json "$work/model/config.json"
cp "$work/data/spiece.model" "$work/model"

for format in "${formats[@]}"; do
  rm -rf "${work:?}/$format"
  mpirun -np "$ranks" "$build/spillway" train jobs/quickstart.toml --resume none \
    --set "model.path=$work/model" --set "data.train=$work/data/train" --set "data.val=$work/data/val" \
    --set "train.output_dir=$work/$format" --set "train.max_steps=${STATE_FORMATS_STEPS:-300}" --set train.logging_steps=1 \
    --set "optimizer.state_format=$format" --set offload.exp_avg=device --set offload.exp_avg_sq=device \
    --set eval.predict_with_generate=false --set checkpoint.save_final=false --set checkpoint.export=false >"$work/$format.log" 2>&1 ||
    { tail -n 20 "$work/$format.log" >&2; exit 1; }
done

python3 - "$work" "${formats[@]}" <<'PYTHON'
import json, pathlib, sys
work, formats = pathlib.Path(sys.argv[1]), sys.argv[2:]

def losses(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last = [line["loss"] for line in lines if "loss" in line][-20:]
    return sum(last) / len(last), json.loads((folder / "all_results.json").read_text())["eval_loss"]

of = {name: losses(work / name) for name in formats}
worst = 0.0
print("states   last 20 steps   to fp32   held out   to fp32")
for name in formats:
    ratios = [mine / reference for mine, reference in zip(of[name], of["fp32"])]
    worst = max([worst] + [abs(ratio - 1) for ratio in ratios])
    print("%-8s %13.4f %9.5f %10.4f %9.5f" % (name, of[name][0], ratios[0], of[name][1], ratios[1]))
sys.exit(0 if worst <= 0.01 else "more than 1 % from fp32")
PYTHON
