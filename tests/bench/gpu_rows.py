# SPDX-License-Identifier: Apache-2.0
"""What gpu_speed.py measures: the rows, their sentences, and what a step on these costs."""
import pathlib
import random
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from words import SPECIAL, text_of  # noqa: E402

PIECES, VOCABULARY, LENGTH, SKIPPED, LOGGED = 32000, 32128, 128, 5, 5
# (d_model, d_kv, d_ff, heads, layers of each stack)
SHAPES = {"tiny": (64, 16, 128, 4, 2), "t5-large": (1024, 64, 4096, 16, 24), "t5-3b": (1024, 128, 16384, 32, 24),
          "t5-11b": (1024, 128, 65536, 128, 24)}
CARD = 23.5  # GiB that a 24 GB card leaves
# newsdev2016 en-ro with T5's tokens, "translate English to Romanian: " in front: sources of 1 to 8 tokens, 9 to 16, ...; a
# target has 1.28 times as many less 4.7, give or take 6.
NEWS = [0, 118, 398, 415, 374, 280, 181, 99, 55, 30, 20, 11, 8, 3, 3, 4]


class Row:
    """`seconds` is an estimate for an H200; options are those of the row's kind. Of rows that train: `card`, GiB of device memory;
    `settings`, keys of the configuration; `nvme`, whether there are drives; `random`, whether the program makes the weights; `skipped`, steps before the steady ones."""

    def __init__(self, kind, seconds, model="", batch=0, what="", **options):
        self.kind, self.seconds, self.model, self.batch, self.what, self.options = kind, seconds, model, batch, what, options


SMALL = {"card": CARD, "checkpointing": "auto"}
ROWS = {
    "product": Row("product", 15, what="8192-cubed bf16 product by torch"),
    "large40": Row("train", 20, "t5-large", 40, "128+128 tokens", steps=50),
    "large40-peer": Row("peer", 25, "t5-large", 40, "128+128 tokens"),
    "large40-compiled-peer": Row("peer", 120, "t5-large", 40, "128+128 tokens, torch.compile", flags=["--compile"]),
    "3b20": Row("train", 30, "t5-3b", 20, "128+128 tokens, nothing recomputed", steps=30),
    "3b20-peer": Row("peer", 30, "t5-3b", 20, "128+128 tokens, nothing recomputed"),
    "3b128": Row("train", 45, "t5-3b", 128, "128+128 tokens, checkpointing", steps=20, checkpointing="on"),
    "3b128-peer": Row("peer", 40, "t5-3b", 128, "128+128 tokens, checkpointing", flags=["--ckpt", "--steps", "5"]),
    "short16": Row("train", 20, "t5-large", 16, "lengths of newsdev2016", steps=50, short=True),
    "short64": Row("train", 20, "t5-large", 64, "lengths of newsdev2016", steps=50, short=True),
    "short16-peer": Row("peer", 60, "t5-large", 16, "newsdev2016", flags=["--data", "real", "--no-worst"]),
    "large64": Row("train", 20, "t5-large", 64, "128+128 tokens", steps=30),
    "large16-peer": Row("peer", 25, "t5-large", 16, "128+128 tokens"),
    "large256": Row("train", 40, "t5-large", 256, "128+128 tokens, checkpointing as memory asks", steps=10, checkpointing="auto"),
    "large512": Row("train", 60, "t5-large", 512, "128+128 tokens, checkpointing as memory asks", steps=5, checkpointing="auto"),
    "gen-large40": Row("generate", 45, "t5-large", 40, "4 beams, 128 tokens", batches=12),
    "gen-large40-peer": Row("generate-peer", 40, "t5-large", 40, "4 beams, 128 tokens", batches=2),
    "gen-3b20": Row("generate", 60, "t5-3b", 20, "4 beams, 128 tokens", batches=12),
    "gen-3b20-peer": Row("generate-peer", 45, "t5-3b", 20, "4 beams, 128 tokens", batches=2),
    "growth": Row("train", 60, "t5-large", 40, "128+128 tokens, 500 steps: does memory grow?", steps=500),
    "phases": Row("train", 60, "t5-large", 40, "128+128 tokens, then evaluation, checkpoint and export: memory", steps=10,
                  phases=True),
    "refused": Row("refuse", 10, "t5-3b", 2048, "128+128 tokens, nothing recomputed: must be refused before step 0"),
    "3b20-24": Row("train", 60, "t5-3b", 20, "24 GB card", steps=20, **SMALL),
    "3b140-24": Row("train", 75, "t5-3b", 140, "24 GB card", steps=15, **SMALL),
    "3b20-24-bf16": Row("train", 50, "t5-3b", 20, "24 GB card, moments in bf16", steps=20, **SMALL,
                        settings={"optimizer.state_format": "bf16"}),
    "3b20-24-int8": Row("train", 50, "t5-3b", 20, "24 GB card, moments in int8", steps=20, **SMALL,
                        settings={"optimizer.state_format": "int8"}),
    "3b20-24-adafactor": Row("train", 50, "t5-3b", 20, "24 GB card, Adafactor with the exact master", steps=20, **SMALL,
                             settings={"optimizer.name": "adafactor"}),
    "3b20-24-nvme": Row("train", 110, "t5-3b", 20, "24 GB card, 4 GiB of host memory, the rest on drives", skipped=2, steps=3,
                        nvme=True, **SMALL, settings={"memory.host": "4GiB"}),
    "3b140-24-residuals": Row("train", 75, "t5-3b", 140, "24 GB card, residuals in host memory", steps=15, card=CARD,
                              checkpointing="host"),
    "3b-24-largest": Row("largest", 200, "t5-3b", 0, "24 GB card: 20 steps of the largest batch, an evaluation, a checkpoint",
                         steps=15, phases=True, loss_only=True, **SMALL),
    "11b-24": Row("train", 500, "t5-11b", 20, "24 GB card, 110 GiB of host memory, 55 GiB of drives", steps=5, nvme=True,
                  random=True, **SMALL, settings={"memory.host": "110GiB", "memory.nvme": "55GiB"}),
    "3b-24-deepspeed-peer": Row("peer", 240, "t5-3b", 20, "DeepSpeed ZeRO-2, optimizer on the CPU, batches of 20 and 140",
                                flags=["--engine", "ds", "--zero", "2", "--offload", "cpu", "--ckpt", "--bs", "20,140"]),
    "3b-24-deepspeed3-peer": Row("peer", 240, "t5-3b", 20, "DeepSpeed ZeRO-3, optimizer and weights on the CPU, likewise",
                                 flags=["--engine", "ds", "--zero", "3", "--offload", "cpu", "--offload-param", "cpu", "--ckpt",
                                        "--bs", "20,140"]),
    "3b20-24-adafactor-peer": Row("peer", 40, "t5-3b", 20, "pure bf16 Adafactor", flags=["--optim", "adafactor", "--ckpt"]),
    "large-random": Row("train", 25, "t5-large", 40, "128+128 tokens; needs no torch", steps=15, random=True),
    "plan-tiny": Row("train", 0, "tiny", 4, "to try these on a CPU", steps=10, random=True, settings={"train.precision": "fp32"}),
    "largest-tiny": Row("largest", 0, "tiny", 0, "likewise", steps=2, random=True, phases=True, loss_only=True,
                        settings={"memory.host": "400MiB"}),
    "tiny": Row("train", 0, "tiny", 4, "to try this script on a CPU", steps=10),
    "short-tiny": Row("train", 0, "tiny", 4, "likewise", steps=10, short=True, checkpointing="on",
                      phases=True),
    "gen-tiny": Row("generate", 0, "tiny", 4, "likewise", batches=2),
    "gen-tiny-peer": Row("generate-peer", 0, "tiny", 4, "likewise", batches=1),
}
MODEL_SECONDS = {"tiny": 0, "t5-large": 15, "t5-3b": 20, "t5-11b": 0}  # to make and write one, once
# The jobs whose plan is held against what was measured.
CHECKED = "large40,3b20,3b20-24,3b140-24,3b20-24-bf16,3b20-24-int8,3b20-24-adafactor,3b20-24-nvme"
USUAL = "product,large40,3b20,3b128,short16,short64,gen-large40,gen-3b20"


def skipped_of(row):
    return row.options.get("skipped", SKIPPED)


def flops_of(model, source, target):
    """Of one sample's training step: two per multiplication, backward twice the forward; a causal score counts half.

    A token of the source never crosses the decoder, but for the keys and values that cross attention makes of it.
    """
    d_model, d_kv, d_ff, heads, layers = SHAPES[model]
    inner = heads * d_kv
    attention, feed_forward, keys_values = 4 * d_model * inner, 2 * d_model * d_ff, 2 * d_model * inner
    of_source = layers * (attention + feed_forward + keys_values)
    of_target = layers * (2 * attention - keys_values + feed_forward) + d_model * VOCABULARY
    scores = layers * 2 * inner * (source * source + target * target / 2 + source * target)
    return 6 * (source * of_source + target * of_target + scores)


def lengths_of(row, count):
    if not row.options.get("short"):
        return [(LENGTH, LENGTH)] * count
    draw, pairs = random.Random(1), []
    for _ in range(count):
        source = 8 * draw.choices(range(len(NEWS)), NEWS)[0] + draw.randint(1, 8)
        pairs.append((source, min(max(round(1.28 * source - 4.7 + draw.gauss(0, 6)), 2), LENGTH)))
    return pairs


def write_pairs(base, lengths):
    draw = random.Random(2)
    for side in (0, 1):
        rows = ([draw.randrange(SPECIAL, PIECES) for _ in range(pair[side] - 1)] for pair in lengths)
        base.with_suffix(".target" if side else ".source").write_text("".join(text_of(row) + "\n" for row in rows))
