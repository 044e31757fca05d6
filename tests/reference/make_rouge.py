# SPDX-License-Identifier: Apache-2.0
"""Writes rouge.json beside this file: stems of words, and ROUGE of pairs of texts. Needs rouge-score 0.1.2. Run by hand."""
import json
import pathlib

from nltk.stem import porter
from rouge_score import rouge_scorer

WORDS = """caresses ponies ties cats flies dies dying feed agreed plastered bled motoring sing conflated troubled sized hopping
tanned falling hissing fizzed failing filing spied died happy enjoy sky spy try relational conditional rational valency
hesitancy digitizer conformably radically differently vilely analogously vietnamization predication operator feudalism
decisiveness hopefulness callousness formality sensitivity sensibility geology theology archaeology hopefully usefully
triplicate formative formalize electricity electrical hopeful goodness revival allowance inference airliner gyroscopic
adjustable defensible irritant replacement adjustment dependent adoption communion homologou communism activate angularity
homologous effective bowdlerize probate rate cease controlling rolled news innings skies howe proceed succeeding exceed
yearly syzygy bye abyss ion onion union cation x2000 2nd 1990s aaaa yyyy eeed ied bied""".split()
PAIRS = [
    ("The old house near the river was sold.", "The old house by the river has been sold."),
    ("A cat sees a dog. The dog runs away.", "The dog runs away. A cat sees the dog."),
    ("Three small dogs were barking loudly all night", "three SMALL dog barked, loud; all nights"),
    ("one two three four five", "five four three two one"),
    ("The council agreed on the plan.\nWork begins in May.", "Work on the plan begins in May.\nThe council agreed.\nMay was agreed."),
    ("to be or not to be", "to be to be to be to be"),
    ("Nothing in common", "zzz qqq"),
    ("", "something"),
    ("something", ""),
    ("...", "!!!"),
    ("Prices rose 3.5% in 2020, they said", "prices rose 35 % in 2020 they say"),
    ("Ünïcödé words: naïve café", "unicode word naive cafe"),
    ("\u0130stanbul at 300 \u212aelvin", "i stanbul at 300 kelvin"),
    ("the the the the", "the"),
    ("She said: \"Stop!\" Then she left the building quickly.", "She told them to stop, then quickly left buildings."),
]


def main():
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=True)
    stemmer = porter.PorterStemmer()
    pairs = []
    for target, prediction in PAIRS:
        scores = scorer.score(target, prediction)
        pairs.append({"target": target, "prediction": prediction, **{key: scores[key].fmeasure for key in scores}})
    result = {"stems": {word: stemmer.stem(word) for word in WORDS}, "pairs": pairs}
    path = pathlib.Path(__file__).resolve().parent / "rouge.json"
    path.write_text(json.dumps(result, indent=0, sort_keys=True) + "\n")


main()
