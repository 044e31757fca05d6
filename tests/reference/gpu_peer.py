# SPDX-License-Identifier: Apache-2.0
"""The part of check_gpu.py that is transformers': it runs in a process of its own, so that the GPU is free again afterwards.

    gpu_peer.py models FOLDER DEVICE SHAPE...   FOLDER/SHAPE: config.json, model.safetensors
    gpu_peer.py numbers FOLDER/SHAPE DEVICE     task.json to peer.json: curves, generated tokens, scores of others' tokens
"""
import json
import pathlib
import sys

import torch
from transformers import T5Config, T5ForConditionalGeneration

from shared import padded

SPECIAL = dict(vocab_size=32128, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1, dropout_rate=0.0)
V10 = dict(SPECIAL, feed_forward_proj="relu", tie_word_embeddings=True)
V11 = dict(SPECIAL, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
SHAPES = {
    "tiny": dict(V10, d_model=64, d_kv=16, d_ff=128, num_heads=4, num_layers=2),
    "tiny-v1.1": dict(V11, d_model=64, d_kv=12, d_ff=160, num_heads=3, num_layers=2),
    "t5-small": dict(V10, d_model=512, d_kv=64, d_ff=2048, num_heads=8, num_layers=6),
    "t5-large": dict(V10, d_model=1024, d_kv=64, d_ff=4096, num_heads=16, num_layers=24),
    "v1.1-small": dict(V11, d_model=512, d_kv=64, d_ff=1024, num_heads=6, num_layers=8),
}
BETAS, EPSILON, CLIP = (0.9, 0.999), 1e-8, 1.0
NOISE = 1e-6  # a rounding's worth, of every weight
EOS_STRETCH = 2.5


def make_model(folder, name, device):
    """Random weights with which a loss is near ln V, and what a decoder says depends on its source and on what it said.

    T5's own initialisation makes the logits of an untied head sqrt(d_model) too large; that of deep models lets all states of a
    decoder grow alike, and a tied head repeats the last token. So what a layer adds is scaled down, and the decoder's last norm
    has weights of either sign. </s> is stretched, so that some sequences end early. All values are ones that bfloat16 has: a
    model in bf16 starts from the same weights.
    """
    torch.manual_seed(7)
    with torch.device(device):
        model = T5ForConditionalGeneration(T5Config(**SHAPES[name]))
    with torch.no_grad():
        for parameter_name, p in model.named_parameters():
            if parameter_name.endswith((".o.weight", ".wo.weight")):
                p.mul_(1.5 * model.config.num_layers**-0.5)
        norm = model.decoder.final_layer_norm.weight
        norm.copy_(torch.randn_like(norm).sign())
        if not SHAPES[name]["tie_word_embeddings"]:  # transformers 5 makes none but tied heads, and reads both
            head = torch.randn_like(model.shared.weight) * model.config.d_model**-0.5
            model.lm_head.weight = torch.nn.Parameter(head)
        model.lm_head.weight[1] *= EOS_STRETCH
        for p in model.parameters():
            p.copy_(p.bfloat16())
    model.save_pretrained(folder)


class Peer:
    def __init__(self, folder, device):
        self.folder, self.device = folder, device

    def load(self, dtype=torch.float32, noise=0.0):
        model = T5ForConditionalGeneration.from_pretrained(self.folder, dtype=torch.float32).to(self.device)
        if noise:
            generator = torch.Generator(self.device).manual_seed(1)
            with torch.no_grad():
                for p in model.parameters():
                    p.mul_(1 + noise * torch.randn(p.shape, generator=generator, device=self.device))
        return model.to(dtype).eval()  # no dropout

    def tensors(self, pairs):
        sources, targets = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        ids = padded(sources, 0).to(self.device)
        mask = padded([[1] * len(row) for row in sources], 0).to(self.device)
        return ids, mask, padded(targets, -100).to(self.device)

    def loss(self, model, pairs):
        """Mean over the target tokens, of the logits in fp32: transformers' own, of logits in bf16, knows 3 digits."""
        ids, mask, labels = self.tensors(pairs)
        logits = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).logits.float()
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)

    def curve(self, batches, steps, learning_rate, dtype=torch.float32, noise=0.0):
        """Losses and gradient norms. AdamW works on weights in fp32; in another dtype the model has copies of them."""
        model = self.load(dtype, noise)
        copies = list(model.parameters())
        masters = copies if dtype == torch.float32 else [p.detach().float().clone() for p in copies]
        optimizer = torch.optim.AdamW(masters, lr=learning_rate, betas=BETAS, eps=EPSILON, weight_decay=0.0)
        lines = []
        for step in range(steps):
            loss = self.loss(model, batches[step % len(batches)])
            loss.backward()
            if masters is not copies:
                for master, copy in zip(masters, copies):
                    master.grad, copy.grad = copy.grad.float(), None
            norm = torch.nn.utils.clip_grad_norm_(masters, CLIP)
            lines.append({"loss": loss.item(), "grad_norm": norm.item()})
            optimizer.step()
            optimizer.zero_grad()
            if masters is not copies:
                with torch.no_grad():
                    for master, copy in zip(masters, copies):
                        copy.copy_(master)
        return lines

    def generate(self, model, sources, settings):
        ids, mask, _ = self.tensors([(row, [1]) for row in sources])
        with torch.no_grad():
            output = model.generate(ids, attention_mask=mask, do_sample=False, return_dict_in_generate=True,
                                    output_scores=True, **settings)
        rows = [through_eos(row) for row in output.sequences.tolist()]
        scores = output.sequences_scores.tolist() if settings["num_beams"] > 1 else None
        return {"sequences": rows, "scores": scores}

    def scores_of(self, model, sources, sequences):
        """Mean log probability of the tokens after the start token, which is what a beam's score is."""
        ids, mask, labels = self.tensors(list(zip(sources, [row[1:] for row in sequences])))
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).logits.float()
        log_probs = torch.log_softmax(logits, -1).gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        counted = labels != -100
        return ((log_probs * counted).sum(-1) / counted.sum(-1)).tolist()


def through_eos(row):
    return row[: row.index(1) + 1] if 1 in row else row


def numbers(folder, device):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    task, peer, result = json.loads((folder / "task.json").read_text()), Peer(folder, device), {}

    def keep(key, value):
        result[key] = value
        (folder / "peer.json").write_text(json.dumps(result))

    for name, options in task["curves"].items():
        settings = dict(options, batches=task["batches"][options["batches"]])
        keep(f"{name}/fp32", peer.curve(**settings))
        if settings["learning_rate"] > 0:
            keep(f"{name}/noise", peer.curve(**settings, noise=NOISE))
        keep(f"{name}/bf16", peer.curve(**settings, dtype=torch.bfloat16))
    exact, noisy, short = peer.load(), peer.load(noise=NOISE), peer.load(torch.bfloat16)
    for name, settings in task["generation"].items():
        for kind, model in (("fp32", exact), ("noise", noisy), ("bf16", short)):
            keep(f"{name}/{kind}", peer.generate(model, task["sources"], settings))
    for name, sequences in task["sequences"].items():
        keep(f"{name}/scores", {kind: peer.scores_of(model, task["sources"], sequences)
                                for kind, model in (("fp32", exact), ("bf16", short))})


def main():
    command, folder, device, *shapes = sys.argv[1:]
    folder = pathlib.Path(folder)
    if command == "models":
        for name in shapes:
            make_model(folder / name, name, device)
    else:
        numbers(folder, device)


main()
