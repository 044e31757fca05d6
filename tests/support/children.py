# SPDX-License-Identifier: Apache-2.0
"""What the scripts that run programs on a GPU share: children with a time limit, device memory watched from outside, results
that are on disk as soon as they are known."""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import threading
import time


class Failed(Exception):
    """A child did not do its work; the text says which, how it ended and what it said last."""


alive = set()  # process groups


def end_all(number, _):
    """A script that is told to stop takes its children along."""
    for group in list(alive):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    os._exit(128 + number)


def stop_with_children():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end_all)


def last_lines(text, count=12):
    return "\n".join(text.strip().splitlines()[-count:])


def run(command, limit, environment=None, tolerated=()):
    """Runs a program in a process group of its own, which is killed after `limit` seconds.

    Gives (exit code, standard output, standard error, seconds). Raises Failed unless the code is 0 or in `tolerated`.
    """
    command = [str(word) for word in command]
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
                             env=dict(os.environ, **(environment or {})), start_new_session=True)
    alive.add(child.pid)
    name = " ".join(pathlib.Path(word).name for word in command[:3])
    try:
        out, err = child.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        out, err = child.communicate()
        raise Failed(f"{name}: killed after {limit:.0f} s\n{last_lines(err or out)}") from None
    finally:
        alive.discard(child.pid)
    seconds = time.perf_counter() - start
    if child.returncode != 0 and child.returncode not in tolerated:
        raise Failed(f"{name}: exit code {child.returncode} after {seconds:.1f} s\n{last_lines(err or out)}")
    return child.returncode, out, err, seconds


class DeviceMemory:
    """Bytes in use on GPU 0 as its driver tells them, polled while the block runs; None without a driver.

    `before` is what others use, `samples` pairs of (seconds, bytes) since the block began.
    """

    QUERY = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i", "0"]

    def __init__(self, interval=0.2):
        self.interval, self.samples, self.before = interval, [], None
        self.done = threading.Event()

    def used(self):
        try:
            answer = subprocess.run(self.QUERY, capture_output=True, text=True, timeout=20, check=True).stdout
            return int(answer.split()[0]) * 2**20
        except (OSError, subprocess.SubprocessError, ValueError, IndexError):
            return None

    def watch(self):
        while not self.done.is_set():
            used = self.used()
            if used is None:
                return
            self.samples.append((time.perf_counter() - self.start, used))
            self.done.wait(self.interval)

    def __enter__(self):
        self.start = time.perf_counter()
        self.before = self.used() if shutil.which(self.QUERY[0]) else None
        self.thread = threading.Thread(target=self.watch, daemon=True)
        if self.before is not None:
            self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        if self.before is not None:
            self.thread.join()

    @property
    def peak(self):
        return max(used for _, used in self.samples) - self.before if self.samples else None


def number_in(path, key=None):
    """Of a file that is one number, or the one behind `key`, in bytes where the line says kB; None if there is none."""
    try:
        for line in pathlib.Path(path).read_text().splitlines():
            words = line.split()
            if key is None or words[:1] == [key]:
                return int(words[0 if key is None else 1]) * (1024 if words[-1] == "kB" else 1)
    except (OSError, ValueError, IndexError):
        pass
    return None


def group_usage_file():
    """The file in which this process's control group says how much memory is charged to it; None if there is none."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            version_1 = "memory" in controllers.split(",")
            if controllers and not version_1:
                continue
            mount, name = ("memory", "memory.usage_in_bytes") if version_1 else ("", "memory.current")
            for folder in (group.strip("/"), ""):  # in a container the group's own folder may be the mount's root
                path = pathlib.Path("/sys/fs/cgroup") / mount / folder / name
                if number_in(path) is not None:
                    return path
    return None


class HostMemory:
    """Bytes of host memory that programs started by run() take, polled while the block runs; None where the system does not say.

    resident   the most that the first process of any program had resident (VmHWM). Memory that CUDA pins is in it (RssShmem; seen with
               driver 580): this is what a ledger is held against
    taken      by how much MemAvailable fell: whatever cannot be given back at once, whoever took it
    charged    by how much the memory charged to the control group grew, or without one the machine's memory in use: page cache too
    """

    def __init__(self, interval=0.1):
        self.interval, self.done, self.group = interval, threading.Event(), group_usage_file()
        self.resident = self.taken = self.charged = None

    def in_use(self):
        if self.group is not None:
            return number_in(self.group)
        total, free = (number_in("/proc/meminfo", key) for key in ("MemTotal:", "MemFree:"))
        return None if total is None or free is None else total - free

    def look(self):
        higher = lambda old, new: old if new is None else max(old or 0, new)
        for pid in list(alive):
            self.resident = higher(self.resident, number_in(f"/proc/{pid}/status", "VmHWM:"))
        available, used = number_in("/proc/meminfo", "MemAvailable:"), self.in_use()
        if None not in (available, self.available_before):
            self.taken = higher(self.taken, self.available_before - available)
        if None not in (used, self.used_before):
            self.charged = higher(self.charged, used - self.used_before)

    def watch(self):
        while not self.done.wait(self.interval):
            self.look()

    def __enter__(self):
        self.available_before, self.used_before = number_in("/proc/meminfo", "MemAvailable:"), self.in_use()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()


class Results:
    """Rows under names, written to a JSON file whenever one is added."""

    def __init__(self, path, **about):
        self.path, self.lock = pathlib.Path(path), threading.Lock()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.content = dict(about, started=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), rows=[])
        self.write()

    def add(self, row):
        with self.lock:
            self.content["rows"].append(row)
            self.write()

    def write(self):
        partial = self.path.with_name(self.path.name + ".part")
        partial.write_text(json.dumps(self.content, indent=1) + "\n")
        os.replace(partial, self.path)


def say(*words):
    print(*words, flush=True)


def metrics_of(folder):
    """The lines of a run's metrics.jsonl that are about steps."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "seconds_per_step" in line]


def toml(sections):
    """A configuration file of {"section": {"key": value}}; TOML writes these values as JSON does."""
    parts = []
    for section, keys in sections.items():
        parts += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items())]
    return "\n".join(parts) + "\n"
