# SPDX-License-Identifier: Apache-2.0
import os
import pathlib
import tempfile


class Stubs:
    """Commands that stand in for real ones, first on PATH; each call is noted, one line with its arguments."""

    def __init__(self):
        self._scratch = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self._scratch.name)
        self._bin = self.folder / "bin"
        self._bin.mkdir()
        self._calls = self.folder / "calls"
        self._calls.touch()

    def add(self, name, body="", where=None):
        path = (where or self._bin) / name
        path.write_text(f'#!/bin/bash\necho "{name} $*" >>"{self._calls}"\n{body}\n')
        path.chmod(0o755)

    def environment(self, **more):
        return {**os.environ, "PATH": f"{self._bin}:{os.environ['PATH']}", **more}

    def calls(self):
        return self._calls.read_text().splitlines()

    def close(self):
        self._scratch.cleanup()
