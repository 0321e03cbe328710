"""Metrics of generated text against its references. Pure functions of strings.

Every function takes the answers in the order of their references and gives a value of the unit that `Scores` says.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

_WORD = re.compile(r"[^\W_]+")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean; 0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def exact_match(answers: Sequence[str], references: Sequence[str]) -> float:
    """Share of answers that are their reference, white space at the ends aside."""
    return mean([answer.strip() == reference.strip() for answer, reference in zip(answers, references, strict=True)])


def rouge_l(answers: Sequence[str], references: Sequence[str]) -> float:
    """Mean F-measure of the longest common subsequence of words (Lin 2004, ROUGE-L of one sentence), 0 to 1.

    Equal to google-research's rouge-score without stemming, whose import takes five seconds; words of other alphabets
    than the Latin one count too.
    """
    pairs = zip(answers, references, strict=True)
    return mean([_rouge_l(_words(answer), _words(reference)) for answer, reference in pairs])


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _rouge_l(answer: Sequence[str], reference: Sequence[str]) -> float:
    common = _common_subsequence(answer, reference)
    return 2 * common / (len(answer) + len(reference)) if common else 0.0


def _common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence, by the bits of one integer (Hyyro 2004)."""
    places: dict[str, int] = {}
    for place, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << place
    whole = (1 << len(one)) - 1
    row = whole
    for word in other:
        matches = row & places.get(word, 0)
        row = (row + matches | row - matches) & whole
    return len(one) - row.bit_count()


def squad_normalise(text: str) -> str:
    """Lower case without punctuation, articles and extra white space, as SQuAD's official evaluation has it."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def squad_exact_match(answers: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Share of answers that are one of their references after `squad_normalise`; no reference means: no answer."""
    return _best(answers, references, lambda answer, reference: float(answer == reference))


def squad_f1(answers: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Mean over the answers of the best F1 of words with a reference (Rajpurkar et al. 2016 and 2018), 0 to 1."""
    return _best(answers, references, _word_f1)


def _best(answers: Sequence[str], references: Sequence[Sequence[str]], compare: Callable[[str, str], float]) -> float:
    return mean(
        [
            max(compare(squad_normalise(answer), squad_normalise(one)) for one in known or [""])
            for answer, known in zip(answers, references, strict=True)
        ]
    )


def _word_f1(answer: str, reference: str) -> float:
    found, wanted = answer.split(), reference.split()
    if not found or not wanted:
        return float(found == wanted)
    common = (Counter(found) & Counter(wanted)).total()
    return 2 * common / (len(found) + len(wanted))


def bleu(answers: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus BLEU by sacrebleu with its own tokeniser and smoothing, 0 to 100 (Papineni et al. 2002, Post 2018)."""
    return float(BLEU().corpus_score(list(answers), _streams(answers, references)).score)


def chrf(answers: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus chrF2 by sacrebleu: F-score of character 6-grams, 0 to 100 (Popovic 2015)."""
    return float(CHRF().corpus_score(list(answers), _streams(answers, references)).score)


def _streams(answers: Sequence[str], references: Sequence[Sequence[str]]) -> list[list[str]]:
    """The first reference of each answer, then the second of each: as sacrebleu takes them."""
    rows = [known for _, known in zip(answers, references, strict=True)]
    return [list(stream) for stream in zip(*rows, strict=True)]
