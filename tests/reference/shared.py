# SPDX-License-Identifier: Apache-2.0
"""What both the models and the curves are made with."""
import json

import torch
from transformers import T5ForConditionalGeneration


def rounded(value):
    """Nine significant digits name a float32 exactly."""
    if isinstance(value, float):
        return float("%.9g" % value)
    if isinstance(value, list):
        return [rounded(item) for item in value]
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return value


def write_json(path, value):
    lines = ",\n".join(json.dumps(key) + ": " + json.dumps(item) for key, item in rounded(value).items())
    path.write_text("{\n" + lines + "\n}\n")


def byte_ids(text):
    return [byte + 3 for byte in text.encode()] + [1]


def padded(rows, value):
    width = max(len(row) for row in rows)
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])


def forward(model, pairs):
    sources, targets = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    ids = padded(sources, 0)
    mask = padded([[1] * len(row) for row in sources], 0)
    labels = padded(targets, -100)
    return model(input_ids=ids, attention_mask=mask, labels=labels), labels


def loss_of(output, labels, label_smoothing):
    """The Trainer's LabelSmoother: both terms are means over the tokens that count."""
    if label_smoothing == 0.0:
        return output.loss
    log_probs = torch.log_softmax(output.logits, -1)[labels != -100]
    return (1 - label_smoothing) * output.loss + label_smoothing * -log_probs.mean()


def perturbed(model, seed=1):
    """The same model with a rounding's worth of noise: what changes with it is no reference."""
    other = T5ForConditionalGeneration(model.config)
    other.load_state_dict(model.state_dict())
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(1 + 1e-6 * torch.randn(p.shape, generator=noise))
    return other.eval()
