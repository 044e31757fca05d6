# SPDX-License-Identifier: Apache-2.0
"""The parts of gpu_speed.py that need torch, each in a process of its own so that the GPU is free again afterwards.

    gpu_torch.py model NAME FOLDER DEVICE        config.json and model.safetensors in bf16, random weights
    gpu_torch.py product DEVICE [SIZE]           TFLOP/s of a bf16 product of square matrices
    gpu_torch.py generate NAME DEVICE BATCH BATCHES [CAP_GIB]    transformers' beam search, 4 beams, 128 tokens, in bf16

The last two print a line of JSON.
"""
import json
import sys
import time

import torch

SHAPES = {
    "tiny": dict(d_model=64, d_kv=16, d_ff=128, num_heads=4, num_layers=2),
    "t5-large": dict(d_model=1024, d_kv=64, d_ff=4096, num_heads=16, num_layers=24),
    "t5-3b": dict(d_model=1024, d_kv=128, d_ff=16384, num_heads=32, num_layers=24),
}
BEAMS, LENGTH = 4, 128


def settle(device):
    if device == "cuda":
        torch.cuda.synchronize()


def model_of(name, device):
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=32128, dropout_rate=0.1, feed_forward_proj="relu", tie_word_embeddings=True,
                      decoder_start_token_id=0, pad_token_id=0, eos_token_id=1, **SHAPES[name])
    torch.manual_seed(1)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = T5ForConditionalGeneration(config)
    torch.set_default_dtype(torch.float32)
    return model


def product(device, size=8192, warm=3, timed=10):
    """The mean of ten products of random matrices, after three that are not timed."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    for turn in range(warm + timed):
        if turn == warm:
            settle(device)
            start = time.perf_counter()
        a @ b
    settle(device)
    seconds = (time.perf_counter() - start) / timed
    return {"size": size, "seconds": seconds, "tflops": 2 * size**3 / seconds / 1e12}


def generate(name, device, batch, batches, cap_gib=0.0):
    """The same forced length for every source, after a short generation that is not timed."""
    if cap_gib:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(cap_gib * 2**30 / total, 0)
    model = model_of(name, device).eval()
    ids = torch.randint(5, 32000, (batch, LENGTH), generator=torch.Generator().manual_seed(1)).to(device)
    ids[:, -1] = 1
    settings = dict(attention_mask=torch.ones_like(ids), num_beams=BEAMS, do_sample=False)
    with torch.no_grad():
        model.generate(ids, max_length=8, **settings)
        settle(device)
        start = time.perf_counter()
        for _ in range(batches):
            output = model.generate(ids, min_length=LENGTH, max_length=LENGTH, **settings)
    settle(device)
    seconds = time.perf_counter() - start
    reserved = torch.cuda.max_memory_reserved() if device == "cuda" else None
    return {"items_per_second": batch * batches / seconds, "tokens": output.shape[1], "reserved_bytes": reserved}


def main():
    command, *words = sys.argv[1:]
    if command == "model":
        name, folder, device = words
        model_of(name, device).save_pretrained(folder)
    elif command == "product":
        print(json.dumps(product(words[0], *map(int, words[1:]))))
    else:
        name, device, batch, batches, *cap = words
        print(json.dumps(generate(name, device, int(batch), int(batches), *map(float, cap))))


main()
