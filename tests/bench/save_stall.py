#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long training stands still for a checkpoint, saved beside it and saved while it waits, in one sitting.

    save_stall.py build/spillway [--directory DIR] [--model t5-small] [--interval 20] [--saves 3] [--rounds 1] [--set KEY=VALUE]...

Each round runs the same steps three times: without saves, with blocking ones, with saves beside training. What a save costs is the time
from one line of the log to the line `interval` steps later, less that of as many steps without a save. DIR holds checkpoints, one run's at a
time: a tmpfs shows the copying, a disk the rest. Weights and texts are made up. The rank files of the last checkpoint must be the
same bytes whichever way they were written.
"""
import argparse
import hashlib
import json
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

MODES = {"none": ["checkpoint.save_steps=0"], "blocking": ["checkpoint.async=false"], "beside": ["checkpoint.async=true"]}


def write_texts(folder, tokens, pairs=64):
    """Every sequence has as many tokens of one byte, </s> included."""
    draw = random.Random(1)
    for side in ("source", "target"):
        lines = ["".join(draw.choices("abcdefgh ijkl mnop", k=tokens - 3)) + "xy" for _ in range(pairs)]
        (folder / f"train.{side}").write_text("".join(line.replace("  ", "ab") + "\n" for line in lines))


def run(options, work, checkpoints, mode):
    """When each step's line came, the seconds of each save, hashes of the last checkpoint's rank files."""
    shutil.rmtree(checkpoints, ignore_errors=True)
    settings = [f"model.path={options.model}", "model.init=random", "model.tokenizer=bytes", f"data.train={work}/train",
                f"data.max_source_length={options.tokens}", f"data.max_target_length={options.tokens}",
                f"train.output_dir={work}/out", f"train.per_device_train_batch_size={options.batch}",
                f"train.max_steps={(options.saves + 1) * options.interval + 1}", "train.logging_steps=1",
                f"checkpoint.dir={checkpoints}", f"checkpoint.save_steps={options.interval}", "checkpoint.save_total_limit=1",
                "checkpoint.save_final=false", "checkpoint.export=false", *options.set, *MODES[mode]]
    command = [*options.launcher.split(), options.spillway, "train", str(work / "empty.toml")]
    for setting in settings:
        command += ["--set", setting]
    shutil.rmtree(work / "out", ignore_errors=True)
    lines, saves, log = {}, [], []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            now = time.monotonic()
            log.append(line)
            if found := re.match(r"step (\d+)/", line):
                lines[int(found[1])] = now
            if found := re.match(r"saved .* in ([\d.]+) s", line):
                saves.append(float(found[1]))
    if process.returncode != 0:
        sys.exit(f"{mode}: exit code {process.returncode}\n{''.join(log[-20:])}")
    files = sorted(checkpoints.glob(f"step-{(options.saves + 1) * options.interval:09}/rank-*.h5"))
    hashes = [hashlib.file_digest(file.open("rb"), "sha256").hexdigest() for file in files]
    return lines, saves, hashes, sum(file.stat().st_size for file in files)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spillway")
    parser.add_argument("--directory", default=".")
    parser.add_argument("--launcher", default="", help="such as 'mpirun -np 2'")
    parser.add_argument("--model", default="t5-small")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--interval", type=int, default=20)
    parser.add_argument("--saves", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    seconds = {mode: [] for mode in MODES}  # of `interval` steps
    saves = {mode: [] for mode in MODES}
    hashes = {}
    size = 0
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory(dir=options.directory) as directory:
        work, checkpoints = pathlib.Path(scratch), pathlib.Path(directory) / "checkpoints"
        write_texts(work, options.tokens)
        (work / "empty.toml").write_text("")
        for _ in range(options.rounds):
            for mode in MODES:
                lines, took, hashes[mode], size_here = run(options, work, checkpoints, mode)
                size = max(size, size_here)
                saves[mode] += took
                for save in range(1, options.saves + 1):  # a step's save comes after its line
                    seconds[mode].append(lines[(save + 1) * options.interval] - lines[save * options.interval])
    if hashes["blocking"] != hashes["beside"]:
        sys.exit("the two ways gave other bytes")
    quiet = statistics.median(seconds["none"])
    result = {"checkpoint_bytes": size, "seconds_per_step": quiet / options.interval, "interval": options.interval}
    for mode in ("blocking", "beside"):
        stall = statistics.median(seconds[mode]) - quiet
        result[mode] = {"stall_seconds": round(stall, 4), "of_throughput": round(stall / (quiet + stall), 4),
                        "save_seconds": statistics.median(saves[mode])}
    result["stall_ratio"] = round(result["beside"]["stall_seconds"] / result["blocking"]["stall_seconds"], 4)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
