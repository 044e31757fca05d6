# SPDX-License-Identifier: Apache-2.0
"""Makes the small models and reference numbers beside this file. Run by hand; README.md has the exact lines.

    make.py models [NAME...]   needs transformers 4.40: the folders with config.json, model.safetensors, reference.json
    make.py generation         needs transformers 4.40: "generation" of every reference.json again, from the models as they are
    make.py curves             needs transformers 4.40: curves.json of those that are trained
    make.py schedules          needs transformers 4.40: schedules.json
    make.py adafactor          needs transformers 4.40: adafactor.json
    make.py resave             needs transformers 5: saves some of those models again, as transformers 5 writes them
    make.py bf16               bf16.json for the same models: loss and gradients in bfloat16
    make.py torch              with any torch: torch/, files of torch.save in this torch's form and in the oldest one
"""
import collections
import json
import pathlib
import random
import shutil
import sys

import torch
import transformers
from transformers import AutoConfig, AutoModelForSeq2SeqLM, T5ForConditionalGeneration

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
    "mt5": dict(SMALL, **V11, model_type="mt5", vocab_size=97, d_model=24, d_kv=8, num_heads=3, d_ff=36, num_layers=2),
    "umt5": dict(SMALL, **V11, model_type="umt5", vocab_size=97, d_model=24, d_kv=8, num_heads=3, d_ff=36, num_layers=3,
                 num_decoder_layers=2),
    "byt5": dict(SMALL, **V11, vocab_size=BYTES, d_model=32, d_kv=8, num_heads=3, d_ff=56, num_layers=3,
                 num_decoder_layers=1),
    "silu": dict(SMALL, feed_forward_proj="gated-silu", vocab_size=97, d_model=24, d_kv=8, num_heads=3, d_ff=36,
                 num_layers=1, num_decoder_layers=3),
}
RESAVED = ["v10", "v11"]
IN_BFLOAT16 = ["v10", "v11", "odd_heads", "uneven_2_3", "uneven_3_1"]
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
    dict(num_beams=4, max_length=30, early_stopping=True, min_length=12),
    dict(num_beams=1, max_length=20, min_length=15, no_repeat_ngram_size=3),
    dict(num_beams=4, max_length=30, early_stopping=True, min_length=10, no_repeat_ngram_size=2),
    dict(num_beams=3, max_length=20, early_stopping=False, no_repeat_ngram_size=1),
    dict(num_beams=1, max_length=24, repetition_penalty=1.3),
    dict(num_beams=4, max_length=24, early_stopping=False, repetition_penalty=1.3),
    dict(num_beams=3, max_length=18, early_stopping="never", length_penalty=2.0, repetition_penalty=0.8),
    dict(num_beams=4, max_length=24, early_stopping=True, num_return_sequences=4),
    dict(num_beams=4, max_length=24, early_stopping=True, num_return_sequences=2, repetition_penalty=1.2,
         no_repeat_ngram_size=3, min_length=8),
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
    config = AutoConfig.for_model(**{"model_type": "t5", **settings})
    model = AutoModelForSeq2SeqLM.from_config(config)
    # T5's random initialisation repeats one token for ever; some steps make the beams worth comparing.
    practice = [pairs_of(config, rng, [rng.randrange(4, 30) for _ in range(16)]) for _ in range(8)]
    curve = train(model, practice, 200, 10, 0.0, 3e-3)
    print(f"{name}: {sum(p.numel() for p in model.parameters())} parameters, loss {curve[0]['loss']:.3f} -> {curve[-1]['loss']:.3f}")
    model.save_pretrained(folder)
    if name == "byt5":
        (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer", "extra_ids": 125}\n')

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


ADAFACTOR = {
    "given_rate": dict(lr=1e-3, scale_parameter=False, relative_step=False),
    "scaled_rate": dict(lr=0.05, scale_parameter=True, relative_step=False, clip_threshold=0.8, weight_decay=0.02),
    "relative_step": dict(scale_parameter=True, relative_step=True),
    "warmup_init": dict(scale_parameter=False, relative_step=True, warmup_init=True),
    "warmup_init_scaled": dict(scale_parameter=True, relative_step=True, warmup_init=True),
}


def adafactor():
    """A matrix and a vector under each setting: transformers' Adafactor over given gradients."""
    rng = torch.Generator().manual_seed(3)
    start = {"matrix": torch.randn(5, 60, generator=rng) * 0.3, "vector": torch.rand(40, generator=rng) + 0.5}
    steps = [{name: torch.randn(p.shape, generator=rng) * scale for name, p in start.items()} for scale in (1.0, 1e-4, 0.1, 3.0)]
    numbers = {"transformers": transformers.__version__, "torch": torch.__version__, "rows": 5, "columns": 60,
               "start": {name: p.flatten().tolist() for name, p in start.items()},
               "gradients": [{name: g.flatten().tolist() for name, g in step.items()} for step in steps]}
    for case, settings in ADAFACTOR.items():
        parameters = {name: torch.nn.Parameter(p.clone()) for name, p in start.items()}
        optimizer = transformers.optimization.Adafactor(parameters.values(), **settings)
        after = []
        for step in steps:
            for name, p in parameters.items():
                p.grad = step[name].clone()
            optimizer.step()
            after.append({name: p.flatten().tolist() for name, p in parameters.items()})
        numbers[case] = {"settings": settings, "after": after}
    write_json(HERE / "adafactor.json", numbers)


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


def bfloat16_batches(name, count=24):
    """The two losses of batches of random tokens: many, since what rounding does to the loss of one is chance."""
    rng = random.Random(name)
    models = {key: T5ForConditionalGeneration.from_pretrained(HERE / name).to(torch.bfloat16).to(dtype).eval()
              for key, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32))}

    def tokens():
        return [rng.randrange(2, models["fp32"].config.vocab_size) for _ in range(rng.randrange(4, 16))] + [1]

    batches = []
    for _ in range(count):
        pairs = [(tokens(), tokens()) for _ in range(2)]
        batch = {"sources": [pair[0] for pair in pairs], "targets": [pair[1] for pair in pairs]}
        for key, model in models.items():
            with torch.no_grad():
                output, labels = forward(model, pairs)
            batch[key] = torch.nn.functional.cross_entropy(output.logits.float().transpose(1, 2), labels).item()
        batches.append(batch)
    return batches


def in_bfloat16(name):
    """With weights rounded to bfloat16: the numbers of bfloat16 and of fp32 arithmetic. The loss is fp32 on the logits."""
    folder = HERE / name
    reference = json.loads((folder / "reference.json").read_text())
    pairs = list(zip(reference["sources"], reference["targets"]))
    result, found = {"transformers": transformers.__version__, "torch": torch.__version__}, {}
    for key, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        model = T5ForConditionalGeneration.from_pretrained(folder).to(torch.bfloat16).to(dtype).eval()
        output, labels = forward(model, pairs)
        loss = torch.nn.functional.cross_entropy(output.logits.float().transpose(1, 2), labels)
        model.zero_grad()
        loss.backward()
        found[key] = {parameter: p.grad.float() for parameter, p in model.named_parameters()}
        result[key] = {"loss": loss.item(), "gradient_norms": {name: g.norm().item() for name, g in found[key].items()}}
    # How far the bf16 gradient is from the fp32 one, as a part of that one's norm.
    result["gradient_errors"] = {name: ((found["bf16"][name] - exact).norm() / exact.norm()).item()
                                 for name, exact in found["fp32"].items()}
    result["batches"] = bfloat16_batches(name)
    print(f"{name}: loss {result['bf16']['loss']:.6f}, in fp32 {result['fp32']['loss']:.6f}; "
          f"gradients within {max(result['gradient_errors'].values()):.4f}")
    write_json(folder / "bf16.json", result)


def torch_files():
    """Tensors of every kind that a state dict has; tests/checkpoint/torch_file_test.cpp knows the numbers."""
    folder = HERE / "torch"
    folder.mkdir(exist_ok=True)
    a = torch.arange(12, dtype=torch.float32).reshape(3, 4) / 4 - 1
    state = collections.OrderedDict(
        a=a, alias=a, transposed=a.T, row=a[1], parameter=torch.nn.Parameter(a[:, :2].clone()), half=a[0].half(),
        bfloat=a[0].bfloat16(), double=a[0].double(), integers=torch.arange(3), scalar=torch.tensor(2.5),
        empty=torch.zeros(0, 4))
    state._metadata = collections.OrderedDict({"": {"version": 1}})
    version = ".".join(torch.__version__.split(".")[:2])
    torch.save(state, folder / f"zip_{version}.bin")
    torch.save(state, folder / f"legacy_{version}.bin", _use_new_zipfile_serialization=False)


def generate_again(name):
    path = HERE / name / "reference.json"
    reference = json.loads(path.read_text())
    model = T5ForConditionalGeneration.from_pretrained(HERE / name).eval()
    reference["generation"] = generation_reference(model, reference["generation_sources"])
    print(f"{name}: {len(reference['generation'])} settings")
    write_json(path, reference)


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
    if sys.argv[1:2] == ["models"]:
        for name in sys.argv[2:] or MODELS:
            make(name, MODELS[name])
    elif sys.argv[1:] == ["generation"]:
        for name in MODELS:
            generate_again(name)
    elif sys.argv[1:] == ["adafactor"]:
        adafactor()
    elif sys.argv[1:] == ["torch"]:
        torch_files()
    elif sys.argv[1:] == ["curves"]:
        for name in LEARNING_RATES:
            write_curves(HERE / name)
    elif sys.argv[1:] == ["schedules"]:
        cases = [schedule_reference(name, warmup, 40, 3e-4) for name in SCHEDULES for warmup in (0, 7)]
        write_json(HERE / "schedules.json", {"transformers": transformers.__version__, "schedules": cases})
    elif sys.argv[1:] == ["resave"]:
        for name in RESAVED:
            resave(name)
    elif sys.argv[1:] == ["bf16"]:
        for name in IN_BFLOAT16:
            in_bfloat16(name)
    else:
        raise SystemExit(__doc__)


main()
