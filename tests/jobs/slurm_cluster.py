# SPDX-License-Identifier: Apache-2.0
"""A Slurm of two nodes on one machine. Each node has a network, host name, processes and mounts of its own, in a world of the same kind
around them: nothing of the machine is touched, no port is taken, and when the world's first process ends, however it does, the kernel ends all
others and removes the rest."""
import ctypes
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

os.environ["PATH"] += ":/usr/sbin:/sbin"  # where daemons are, on not everybody's path
NODES = ("nodeA", "nodeB")
TOOLS = ("slurmctld", "slurmd", "sbatch", "munged", "ip", "unshare", "nsenter", "mpirun", "mount")
INSIDE = "SLURM_TEST_WORLD"  # names the folder of the world that this process is in
NAMESPACES = ["unshare", "--net", "--uts", "--ipc", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc"]

CONFIGURATION = """
ClusterName=loopback
SlurmctldHost=head(10.20.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={base}/munge/socket,cred_expire=5
StateSaveLocation={base}/state
SlurmdSpoolDir={base}/spool.%n
TmpFS={base}/tmp.%n
SlurmctldPidFile={base}/slurmctld.pid
SlurmdPidFile={base}/slurmd.%n.pid
SlurmctldLogFile={base}/slurmctld.log
SlurmdLogFile={base}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,bf_interval=1
KillWait=5
MessageTimeout=10
ReturnToService=1
NodeName=nodeA NodeAddr=10.20.0.11 CPUs=2
NodeName=nodeB NodeAddr=10.20.0.12 CPUs=2
PartitionName=all Nodes=nodeA,nodeB Default=YES MaxTime=INFINITE State=UP
"""

# What runs in a node's namespaces until slurmd does: the interface is moved into them from outside.
NODE = """
set -e
hostname {name}
mount -t tmpfs tmpfs /dev/shm
mount --bind {base}/disk.{name} {base}/disk
ip link set lo up
until ip link show eth0 >/dev/null 2>&1; do sleep 0.02; done
ip address add {address}/24 dev eth0
ip link set eth0 up
exec slurmd -D -N {name}
"""


class CannotRun(Exception):
    """This machine cannot have such a world; why."""


def check_machine():
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        raise CannotRun(f"not installed: {', '.join(missing)} (jobs/install-packages.sh tests)")
    tried = subprocess.run([*NAMESPACES, "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        raise CannotRun(f"no namespaces for this user: {tried.stderr.strip()}")


def die_with_parent():
    """In a process between fork and exec: it is killed when the one that started it ends."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def in_world(command):
    """Runs `command` as the first process of a new world. Returns its exit code"""
    with tempfile.TemporaryDirectory(prefix="spw-") as base:  # sockets in it have short names to live with
        return subprocess.run([*NAMESPACES, *command], env={**os.environ, INSIDE: base}, preexec_fn=die_with_parent).returncode


def run(*command, check=True, timeout=20):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}: {done.stdout}")
    return done.stdout


def wait_until(met, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not met():
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds} s still not: {what}")
        time.sleep(0.05)


class Cluster:
    """In the world. Files are under `base`, which is the same on all nodes but for base/disk, a node's own."""

    def __init__(self):
        self.base = pathlib.Path(os.environ[INSIDE])
        self._daemons = {}
        for name in ("state", "munge", "disk", *(f"{kind}.{node}" for kind in ("spool", "tmp", "disk") for node in NODES)):
            (self.base / name).mkdir()
        (self.base / "slurm.conf").write_text(CONFIGURATION.format(base=self.base))
        os.environ["SLURM_CONF"] = str(self.base / "slurm.conf")
        os.environ["SLURM_TIME_FORMAT"] = "standard"
        for name in [name for name in os.environ if name.startswith(("SLURM_JOB", "SBATCH_"))]:
            del os.environ[name]  # of a job that this test runs in

    def start(self):
        try:
            run("hostname", "head")
            run("ip", "link", "set", "lo", "up")
            run("ip", "link", "add", "bridge0", "type", "bridge")
            run("ip", "address", "add", "10.20.0.1/24", "dev", "bridge0")
            run("ip", "link", "set", "bridge0", "up")
        except RuntimeError as error:
            raise CannotRun(f"no bridge between network namespaces: {error}") from error
        self._start_munge()
        self._daemons["slurmctld"] = self._spawn("slurmctld", ["slurmctld", "-D"])
        self.started = time.monotonic()
        for node in NODES:
            self.start_node(node)
        wait_until(lambda: self.states() == {node: "idle" for node in NODES}, "both nodes idle", 30)
        if "pmix" not in run("srun", "--mpi=list"):
            raise CannotRun("this Slurm has no plugin for PMIx")

    def _spawn(self, name, command):
        with open(self.base / f"{name}.out", "ab") as out:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def _start_munge(self):
        key = self.base / "munge" / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        self.base.chmod(0o755)
        folder = self.base / "munge"
        self._daemons["munged"] = self._spawn(
            "munged",
            ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/socket", f"--pid-file={folder}/pid",
             f"--seed-file={folder}/seed", f"--log-file={folder}/log"])
        wait_until((folder / "socket").exists, "munged", 10)

    def start_node(self, node):
        number = NODES.index(node)
        node_process = self._spawn(
            node,
            [*NAMESPACES, "sh", "-c", NODE.format(name=node, base=self.base, address=f"10.20.0.{11 + number}")])
        self._daemons[node] = node_process
        mine = os.readlink("/proc/self/ns/net")
        wait_until(lambda: os.readlink(f"/proc/{node_process.pid}/ns/net") != mine, f"the network of {node}", 10)
        run("ip", "link", "add", f"to-{node}", "type", "veth", "peer", "name", "eth0", "netns", str(node_process.pid))
        run("ip", "link", "set", f"to-{node}", "master", "bridge0", "up")

    def states(self):
        lines = run("sinfo", "-h", "-N", "-o", "%N %t", check=False).split("\n")
        return dict(line.split() for line in lines if len(line.split()) == 2)

    def set_node(self, node, state):
        run("scontrol", "update", f"NodeName={node}", f"State={state}", "Reason=test")

    def submit(self, *arguments, **environment):
        """Returns the job's number"""
        done = subprocess.run(["sbatch", "--parsable", *map(str, arguments)], env={**os.environ, **environment},
                              capture_output=True, text=True, timeout=20)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return done.stdout.strip()

    def job(self, number):
        """What Slurm knows of it: JobState, Restarts, ExitCode, ..."""
        text = run("scontrol", "show", "job", number)
        return dict(word.split("=", 1) for word in text.split() if "=" in word)

    def wait_for(self, number, seconds=60, **fields):
        """Until the job has these fields; an error as soon as it has failed and was not to."""

        def met():
            job = self.job(number)
            if job["JobState"] == "FAILED" != fields.get("JobState", "FAILED"):
                raise AssertionError(f"job {number} failed: {job}")
            return all(job[name] == value for name, value in fields.items())

        wait_until(met, f"job {number} with {fields}", seconds)

    def logs(self):
        """The ends of all logs, for a failure's report."""
        texts = []
        for path in [*self.base.glob("*.log"), *self.base.glob("*.out"), *self.base.glob("work/*.out")]:
            texts.append(f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-40:]))
        return "\n".join(texts)

    def stop(self):
        for daemon in self._daemons.values():
            daemon.kill()
            daemon.wait()
