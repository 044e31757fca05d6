#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs store_bench and fio in turn on the same file, with the same transfer size, depth and mix, and prints how they compare.

    store_peers.py build-bench/tests/bench/store_bench [--directory DIR] [--rounds 6] [--seconds 2]

The median over the rounds is what counts: what else the disk does in one round hits both. They take turns in going first.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile

DEPTH = 32
MIXES = {"read": "read", "write": "write", "mixed": "rw"}  # store_bench's name: fio's


def fio(path, mix, mebibytes, seconds):
    command = ["fio", "--name=peer", f"--filename={path}", f"--rw={MIXES[mix]}", f"--bs={mebibytes}M", f"--iodepth={DEPTH}",
               "--ioengine=io_uring", "--fixedbufs=1", "--direct=1", "--size=1G", "--output-format=json", "--rwmixread=50",
               *(["--time_based", f"--runtime={seconds}"] if seconds else [])]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return sum(report["jobs"][0][way]["bw_bytes"] for way in ("read", "write"))


def ours(bench, path, mix, mebibytes, seconds):
    command = [bench, f"--benchmark_filter=store_throughput/uring_{mix}/{mebibytes}/", f"--benchmark_min_time={seconds}",
               "--benchmark_format=json"]
    environment = dict(os.environ, STORE_BENCH_FILE=str(path))
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)
    result = report["benchmarks"][0]
    if result.get("error_occurred"):
        raise SystemExit(f"store_bench: {result['error_message']}")
    return result["bytes_per_second"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench")
    parser.add_argument("--directory", default=".")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--mebibytes", type=int, nargs="+", default=[1, 16], choices=[1, 4, 16])
    options = parser.parse_args()
    bench = str(pathlib.Path(options.bench).resolve())
    print(f"{'':14}{'fio':>9}{'spillway':>10}  GB/s, medians of {options.rounds}; ratio, and that of each round")
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        path = pathlib.Path(directory) / "fio"
        fio(path, "write", 4, None)  # so that reads meet written blocks
        for mebibytes in options.mebibytes:
            for mix in MIXES:
                engines = (lambda: fio(path, mix, mebibytes, options.seconds),
                           lambda: ours(bench, path, mix, mebibytes, options.seconds))
                rounds = []
                for number in range(options.rounds):
                    # Who goes second may meet a disk whose allowance the first has used up.
                    first = number % 2
                    speeds = {first: engines[first](), 1 - first: engines[1 - first]()}
                    rounds.append((speeds[0], speeds[1]))
                theirs, own = (statistics.median(column) for column in zip(*rounds))
                ratios = " ".join(f"{b / a:.2f}" for a, b in rounds)
                print(f"{mix:7}{mebibytes:3} MiB {theirs / 1e9:9.2f}{own / 1e9:10.2f}  {own / theirs:.2f}  ({ratios})", flush=True)


main()
