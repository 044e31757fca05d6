# SPDX-License-Identifier: Apache-2.0
"""Training runs of the reference models: loss, gradient norm and learning rate of every step."""
import torch
import transformers
from transformers import T5ForConditionalGeneration
from transformers.optimization import Adafactor

from shared import byte_ids, forward, loss_of, perturbed, write_json

STEPS, WARMUP, BATCH, DECAY = 60, 10, 8, 0.01
# Higher ones, and relative steps without their warm-up, let rounding decide how the curve goes on.
LEARNING_RATES = {"v10": {"adamw": 5e-4, "adafactor": 3e-4}, "v11": {"adamw": 1e-3, "adafactor": 1e-3}}
CURVES = {
    "adamw": dict(),
    "label_smoothing": dict(label_smoothing_factor=0.1),
    "freeze_embeds": dict(freeze_embeds=True),
    "freeze_encoder": dict(freeze_encoder=True),
    "adafactor": dict(optimizer="adafactor"),
    "adafactor_relative_step": dict(optimizer="adafactor", scale_parameter=True, relative_step=True, warmup_init=True),
}


def freeze(model, freeze_embeds=False, freeze_encoder=False):
    """As the legacy finetune_trainer.py: the encoder's parameters include the shared embedding."""
    modules = [model.shared, model.encoder.embed_tokens, model.decoder.embed_tokens] if freeze_embeds else []
    modules += [model.get_encoder()] if freeze_encoder else []
    for module in modules:
        for p in module.parameters():
            p.requires_grad = False


def optimizer_of(model, learning_rate, decay, optimizer="adamw", scale_parameter=False, relative_step=False,
                 warmup_init=False):
    """The Trainer's groups: no decay for layer norms and for names with "bias"."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    without = [p for name, p in named if "layer_norm" in name or "bias" in name]
    with_decay = [p for name, p in named if not ("layer_norm" in name or "bias" in name)]
    groups = [{"params": with_decay, "weight_decay": decay}, {"params": without, "weight_decay": 0.0}]
    if optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.999), eps=1e-8)
    return Adafactor(groups, lr=None if relative_step else learning_rate, scale_parameter=scale_parameter,
                     relative_step=relative_step, warmup_init=warmup_init)


def train(model, batches, steps, warmup, decay, learning_rate, label_smoothing_factor=0.0, freeze_embeds=False,
          freeze_encoder=False, **optimizer):
    model.eval()  # no dropout
    freeze(model, freeze_embeds, freeze_encoder)
    optimizer = optimizer_of(model, learning_rate, decay, **optimizer)
    # A relative step is its own schedule.
    relative = optimizer.param_groups[0]["lr"] is None
    schedule = None if relative else transformers.get_linear_schedule_with_warmup(optimizer, warmup, steps)
    curve = []
    for step in range(steps):
        output, labels = forward(model, batches[step % len(batches)])
        loss = loss_of(output, labels, label_smoothing_factor)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        curve.append({"loss": loss.item(), "grad_norm": norm.item()})
        if schedule:
            curve[-1]["learning_rate"] = schedule.get_last_lr()[0]
        optimizer.step()
        if schedule:
            schedule.step()
    return curve


def curve_reference(folder, batches, learning_rate, options):
    settings = dict(steps=STEPS, warmup=WARMUP, decay=DECAY, learning_rate=learning_rate, **options)
    others = [T5ForConditionalGeneration.from_pretrained(folder).double()]
    others += [perturbed(T5ForConditionalGeneration.from_pretrained(folder), seed) for seed in range(6)]
    other_curves = [train(other, batches, **settings) for other in others]
    curve = train(T5ForConditionalGeneration.from_pretrained(folder), batches, **settings)
    noise = {key: max(abs(a[key] / b[key] - 1) for other in other_curves for a, b in zip(curve, other))
             for key in ("loss", "grad_norm")}
    print(f"  {options}: loss {curve[0]['loss']:.4f} -> {curve[-1]['loss']:.4f}, with noise {noise}")
    if noise["loss"] > 2e-4:
        raise SystemExit("the curve depends on rounding (relu has kinks): choose another learning rate")
    return {"options": dict(options, learning_rate=learning_rate), "deviation_with_noise": noise, "steps": curve}


def write_curves(folder):
    """Of the sentences in train.source and train.target, in file order, over and over."""
    print(folder.name)
    sides = [(folder / f"train.{side}").read_text().splitlines() for side in ("source", "target")]
    ids = [tuple(byte_ids(text) for text in pair) for pair in zip(*sides)]
    batches = [ids[begin:begin + BATCH] for begin in range(0, len(ids), BATCH)]
    settings = {"tokenizer": "bytes", "batch_size": BATCH, "steps": STEPS, "warmup_steps": WARMUP, "weight_decay": DECAY,
                "max_grad_norm": 1.0, "lr_scheduler_type": "linear", "dropout_rate": 0.0}
    rates = LEARNING_RATES[folder.name]
    curves = {name: curve_reference(folder, batches, rates[options.get("optimizer", "adamw")], options)
              for name, options in CURVES.items()}
    write_json(folder / "curves.json", {"transformers": transformers.__version__, "torch": torch.__version__,
                                        "settings": settings, **curves})
