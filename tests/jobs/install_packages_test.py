# SPDX-License-Identifier: Apache-2.0
import pathlib
import subprocess
import unittest

from stubs import Stubs

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "jobs" / "install-packages.sh"
ALL_BUT_NINJA = 'if [[ ${!#} == ninja-build ]]; then exit 1; fi; echo -n installed'


class InstallPackages(unittest.TestCase):
    def setUp(self):
        self.stubs = Stubs()
        self.addCleanup(self.stubs.close)
        for name in ("sudo", "apt-get", "env"):
            self.stubs.add(name)

    def run_script(self, *groups):
        result = subprocess.run(["/bin/bash", SCRIPT, *groups], env=self.stubs.environment(), capture_output=True, text=True)
        others = [call for call in self.stubs.calls() if not call.startswith(("dpkg-query", "id"))]
        return result, others

    def test_nothing_missing_calls_neither_apt_nor_sudo(self):
        self.stubs.add("dpkg-query", "echo -n installed")

        result, calls = self.run_script("build", "quickstart", "tests")

        self.assertEqual((result.returncode, calls), (0, []))

    def test_root_installs_only_what_is_missing(self):
        self.stubs.add("dpkg-query", ALL_BUT_NINJA)
        self.stubs.add("id", "echo 0")

        result, calls = self.run_script("build")

        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertTrue(calls[-1].endswith("--no-install-recommends ninja-build"), calls)
        self.assertFalse(any(call.startswith("sudo") for call in calls))

    def test_others_go_through_sudo(self):
        self.stubs.add("dpkg-query", ALL_BUT_NINJA)
        self.stubs.add("id", "echo 1000")

        _, calls = self.run_script("build")

        self.assertTrue(calls and all(call.startswith("sudo") for call in calls), calls)

    def test_an_unknown_group_is_refused(self):
        result, calls = self.run_script("everything")

        self.assertEqual((result.returncode, calls), (2, []))
        self.assertIn("unknown group 'everything'", result.stderr)


unittest.main()
