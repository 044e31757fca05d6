# SPDX-License-Identifier: Apache-2.0
"""Makes the small models and reference numbers beside this file. Run by hand; README.md has the exact lines.

    make.py models     needs transformers 4.40: every folder with config.json, model.safetensors, reference.json
    make.py curves     needs transformers 4.40: curves.json of those that are trained
    make.py schedules  needs transformers 4.40: schedules.json
    make.py resave     needs transformers 5: saves some of those models again, as transformers 5 writes them
"""
import json
import pathlib
import random
import shutil
import sys

import torch
import transformers
from transformers import T5Config, T5ForConditionalGeneration

from curves import LEARNING_RATES, train, write_curves
from shared import byte_ids, forward, loss_of, padded, perturbed, write_json

HERE = pathlib.Path(__file__).resolve().parent
BYTES = 384  # ByT5's vocabulary: pad, </s>, <unk>, 256 bytes, 125 sentinels
SMALL = dict(dropout_rate=0.1, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1)
TASK = {"translation_en_to_ro": {"early_stopping": True, "max_length": 300, "num_beams": 4,
                                 "prefix": "translate English to Romanian: "}}
V11 = dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False)
MODELS = {
    "v10": dict(SMALL, vocab_size=BYTES, d_model=24, d_kv=6, num_heads=4, d_ff=48, num_layers=2,
                feed_forward_proj="relu", task_specific_params=TASK),
    "v11": dict(SMALL, **V11, vocab_size=BYTES, d_model=32, d_kv=8, num_heads=4, d_ff=40, num_layers=2),
    "odd_heads": dict(SMALL, vocab_size=97, d_model=28, d_kv=12, num_heads=3, d_ff=52, num_layers=2,
                      relative_attention_num_buckets=8, relative_attention_max_distance=12),
    "uneven_2_3": dict(SMALL, **V11, vocab_size=97, d_model=24, d_kv=12, num_heads=1, d_ff=36, num_layers=2,
                       num_decoder_layers=3),
    "uneven_3_1": dict(SMALL, vocab_size=97, d_model=24, d_kv=12, num_heads=3, d_ff=36, num_layers=3,
                       num_decoder_layers=1),
}
RESAVED = ["v10", "v11"]
SCHEDULES = ["linear", "constant", "constant_with_warmup", "cosine", "cosine_with_restarts", "polynomial", "inverse_sqrt"]
WORDS = {"one": "un", "two": "doi", "three": "trei", "red": "rosu", "old": "vechi", "small": "mic", "cat": "pisica",
         "dog": "caine", "house": "casa", "tree": "copac", "sees": "vede", "buys": "cumpara", "near": "langa"}
GENERATION = [
    dict(num_beams=1, max_length=40),
    dict(num_beams=1, max_length=6),
    dict(num_beams=4, max_length=40, early_stopping=True, length_penalty=1.0),
    dict(num_beams=4, max_length=40, early_stopping=False, length_penalty=1.0),
    dict(num_beams=4, max_length=40, early_stopping="never", length_penalty=1.0),
    dict(num_beams=4, max_length=40, early_stopping=True, length_penalty=0.6),
    dict(num_beams=4, max_length=40, early_stopping=False, length_penalty=2.0),
    dict(num_beams=4, max_length=40, early_stopping="never", length_penalty=2.0),
    dict(num_beams=4, max_length=40, early_stopping=False, length_penalty=0.6),
    dict(num_beams=4, max_length=6, early_stopping=False, length_penalty=1.0),
    dict(num_beams=3, max_length=9, early_stopping=True, length_penalty=2.0),
    dict(num_beams=2, max_length=24, early_stopping=False, length_penalty=0.0),
]


def text_pair(rng, words):
    source = [rng.choice(list(WORDS)) for _ in range(words)]
    return " ".join(source), " ".join(WORDS[word] for word in source)


def id_pair(rng, length, vocabulary):
    source = [rng.randrange(3, vocabulary) for _ in range(length)]
    return source + [1], [3 + (token * 7 + 5) % (vocabulary - 3) for token in source[::-1][: max(1, length * 3 // 4)]] + [1]


def pairs_of(config, rng, lengths):
    if config.vocab_size == BYTES:
        return [tuple(byte_ids(text) for text in text_pair(rng, max(1, length // 5))) for length in lengths]
    return [id_pair(rng, length, config.vocab_size) for length in lengths]


def gradients(model, loss):
    model.zero_grad()
    loss.backward(retain_graph=True)
    return {name: p.grad.norm().item() for name, p in model.named_parameters()}


def total(norms):
    return sum(norm * norm for norm in norms.values()) ** 0.5


def forward_reference(model, pairs):
    model.eval()
    output, labels = forward(model, pairs)
    smoothed = loss_of(output, labels, 0.1)
    norms, smoothed_norms = gradients(model, output.loss), gradients(model, smoothed)
    length = len(pairs[0][0])
    return {
        "sources": [pair[0] for pair in pairs], "targets": [pair[1] for pair in pairs],
        "loss": output.loss.item(), "gradient_norms": norms, "total_gradient_norm": total(norms),
        "label_smoothing_factor": 0.1, "label_smoothed_loss": smoothed.item(),
        "label_smoothed_gradient_norms": smoothed_norms,
        "encoder_output_of_first": output.encoder_last_hidden_state[0, :length].tolist(),
    }


def trimmed(row, max_length):
    """From the start token to the first </s>, or all of it: padding says nothing."""
    return row[: row.index(1) + 1] if 1 in row else row[:max_length]


def generate(model, sources, settings):
    with torch.no_grad():
        output = model.generate(padded(sources, 0), attention_mask=padded([[1] * len(row) for row in sources], 0),
                                do_sample=False, return_dict_in_generate=True, output_scores=True, **settings)
    sequences = [trimmed(row, settings["max_length"]) for row in output.sequences.tolist()]
    scores = output.sequences_scores.tolist() if settings["num_beams"] > 1 else None
    return sequences, scores


def generation_reference(model, sources):
    other, cases = perturbed(model), []
    for settings in GENERATION:
        sequences, scores = generate(model, sources, settings)
        if generate(other, sources, settings)[0] != sequences:
            raise SystemExit(f"{settings}: a tie within rounding, choose another seed")
        cases.append({"settings": settings, "sequences": sequences, "scores": scores})
    return cases


def make(name, settings):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    rng = random.Random(name)
    torch.manual_seed(11)
    config = T5Config(**settings)
    model = T5ForConditionalGeneration(config)
    # T5's random initialisation repeats one token for ever; some steps make the beams worth comparing.
    practice = [pairs_of(config, rng, [rng.randrange(4, 30) for _ in range(16)]) for _ in range(8)]
    curve = train(model, practice, 200, 10, 0.0, 3e-3)
    print(f"{name}: {sum(p.numel() for p in model.parameters())} parameters, loss {curve[0]['loss']:.3f} -> {curve[-1]['loss']:.3f}")
    model.save_pretrained(folder)

    pairs = pairs_of(config, rng, [9, 24, 45])
    sources = [pair[0] for pair in pairs + pairs_of(config, rng, [5, 15, 30])] + [[1]]
    reference = {"transformers": transformers.__version__, "torch": torch.__version__, **forward_reference(model, pairs),
                 "generation_sources": sources, "generation": generation_reference(model, sources)}
    lengths = [[len(row) for row in case["sequences"]] for case in reference["generation"]]
    print("  lengths generated:", lengths)
    write_json(folder / "reference.json", reference)
    if name in LEARNING_RATES:
        pairs = [text_pair(rng, rng.randrange(2, 7)) for _ in range(24)]
        for side, kind in enumerate(["source", "target"]):
            (folder / f"train.{kind}").write_text("".join(pair[side] + "\n" for pair in pairs))
        write_curves(folder)


def resave(name):
    """As transformers 5 writes the same model; its own loss goes beside it."""
    folder = HERE / f"{name}_resaved"
    shutil.rmtree(folder, ignore_errors=True)
    model = T5ForConditionalGeneration.from_pretrained(HERE / name).eval()
    model.save_pretrained(folder)
    reference = json.loads((HERE / name / "reference.json").read_text())
    pairs = list(zip(reference["sources"], reference["targets"]))
    loss = forward(model, pairs)[0].loss.item()
    print(f"{name}: loss {loss:.9g}, with transformers {reference['transformers']}: {reference['loss']:.9g}")
    write_json(folder / "reference.json", {"transformers": transformers.__version__, "torch": torch.__version__,
                                           "sources": reference["sources"], "targets": reference["targets"], "loss": loss})


def schedule_reference(name, warmup, steps, learning_rate):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=learning_rate)
    schedule = transformers.get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=steps)
    rates = []
    for _ in range(steps + 1):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return {"lr_scheduler_type": name, "warmup_steps": warmup, "steps": steps, "learning_rate": learning_rate, "rates": rates}


def main():
    torch.set_num_threads(1)
    if sys.argv[1:] == ["models"]:
        for name, settings in MODELS.items():
            make(name, settings)
    elif sys.argv[1:] == ["curves"]:
        for name in LEARNING_RATES:
            write_curves(HERE / name)
    elif sys.argv[1:] == ["schedules"]:
        cases = [schedule_reference(name, warmup, 40, 3e-4) for name in SCHEDULES for warmup in (0, 7)]
        write_json(HERE / "schedules.json", {"transformers": transformers.__version__, "schedules": cases})
    elif sys.argv[1:] == ["resave"]:
        for name in RESAVED:
            resave(name)
    else:
        raise SystemExit(__doc__)


main()
