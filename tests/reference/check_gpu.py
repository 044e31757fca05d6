# SPDX-License-Identifier: Apache-2.0
"""Whole models on a GPU beside transformers on the same GPU: losses, gradient norms, curves of 60 steps, generation.

    check_gpu.py SPILLWAY OUT.json [--shapes t5-small,v1.1-small,t5-large] [--precisions fp32,bf16,fp16] [--device cuda]

Models have random weights and are saved by save_pretrained (gpu_peer.py says how they are drawn). Both sides train on the same
batches in the same order, without dropout, with AdamW and clipping; transformers in fp32 (without TF32), the same with a
rounding's worth of noise on every weight, and in bf16 with a master in fp32. What depends on noise is no reference, so a source
whose generated tokens change with it counts only through their score. Prints a line for each check, writes all of them to OUT as
they come, and ends with 1 if one failed. A program that fails or takes too long fails its checks and no others. Needs torch and
transformers. With --device cpu it runs on the CPU: --shapes tiny,tiny-v1.1 takes about four minutes on two idle cores.
"""
import argparse
import concurrent.futures
import functools
import json
import math
import os
import pathlib
import sys
import tempfile
from statistics import mean

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from children import Failed, Results, run, say, stop_with_children  # noqa: E402
from gpu_spillway import BATCH, GENERATION, SOURCES, STEPS, SpillwayRuns  # noqa: E402

PEER = pathlib.Path(__file__).resolve().with_name("gpu_peer.py")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spillway", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--shapes", default="t5-small,v1.1-small,t5-large")
    parser.add_argument("--precisions", default="fp32,bf16,fp16")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--jobs", type=int, default=3, help="shapes at a time")
    parser.add_argument("--limit", type=float, default=240, help="seconds that one program may take")
    parser.add_argument("--work", type=pathlib.Path, help="a folder to keep; otherwise a temporary one")
    return parser.parse_args()


class Shape:
    """One model: its files, the runs of spillway, and the checks."""

    def __init__(self, args, work, name, results):
        self.args, self.name, self.folder, self.results, self.failed = args, name, work / name, results, 0
        self.spillway = SpillwayRuns(args, self.folder)
        self.asked = args.precisions.split(",")
        self.runs, self.texts, self.peer = {}, {}, {}

    def check(self, what, value, limit, note=""):
        ok = value is not None and not math.isnan(value) and value <= limit
        self.failed += not ok
        self.results.add(dict(shape=self.name, check=what, value=value, limit=limit, ok=ok, note=note))
        shown = "missing" if value is None else f"{value:.3g}"
        say(f"{'ok  ' if ok else 'FAIL'} {self.name:10} {what:44} {shown:>9}  at most {limit:g}  {note}")

    def fail(self, what, why):
        self.failed += 1
        self.results.add(dict(shape=self.name, check=what, ok=False, note=str(why)))
        say(f"FAIL {self.name:10} {what}: {why}")

    def run_spillway(self):
        for precision in list(self.asked):
            for curve, again in (("still", False), ("train", False), ("train", True)):
                if precision not in self.asked:
                    break
                try:
                    got, refused = self.spillway.train(curve, precision, again)
                except (Failed, OSError, ValueError, LookupError) as error:
                    self.fail(f"spillway {curve} {precision}", error)
                    continue
                if got is None and precision == "fp16":
                    self.asked.remove(precision)
                    say(f"     {self.name:10} fp16 is left out: {refused}")
                elif got is None:
                    self.fail(f"spillway {curve} {precision}", refused)
                else:
                    self.runs[curve, precision, again] = got
        for name, precision in [(name, precision) for name in GENERATION for precision in self.asked]:
            try:
                self.texts[name, precision] = self.spillway.generate(name, precision)
            except (Failed, OSError, ValueError) as error:
                self.fail(f"spillway generate {name} {precision}", error)

    # What transformers does.

    def run_peer(self):
        sequences = {f"{name}-{precision}": text["sequences"] for (name, precision), text in self.texts.items()}
        batches = {name: [pairs[begin:begin + BATCH] for begin in range(0, len(pairs), BATCH)]
                   for name, pairs in self.spillway.data.items()}
        task = dict(batches=batches, curves=self.spillway.curves, generation=GENERATION, sources=self.spillway.sources,
                    sequences=sequences)
        (self.folder / "task.json").write_text(json.dumps(task))
        try:
            _, _, _, seconds = run([sys.executable, PEER, "numbers", self.folder, self.args.device], self.args.limit)
            say(f"     {self.name:10} transformers: {seconds:.1f} s")
        except Failed as error:
            self.fail("transformers", error)
        if (self.folder / "peer.json").exists():
            self.peer = json.loads((self.folder / "peer.json").read_text())
        self.results.add(dict(shape=self.name, transformers=self.peer,
                              spillway={"-".join(map(str, key)): value for key, value in self.runs.items()}))

    # The checks.

    def check_curves(self, precision):
        exact, noise, short = (self.peer.get(f"train/{kind}") for kind in ("fp32", "noise", "bf16"))
        run, still = self.runs.get(("train", precision, False)), self.runs.get(("still", precision, False))
        if not (exact and noise and short and run and still):
            return self.fail(f"{precision} curves", "a run is missing")
        lines = run["lines"]
        self.check(f"{precision}: loss of step 1, relative", apart(lines[:1], exact[:1], "loss"),
                   1e-5 if precision == "fp32" else 1e-3, f"loss {lines[0]['loss']:.6f}, ln V is {math.log(32128):.3f}")
        self.check(f"{precision}: grad_norm of step 1, relative", apart(lines[:1], exact[:1], "grad_norm"),
                   1e-4 if precision == "fp32" else 2e-2, f"norm {lines[0]['grad_norm']:.4f}")
        at_end = f"{lines[0]['loss']:.4f} to {lines[-1]['loss']:.4f}"
        # A curve that a rounding's worth of noise moves is no better reference than that.
        if precision == "fp32":
            with_noise = apart(noise, exact, "loss")
            self.check("fp32: loss over the curve, relative", apart(lines, exact, "loss"), max(1e-3, 4 * with_noise),
                       f"{at_end}; noise makes {with_noise:.2g}")
            return
        reference, name = (short, "transformers' bf16") if precision == "bf16" else (exact, "transformers' fp32")
        self.check(f"{precision}: loss to {name}, step 1", difference(lines[:1], reference[:1]), 1e-2)
        # Early steps on random weights blow up every rounding: beside what that costs transformers' own bf16, little.
        cost, by_noise = difference(short, exact), difference(noise, exact)
        share = 0.1 if precision == "bf16" else 0.25
        self.check(f"{precision}: loss to {name}, the curve", difference(lines, reference),
                   max(1e-2, share * cost, 4 * by_noise),
                   f"{at_end}; bf16 costs transformers {cost:.2g}, noise {by_noise:.2g}")
        # Where weights move, all that bf16 costs is the same on both sides: small steps show late in weights of 8 bits.
        still_exact, still_short = self.peer["still/fp32"], self.peer["still/bf16"]
        self.check_nearer(f"{precision}: to fp32, weights fixed", still["lines"], still_short, still_exact, 1.0)
        self.check_nearer(f"{precision}: to fp32, the curve", lines, short, exact, 1.5)

    def check_nearer(self, what, lines, short, exact, limit):
        """The ratio of the root mean squares of what 16 bits cost in loss, here and in transformers' bf16."""
        ours, theirs = (root_mean_square(side, exact) for side in (lines, short))
        self.check(what, ours / theirs if theirs else None, limit, f"{ours:.2g}, transformers {theirs:.2g}")

    def check_same_bits(self, precision):
        one, two = (self.runs.get(("train", precision, again)) for again in (False, True))
        if not (one and two):
            return self.fail(f"{precision}: two runs, the same bits", "a run is missing")
        differing = sum(a != b for a, b in zip(one["lines"], two["lines"])) + (one["weights"] != two["weights"])
        differing += abs(len(one["lines"]) - len(two["lines"]))
        compared = "losses, norms, weights" if one["weights"] else "losses and norms"
        self.check(f"{precision}: two runs, steps that differ", differing, 0, compared)

    def check_generation(self, name, precision):
        ours, exact, noisy = self.texts.get((name, precision)), self.peer.get(f"{name}/fp32"), self.peer.get(f"{name}/noise")
        scored = self.peer.get(f"{name}-{precision}/scores")
        if not (ours and exact and noisy and scored):
            return self.fail(f"{precision} {name}", "a run is missing")
        firm = [a == b for a, b in zip(exact["sequences"], noisy["sequences"])]
        same = [a == b for a, b in zip(ours["sequences"], exact["sequences"])]
        lengths = sorted(len(row) for row in ours["sequences"])
        note = f"{sum(same)} of {len(same)} the same, {sum(firm)} firm, lengths {lengths[0]} to {lengths[-1]}"
        limit = 1e-4 if precision == "fp32" else 1e-2
        if precision == "fp32":
            self.check(f"fp32 {name}: firm sources that differ", sum(f and not s for f, s in zip(firm, same)), 0, note)
            loose = [i for i in range(len(same)) if not same[i]]
            if loose and name == "beam":
                below = max(exact["scores"][i] - ours["scores"][i] for i in loose)
                self.check("fp32 beam: others, score below the best", below, limit)
        if name == "beam":
            # Of 16 bits a short beam, a mean of few tokens, shows more than a long one.
            of_all, said = (max, "worst") if precision == "fp32" else (mean, "mean")
            self.check_scores(f"{precision} beam: to fp32, its own tokens, {said}", ours["scores"], scored["fp32"], limit, of_all)
        if name == "beam" and precision == "bf16":
            theirs = self.peer[f"{name}/bf16"]
            both = [i for i in range(SOURCES) if ours["sequences"][i] == theirs["sequences"][i]]
            self.check_scores("bf16 beam: to bf16, its own tokens, mean", ours["scores"], scored["bf16"], limit, mean)
            self.check_scores("bf16 beam: to bf16, the same beams, mean", [ours["scores"][i] for i in both],
                              [theirs["scores"][i] for i in both], limit, mean, f"{len(both)} beams; of fp32: {note}")

    def check_scores(self, what, ours, theirs, limit, of_all, note=""):
        differences = [abs(a - b) for a, b in zip(ours, theirs, strict=True)]
        worst = f"{max(differences):.2g} at worst" if differences else "none"
        self.check(what, of_all(differences) if differences else None, limit, f"{worst}; {note}" if note else worst)

    def run_all(self):
        self.spillway.write_data()
        self.run_spillway()
        self.run_peer()
        for precision in self.asked:
            checks = [self.check_curves, self.check_same_bits]
            checks += [functools.partial(self.check_generation, name) for name in GENERATION]
            for check in checks:
                try:
                    check(precision)
                except (LookupError, TypeError, ValueError, ZeroDivisionError) as error:
                    self.fail(f"{precision} numbers", repr(error))  # a program that was killed leaves some of them
        return self.failed


def apart(lines, others, key):
    return max(abs(a[key] / b[key] - 1) for a, b in zip(lines, others, strict=True))


def difference(lines, others):
    return max(abs(a["loss"] - b["loss"]) for a, b in zip(lines, others, strict=True))


def root_mean_square(lines, others):
    pairs = list(zip(lines, others, strict=True))
    return math.sqrt(sum((a["loss"] - b["loss"]) ** 2 for a, b in pairs) / len(pairs))


def check_shape(args, work, results, name):
    """The number of checks that failed."""
    try:
        _, _, _, seconds = run([sys.executable, PEER, "models", work, args.device, name], args.limit)
        say(f"     {name:10} model made in {seconds:.1f} s")
        return Shape(args, work, name, results).run_all()
    except (Failed, OSError, LookupError, TypeError, ValueError) as error:
        results.add(dict(shape=name, check="all", ok=False, note=repr(error)))
        say(f"FAIL {name}: {error!r}")
        return 1


def check_all(args, work):
    results = Results(args.out, device=args.device, steps=args.steps)
    if args.jobs > 1:
        os.environ.setdefault("OMP_PROC_BIND", "false")  # several programs at once would share the first cores
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        failed = sum(pool.map(lambda name: check_shape(args, work, results, name), args.shapes.split(",")))
    rows = [row for row in results.content["rows"] if "ok" in row]
    say(f"{sum(row['ok'] for row in rows)} of {len(rows)} checks are right; all numbers are in {args.out}")
    return 1 if failed else 0


def main():
    stop_with_children()
    args = arguments()
    args.spillway = args.spillway.resolve()
    if args.work:
        args.work.mkdir(parents=True, exist_ok=True)
        return check_all(args, args.work.resolve())
    with tempfile.TemporaryDirectory() as folder:
        return check_all(args, pathlib.Path(folder))


sys.exit(main())
