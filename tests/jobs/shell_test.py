# SPDX-License-Identifier: Apache-2.0
import pathlib
import shutil
import subprocess
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS = sorted([*(ROOT / "jobs").glob("*.sh"), *(ROOT / "jobs").glob("*.sbatch"), ROOT / "tests" / "run.sh", ROOT / ".ci" / "run"])


class Scripts(unittest.TestCase):
    def test_bash_reads_them(self):
        for script in SCRIPTS:
            with self.subTest(script.name):
                result = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
                self.assertEqual(result.returncode, 0, result.stderr)

    def test_shellcheck_finds_nothing(self):
        self.assertIsNotNone(shutil.which("shellcheck"), "package shellcheck is missing: jobs/install-packages.sh tests")
        result = subprocess.run(["shellcheck", *SCRIPTS], capture_output=True, text=True)
        self.assertEqual(result.returncode, 0, result.stdout)

    def test_they_stop_at_the_first_error_and_name_no_absolute_path(self):
        for script in SCRIPTS:
            with self.subTest(script.name):
                text = script.read_text()
                self.assertIn("set -euo pipefail", text)
                for place in ("/home/", "/root/", "/tmp/", "/scratch/", "/work/"):
                    self.assertNotIn(place, text)


unittest.main()
