# SPDX-License-Identifier: Apache-2.0
"""The batch scripts with stand-ins for Slurm and the program. tests/jobs/slurm_test.py runs one in a real Slurm."""
import pathlib
import shutil
import signal
import subprocess
import time
import unittest

from stubs import Stubs

JOBS = pathlib.Path(__file__).resolve().parents[2] / "jobs"
# As the program does: --print-config, and then whatever the test wants of a run (RUN, a piece of shell).
PROGRAM = """
for word in "$@"; do
  if [[ $word == --print-config ]]; then
    [[ -z ${WRONG_CONFIG:-} ]] || exit 2
    echo 'output_dir = "out"'
    exit 0
  fi
done
eval "$RUN"
"""
SCONTROL = """
case $1 in
  show) printf 'JobId=7\\n   Command=%s/train.sbatch run.toml\\n' "$JOBS" ;;
  requeue) exit "${REQUEUE_CODE:-0}" ;;
esac
"""
# Options end where the command begins.
SRUN = 'while [[ $1 == -* ]]; do shift; done\nexec "$@"'


class Batch(unittest.TestCase):
    def setUp(self):
        self.stubs = Stubs()
        self.addCleanup(self.stubs.close)
        self.work = self.stubs.folder / "work"
        (self.work / "out").mkdir(parents=True)
        self.stubs.add("spillway", PROGRAM)
        self.stubs.add("scontrol", SCONTROL)
        self.stubs.add("srun", SRUN)
        self.stubs.add("mpirun", SRUN.replace("do shift", "do shift 2"))
        self.stubs.add("squeue", "echo 2030-01-01T00:00:00")
        self.marker = self.work / "out" / "REQUEUE"

    def start(self, script, *arguments, **environment):
        # As Slurm does: a copy of the script, in the folder where it was submitted.
        copy = self.stubs.folder / "slurm_script"
        shutil.copy(JOBS / script, copy)
        clean = {name: value for name, value in self.stubs.environment().items()
                 if not name.startswith(("SLURM_", "SBATCH_", "SPILLWAY"))}
        settings = {"SPILLWAY": "spillway", "JOBS": str(JOBS), "SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2",
                    "SLURM_JOB_NODELIST": "nodeA,nodeB", "RUN": "exit 0", **environment}
        return subprocess.Popen(["bash", copy, *arguments], cwd=self.work, env={**clean, **settings}, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)

    def run_script(self, script, *arguments, **environment):
        """Exit code, output, and the calls of some stand-in."""
        process = self.start(script, *arguments, **environment)
        text = process.communicate(timeout=30)[0]
        return process.returncode, text

    def calls(self, start):
        return [call for call in self.stubs.calls() if call.startswith(start)]

    def train(self, **environment):
        return self.run_script("train.sbatch", "run.toml", **environment)

    def assert_requeued(self, times):
        self.assertEqual(self.calls("scontrol requeue"), ["scontrol requeue 7"] * times)

    def test_a_run_that_ends_well_is_not_started_again(self):
        code, text = self.run_script("train.sbatch", "run.toml", "--set", "train.seed=1")

        self.assertEqual(code, 0, text)
        self.assert_requeued(0)
        self.assertEqual(self.calls("srun"), ["srun --mpi=pmix --kill-on-bad-exit=1 spillway train run.toml --set train.seed=1"])

    def test_exit_code_75_goes_back_to_the_queue(self):
        code, text = self.train(RUN="exit 75")

        self.assertEqual(code, 0, text)
        self.assert_requeued(1)

    def test_so_does_the_marker_when_the_launcher_hides_the_code(self):
        _, text = self.train(RUN="echo stopped at step 3 of 9 by a signal >out/REQUEUE; exit 143")

        self.assert_requeued(1)
        self.assertIn("stopped at step 3 of 9 by a signal", text)

    def test_a_failure_does_not_not_even_where_an_old_marker_lies(self):
        self.marker.touch()
        for failure in (1, 4, 5):
            with self.subTest(failure):
                self.assertEqual(self.train(RUN=f"exit {failure}")[0], failure)
        self.assert_requeued(0)

    def test_what_would_fail_again_stays_away_in_spite_of_the_marker(self):
        code, _ = self.train(RUN="touch out/REQUEUE; exit 4")

        self.assertEqual(code, 4)
        self.assert_requeued(0)

    def test_a_wrong_configuration_starts_no_ranks(self):
        code, _ = self.train(WRONG_CONFIG="yes")

        self.assertEqual(code, 2)
        self.assertEqual(self.calls("srun"), [])

    def test_without_a_configuration_it_says_how(self):
        code, text = self.run_script("train.sbatch")

        self.assertEqual(code, 2)
        self.assertIn("CONFIG.toml", text)

    def test_the_environment_may_name_the_configuration(self):
        self.assertEqual(self.run_script("train.sbatch", CONFIG="mine.toml")[0], 0)
        self.assertIn("spillway train mine.toml", self.calls("srun")[0])

    def test_requeue_exit_leaves_it_to_the_site(self):
        self.assertEqual(self.train(RUN="exit 75", REQUEUE="exit")[0], 75)
        self.assert_requeued(0)

    def test_if_slurm_refuses_the_code_says_what_is_left(self):
        code, text = self.train(RUN="exit 75", REQUEUE_CODE="1")

        self.assertEqual(code, 75)
        self.assertIn("submit it again", text)

    def test_restarts_come_to_an_end(self):
        self.assertEqual(self.train(RUN="exit 75", SLURM_RESTART_COUNT="3", MAX_RESTARTS="3")[0], 75)
        self.assert_requeued(0)

    def test_mpirun_may_start_the_ranks(self):
        self.train(LAUNCHER="mpirun")
        self.assertEqual(self.calls("mpirun"), ["mpirun --bind-to none spillway train run.toml"])
        code, _ = self.train(LAUNCHER="rsh")
        self.assertEqual(code, 2)

    def signalled(self, what, **environment):
        process = self.start("train.sbatch", "run.toml", **environment,
                             RUN="trap 'echo saving; exit 75' USR1; touch out/running; while :; do sleep 0.05; done")
        while not (self.work / "out" / "running").exists():
            self.assertIsNone(process.poll(), "it ended before it ran")
            time.sleep(0.02)
        process.send_signal(what)
        text = process.communicate(timeout=30)[0]
        return process.returncode, text

    def test_a_warning_is_passed_on_and_the_job_goes_back_to_the_queue(self):
        code, text = self.signalled(signal.SIGUSR1)

        self.assertIn("saving", text)
        self.assertEqual(code, 0, text)
        self.assert_requeued(1)

    def test_an_order_is_passed_on_and_what_comes_next_is_up_to_slurm(self):
        code, text = self.signalled(signal.SIGTERM)

        self.assertIn("saving", text)
        self.assertEqual(code, 75, text)
        self.assert_requeued(0)

    def told(self, name, **environment):
        self.run_script("train.sbatch", "run.toml", RUN=f'echo "told ${{{name}:-nothing}}" >out/told', **environment)
        return (self.work / "out" / "told").read_text().split()[1]

    def test_the_program_learns_how_early_the_signal_comes(self):
        self.assertEqual(self.told("SPILLWAY_SIGNAL_SECONDS"), "300")
        self.assertEqual(self.told("SPILLWAY_SIGNAL_SECONDS", SBATCH_SIGNAL="B:USR1@90"), "90")
        self.assertEqual(self.told("SPILLWAY_SIGNAL_SECONDS", SBATCH_SIGNAL="B:USR1"), "60")
        self.assertEqual(self.told("SPILLWAY_SIGNAL_SECONDS", SIGNAL_SECONDS="45"), "45")

    def test_the_program_learns_when_the_job_ends(self):
        at = int(subprocess.run(["date", "-d", "2030-01-01T00:00:00", "+%s"], capture_output=True, text=True, check=True).stdout)
        self.assertEqual(self.told("SLURM_JOB_END_TIME"), str(at))
        for unknown in ("echo N/A", "exit 1"):
            self.stubs.add("squeue", unknown)
            self.assertEqual(self.told("SLURM_JOB_END_TIME"), "nothing")
        self.assertEqual(self.told("SLURM_JOB_END_TIME", SLURM_JOB_END_TIME="1893456000"), "1893456000")

    def test_scratch_is_made_and_what_the_job_left_is_removed(self):
        drive = self.work / "drive of this node"
        code, text = self.train(NVME_DIR=str(drive), RUN='mkdir "$SLURM_TMPDIR"/spillway-{7,70}-1-rank-00000; exit 75')

        self.assertEqual(code, 0, text)
        self.assertEqual([path.name for path in drive.iterdir()], ["spillway-70-1-rank-00000"])
        self.assertEqual(len([call for call in self.calls("srun") if "--nodes=2 --ntasks=2 --ntasks-per-node=1" in call]), 2)

    def test_where_slurm_starts_nothing_any_more_this_node_s_scratch_is_removed_at_least(self):
        self.stubs.add("srun", 'case "$*" in *rm*) exit 1 ;; esac\n' + SRUN)
        drive = self.work / "drive"
        _, text = self.train(NVME_DIR=str(drive), RUN='mkdir "$SLURM_TMPDIR"/spillway-7-1-rank-00000; exit 75')

        self.assertEqual(list(drive.iterdir()), [])
        self.assertIn("until the next run", text)

    def test_a_file_may_set_the_environment(self):
        (self.work / "site.sh").write_text("export LAUNCHER=mpirun MPIRUN_ARGS='--map-by node'\n")
        self.train(ENV_FILE="./site.sh")
        self.assertEqual(self.calls("mpirun"), ["mpirun --map-by node spillway train run.toml"])

    def test_a_missing_program_is_named(self):
        code, text = self.train(SPILLWAY="./nowhere/spillway")

        self.assertEqual(code, 2)
        self.assertIn("no program ./nowhere/spillway", text)

    def test_a_sweep_runs_its_line_of_settings_in_a_folder_of_its_own(self):
        (self.work / "settings").write_text("# rate and seed\n\noptimizer.learning_rate=1e-4 train.seed=1\ntrain.seed=2\n")

        code, text = self.run_script("sweep.sbatch", "run.toml", "settings", SLURM_ARRAY_TASK_ID="1", RUN="exit 75")

        self.assertEqual(code, 0, text)
        self.assertIn("spillway train run.toml --set optimizer.learning_rate=1e-4 --set train.seed=1 --set train.output_dir=sweep/1",
                      self.calls("srun")[0])
        self.assert_requeued(1)
        code, text = self.run_script("sweep.sbatch", "run.toml", "settings", SLURM_ARRAY_TASK_ID="3")
        self.assertEqual(code, 2)
        self.assertIn("settings has no line 3", text)

    def test_t5_3b_brings_its_own_configuration(self):
        code, text = self.run_script("t5-3b.sbatch", "--set", "train.max_steps=3", RUN='echo "told $SPILLWAY_SIGNAL_SECONDS"')

        self.assertEqual(code, 0, text)
        self.assertIn(f"spillway train {JOBS}/t5-3b.toml --set train.max_steps=3", self.calls("srun")[0])
        self.assertIn("told 600", text)

    def test_an_evaluation_ends_with_the_code_of_its_ranks(self):
        code, text = self.run_script("eval.sbatch", "run.toml", "--split", "test", RUN="exit 4")

        self.assertEqual(code, 4, text)
        self.assertIn("spillway evaluate run.toml --split test", self.calls("srun")[0])
        self.assert_requeued(0)


unittest.main()
