# SPDX-License-Identifier: Apache-2.0
"""jobs/train.sbatch in a real Slurm of two nodes: signalled before the time limit, a node lost, cancelled, started by mpirun, a rank lost.
SPILLWAY names the program."""
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import unittest

import slurm_cluster
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import small_run  # noqa: E402

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "jobs" / "train.sbatch"
CHECK_SECONDS = 30  # slurmctld looks at time limits so often, counted from its start
NAME = "Slurm.TwoNodes"


def skip(reason):
    # As GoogleTest says it, for the sum of all tests.
    print(f"[ RUN      ] {NAME}\n{reason}\n[  SKIPPED ] {NAME} (0 ms)")
    sys.exit(0)


def process_of(job, rank):
    """The program's process of a rank."""
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes().split(b"\0")
            is_it = {f"SLURM_JOB_ID={job}".encode(), f"SLURM_PROCID={rank}".encode()} <= set(environment)
            if is_it and (process / "comm").read_text() == "spillway\n":
                return int(process.name)
        except OSError:
            continue  # it has ended
    raise AssertionError(f"rank {rank} of job {job} has no process")


class TwoNodes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = cluster
        cls.work = cluster.base / "work"
        tier = "device" if small_run.in_memory(cluster.base) else "nvme"  # nothing is offloaded to what is memory itself
        small_run.make(cls.work, steps=100_000_000, save_steps=0, tier=tier)
        os.chdir(cls.work)
        cls.local = cluster.base / "disk" / "nvme"

    def submit(self, name, *arguments, options=(), **environment):
        """The job's number; it writes into the folder NAME."""
        return self.cluster.submit("--nodes=2", "--output=%j.out", *options, SCRIPT, "run.toml", "--set", f"train.output_dir={name}",
                                   *arguments, NVME_DIR=str(self.local), **environment)

    def log(self, job):
        path = self.work / f"{job}.out"
        return path.read_text() if path.exists() else ""

    def wait_for_log(self, job, words, seconds=60, after=0):
        slurm_cluster.wait_until(lambda: words in self.log(job)[after:], f'"{words}" of job {job}', seconds)

    def scratch(self):
        return [path.name for node in slurm_cluster.NODES for path in (self.cluster.base / f"disk.{node}" / "nvme").glob("*")]

    def test_1_cancelled_saves_and_stays_away(self):
        job = self.submit("cancelled")
        self.wait_for_log(job, "\nstep 300/")
        if not small_run.in_memory(self.cluster.base):
            self.assertEqual(len(self.scratch()), 2, "each rank's files are on its own node")

        slurm_cluster.run("scancel", job)

        self.wait_for_log(job, "Slurm ended the job: submit it again to go on")
        self.cluster.wait_for(job, JobState="CANCELLED", Restarts="0")
        self.assertTrue((self.work / "cancelled" / "checkpoints" / "LATEST").exists())
        self.assertEqual(self.scratch(), [])
        type(self).steps_per_second = float(re.findall(r"([\d.]+) samples/s", self.log(job))[20]) / 8

    def test_2_a_folder_of_each_node_is_no_place_for_checkpoints(self):
        job = self.submit("refused", "--set", f"checkpoint.dir={self.cluster.base}/disk/checkpoints")

        self.cluster.wait_for(job, JobState="FAILED", ExitCode="2:0", Restarts="0")

        self.assertIn("[rank 1 on nodeB] checkpoint.dir", self.log(job))
        self.assertIn("must be on a file system that all of them share", self.log(job))

    def test_3_mpirun_starts_ranks_too(self):
        job = self.submit("by-mpirun", "--set", "train.max_steps=20", LAUNCHER="mpirun")

        self.cluster.wait_for(job, JobState="COMPLETED", ExitCode="0:0")

        self.assertIn("on 2 ranks", self.log(job))
        self.assertTrue((self.work / "by-mpirun" / "model" / "model.safetensors").exists())

    def test_4_signalled_requeued_bereft_of_a_node_it_ends_as_if_nothing_had_happened(self):
        steps = max(400, int(22 * self.steps_per_second))
        settings = ["--set", f"train.max_steps={steps}", "--set", f"checkpoint.save_steps={max(50, steps // 40)}",
                    "--set", "train.logging_steps=50"]
        # Meanwhile on the machine around the nodes: one run without interruption.
        with open(self.work / "whole.out", "wb") as out:
            whole = subprocess.Popen(
                ["mpirun", "-np", "2", "--oversubscribe", "--bind-to", "none", os.environ["SPILLWAY"], "train", "run.toml",
                 "--set", "train.output_dir=whole", *settings],
                env={**os.environ, "SLURM_TMPDIR": str(self.cluster.base / "disk")}, stdout=out, stderr=out)
        self.addCleanup(whole.kill)
        since_check = (time.monotonic() - self.cluster.started) % CHECK_SECONDS
        time.sleep((CHECK_SECONDS - 6 - since_check) % CHECK_SECONDS)

        job = self.submit("out", *settings, options=["--time=1", "--signal=B:USR1@50"], SIGNAL_SECONDS="50")
        self.wait_for_log(job, "back in the queue")
        slurm_cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=30")
        first = len(self.log(job))
        self.assertIn("by a signal: run the same command again to go on", self.log(job))
        self.wait_for_log(job, "resumed from out/checkpoints/step-")
        self.assertFalse((self.work / "out" / "REQUEUE").exists())
        self.wait_for_log(job, "\nsaved out/checkpoints/step-", after=first)
        self.cluster.set_node("nodeB", "DOWN")
        self.cluster.wait_for(job, Restarts="2")
        self.cluster.set_node("nodeB", "RESUME")

        self.cluster.wait_for(job, 150, JobState="COMPLETED", ExitCode="0:0", Restarts="2")

        log = self.log(job)
        self.assertEqual(log.count("resumed from out/checkpoints/step-"), 2)
        self.assertIn("run 3 of job", log)
        self.assertEqual(whole.wait(120), 0, (self.work / "whole.out").read_text()[-2000:])
        model = pathlib.Path("model") / "model.safetensors"
        self.assertEqual((self.work / "out" / model).read_bytes(), (self.work / "whole" / model).read_bytes())
        self.assertEqual(self.scratch(), [])

    def test_5_whether_a_rank_dies_or_stops_the_other_ends_the_job_and_nobody_starts_it_again(self):
        for name, number in (("killed", signal.SIGKILL), ("stopped", signal.SIGSTOP)):
            with self.subTest(name):
                # Slurm leaves the survivor alone.
                settings = (f"train.output_dir={name}", "train.collective_timeout=3s", "checkpoint.save_steps=100",
                            "offload.exp_avg=device", "offload.exp_avg_sq=device")
                train = [os.environ["SPILLWAY"], "train", "run.toml", *(word for setting in settings for word in ("--set", setting))]
                job = self.cluster.submit("--nodes=2", "--output=%j.out", "--requeue", "--wrap",
                                          " ".join(["srun --kill-on-bad-exit=0 --mpi=pmix", *train]))
                self.wait_for_log(job, f"\nsaved {name}/checkpoints/step-")

                os.kill(process_of(job, 1), number)

                self.cluster.wait_for(job, JobState="FAILED", Restarts="0")
                # Slurm ends the ranks when one aborts, and may be faster than that one's own end.
                self.assertRegex(self.log(job), "task 0: (Exited with exit code 5|Killed)")
                self.assertIn("rank 0 on nodeA, step ", self.log(job))
                self.assertIn("rank 1 on nodeB gives no answer: it has died or is stopped", self.log(job))
                self.assertFalse((self.work / name / "REQUEUE").exists())
                step = (self.work / name / "checkpoints" / "LATEST").read_text().strip()
                slurm_cluster.run(os.environ["SPILLWAY"], "checkpoint", "verify", f"{name}/checkpoints/{step}")

    def run(self, result=None):
        before = len(result.failures) + len(result.errors)
        outcome = super().run(result)
        if len(result.failures) + len(result.errors) > before:
            print(self.cluster.logs(), file=sys.stderr)
        return outcome


if slurm_cluster.INSIDE not in os.environ:
    try:
        slurm_cluster.check_machine()
    except slurm_cluster.CannotRun as reason:
        skip(reason)
    sys.exit(slurm_cluster.in_world([sys.executable, "-B", *sys.argv]))

cluster = slurm_cluster.Cluster()
try:
    cluster.start()
    unittest.main(verbosity=2)
except slurm_cluster.CannotRun as reason:
    skip(reason)
finally:
    cluster.stop()
