#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times AdamW over fp32 parameters in turn: DeepSpeed's CPU Adam, this project's, and a plain C loop (adamw_bench).

    VENV/bin/python adamw_peers.py build-bench/tests/bench/adamw_bench [--rounds 7]

with a virtual environment made by hand: python3 -m venv VENV, then
    VENV/bin/pip install torch==2.11.0 setuptools wheel ninja && VENV/bin/pip install --no-build-isolation deepspeed==0.19.8
DeepSpeed compiles its operator at the first run (needs g++ and ninja on PATH: put VENV/bin there). Without DeepSpeed in the
environment only the other two are timed. 2 threads, 100 million parameters: adamw_bench has no other size for all three.
On a machine that is busy with other things look at the processor time; DeepSpeed's threads then need OMP_WAIT_POLICY=passive.
"""
import argparse
import json
import statistics
import subprocess
import time

ELEMENTS, THREADS, STEPS = 100_000_000, 2, 4


def deepspeed_step():
    """A function that does one step, or None."""
    try:
        import torch
        from deepspeed.ops.adam import DeepSpeedCPUAdam
    except ImportError as error:
        print(f"without DeepSpeed: {error}")
        return None
    torch.set_num_threads(THREADS)
    parameter = torch.nn.Parameter(torch.ones(ELEMENTS))
    parameter.grad = torch.full((ELEMENTS,), 0.5)
    optimizer = DeepSpeedCPUAdam([parameter], lr=1e-3, weight_decay=0.01)
    optimizer.step()
    return optimizer.step


def best(step):
    """Least wall-clock seconds of a step, and least processor seconds of a thread."""
    walls, processors = [], []
    for _ in range(STEPS):
        wall, processor = time.perf_counter(), time.process_time()
        step()
        walls.append(time.perf_counter() - wall)
        processors.append((time.process_time() - processor) / THREADS)
    return min(walls), min(processors)


def ours(bench, name):
    command = [bench, f"--benchmark_filter=^{name}/{ELEMENTS}/{THREADS}/process_time/real_time$", "--benchmark_min_time=0.001",
               f"--benchmark_repetitions={STEPS}", "--benchmark_format=json"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    runs = [b for b in report["benchmarks"] if b["run_type"] == "iteration"]
    return min(run["real_time"] for run in runs) * 1e-9, min(run["cpu_time"] for run in runs) / THREADS * 1e-9


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--set", default="avx512", choices=["avx2", "avx512"])
    options = parser.parse_args()
    step = deepspeed_step()
    ways = {"spillway": lambda: ours(options.bench, f"adamw_fp32/{options.set}"), "plain C": lambda: ours(options.bench, "plain_c")}
    if step:
        ways["DeepSpeed"] = lambda: best(step)
    rounds = [{name: time_of() for name, time_of in ways.items()} for _ in range(options.rounds)]
    print(f"{ELEMENTS} parameters, {THREADS} threads, best of {STEPS} steps, medians of {options.rounds} rounds; ratio: spillway to it")
    for name in ways:
        columns = []
        for clock, unit in ((0, "ms"), (1, "ms of processor a thread")):
            times = [r[name][clock] for r in rounds]
            ratio = statistics.median(r["spillway"][clock] / r[name][clock] for r in rounds)
            columns.append(f"{statistics.median(times) * 1e3:7.1f} (least {min(times) * 1e3:.1f}) {unit}, ratio {ratio:.2f}")
        print(f"  {name:10}" + "; ".join(columns))


main()
