# SPDX-License-Identifier: Apache-2.0
"""The part of check_gpu.py that is spillway's: the data of one shape, and runs of the program on it."""
import hashlib
import pathlib
import random
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from children import last_lines, metrics_of, run, say, toml  # noqa: E402
from words import SPECIAL, text_of, write_tokenizer  # noqa: E402

PIECES, BATCH, BATCHES, STEPS, SOURCES = 32000, 8, 3, 60, 20
LONGEST = 64
RATES = {"t5-large": 3e-6}  # higher ones let rounding decide how a deep model's curve goes on
RATE = 1e-4
# With early_stopping = false transformers 5 compares the finished beams with the best open one, 4.40 and spillway with the best
# candidate: about 1 % of sources end otherwise.
GENERATION = {"greedy": dict(num_beams=1, max_length=32),
              "beam": dict(num_beams=4, max_length=32, early_stopping=True, length_penalty=1.0)}
EXPORTED = {"tiny", "tiny-v1.1", "t5-small", "v1.1-small"}  # the others' weights are too large to write twice
REFUSED = 2  # spillway's exit code for what it does not have


def random_pairs(count, seed):
    """Pairs of random tokens of 1 to LONGEST - 1, and </s>."""
    draw = random.Random(seed)
    tokens = lambda: [draw.randrange(SPECIAL, PIECES) for _ in range(draw.randint(1, LONGEST - 1))] + [1]
    return [(tokens(), tokens()) for _ in range(count)]


class SpillwayRuns:
    """One model in `folder`, what it is trained on, and the options of its curves."""

    def __init__(self, args, folder):
        self.args, self.name, self.folder = args, folder.name, folder
        self.data = {"cycle": random_pairs(BATCH * BATCHES, 1), "still": random_pairs(BATCH * 20, 2)}
        self.curves = {"train": dict(batches="cycle", steps=args.steps, learning_rate=RATES.get(self.name, RATE)),
                       "still": dict(batches="still", steps=20, learning_rate=0.0)}
        self.sources = [source for source, _ in random_pairs(SOURCES, 3)]

    def write_data(self):
        write_tokenizer(self.folder / "spiece.model", PIECES)
        for name, pairs in self.data.items():
            steps = self.curves["train"]["steps"] if name == "cycle" else 1
            times = -(-steps // BATCHES) if name == "cycle" else 1
            for side, tokens in (("source", 0), ("target", 1)):
                lines = [text_of(pair[tokens][:-1]) + "\n" for pair in pairs] * times
                (self.folder / f"{name}.{side}").write_text("".join(lines))
        (self.folder / "input.txt").write_text("".join(text_of(source[:-1]) + "\n" for source in self.sources))

    def train(self, curve, precision, again=False):
        options = self.curves[curve]
        run_name = f"{curve}-{precision}{'-again' if again else ''}"
        export = self.name in EXPORTED and options["learning_rate"] > 0
        out = self.folder / run_name
        shutil.rmtree(out, ignore_errors=True)  # metrics are appended
        sections = {
            "model": {"path": str(self.folder), "dropout_rate": 0.0},
            "data": {"train": str(self.folder / options["batches"]), "shuffle": False},
            "train": {"output_dir": str(out), "device": self.args.device, "precision": precision, "logging_steps": 1,
                      "per_device_train_batch_size": BATCH, "global_batch_size": BATCH, "max_steps": options["steps"]},
            "optimizer": {"learning_rate": options["learning_rate"]},
            "schedule": {"lr_scheduler_type": "constant"},
            "checkpoint": {"resume": "none", "save_steps": 0, "save_final": False, "export": export, "export_dtype": "fp32"},
        }
        if precision == "fp16":
            sections["loss_scale"] = {"initial_scale_power": 10}  # no overflow is wanted: a skipped step shifts the curve
        config = self.folder / f"{run_name}.toml"
        config.write_text(toml(sections))
        code, _, err, seconds = run([self.args.spillway, "train", config], self.args.limit, tolerated=[REFUSED])
        if code == REFUSED:
            return None, last_lines(err, 3)
        lines = metrics_of(out)
        weights = out / "model" / "model.safetensors"
        hash_of = hashlib.sha256(weights.read_bytes()).hexdigest() if export else ""
        say(f"     {self.name:10} spillway {run_name}: {seconds:.1f} s, {lines[-1]['seconds_per_step'] * 1e3:.1f} ms a step")
        return {"lines": [{key: line[key] for key in ("loss", "grad_norm")} for line in lines], "weights": hash_of}, ""

    def generate(self, name, precision):
        flags = [word for key, value in GENERATION[name].items()
                 for word in (f"--{key}", str(value).lower())]
        _, out, _, _ = run([self.args.spillway, "generate", "--model", self.folder, "--input", self.folder / "input.txt",
                            "--device", self.args.device, "--precision", precision, "--ids", "--scores",
                            "--per-device-eval-batch-size", SOURCES, *flags], self.args.limit)
        rows = [line.split("\t") for line in out.splitlines()]
        return {"scores": [float(score) for score, _ in rows], "sequences": [[int(i) for i in ids.split()] for _, ids in rows]}
