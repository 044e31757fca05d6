# SPDX-License-Identifier: Apache-2.0
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "jobs" / "clean_catalogue.py"
HEADER = 'msgid ""\nmsgstr ""\n"Language: ro\\n"\n"Content-Type: text/plain; charset=UTF-8\\n"\n\n'


def entry(source, target, context=None):
    quoted = lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    head = f"msgctxt {quoted(context)}\n" if context else ""
    return f"{head}msgid {quoted(source)}\nmsgstr {quoted(target)}\n\n"


class CleanCatalogue(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.scratch.name)

    def tearDown(self):
        self.scratch.cleanup()

    def run_script(self, text, held_out=0):
        (self.folder / "a.po").write_text(HEADER + text, encoding="utf-8")
        command = [sys.executable, SCRIPT, "--held-out", str(held_out), self.folder / "out", self.folder / "a.po"]
        return subprocess.run(command, capture_output=True, text=True)

    def pairs(self, name):
        sides = [(self.folder / "out" / f"{name}.{side}").read_text(encoding="utf-8").splitlines() for side in ("source", "target")]
        self.assertEqual(len(sides[0]), len(sides[1]))
        return list(zip(*sides))

    def training_pairs(self, text):
        result = self.run_script(text)
        self.assertEqual(result.returncode, 0, result.stderr)
        return self.pairs("train")

    def test_accelerators_and_white_space_go_and_a_lone_ampersand_stays(self):
        text = entry("_Open  the\n~file", "_Deschide\tfi~șierul") + entry("Find & Re&place", "Caută & în&locuiește")
        self.assertEqual(self.training_pairs(text), [("Open the file", "Deschide fișierul"), ("Find & Replace", "Caută & înlocuiește")])

    def test_context_and_duplicates_go(self):
        text = entry("Blue door", "Ușă albastră", "one|place") + entry("Blue _door", "Ușă albastră", "another|place")
        self.assertEqual(self.training_pairs(text), [("Blue door", "Ușă albastră")])

    def test_pairs_with_placeholders_or_markup_go(self):
        bad = ["Page %1", "Page %s of", "Saved $(ARG1) files", "Number {0}", "A <b>bold</b> word", "See www.somewhere", "No. #1"]
        text = "".join(entry(source, "Ceva complet diferit") for source in bad) + entry("Half 50% off", "Jumătate 50% redus")
        self.assertEqual(self.training_pairs(text), [("Half 50% off", "Jumătate 50% redus")])

    def test_untranslated_plural_and_wordless_entries_go(self):
        text = entry("Same Words", "same words!") + entry("12:30", "12.30") + entry("No target", "")
        text += 'msgid "one hen"\nmsgid_plural "many hens"\nmsgstr[0] "o găină"\nmsgstr[1] "multe găini"\n\n' + entry("A hen", "O găină")
        self.assertEqual(self.training_pairs(text), [("A hen", "O găină")])

    def test_strings_over_several_lines_and_old_cedillas_are_mended(self):
        text = 'msgid ""\n"The long "\n"way home"\nmsgstr ""\n"Drumul lung "\n"spre casă, ştiut"\n'
        self.assertEqual(self.training_pairs(text), [("The long way home", "Drumul lung spre casă, știut")])

    def test_held_out_pairs_have_no_lookalike_in_training_and_3_to_20_words(self):
        text = "".join(entry(f"the word {chr(97 + i) * 3} is here", f"cuvântul {chr(97 + i) * 3} este aici") for i in range(20))
        text += entry("Two words", "Două cuvinte") + entry("the lookalike is here", "asemănătorul este aici unu")
        text += entry("The lookalike is HERE!", "asemănătorul este aici doi")

        result = self.run_script(text, held_out=20)

        self.assertEqual(result.returncode, 0, result.stderr)
        held_out, training = self.pairs("val"), self.pairs("train")
        self.assertEqual(len(held_out), 20)
        self.assertTrue(all("word" in source and len(source.split()) >= 3 for source, _ in held_out))
        self.assertEqual({source for source, _ in training}, {"Two words", "the lookalike is here", "The lookalike is HERE!"})

    def test_the_same_catalogue_gives_the_same_files_and_too_few_pairs_are_an_error(self):
        text = "".join(entry(f"the word {chr(97 + i) * 3} is here", f"cuvântul {chr(97 + i) * 3} este aici") for i in range(20))
        self.run_script(text, held_out=5)
        first = self.pairs("val")
        self.run_script(text, held_out=5)

        self.assertEqual(self.pairs("val"), first)
        self.assertEqual(self.run_script(text, held_out=21).returncode, 1)


unittest.main()
