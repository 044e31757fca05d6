# SPDX-License-Identifier: Apache-2.0
"""Training and generation on the CPU, side by side with transformers on PyTorch and with CTranslate2.

    peers_cpu.py --spillway build/spillway --data DIR [--threads 2] [--rounds 3] [--only train,greedy,beam]

A T5 of t5-small's shape with random weights, in fp32. DIR has train.source, train.target and spiece.model, as
jobs/prepare-catalogue.sh makes it; the longer its sentences, the better. The engines take turns, all on the same sentences in
the same batches and with as many threads; what counts of each is its shortest time. Needs torch, transformers, sentencepiece,
safetensors and ctranslate2 (pip).
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

SHAPE = dict(vocab_size=32128, d_model=512, d_kv=64, d_ff=2048, num_heads=8, num_layers=6, dropout_rate=0.1,
             feed_forward_proj="relu", tie_word_embeddings=True, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1)
TRAIN_BATCH, GENERATE_BATCH, FORCED = 8, 32, 63


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spillway", type=pathlib.Path, required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=15, help="training steps that are timed, after 3 that are not")
    parser.add_argument("--sentences", type=int, default=64, help="to generate from; a multiple of 32")
    parser.add_argument("--max-length", type=int, default=128, help="tokens of a source and of a target at most")
    parser.add_argument("--only", default="train,greedy,beam")
    return parser.parse_args()


class Work:
    """The model, the sentences, and where they lie for those who read files."""

    def __init__(self, args, folder):
        import sentencepiece
        import torch
        from transformers import T5Config, T5ForConditionalGeneration

        self.args, self.folder, self.model_folder = args, folder, folder / "model"
        torch.set_num_threads(args.threads)
        torch.manual_seed(1)
        self.model = T5ForConditionalGeneration(T5Config(**SHAPE))
        self.model.save_pretrained(self.model_folder)
        (self.model_folder / "spiece.model").write_bytes((args.data / "spiece.model").read_bytes())
        self.tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(args.data / "spiece.model"))
        wanted = max(TRAIN_BATCH * (args.steps + 3), args.sentences + GENERATE_BATCH)
        self.sides = {side: self.read(args.data / f"train.{side}", wanted) for side in ("source", "target")}

    def read(self, path, lines):
        with open(path, encoding="utf-8") as file:
            text = [next(file) for _ in range(lines)]
        (self.folder / path.name).write_text("".join(text), encoding="utf-8")
        return [self.tokenizer.encode(line.strip())[: self.args.max_length - 1] + [1] for line in text]

    def sources_file(self, begin, end):
        path = self.folder / f"{begin}_to_{end}.source"
        lines = (self.folder / "train.source").read_text(encoding="utf-8").split("\n")
        path.write_text("".join(line + "\n" for line in lines[begin:end]), encoding="utf-8")
        return path

    def spillway(self, *words):
        environment = dict(os.environ, OMP_NUM_THREADS=str(self.args.threads))
        done = subprocess.run([self.args.spillway.resolve(), *map(str, words)], env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"spillway {words[0]} failed:\n{done.stderr[-2000:]}")
        return done.stdout


def padded(rows, value):
    import torch

    width = max(map(len, rows))
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])


def batches_of(rows, size, count):
    return [rows[begin:begin + size] for begin in range(0, size * count, size)]


def train_transformers(work):
    import torch
    from transformers import T5ForConditionalGeneration

    model = T5ForConditionalGeneration.from_pretrained(work.model_folder).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5)
    steps = work.args.steps + 3
    pairs = zip(batches_of(work.sides["source"], TRAIN_BATCH, steps), batches_of(work.sides["target"], TRAIN_BATCH, steps))
    for step, (sources, targets) in enumerate(pairs):
        if step == 3:
            start = time.perf_counter()
        ids = padded(sources, 0)
        model(input_ids=ids, attention_mask=(ids != 0).long(), labels=padded(targets, -100)).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return [time.perf_counter() - start]


def train_spillway(work):
    steps, out = work.args.steps + 3, work.folder / "out"
    keys = {
        "model.path": work.model_folder, "data.train": work.folder / "train", "train.output_dir": out,
        "data.max_source_length": work.args.max_length, "data.max_target_length": work.args.max_length,
        "data.shuffle": "false", "train.max_steps": steps, "train.global_batch_size": TRAIN_BATCH,
        "train.per_device_train_batch_size": TRAIN_BATCH, "train.logging_steps": 1, "optimizer.learning_rate": 5e-5,
        "checkpoint.resume": "none", "checkpoint.save_steps": 0, "checkpoint.save_final": "false",
        "checkpoint.export": "false",
    }
    shutil.rmtree(out, ignore_errors=True)
    config = work.folder / "run.toml"
    config.write_text("")
    work.spillway("train", config, *[word for key, value in keys.items() for word in ("--set", f"{key}={value}")])
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    seconds = [line["seconds_per_step"] for line in lines if "seconds_per_step" in line]
    assert len(seconds) == steps
    return [sum(seconds[3:])]


def generate_transformers(work, beams):
    import torch

    model = work.model.eval()
    batches = batches_of(work.sides["source"], GENERATE_BATCH, work.args.sentences // GENERATE_BATCH)
    start = time.perf_counter()
    for batch in batches:
        ids = padded(batch, 0)
        with torch.no_grad():
            output = model.generate(ids, attention_mask=(ids != 0).long(), num_beams=beams, do_sample=False,
                                    min_new_tokens=FORCED, max_new_tokens=FORCED)
        assert output.shape[1] == FORCED + 1
    return [time.perf_counter() - start]


def generate_ctranslate2(work, beams):
    import ctranslate2

    path = work.folder / "ctranslate2"
    if not path.exists():
        ctranslate2.converters.TransformersConverter(str(work.model_folder)).convert(str(path))
    translator = ctranslate2.Translator(str(path), device="cpu", compute_type="float32", inter_threads=1,
                                        intra_threads=work.args.threads)
    tokens = [[work.tokenizer.id_to_piece(token) for token in row] for row in work.sides["source"][: work.args.sentences]]
    batches = batches_of(tokens, GENERATE_BATCH, work.args.sentences // GENERATE_BATCH)
    start = time.perf_counter()
    for batch in batches:
        results = translator.translate_batch(batch, beam_size=beams, min_decoding_length=FORCED, max_decoding_length=FORCED)
        assert all(len(result.hypotheses[0]) == FORCED for result in results)
    return [time.perf_counter() - start]


def generate_spillway(work, beams):
    """A run with one batch more, and one with that batch alone: starting and loading is in both.

    One more comes first and does not count: a new process pays for memory that the system has not handed out for a while,
    and the other engines' threads stay awake for a moment.
    """
    seconds, end = [], work.args.sentences + GENERATE_BATCH
    for begin in (work.args.sentences, 0, work.args.sentences):
        sources = work.sources_file(begin, end)
        start = time.perf_counter()
        output = work.spillway(
            "generate", "--model", work.model_folder, "--input", sources, "--num-beams", beams,
            "--min-length", FORCED + 1, "--max-length", FORCED + 1, "--per-device-eval-batch-size", GENERATE_BATCH,
            "--max-source-length", work.args.max_length, "--ids")
        seconds.append(time.perf_counter() - start)
        assert all(len(line.split()) == FORCED + 1 for line in output.splitlines())
    return seconds[1:]


def race(what, unit, count, engines, rounds):
    """The engines in turn, `rounds` times. An engine gives its seconds, and after them those that do not count."""
    least = {}
    for _ in range(rounds):
        for name, engine in engines.items():
            seconds = engine()
            least[name] = [min(pair) for pair in zip(seconds, least.get(name, seconds))]
    rates = {name: count / (seconds[0] - sum(seconds[1:])) for name, seconds in least.items()}
    for name, rate in rates.items():
        ratio = "" if name == "spillway" else f"   spillway is {rates['spillway'] / rate:.2f} times as fast"
        print(f"{what:8} {name:14} {rate:8.2f} {unit}/s{ratio}", flush=True)


def main():
    args = arguments()
    asked = args.only.split(",")
    with tempfile.TemporaryDirectory() as folder:
        work = Work(args, pathlib.Path(folder))
        lengths = [len(row) for row in work.sides["source"]]
        print(f"{args.threads} threads; sources of {sum(lengths) / len(lengths):.1f} tokens, {max(lengths)} at most", flush=True)
        if "train" in asked:
            engines = {"transformers": lambda: train_transformers(work), "spillway": lambda: train_spillway(work)}
            race("train", "samples", TRAIN_BATCH * args.steps, engines, args.rounds)
        for what, beams in (("greedy", 1), ("beam", 4)):
            if what in asked:
                engines = {"transformers": lambda: generate_transformers(work, beams),
                           "ctranslate2": lambda: generate_ctranslate2(work, beams),
                           "spillway": lambda: generate_spillway(work, beams)}
                race(what, "sentences", args.sentences, engines, args.rounds)


main()
