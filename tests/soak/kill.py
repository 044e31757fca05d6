#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kills training runs at random moments and lets them go on until nothing shows that they were killed.

    kill.py build/spillway [--kills 200] [--seed 1] [--directory DIR]

The seed draws the runs: ranks, stage, tier, steps, how often they save and whether training waits for that. Each is trained once
without a kill. Then it is killed with SIGKILL, again and again: one rank, all ranks or mpirun, at any time from its start on. After a
kill the checkpoint that the log last called saved must be there, or a newer one, and what is there must be whole; the next start must go on
from it. The last one trains to the end: its weights and its last checkpoint must be the bytes of the run that was left alone.
"""
import argparse
import collections
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import children  # noqa: E402
import small_run  # noqa: E402

SECONDS = 60  # that no start takes
SECONDS_TO_END = 20  # for what is left when mpirun or a rank is gone
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none", "OMPI_MCA_btl_vader_single_copy_mechanism": "none",
    # Shared memory only: to look for networks would take most of the time of these short runs.
    "OMPI_MCA_pml": "ob1", "OMPI_MCA_btl": "self,vader", "OMPI_MCA_osc": "^ucx",
}


def expect(condition, text):
    if not condition:
        raise children.Failed(text)


@dataclasses.dataclass
class Plan:
    """A run, as the seed drew it."""
    ranks: int
    stage: int
    tier: str
    steps: int
    save_steps: int
    kept: int
    beside: bool  # whether training goes on while it saves

    @staticmethod
    def drawn(draw, number, tiers):
        return Plan(ranks=1 + (number + 1) % 3, stage=draw.randrange(4), tier=draw.choice(tiers), steps=draw.randrange(40, 80),
                    save_steps=draw.choice([1, 2, 3, 7]), kept=draw.choice([1, 2, 0]), beside=draw.random() < 0.6)

    def command(self, program, output):
        settings = {"train.output_dir": output, "train.logging_steps": 1, "zero.stage": self.stage, "offload.nvme_dirs": '["nvme"]',
                    "checkpoint.save_total_limit": self.kept, "checkpoint.async": str(self.beside).lower(), "checkpoint.resume": "auto"}
        words = [*(["mpirun", "-np", str(self.ranks)] if self.ranks > 1 else []), program, "train", "run.toml"]
        for key, value in settings.items():
            words += ["--set", f"{key}={value}"]
        return words


def committed(output):
    """The steps of the checkpoints in the order of their commits: of the folders that have their last name."""
    found = []
    for manifest in (output / "checkpoints").glob("step-*/manifest.json"):
        if re.fullmatch(r"step-\d{9}", manifest.parent.name):
            facts = json.loads(manifest.read_text())
            found.append((facts["sequence"], facts["step"]))
    return [step for _, step in sorted(found)]


def folder_of(output, step):
    return output / "checkpoints" / f"step-{step:09}"


def bytes_of(output):
    """Hashes of the model that a run has made, and of all state as its last checkpoint holds it."""
    files = [output / "model/model.safetensors", *sorted(folder_of(output, committed(output)[-1]).glob("rank-*.h5"))]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def children_of(pid):
    found = []
    for tasks in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(word) for word in tasks.read_text().split()]
    return found


def runs(pid):
    """Whether a process is there, and not its exit code alone."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


class Attempt:
    """One start of a run in the folder where it trains into out/, to be killed or to come to its end."""

    def __init__(self, plan, program, folder):
        self.plan, self.folder, self.ranks = plan, folder, []
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(plan.command(program, "out"), cwd=folder, stdout=log, stderr=log, start_new_session=True,
                                            env=dict(os.environ, **ENVIRONMENT))
        children.alive.add(self.process.pid)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in [self.process.pid, *self.ranks]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        children.alive.discard(self.process.pid)

    def log(self):
        return (self.folder / "log").read_text(errors="replace")

    def wait_for(self, met):
        """False if it ended without that."""
        end = time.monotonic() + SECONDS
        while self.process.poll() is None:
            if met():
                return True
            expect(time.monotonic() < end, f"too slow\n{self.log()[-2000:]}")
            time.sleep(0.001)
        return False

    def all_ranks(self):
        self.ranks = children_of(self.process.pid) if self.plan.ranks > 1 else [self.process.pid]
        return len(self.ranks) == self.plan.ranks

    def saves(self):
        return any((self.folder / "out/checkpoints").glob("step-*.tmp"))

    def kill(self, victim, draw):
        for pid in {"a rank": [draw.choice(self.ranks)], "all ranks": self.ranks, "mpirun": [self.process.pid]}[victim]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + SECONDS_TO_END
        while self.process.poll() is None or any(map(runs, self.ranks)):
            expect(time.monotonic() < end, f"still there {SECONDS_TO_END} s after {victim} was killed\n{self.log()[-2000:]}")
            time.sleep(0.002)

    def check_start(self, newest):
        """Where it began, if it came so far."""
        text = self.log()
        resumed, first = re.search(r"^resumed from \S+ at step (\d+)$", text, re.M), re.search(r"^step +(\d+)/", text, re.M)
        began = int(resumed[1]) if resumed else 0
        expect(began == newest or not (resumed or first), f"it began from step {began}, the newest checkpoint was {newest}\n{text[:2000]}")
        expect(not first or int(first[1]) == newest + 1, f"its first step was not {newest + 1}\n{text[:2000]}")


class Soak:
    def __init__(self, options, work):
        self.program, self.most, self.work = pathlib.Path(options.spillway).resolve(), options.kills, work
        self.draw = random.Random(options.seed)
        self.kills_of_a_run = min(5, max(1, options.kills // 3))  # a short soak has every number of ranks too
        self.counts = collections.Counter()

    def wait_for_moment(self, attempt, left):
        """Any moment from the start on, one of training, or one of a save. False if the run was over before."""
        kind = self.draw.choices(["start", "training", "save"], [1, 3, 2])[0]
        met = {"start": lambda: True, "training": lambda: "\nstep " in attempt.log(), "save": attempt.saves}[kind]
        after = {"start": 1.0, "training": left / 2, "save": 0.01}[kind] * self.draw.random()
        if not attempt.wait_for(attempt.all_ranks) or not attempt.wait_for(met):
            return False
        time.sleep(after)
        return attempt.process.poll() is None

    def check_kill(self, attempt, newest):
        """\\return the newest checkpoint now"""
        attempt.check_start(newest)
        said = [int(step) for step in re.findall(r"^saved \S+/step-(\d+) in ", attempt.log(), re.M)]
        steps = committed(attempt.folder / "out")
        now = steps[-1] if steps else 0
        expect(now >= max(said, default=newest), f"the log calls {said} saved, there are {steps}")
        # Where old ones go, a kill may come between the removal of their files.
        for step in steps if attempt.plan.kept else steps[-1:]:
            children.run([self.program, "checkpoint", "verify", folder_of(attempt.folder / "out", step)], SECONDS, ENVIRONMENT)
        return now

    def run(self, number):
        plan = Plan.drawn(self.draw, number, ["device"] if small_run.in_memory(self.work) else ["device", "nvme"])
        folder = self.work / f"run-{number}"
        small_run.make(folder, steps=plan.steps, save_steps=plan.save_steps, tier=plan.tier)
        (folder / "nvme").mkdir()
        os.chdir(folder)
        start = time.monotonic()
        children.run(plan.command(self.program, "whole"), SECONDS, ENVIRONMENT)
        seconds = time.monotonic() - start
        newest, kills = 0, 0
        while True:
            with Attempt(plan, self.program, folder) as attempt:
                last = kills == self.kills_of_a_run or self.counts["kills"] == self.most
                if not last and self.wait_for_moment(attempt, seconds * (1 - newest / plan.steps)):
                    victim = self.draw.choice(["a rank", "all ranks", "mpirun"]) if plan.ranks > 1 else "all ranks"
                    attempt.kill(victim, self.draw)
                    kills += 1
                    self.counts.update(["kills", victim, *(["in a save"] if attempt.saves() else [])])
                    newest = self.check_kill(attempt, newest)
                    continue
                expect(attempt.process.wait(SECONDS) == 0, f"it did not come to its end\n{attempt.log()[-2000:]}")
                attempt.check_start(newest)
                break
        expect(bytes_of(folder / "out") == bytes_of(folder / "whole"), "its weights or its state are not those of the run left alone")
        expect(not list((folder / "nvme").iterdir()), "something is left in the folder for state on nvme")
        print(f"{number}: {plan}: {kills} kills, the same bytes", flush=True)
        shutil.rmtree(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spillway")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", default=".", help="where they train")
    options = parser.parse_args()
    children.stop_with_children()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir=options.directory) as work:
        soak, runs_done = Soak(options, pathlib.Path(work).resolve()), 0
        try:
            while soak.counts["kills"] < options.kills:
                soak.run(runs_done)
                runs_done += 1
        except children.Failed as failure:
            sys.exit(f"seed {options.seed}, run {runs_done}, kill {soak.counts['kills']}: {failure}")
        finally:
            os.chdir("/")
    kills = ", ".join(f"{count} {what}" for what, count in soak.counts.items())
    print(f"seed {options.seed}: {runs_done} runs, {kills}, {time.monotonic() - start:.0f} s: all as if never killed")


if __name__ == "__main__":
    main()
