# SPDX-License-Identifier: Apache-2.0
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[1] / "count_tests.py"
GOOGLE_TEST = """[ RUN      ] Ring.Wraps
[       OK ] Ring.Wraps (0 ms)
[ RUN      ] Ring/Sizes.Fill/3
ring_test.cpp:7: Failure
[  FAILED  ] Ring/Sizes.Fill/3, where GetParam() = 8 (12 ms)
[ RUN      ] Ring.Direct
ring_test.cpp:9: Skipped
the file system has no O_DIRECT

[  SKIPPED ] Ring.Direct (0 ms)
[  SKIPPED ] 1 test, listed below:
[  SKIPPED ] Ring.Direct
[  FAILED  ] 1 test, listed below:
[  FAILED  ] Ring/Sizes.Fill/3, where GetParam() = 8
"""


class CountTests(unittest.TestCase):
    def count(self, tests):
        """tests: (name, ctest's status, output)."""
        with tempfile.TemporaryDirectory() as scratch:
            log, junit = pathlib.Path(scratch) / "LastTest.log", pathlib.Path(scratch) / "junit.xml"
            log.write_text("".join(f"{i}/9 Testing: {name}\n{i}/9 Test: {name}\nOutput:\n{output}\n"
                                   for i, (name, _, output) in enumerate(tests, 1)))
            junit.write_text("<testsuite>" + "".join(f'<testcase name="{name}" status="{status}"/>' for name, status, _ in tests)
                             + "</testsuite>")
            result = subprocess.run([sys.executable, SCRIPT, log, junit], capture_output=True, text=True)
        self.assertEqual(result.stderr, "")
        return result.returncode, result.stdout.splitlines()

    def test_cases_of_a_program_count_one_by_one_with_the_reason_of_a_skip(self):
        code, lines = self.count([("ring", "fail", GOOGLE_TEST), ("layering", "run", "fine")])

        self.assertEqual(lines[-1], "2 passed, 1 failed, 1 skipped")
        self.assertIn("skipped: ring: Ring.Direct (the file system has no O_DIRECT)", lines)
        self.assertIn("failed: ring: Ring/Sizes.Fill/3", lines)
        self.assertEqual(code, 1)

    def test_a_crash_after_good_cases_is_a_failure(self):
        code, lines = self.count([("ring", "fail", "[ RUN      ] A.B\n[       OK ] A.B (0 ms)\n[ RUN      ] A.C\n")])

        self.assertEqual((code, lines[-1]), (1, "1 passed, 1 failed, 0 skipped"))

    def test_a_test_that_did_not_run_is_skipped_and_nothing_passed_is_no_success(self):
        code, lines = self.count([("gone", "notrun", "")])

        self.assertEqual((code, lines[-1]), (1, "0 passed, 0 failed, 1 skipped"))

    def test_all_passed_is_success(self):
        self.assertEqual(self.count([("layering", "run", "fine")]), (0, ["1 passed, 0 failed, 0 skipped"]))


unittest.main()
