#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# jobs/quickstart.sh: from a fresh clone to a small T5 trained on real English-Romanian pairs by 2 MPI ranks, with ZeRO stage 3
# and optimizer state in files; then its BLEU, six translations, its checkpoint, and a resume from it. No GPU needed.
#
# Environment: BUILD_DIR (build), QUICKSTART_DIR (BUILD_DIR/quickstart), QUICKSTART_RANKS (2), QUICKSTART_STEPS (as in
# jobs/quickstart.toml). Root, or sudo, only if packages are missing.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

build=$(realpath -m "${BUILD_DIR:-build}")
work=$(realpath -m "${QUICKSTART_DIR:-$build/quickstart}")
ranks=${QUICKSTART_RANKS:-2}
more_steps=10
data=$work/data
model=$work/model
out=$work/out
resumed=$work/resumed
spillway=$build/spillway

say() { printf '\n== %s\n' "$*"; }

# All ranks on this machine; a rank's threads may use any core.
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
export OMPI_MCA_btl_vader_single_copy_mechanism=none # containers forbid the other one, noisily
if [[ $(id -u) -eq 0 ]]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi

say "packages, build"
jobs/install-packages.sh build quickstart
if [[ ! -f $build/CMakeCache.txt ]]; then
  # For the GPU of this machine alone, if it has one: five kinds take minutes more.
  gpu=()
  if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then gpu=(-DCMAKE_CUDA_ARCHITECTURES=native); fi
  cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DSPILLWAY_TESTS=OFF "${gpu[@]}"
fi
cmake --build "$build" --target spillway -j "$(nproc)"

say "sentence pairs and tokenizer"
jobs/prepare-catalogue.sh "$data"
wc -l "$data"/{train,val}.source

started=$SECONDS
rm -rf "$model" "$out" "$resumed" "$work/moments"
mkdir -p "$model" "$work/moments"
cp "$data/spiece.model" "$model/spiece.model"
cp jobs/quickstart_model.json "$model/config.json"

train() {
  mpirun -np "$ranks" "$spillway" train jobs/quickstart.toml \
    --set "model.path=$model" --set "data.train=$data/train" --set "data.val=$data/val" \
    --set "offload.nvme_dirs=[\"$work/moments\"]" "$@"
}

say "training on $ranks ranks: ZeRO stage 3, both moments in files"
steps=()
[[ -z ${QUICKSTART_STEPS:-} ]] || steps=(--set "train.max_steps=$QUICKSTART_STEPS")
train --set "train.output_dir=$out" --resume none "${steps[@]}"

say "results on the 300 held-out pairs"
python3 - "$out" <<'PYTHON'
import json, pathlib, sys
out = pathlib.Path(sys.argv[1])
lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
losses = [(line["step"], line["loss"]) for line in lines if "loss" in line]
results = json.loads((out / "all_results.json").read_text())
print("training loss: %.3f at step %d, %.3f at step %d" % (*losses[0][::-1], *losses[-1][::-1]))
print("held-out loss: %.3f" % results["eval_loss"])
print("BLEU: %.2f; of copying the source: %.2f" % (results["eval_bleu"], results["eval_bleu_copy"]))
PYTHON
echo "A small model, a few minutes, menu texts: it shows that training works, not that this model translates. For that, start"
echo "from real T5 weights (model.path in jobs/quickstart.toml)."

show() {
  # Into a file first: the script would not notice a failure inside <(...).
  "$spillway" generate --model "$out/model" --input "$1.source" --num-beams 4 --max-length 64 >"$work/translations"
  paste -d '\n' <(sed 's/^/  source:    /' "$1.source") <(sed 's/^/  reference: /' "$1.target") \
    <(sed 's/^/  spillway:  /' "$work/translations")
}
say "three held-out sentences"
head -n 3 "$data/val.source" >"$work/unseen.source"
head -n 3 "$data/val.target" >"$work/unseen.target"
show "$work/unseen"
say "three sentences seen in training"
show "$data/seen"

say "the checkpoint, and $more_steps steps more from it"
"$spillway" checkpoint list "$out/checkpoints"
checkpoint=$(printf '%s\n' "$out"/checkpoints/step-* | grep -v '\.tmp$' | sort | tail -n 1)
name=${checkpoint##*/step-}
# Written into a folder of its own, without evaluation, so that the results above stay.
train --set "train.output_dir=$resumed" --resume "$checkpoint" --set "train.max_steps=$((10#$name + more_steps))" \
  --set train.logging_steps=1 --set eval.predict_with_generate=false --set checkpoint.export=false
tail -n 3 "$resumed/metrics.jsonl"

say "files made"
find "$work" -type f -printf '%12s  %p\n' | sort -k 2
say "done in $((SECONDS - started)) s after packages and build; the model is in $out/model, the log in $out/metrics.jsonl"
