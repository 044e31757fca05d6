# SPDX-License-Identifier: Apache-2.0
"""check_checkpoint.py STEP_FOLDER EXPORTED: builds a model in transformers from nothing but checkpoint.h5, read with h5py, and fails
unless its tensors are those that `spillway checkpoint export STEP_FOLDER --output EXPORTED` gave (in fp32), and its loss on made-up
tokens too. Run by hand."""
import json
import pathlib
import sys

import h5py
import torch
from transformers import AutoConfig, AutoModelForSeq2SeqLM


def loss_of(model):
    tokens = torch.arange(3, 35).reshape(2, 16)
    with torch.no_grad():
        return model.eval()(input_ids=tokens, labels=tokens.flip(1)).loss.item()


folder, exported = map(pathlib.Path, sys.argv[1:])
with h5py.File(folder / "checkpoint.h5") as file:
    config = json.loads(json.loads(file.attrs["metadata"])["model"])
    tensors = {name: torch.from_numpy(data[...]) for name, data in file["master"].items()}
built = AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model(**config)).float()
if "lm_head.weight" in tensors:  # transformers 5 begins with a tied head whatever config.json says
    built.lm_head.weight = torch.nn.Parameter(tensors["lm_head.weight"].clone())
left = built.load_state_dict(tensors, strict=False)
shared = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"} - set(tensors)
if left.unexpected_keys or not set(left.missing_keys) <= shared:
    sys.exit(f"{folder}: missing {left.missing_keys}, unexpected {left.unexpected_keys}")

expected = AutoModelForSeq2SeqLM.from_pretrained(exported).float()
wrong = [name for name, tensor in expected.state_dict().items() if not torch.equal(tensor, built.state_dict()[name])]
if wrong or loss_of(built) != loss_of(expected):
    sys.exit(f"{folder}: not what was exported: {wrong}, loss {loss_of(built)} and {loss_of(expected)}")
print(f"{folder}: {len(tensors)} tensors, all as exported; loss {loss_of(built):.9g}")
