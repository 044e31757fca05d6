# SPDX-License-Identifier: Apache-2.0
"""Speed and memory on one GPU: training and generation of large T5s with random weights, and transformers in the same sitting.

    gpu_speed.py SPILLWAY OUT.json [--only large40,3b20,...] [--peers peers.py] [--nvme DIR] [--list]
    gpu_speed.py SPILLWAY OUT.json --check [--profile FILE] [--nvme DIR]       the plan of named jobs beside what was measured

bf16 with the exact master, AdamW, clipping, dropout 0.1. --list prints the rows and about how long each takes on an H200. A row
counts its steady steps alone and says apart what starting took. Utilisation counts the model's own products (flops_of in
gpu_rows.py), without recomputation, and is relative to the measured rate of an 8192-cubed product. Peak memory is what the driver
reports, less what was in use before, beside the plan's ledger; peak host memory is what HostMemory in children.py says, and with it what
is charged to the control group, page cache included. Rows of a 24 GB card have memory.device = "23.5GiB". With --check the machine's
profile comes from FILE, or from a run of `spillway doctor` before the first row; it is frozen, and plan_check.py says how far off the
plan was. Rows whose name ends in -peer are transformers', eager: training
through the script given with --peers (an independent program that takes --model, --bs, ... and prints a line of JSON), generation
through gpu_torch.py. OUT is written after each row; a row that fails or runs out of time says so and the next one follows.
"""
import argparse
import hashlib
import json
import pathlib
import re
import shutil
import statistics
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from children import DeviceMemory, Failed, HostMemory, Results, metrics_of, run, say, stop_with_children, toml  # noqa: E402
from gpu_rows import (CHECKED, LENGTH, LOGGED, MODEL_SECONDS, PIECES, ROWS, SHAPES, USUAL, VOCABULARY, flops_of,  # noqa: E402
                      lengths_of, skipped_of, write_pairs)
from plan_check import compared, judge  # noqa: E402
from words import write_tokenizer  # noqa: E402

TORCH = pathlib.Path(__file__).resolve().with_name("gpu_torch.py")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spillway", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--only", help=f"rows, in this order; without it {USUAL} and, with --peers, their peers")
    parser.add_argument("--peers", type=pathlib.Path, help="the script for transformers' training rows")
    parser.add_argument("--peers-data", type=pathlib.Path, help="its --shared, for sentences of newsdev2016")
    parser.add_argument("--cap-gib", type=float, default=0, help="peers' cap, noted; spillway has what is free")
    parser.add_argument("--device-memory", default="auto", help="memory.device of spillway, where the row does not say")
    parser.add_argument("--nvme", type=pathlib.Path, action="append", help="a directory of offload.nvme_dirs, for rows with drives")
    parser.add_argument("--check", action="store_true", help=f"rows {CHECKED} unless --only says; then plan_check.py's table")
    parser.add_argument("--profile", type=pathlib.Path, help="what `spillway doctor --save` wrote: the profile that all rows plan with")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for every run of spillway, as its own --set")
    parser.add_argument("--suffix", default="", help="put behind the names of rows, to tell one --set from another")
    parser.add_argument("--random", action="store_true", help="spillway makes all weights: no torch, and no file of weights to read")
    parser.add_argument("--rate", type=float, help="TFLOP/s of the product as measured earlier; row product then needs no run")
    parser.add_argument("--limit", type=float, default=180, help="seconds that one program may take")
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds after which no further row begins")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--work", type=pathlib.Path, help="a folder to keep, models in it are used again; else a temporary one")
    parser.add_argument("--list", action="store_true", help="print the rows and stop; SPILLWAY and OUT are not looked at")
    return parser.parse_args()


class Bench:
    def __init__(self, args, work):
        self.args, self.work, self.rate = args, work, args.rate
        self.nvme = [folder.resolve() for folder in args.nvme or [work / "nvme"]]
        self.environment = {}
        self.results = Results(args.out, device=args.device, device_memory=args.device_memory, cap_gib_of_peers=args.cap_gib,
                               note="spillway has what the machine leaves it; the cap is that of the peers' allocator")

    def freeze_profile(self):
        """Every run of spillway finds the same profile where it looks for the machine's, and it is not to be written."""
        saved = self.work / "config" / "spillway" / "machine.json"
        saved.parent.mkdir(parents=True, exist_ok=True)
        given = self.args.profile.read_bytes() if self.args.profile else None  # it may be the one that was saved here
        saved.unlink(missing_ok=True)
        if given is not None:
            saved.write_bytes(given)
        else:
            folders = [word for folder in self.nvme for word in ("--nvme", folder)]
            for folder in self.nvme:
                folder.mkdir(parents=True, exist_ok=True)
            out = run([self.args.spillway, "doctor", *folders, "--save", saved], self.args.limit)[1]
            say(out.strip())
        saved.chmod(0o400)
        self.environment = {"XDG_CONFIG_HOME": str(self.work / "config")}
        self.results.content["profile"] = json.loads(saved.read_text())
        self.results.content["profile_sha256"] = hashlib.sha256(saved.read_bytes()).hexdigest()
        self.results.write()

    def spillway(self, *words, tolerated=()):
        return run([self.args.spillway, *words, *self.overrides()], self.args.limit, self.environment, tolerated)

    def random(self, row):
        return self.args.random or row.options.get("random")

    def model(self, row):
        """The folder of a row's model, made when first asked for."""
        folder = self.work / (row.model + ("-random" if self.random(row) else ""))
        if (folder / "spiece.model").exists():
            return folder
        if self.random(row):
            folder.mkdir(parents=True)
            keys = ("d_model", "d_kv", "d_ff", "num_heads", "num_layers")
            (folder / "config.json").write_text(json.dumps(dict(
                zip(keys, SHAPES[row.model]), model_type="t5", vocab_size=VOCABULARY, feed_forward_proj="relu",
                decoder_start_token_id=0, pad_token_id=0, eos_token_id=1)))
        else:
            seconds = run([sys.executable, TORCH, "model", row.model, folder, self.args.device], self.args.limit)[3]
            say(f"{row.model}: random weights made and written in {seconds:.1f} s")
        write_tokenizer(folder / "spiece.model", PIECES)
        return folder

    def config(self, row, name, data, batch=None):
        steps, phases, batch = row.options.get("steps", 0), bool(row.options.get("phases")), max(batch or row.batch, 1)
        card = self.args.device_memory if "card" not in row.options else f"{row.options['card']}GiB"
        sections = {
            "model": {"path": str(self.model(row)), "dropout_rate": 0.1,
                      "init": "random" if self.random(row) else "pretrained"},
            "data": {"max_source_length": LENGTH, "max_target_length": LENGTH, "shuffle": False, **data},
            "train": {"output_dir": str(self.work / f"{name}.out"), "device": self.args.device, "precision": "bf16",
                      "per_device_train_batch_size": batch, "global_batch_size": batch,
                      "gradient_checkpointing": row.options.get("checkpointing", "off"),
                      "max_steps": skipped_of(row) + steps, "logging_steps": min(LOGGED, skipped_of(row))},
            "memory": {"device": card},
            "checkpoint": {"resume": "none", "save_steps": 0, "save_final": phases,
                           "export": phases and not row.options.get("loss_only")},
            "eval": {"per_device_eval_batch_size": min(batch, 16) if row.options.get("loss_only") else batch, "num_beams": 4,
                     "early_stopping": False, "min_length": LENGTH, "max_length": LENGTH,
                     "predict_with_generate": not row.options.get("loss_only")},
        }
        if row.options.get("nvme"):
            for folder in self.nvme:
                folder.mkdir(parents=True, exist_ok=True)
            sections["offload"] = {"nvme_dirs": [str(folder) for folder in self.nvme]}
        for key, value in row.options.get("settings", {}).items():
            section, word = key.split(".")
            sections.setdefault(section, {})[word] = value
        path = self.work / f"{name}.toml"
        path.write_text(toml(sections))
        return path

    def overrides(self):
        return [word for each in self.args.set for word in ("--set", each)]

    def utilisation(self, tflops):
        return tflops / self.rate if self.rate else None

    # The kinds of rows.

    def product(self, row, name):
        words = [self.args.device] if self.args.device == "cuda" else [self.args.device, 512]
        result = json.loads(run([sys.executable, TORCH, "product", *words], self.args.limit)[1])
        self.rate = result["tflops"]
        return dict(result, shown=f"{self.rate:.1f} TFLOP/s")

    def largest(self, row, name):
        """The batch that `plan` says is the largest, or the nearest below it that train accepts."""
        base, batch = self.work / f"{name}-data", 1
        write_pairs(base, lengths_of(row, 1))
        config = self.config(row, name, {"train": str(base), "val": str(base)})
        batch = json.loads(self.spillway("plan", config, "--json")[1])["largest_batch"]["per_device_train_batch_size"]
        if self.args.device == "cpu":
            batch = min(batch, 64)  # to try the script
        planned, tries = batch, 5
        while True:
            try:
                found = self.train(row, name, batch)
                return dict(found, planned_batch=planned, batch=batch, shown=f"batch {batch} (plan: {planned}); {found['shown']}")
            except Failed as error:
                tries -= 1
                said = re.search(r"the largest train.per_device_train_batch_size that fits is (\d+)", str(error))
                if not said or not tries:
                    raise
                batch = min(int(said[1]), batch - 1)

    def train(self, row, name, batch=None):
        batch = batch or row.batch
        skipped, base = skipped_of(row), self.work / f"{name}-data"
        steps = skipped + row.options["steps"]
        lengths = lengths_of(row, batch * steps)
        write_pairs(base, lengths)
        data = {"val": str(base), "max_eval_samples": 2 * batch} if row.options.get("phases") else {}
        config = self.config(row, name, {"train": str(base), **data}, batch)
        out = self.work / f"{name}.out"
        shutil.rmtree(out, ignore_errors=True)
        with DeviceMemory() as memory, HostMemory() as host:
            _, _, err, wall = self.spillway("train", config)
        lines = metrics_of(out)
        steady = [line for line in lines if line["step"] > skipped]
        counts = [line["step"] - before["step"] for before, line in zip([{"step": 0}, *lines], lines)]
        of_steps = [line["seconds_per_step"] * count for line, count in zip(lines, counts)]
        seconds = sum(all_of for line, all_of in zip(lines, of_steps) if line["step"] > skipped) / (steps - skipped)
        median = statistics.median(line["seconds_per_step"] for line in steady)
        tflops = sum(flops_of(row.model, *pair) for pair in lengths[skipped * batch:]) / (steps - skipped) / seconds / 1e12
        tokens = sum(map(sum, lengths[skipped * batch:])) / (steps - skipped)
        in_steps = sum(of_steps)
        result = dict(seconds_per_step=seconds, median_seconds_per_step=median, samples_per_second=batch / seconds,
                      tokens_per_second=tokens / seconds, tflops=tflops, utilisation=self.utilisation(tflops),
                      steady_steps=steps - skipped, first_steps=lines[0]["seconds_per_step"], loss=lines[-1]["loss"],
                      seconds_of_all=wall, seconds_to_start=wall - in_steps,
                      stalls={key: round(sum(line["stall_seconds"][key] for line in steady), 4)
                              for key in steady[-1]["stall_seconds"]},
                      **self.memory(memory, err, out / "plan.json"), **host_memory(host))
        result["predicted"] = json.loads((out / "plan.json").read_text()).get("predicted")
        result["accounting"] = json.loads((out / "all_results.json").read_text()).get("accounting")
        result["plan_beside_measured"] = {key: dict(planned=planned, seen=seen) for key, planned, seen in compared(result)}
        used = "" if result["utilisation"] is None else f" = {100 * result['utilisation']:.1f} % of the product"
        if (out / "trace.json").exists():
            shutil.copy(out / "trace.json", self.args.out.with_name(f"{name}{self.args.suffix}-trace.json"))
        shutil.rmtree(out)  # it may hold a checkpoint
        result["shown"] = (f"{result['samples_per_second']:.1f} samples/s, {seconds * 1e3:.1f} ms a step, {tflops:.0f} TFLOP/s"
                           f"{used}; {wall - in_steps:.0f} s to start; {result['memory_shown']}; host {gib(host.resident)}, "
                           f"with page cache {gib(host.charged)}")
        return result

    def memory(self, memory, err, plan=None):
        """The driver's peak beside the ledger's; the driver's includes the context and libraries."""
        planned, planned_host, ledger = None, None, None
        if plan and plan.exists():
            content = json.loads(plan.read_text())
            planned, ledger = content["peak_bytes_of_one_rank"]["device"], content["ledger_of_one_rank"]
            planned_host = content["peak_bytes_of_one_rank"]["host"]
            if self.args.device == "cpu":
                planned_host += planned
        elif found := re.search(r"memory of a rank: device ([0-9.]+) (\w+)", err):
            planned = int(float(found[1]) * {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}.get(found[2], 1))
        samples = [used - memory.before for _, used in memory.samples]
        shown = f"planned {gib(planned)}, seen {gib(memory.peak)}"
        if planned and memory.peak:
            shown += f" ({100 * (memory.peak / planned - 1):+.1f} %)"
        # Growth would show between the middle of the run and its end; the very last samples are of the end of the process.
        middle = samples[len(samples) // 2: -len(samples) // 8] if len(samples) >= 16 else []
        growth = middle[-1] - middle[0] if middle else None
        placed = next((line for line in err.splitlines() if "memory of a rank" in line), "")
        return dict(placed=placed, planned_bytes=planned, planned_host_bytes=planned_host, peak_bytes=memory.peak, before_bytes=memory.before, growth_bytes=growth,
                    ledger=ledger, memory_shown=shown)

    def refuse(self, row, name):
        """Exit code 3 before anything large is allocated, and what the plan says."""
        base = self.work / f"{name}-data"
        write_pairs(base, lengths_of(row, row.batch))
        config = self.config(row, name, {"train": str(base)})
        with DeviceMemory() as memory:
            code, out, err, wall = self.spillway("train", config, tolerated=[3])
        lines = (err or out).strip().splitlines()
        said = next((line for line in lines if "does not fit" in line), lines[-1] if lines else "nothing was said")
        if code != 3:
            raise Failed(f"exit code {code}: {said}")
        return dict(seconds_of_all=wall, said=said, peak_bytes=memory.peak,
                    shown=f"{said}; {wall:.1f} s, seen {gib(memory.peak)}")

    def generate(self, row, name):
        """A run with one batch and a run with more: what is done once is in both."""
        samples, seconds, walls = [1, 1 + row.options["batches"]], [], []
        for batches in samples:
            base = self.work / f"{name}-data"
            write_pairs(base, [(LENGTH, 2)] * (row.batch * batches))
            config = self.config(row, name, {"val": str(base), "train": str(base)})
            with DeviceMemory() as memory:
                _, out, err, wall = self.spillway("evaluate", config, "--model", self.model(row))
            result = json.loads(out)
            value = lambda key: next(item for given, item in result.items() if given.endswith(key))
            seconds.append(value("runtime"))
            walls.append(wall)
        rate = row.batch * row.options["batches"] / (seconds[1] - seconds[0])
        found = self.memory(memory, err)
        return dict(items_per_second=rate, tokens_of_text=value("gen_len"), seconds=seconds, seconds_of_all=walls,
                    shown=f"{rate:.1f} items/s; {walls[1] - seconds[1]:.0f} s to start; {found['memory_shown']}", **found)

    def peer(self, row, name):
        if not self.args.peers:
            raise Failed("needs --peers")
        flags = list(row.options.get("flags", []))
        if "real" in flags:
            if not self.args.peers_data:
                raise Failed("needs --peers-data")
            flags += ["--shared", str(self.args.peers_data)]
        if "--steps" not in flags:
            flags += ["--steps", "10"]
        cap = 23 if "-24-" in name else self.args.cap_gib  # what a 24 GB card leaves besides the context
        if cap:
            flags += ["--cap-gib", str(cap)]
        with DeviceMemory() as memory, HostMemory() as host:
            _, out, _, wall = run([sys.executable, self.args.peers, "--engine", "hf", "--precision", "bf16",
                                   "--model", row.model, "--bs", row.batch, *flags], self.args.limit, tolerated=[3])
        lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        if not lines:
            raise Failed(f"no numbers: {out[-400:]}")
        rate = lines[-1].get("samples_s")
        shown = ", ".join(f"batch {line.get('bs')}: " + (f"{line['samples_s']} samples/s, {line.get('s_step')} s a step"
                                                         if line.get("samples_s") else line.get("status", "nothing"))
                          for line in lines)
        return dict(lines[-1], lines=lines, samples_per_second=rate, seconds_of_all=wall, peak_bytes=memory.peak,
                    **host_memory(host), shown=f"{shown}; seen {gib(memory.peak)}, host {gib(host.resident)}")

    def generate_peer(self, row, name):
        with DeviceMemory() as memory:
            out = run([sys.executable, TORCH, "generate", row.model, self.args.device, row.batch, row.options["batches"],
                       self.args.cap_gib], self.args.limit)[1]
        result = json.loads(out.splitlines()[-1])
        return dict(result, peak_bytes=memory.peak, shown=f"{result['items_per_second']:.2f} items/s; seen {gib(memory.peak)}")

    def run_row(self, name):
        row = ROWS[name]
        kinds = {"product": self.product, "train": self.train, "largest": self.largest, "refuse": self.refuse, "generate": self.generate,
                 "peer": self.peer, "generate-peer": self.generate_peer}
        about = dict(row=name + self.args.suffix, overrides=self.args.set, model=row.model, batch=row.batch, what=row.what)
        try:
            self.results.add(dict(about, ok=True, **kinds[row.kind](row, name)))
        except (Failed, OSError, ValueError, ArithmeticError, LookupError, TypeError, StopIteration) as error:
            self.results.add(dict(about, ok=False, error=f"{type(error).__name__}: {error}"))
            shutil.rmtree(self.work / f"{name}.out", ignore_errors=True)  # half a checkpoint leaves no room for the next row
        made = self.results.content["rows"][-1]
        say(f"{name + self.args.suffix:22} {row.model:9} BS {row.batch:<4} {made.get('shown') or 'FAILED: ' + made['error']}")
        return made["ok"]


def host_memory(host):
    return dict(host_resident_bytes=host.resident, host_taken_bytes=host.taken, host_charged_bytes=host.charged)


def gib(size):
    return "?" if size is None else f"{size / 2**30:.2f} GiB"


def usual_rows(args):
    names = USUAL.split(",")
    with_peers = [[name] + ([name + "-peer"] if args.peers and name + "-peer" in ROWS else []) for name in names]
    return [name for group in with_peers for name in group if name != "short16-peer" or args.peers_data]


def measure(args, work):
    names = args.only.split(",") if args.only else CHECKED.split(",") if args.check else usual_rows(args)
    if args.rate and "product" in names:
        names.remove("product")
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        sys.exit(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    bench, start, good = Bench(args, work), time.monotonic(), True
    if args.check or args.profile:
        bench.freeze_profile()
    for name in names:
        if time.monotonic() - start > args.budget:
            bench.results.add(dict(row=name, ok=False, error="not begun: --budget is spent"))
            say(f"{name:22} not begun: --budget is spent")
            good = False
        else:
            good = bench.run_row(name) and good
    if args.check:
        text, within = judge(bench.results.content["rows"])
        say(text)
        good = good and within
    return 0 if good else 1


def main():
    if "--list" in sys.argv:
        for name, row in ROWS.items():
            say(f"{name:22} {row.seconds:4} s  {row.model:9} BS {row.batch:<4} {row.what}")
        say("and once for each model, to make and write it: " + ", ".join(f"{n} {s} s" for n, s in MODEL_SECONDS.items()))
        return 0
    stop_with_children()
    args = arguments()
    args.spillway = args.spillway.resolve()
    if args.work:
        args.work.mkdir(parents=True, exist_ok=True)
        return measure(args, args.work.resolve())
    with tempfile.TemporaryDirectory() as folder:
        return measure(args, pathlib.Path(folder))


sys.exit(main())
