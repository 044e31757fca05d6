# SPDX-License-Identifier: Apache-2.0
"""Plans held against measurements, and host memory seen from outside: what the scripts for a GPU stand on."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "support"))
from children import HostMemory, run  # noqa: E402

GIB = 2**30
GOOD = dict(row="good", ok=True, planned_bytes=20 * GIB, peak_bytes=int(20.3 * GIB), planned_host_bytes=10 * GIB,
            host_resident_bytes=int(9.6 * GIB), predicted={"seconds_per_step": 0.5}, seconds_per_step=0.56)


class PlanCheck(unittest.TestCase):
    def check(self, *rows):
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "out.json"
            out.write_text(json.dumps({"rows": rows}))
            command = [sys.executable, "-B", TESTS / "bench" / "plan_check.py", out]
            return subprocess.run(command, capture_output=True, text=True)

    def test_what_is_within_its_limits_passes(self):
        result = self.check(GOOD)
        self.assertEqual(result.returncode, 0, result.stdout)
        self.assertIn("1.015", result.stdout)
        self.assertNotIn("missed", result.stdout)

    def test_each_quantity_has_a_limit_of_its_own(self):
        for change, name in ((dict(peak_bytes=int(20.5 * GIB)), "device"), (dict(host_resident_bytes=int(10.6 * GIB)), "host"),
                             (dict(seconds_per_step=0.58), "seconds")):
            result = self.check(dict(GOOD, **change))
            self.assertEqual(result.returncode, 1, result.stdout)
            self.assertTrue(result.stdout.rstrip().endswith(f"missed: good: {name}"), result.stdout)

    def test_what_was_not_measured_or_not_planned_is_missed(self):
        failed = self.check(GOOD, dict(row="other", ok=False, error="Failed: exit code 5\nmore"))
        self.assertEqual(failed.returncode, 1)
        self.assertIn("missed: other: not measured: Failed: exit code 5\n", failed.stdout)
        unplanned = self.check(dict(GOOD, predicted=None))
        self.assertEqual(unplanned.returncode, 1)
        self.assertIn("missed: good: seconds", unplanned.stdout)

    def test_rows_without_a_plan_are_left_out(self):
        self.assertEqual(self.check(GOOD, dict(row="product", ok=True, tflops=780)).returncode, 0)


class SeenFromOutside(unittest.TestCase):
    def test_a_childs_memory_is_seen(self):
        with HostMemory(interval=0.01) as memory:
            run([sys.executable, "-c", "import time; kept = bytearray(200 * 2**20); time.sleep(0.5)"], 30)
        self.assertGreater(memory.resident, 200 * 2**20)
        self.assertLess(memory.resident, 260 * 2**20)


unittest.main()
