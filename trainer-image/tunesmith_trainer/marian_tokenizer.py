"""Marian's tokenizers as fast ones: two SentencePiece models whose pieces have the ids of one `vocab.json`.

The ids are those of transformers' MarianTokenizer. The `tokenizers` library numbers pieces by their places and splits
text by all of them, so names that a text must not be split into are put between two characters that no text has.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from google.protobuf.message import DecodeError
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast
from transformers.utils import sentencepiece_model_pb2_new as sentencepiece

from tunesmith_trainer.errors import BadConfigError, InputNotFoundError
from tunesmith_trainer.workspace import read_json

SOURCE, TARGET, VOCABULARY = "source.spm", "target.spm", "vocab.json"
#: What of a model's folder the two are made of.
FILES = (SOURCE, TARGET, VOCABULARY)
END, UNKNOWN, PADDING = "</s>", "<unk>", "<pad>"
#: Tokens that MarianTokenizer reads as themselves anywhere in a text.
SPECIAL = (END, UNKNOWN, PADDING)
#: Around names that only a whole run of characters may be: Unicode's noncharacters, which no text has.
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
#: The full-width tilde, the one character that SentencePiece's default map leaves and NFKC does not; and its place.
_TILDE, _KEPT = "\uff5e", "\ufdd2"
#: SentencePiece's own maps of characters.
_MAPS = frozenset({"identity", "nfkc", "nfkc_cf", "nmt_nfkc", "nmt_nfkc_cf"})
#: Below every way to write the name of a special token by pieces, whose scores are logarithms of probabilities.
_NEVER = -1000.0
_LANGUAGE = re.compile(r">>[^<>]+<<")
_SPACE = "▁"
_NORMAL = sentencepiece.ModelProto.SentencePiece.Type.Value("NORMAL")
_DEFINED = sentencepiece.ModelProto.SentencePiece.Type.Value("USER_DEFINED")
_UNIGRAM = sentencepiece.TrainerSpec.ModelType.Value("UNIGRAM")


def is_marian(path: Path) -> bool:
    """Whether a model's folder has Marian's own tokenizer files, which count before a `tokenizer.json` beside them."""
    return (path / SOURCE).is_file()


def check_marian(path: Path) -> None:
    """Refuse a folder whose tokenizers cannot be made.

    Raises:
        InputNotFoundError: a file is missing.
        BadConfigError: source and target have a vocabulary each, or a SentencePiece model is of another kind.
    """
    for name in FILES:
        if not (path / name).is_file():
            raise InputNotFoundError(f"spec.model: {path} has {SOURCE} and no {name}")
    if (read_json(path / "tokenizer_config.json") or {}).get("separate_vocabs"):
        raise BadConfigError(
            "spec.model: tokenizer_config.json has separate_vocabs true; use a model whose source and target share one"
            f" {VOCABULARY}"
        )
    _ids(path)
    for name in (SOURCE, TARGET):
        _read_pieces(path / name)


def load_marian(path: Path, pieces: str = SOURCE) -> PreTrainedTokenizerFast:
    """The tokenizer of sources, or with `TARGET` of targets; both decode alike.

    A piece that `vocab.json` lacks is written by shorter ones, where MarianTokenizer writes `<unk>`.
    """
    tokenizer = _make(_ids(path), _read_pieces(path / pieces))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        unk_token=UNKNOWN,
        pad_token=PADDING,
        clean_up_tokenization_spaces=False,
    )


def _ids(path: Path) -> dict[str, int]:
    """The ids of all pieces, which are 0 and so on.

    Raises:
        BadConfigError: they are not.
    """
    try:
        ids: dict[str, int] = json.loads((path / VOCABULARY).read_text(encoding="utf-8"))
        numbered = sorted(ids.values()) == list(range(len(ids))) and set(SPECIAL) <= ids.keys()
    except (ValueError, TypeError, AttributeError):
        numbered = False
    if not numbered:
        raise BadConfigError(
            f"spec.model: {path / VOCABULARY} must give each piece a number from 0 on, among them {', '.join(SPECIAL)}"
        )
    return ids


def _read_pieces(path: Path) -> sentencepiece.ModelProto:
    """A SentencePiece model.

    Raises:
        BadConfigError: it is none, or of a kind that the `tokenizers` library does not split alike.
    """
    model = sentencepiece.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise BadConfigError(f"spec.model: {path} is no SentencePiece model") from error
    if not _is_plain(model):
        raise BadConfigError(
            f"spec.model: {path} is no unigram model with SentencePiece's defaults for spaces, characters and symbols;"
            " use a model with such ones, as those of Helsinki-NLP/opus-mt are"
        )
    return model


def _is_plain(model: sentencepiece.ModelProto) -> bool:
    trained, normal = model.trainer_spec, model.normalizer_spec
    unigram = trained.model_type == _UNIGRAM and not trained.byte_fallback
    spaced = normal.add_dummy_prefix and normal.remove_extra_whitespaces and normal.escape_whitespaces
    before = spaced and not trained.treat_whitespace_as_suffix
    return unigram and before and normal.name in _MAPS and all(piece.type != _DEFINED for piece in model.pieces)


def _make(ids: Mapping[str, int], model: sentencepiece.ModelProto) -> Tokenizer:
    scores = {piece.piece: piece.score for piece in model.pieces if piece.type == _NORMAL and piece.piece in ids}
    scores |= dict.fromkeys(SPECIAL, _NEVER)
    names = sorted(ids, key=ids.__getitem__)
    entries = [(name, scores[name]) if name in scores else (f"{_OPEN}{name}{_CLOSE}", 0.0) for name in names]
    tokenizer = Tokenizer(models.Unigram(entries, ids[UNKNOWN]))
    codes = [name for name in names if _LANGUAGE.fullmatch(name)]
    known = {letter for name in scores.keys() - set(SPECIAL) for letter in name}
    tokenizer.normalizer = _normalizer(model.normalizer_spec.precompiled_charsmap, codes, known)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, ids[END])])
    tokenizer.decoder = _decoder()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    return tokenizer


def _normalizer(charsmap: bytes, codes: Sequence[str], known: set[str]) -> normalizers.Sequence:
    """SentencePiece's: characters by its map, one `▁` before each word; then what it looks up whole, in brackets.

    That is a language's code at the start of a text, and a run of characters that no piece has: it becomes one unknown
    piece, which `vocab.json` may yet have, as one of the other side's.
    """
    code = "|".join(re.escape(name.removeprefix(">>")) for name in codes) or r"(?!)"
    longest = max((len(name) for name in codes), default=0)
    letters = _class({*known, _SPACE, _OPEN, _CLOSE})
    inside, outside = f"[{letters}]", f"[^{letters}]"
    beyond = f"(?![^{_CLOSE}]{{0,{longest}}}{_CLOSE})"
    # None inserts at the very start by an empty match: the library then loses count of its characters.
    named = [
        (rf"\A>>(?!{code})[\s\S]*?<<", _OPEN + _CLOSE),
        (rf"\A>>(?={code})", f"{_OPEN}>>"),
        (rf"\A{_OPEN}>>(?:{code})\K", _CLOSE),
    ]
    spaced = [(rf"(?:\A|(?<={_CLOSE})) +", ""), (r" +", _SPACE), (rf"{_SPACE}+\z", "")]
    bracketed = [
        (rf"\A{_SPACE}{_OPEN}", _OPEN),
        (rf"{_CLOSE}(?=[\s\S])", _CLOSE + _SPACE),
        (rf"(?<!{outside})(?={outside}){beyond}", _OPEN),
        (rf"(?<={outside})(?=\z|{inside}){beyond}", _CLOSE),
    ]
    steps = [*_replaced(named), *_mapped(charsmap), *_replaced(spaced)]
    return normalizers.Sequence([*steps, normalizers.Prepend(_SPACE), *_replaced(bracketed)])


def _mapped(charsmap: bytes) -> list[normalizers.Normalizer]:
    """The map of characters, behind Unicode's NFKC, which all named maps contain.

    The library's `Precompiled` alone would drop accents of a letter that is written in three characters, and leave a
    Korean syllable in its parts.
    """
    if not charsmap:
        return []
    steps = [normalizers.NFKC(), normalizers.Precompiled(charsmap)]
    if steps[1].normalize_str(_TILDE) != _TILDE:
        return steps
    return [normalizers.Replace(_TILDE, _KEPT), *steps, normalizers.Replace(_KEPT, _TILDE)]


def _replaced(steps: Sequence[tuple[str, str]]) -> list[normalizers.Replace]:
    return [normalizers.Replace(Regex(pattern), text) for pattern, text in steps]


def _class(letters: Iterable[str]) -> str:
    """The inside of a regular expression's class of some characters."""
    return "".join(f"\\x{{{ord(letter):X}}}" for letter in sorted(letters))


def _decoder() -> decoders.Sequence:
    shown = [decoders.Replace(mark, text) for mark, text in ((_OPEN, ""), (_CLOSE, ""), (_SPACE, " "))]
    return decoders.Sequence([*shown, decoders.Fuse(), decoders.Replace(Regex(r"\A +| +\z"), "")])
