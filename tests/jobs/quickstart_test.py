# SPDX-License-Identifier: Apache-2.0
import pathlib
import subprocess
import unittest

from stubs import Stubs

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "jobs" / "quickstart.sh"
# Does as the contract says: files under train.output_dir, one line for each line that generate reads.
SPILLWAY = r"""
for word in "$@"; do
  case $word in train.output_dir=*) out=${word#*=} ;; esac
done
case $1 in
  train)
    mkdir -p "$out/checkpoints/step-000000040" "$out/model"
    printf '{"step": 20, "loss": 7.5}\n{"step": 40, "loss": 2.25}\n{"step": 40, "eval_loss": 3.5}\n' >"$out/metrics.jsonl"
    echo '{"eval_loss": 3.5, "eval_bleu": 6.125, "eval_bleu_copy": 3.75}' >"$out/all_results.json"
    ;;
  generate) sed 's/^/translated /' "$5" ;;
  checkpoint) echo "step-000000040" ;;
esac
"""


class Quickstart(unittest.TestCase):
    def setUp(self):
        self.stubs = Stubs()
        self.addCleanup(self.stubs.close)
        build = self.stubs.folder / "build"
        data = build / "quickstart" / "data"
        data.mkdir(parents=True)
        (build / "CMakeCache.txt").touch()
        (data / "spiece.model").touch()
        for name, count in (("train", 9), ("val", 5), ("seen", 3)):
            for side in ("source", "target"):
                (data / f"{name}.{side}").write_text("".join(f"{name} {side} {i}\n" for i in range(count)))
        self.stubs.add("dpkg-query", "echo -n installed")
        self.stubs.add("cmake")
        self.stubs.add("mpirun", 'shift 2; exec "$@"')
        self.stubs.add("spillway", SPILLWAY, where=build)
        self.build = build

    def call_script(self):
        return subprocess.run([SCRIPT], env=self.stubs.environment(BUILD_DIR=str(self.build)), capture_output=True, text=True)

    def run_script(self):
        result = self.call_script()
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def test_it_trains_anew_each_time_and_says_what_came_out(self):
        out = self.build / "quickstart" / "out"
        out.mkdir()
        (out / "left-over").touch()

        text = self.run_script()

        self.assertFalse((out / "left-over").exists())
        self.assertIn("training loss: 7.500 at step 20, 2.250 at step 40", text)
        self.assertIn("BLEU: 6.12; of copying the source: 3.75", text)
        self.assertEqual(text.count("spillway:  translated val source"), 3)
        self.assertEqual(text.count("spillway:  translated seen source"), 3)
        self.assertIn(str(out / "metrics.jsonl"), text)

    def test_it_resumes_from_the_newest_checkpoint_for_ten_steps(self):
        self.run_script()

        first, second = [call for call in self.stubs.calls() if call.startswith("mpirun")]
        self.assertIn("-np 2", first)
        self.assertIn("--resume none", first)
        self.assertIn("--resume " + str(self.build / "quickstart/out/checkpoints/step-000000040"), second)
        self.assertIn("train.max_steps=50", second)

    def test_it_stops_where_translating_fails(self):
        self.stubs.add("spillway", SPILLWAY.replace("sed 's/^/translated /' \"$5\"", "exit 5"), where=self.build)

        result = self.call_script()

        self.assertEqual(result.returncode, 5)
        self.assertNotIn("three sentences seen in training", result.stdout)


unittest.main()
