# SPDX-License-Identifier: Apache-2.0
"""check_export.py DIR [REFERENCE.json]: loads DIR with whatever transformers is installed and fails if a tensor is missing,
unexpected or of another shape. With a reference.json of this folder, prints the loss on its batch too. Run by hand."""
import json
import sys

import torch
from transformers import AutoModelForSeq2SeqLM


def padded(rows, value):
    width = max(len(row) for row in rows)
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])


model, report = AutoModelForSeq2SeqLM.from_pretrained(sys.argv[1], output_loading_info=True)
wrong = {key: list(names) for key, names in report.items() if names}
if len(sys.argv) > 2:
    with open(sys.argv[2]) as file:
        reference = json.load(file)
    sources, targets = reference["sources"], reference["targets"]
    with torch.no_grad():
        loss = model.eval()(input_ids=padded(sources, 0), attention_mask=padded([[1] * len(row) for row in sources], 0),
                            labels=padded(targets, -100)).loss
    print(f"loss {loss.item():.9g}, reference {reference['loss']:.9g}")
if wrong:
    sys.exit(f"{sys.argv[1]}: {wrong}")
print(f"{sys.argv[1]}: every tensor found, none left over")
