# SPDX-License-Identifier: Apache-2.0
"""How far plans were from what was measured: of the files that gpu_speed.py wrote, job by job.

    plan_check.py OUT.json...

Planned and seen bytes of device memory (at most 2 % apart), bytes of host memory (5 %) and seconds of a step (15 %). Exit code 1, and
the jobs named, if any is further off or was not measured.
"""
import json
import pathlib
import sys

# What is compared: its name, where a row has the plan and the measurement, how far apart they may be.
LIMITS = {"device": ("planned_bytes", "peak_bytes", 0.02), "host": ("planned_host_bytes", "host_resident_bytes", 0.05),
          "seconds": ("predicted", "seconds_per_step", 0.15)}


def compared(row):
    """(name, planned, seen) of each; None for what the row lacks."""
    found = []
    for name, (planned, seen, _) in LIMITS.items():
        plan = row.get(planned)
        found.append((name, plan["seconds_per_step"] if isinstance(plan, dict) else plan, row.get(seen)))
    return found


def shown(name, value):
    if value is None:
        return "?"
    return f"{value:.3f} s" if name == "seconds" else f"{value / 2**30:.2f} GiB"


def judge(rows):
    """The table as text, and whether every row with a plan is within the limits."""
    lines, missed = [f"{'job':22} {'what':8} {'planned':>10} {'seen':>10}   ratio"], []
    for row in rows:
        if row.get("ok") and "planned_bytes" not in row:
            continue  # nothing of it is planned
        if not row.get("ok"):
            missed.append(f"{row['row']}: not measured: {row.get('error', '').partition(chr(10))[0]}")
            continue
        for name, planned, seen in compared(row):
            ratio = seen / planned if planned and seen is not None else None
            close = ratio is not None and abs(ratio - 1) <= LIMITS[name][2]
            lines.append(f"{row['row']:22} {name:8} {shown(name, planned):>10} {shown(name, seen):>10} "
                         f"{'      ?' if ratio is None else f'{ratio:7.3f}'}{'' if close else '  missed'}")
            if not close:
                missed.append(f"{row['row']}: {name}")
    lines.append(f"missed: {'; '.join(missed)}" if missed else "all within 2 % of device memory, 5 % of host memory, 15 % of time")
    return "\n".join(lines), not missed


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    rows = [row for path in sys.argv[1:] for row in json.loads(pathlib.Path(path).read_text())["rows"]]
    text, within = judge(rows)
    print(text)
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
