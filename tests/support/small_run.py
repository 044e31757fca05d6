# SPDX-License-Identifier: Apache-2.0
"""A folder as somebody has it who is about to train: a small model's shape, sentence pairs, run.toml."""
import json
import subprocess

MODEL = {
    "architectures": ["T5ForConditionalGeneration"], "model_type": "t5",
    "vocab_size": 384, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_heads": 4, "num_layers": 1, "num_decoder_layers": 1,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 16,
    "dropout_rate": 0.1, "layer_norm_epsilon": 1e-06, "feed_forward_proj": "relu",
    "tie_word_embeddings": True, "is_encoder_decoder": True,
    "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0,
}
WORDS = [("one", "un"), ("two", "doi"), ("red", "rosu"), ("old", "vechi"), ("cat", "pisica"), ("dog", "caine"), ("house", "casa")]
RUN = """
[model]
path = "model"
init = "random"
tokenizer = "bytes"
embedding_std = 0.1
[data]
train = "data/train"
val = "data/val"
[train]
device = "cpu"
output_dir = "out"
per_device_train_batch_size = 4
global_batch_size = 8
max_steps = {steps}
logging_steps = 10
[offload]
exp_avg = "{tier}"
exp_avg_sq = "{tier}"
[optimizer]
learning_rate = 3e-3
[checkpoint]
save_steps = {save_steps}
[eval]
predict_with_generate = false
"""


def make(folder, steps, save_steps, tier):
    (folder / "model").mkdir(parents=True)
    (folder / "data").mkdir()
    (folder / "model" / "config.json").write_text(json.dumps(MODEL))
    for name, first, count in (("train", 0, 30), ("val", 40, 7)):
        pairs = [[WORDS[(i * i + word * (i // 7 + 1)) % len(WORDS)] for word in range(2 + i % 4)] for i in range(first, first + count)]
        for side, suffix in enumerate(("source", "target")):
            lines = [" ".join(word[side] for word in pair) + "\n" for pair in pairs]
            (folder / "data" / f"{name}.{suffix}").write_text("".join(lines))
    (folder / "run.toml").write_text(RUN.format(steps=steps, save_steps=save_steps, tier=tier))


def in_memory(folder):
    """Whether a folder is memory itself, which nothing is offloaded to."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", str(folder)], capture_output=True, text=True, check=True).stdout
    return kind.strip() in ("tmpfs", "ramfs")
