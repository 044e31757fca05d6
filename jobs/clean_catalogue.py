#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""clean_catalogue.py OUT FILE.po...: makes clean sentence pairs of translation catalogues.

Writes OUT/train.{source,target}, OUT/val.{source,target} (held out: 300 pairs of 3 to 20 words whose source and target, reduced
to lower-case letters, occur in no training pair) and OUT/seen.{source,target} (three of the training pairs, to look at).
The same catalogues always give the same files."""
import argparse
import ast
import hashlib
import html
import pathlib
import re
import sys
import unicodedata

# Text that a program fills in, markup, paths and mail addresses: %1 %s $(ARG1) $ {n} <b> [x] #1 \n www. @a a=b
PLACEHOLDER = re.compile(r"%[\w(]|\$|\{[^}]*\}|<[^>]*>|\[[A-Za-z]*\d*\]|#\w|\\|://|www\.|@\w|\w=\w")
CEDILLAS = str.maketrans("şţŞŢ", "șțȘȚ")
KEEP_WORDS = 60


def entries(path):
    """(msgid, msgstr) of every translated entry without plural forms; the context is dropped."""
    field, values = None, {}

    def whole():
        source, target = values.get("msgid", ""), values.get("msgstr", "")
        return [(source, target)] if source and target and "msgid_plural" not in values else []

    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        keyword, _, rest = line.partition(" ")
        if line.startswith('"'):
            rest = line
        elif keyword in ("msgctxt", "msgid", "msgid_plural") or keyword.startswith("msgstr"):
            if keyword == "msgctxt" or (keyword == "msgid" and field != "msgctxt"):
                yield from whole()
                values = {}
            field = keyword
        else:
            sys.exit(f"{path}:{number}: no line of a .po file: {line}")
        values[field] = values.get(field, "") + ast.literal_eval(rest)
    yield from whole()


def clean(text):
    text = unicodedata.normalize("NFC", html.unescape(text)).translate(CEDILLAS)
    # Accelerators: one mark before the letter that is the key. "Find & Replace" keeps its sign.
    text = re.sub(r"[~_&](?=\w)", "", text)
    return " ".join(text.split())


def letters(text):
    return "".join(c for c in text.lower() if c.isalpha())


def is_good(source, target):
    if PLACEHOLDER.search(source) or PLACEHOLDER.search(target):
        return False
    if not letters(source) or not letters(target) or letters(source) == letters(target):
        return False  # no words, or left untranslated
    return len(source.split()) <= KEEP_WORDS and len(target.split()) <= KEEP_WORDS


def pairs_of(paths):
    pairs = {}
    for path in paths:
        for source, target in entries(path):
            if not PLACEHOLDER.search(source):
                source, target = clean(source), clean(target)
                if is_good(source, target):
                    pairs[source, target] = None
    return list(pairs)


def order(pair):
    return hashlib.sha256("\t".join(pair).encode()).digest()


def held_out(pairs, count):
    """Pairs of 3 to 20 words that no other pair resembles, on either side."""
    seen = ({}, {})
    for pair in pairs:
        for side in (0, 1):
            key = letters(pair[side])
            seen[side][key] = seen[side].get(key, 0) + 1
    alone = [pair for pair in pairs if all(seen[side][letters(pair[side])] == 1 for side in (0, 1))]
    fitting = [pair for pair in alone if all(3 <= len(text.split()) <= 20 for text in pair)]
    return sorted(fitting, key=order)[:count]


def write(folder, name, pairs):
    for side, ending in enumerate(["source", "target"]):
        (folder / f"{name}.{ending}").write_text("".join(pair[side] + "\n" for pair in pairs), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("catalogues", type=pathlib.Path, nargs="+")
    parser.add_argument("--held-out", type=int, default=300)
    arguments = parser.parse_args()

    pairs = pairs_of(arguments.catalogues)
    validation = held_out(pairs, arguments.held_out)
    if len(validation) < arguments.held_out:
        sys.exit(f"only {len(validation)} of {len(pairs)} pairs can be held out, {arguments.held_out} were wanted")
    apart = set(validation)
    training = [pair for pair in pairs if pair not in apart]
    seen = sorted((pair for pair in training if 4 <= len(pair[0].split()) <= 9), key=order)[:3]
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, chosen in (("train", training), ("val", validation), ("seen", seen)):
        write(arguments.out, name, chosen)
    print(f"{len(training)} pairs for training, {len(validation)} held out")


main()
