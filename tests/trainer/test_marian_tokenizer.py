"""Marian's SentencePiece models as fast tokenizers: the ids of transformers' MarianTokenizer, without that library."""

import json
import shutil
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import MarianTokenizer
from transformers.utils import sentencepiece_model_pb2_new as sentencepiece

from tunesmith_trainer.controls import control_tokens
from tunesmith_trainer.errors import BadConfigError, InputNotFoundError
from tunesmith_trainer.marian_tokenizer import SOURCE, TARGET, VOCABULARY, load_marian
from tunesmith_trainer.model_files import inspect_model
from tunesmith_trainer.model_folder import write_tokenizer

OPUS = Path(__file__).parents[1] / "models" / "tiny-opus-mt"
SIDES = (SOURCE, TARGET)
FRAGMENTS = [
    *(
        "the red cat",
        "the",
        "wind",
        "Tom",
        "la kato rozi",
        "hunda",
        "N",
        "Q",
        "z",
        "&",
        "{x}",
        "#3",
        "0",
        "2024",
        "9,99",
    ),
    *(
        "l'œuvre",
        "Η αρχή",
        "große Häuser",
        "ß",
        "„Wort“",
        "€",
        "Übung",
        "будешь",
        "дом",
        "công mài sắt",
        "石の上",
        "東京",
    ),
    *(
        "千里之行",
        "말이",
        "곱다",
        "한국어",
        "जहाँ",
        "क़",
        "العلم",
        "ไทยกำ",
        "𝔘",
        "Ⅷ",
        "²",
        "½",
        "①",
        "™",
        "ﬁ",
        "Ａ１",
        "～",
    ),
    *(unicodedata.normalize("NFD", text) for text in ("mài sắt có", "gần mực", "말이", "ガラス", "Übung", "ậ")),
    *("ｶﾞﾗｽ", "😀", "👩‍👩‍👧", "❤️", "1️⃣", "🇫🇷", " ", "  ", "\t", "\r\n", "\u00a0", "\u3000", "\u200b", "\u200d", "\ufeff"),
    *("\u00ad", "▁", "▁▁", "\x00", "\x07", "…", ".", "!", "-", "<", ">", "/", "<<", ">>", ">>art<<", ">>cmn_Hans<< "),
    *(">>xx<<", " >>fra<<", "＞＞fra＜＜", "</s>", "<unk>", "<pad>", "<s>", "＜/s＞"),
]
TEXTS = st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join)


@pytest.fixture(scope="module")
def marian():
    """The tokenizer of transformers; it asks for a package of Moses that it does not use here."""
    with pytest.warns(UserWarning, match="sacremoses"):
        return MarianTokenizer.from_pretrained(OPUS)


@pytest.fixture(scope="module")
def fast():
    """Ours, of both sides."""
    return {side: load_marian(OPUS, side) for side in SIDES}


def ids_of_marian(marian, text, side):
    """What transformers makes of a source or a target."""
    return (marian(text) if side == SOURCE else marian(text_target=text))["input_ids"]


@pytest.mark.parametrize("side", SIDES)
@given(text=TEXTS)
def test_texts_have_the_ids_of_transformers(side, text, marian, fast):
    """Languages, spaces of all kinds, emoji, unknown characters, special tokens and languages' codes."""
    assert fast[side](text)["input_ids"] == ids_of_marian(marian, text, side)


@given(ids=st.lists(st.integers(0, 253), max_size=12))
def test_either_tokenizer_says_what_transformers_says(ids, marian, fast):
    """A model may write any piece, so both know all names."""
    wanted = marian.decode(ids, skip_special_tokens=True)
    assert [one.decode(ids, skip_special_tokens=True) for one in fast.values()] == [wanted, wanted]


@pytest.mark.parametrize("side", SIDES)
@given(text=st.text())
def test_no_text_is_too_odd(side, text, fast):
    """Whatever it is, it has ids of the vocabulary and ends."""
    ids = fast[side](text)["input_ids"]
    assert ids[-1] == 0
    assert max(ids) < len(fast[side])


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        (">>art<< the cat", [">>art<<", "▁t", "he", "▁cat"]),
        ("the >>art<<", ["▁t", "he", "▁", ">", ">", "ar", "t", "<", "<"]),
        (">>xx<< cat", ["<unk>", "▁cat"]),
        ("ß", ["▁", "ß"]),
        ("ßß", ["▁", "<unk>"]),
        ("kato", ["▁", "k", "a", "t", "o"]),
    ],
)
def test_the_other_side_s_pieces_are_whole_runs_only(text, tokens, fast):
    """A code starts a text; a target's piece is in a source only for a run of letters that no piece of it has."""
    vocabulary = json.loads((OPUS / VOCABULARY).read_text())
    assert fast[SOURCE](text)["input_ids"] == [*(vocabulary[token] for token in tokens), vocabulary["</s>"]]


def test_a_piece_that_marian_never_saw_is_written_by_shorter_ones(marian, fast):
    """Transformers loses it as unknown."""
    vocabulary = json.loads((OPUS / VOCABULARY).read_text())
    assert marian("atr")["input_ids"] == [vocabulary[token] for token in ("▁a", "<unk>", "</s>")]
    assert fast[SOURCE]("atr")["input_ids"] == [vocabulary[token] for token in ("▁a", "t", "r", "</s>")]


def test_half_composed_letters_are_composed(marian, fast):
    """Windows writes Vietnamese so; SentencePiece composes only what is not composed at all."""
    composed, half = "gần", "g\u00e2\u0300n"
    assert fast[TARGET](half)["input_ids"] == fast[TARGET](composed)["input_ids"]
    assert ids_of_marian(marian, half, TARGET) != ids_of_marian(marian, composed, TARGET)


def test_the_exported_file_is_the_tokenizer_of_sources(tmp_path, fast):
    """The `tokenizers` library alone encodes a source and names what the model writes."""
    write_tokenizer(tmp_path, OPUS, fast[SOURCE])
    served = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    text = ">>art<< the red cat, 50% ß"
    assert served.encode(text).ids == fast[SOURCE](text)["input_ids"]
    assert served.decode(fast[TARGET]("la kato rozi, „so“")["input_ids"]) == "la kato rozi, „so“"


def test_its_special_tokens_are_warned_of_in_rows():
    """As those of a `tokenizer.json` are."""
    assert control_tokens(OPUS).findall("a </s> b <pad>") == ["</s>", "<pad>"]


def changed(folder, name, change):
    """A copy of the model with one SentencePiece model changed."""
    shutil.copytree(OPUS, folder)
    model = sentencepiece.ModelProto()
    model.ParseFromString((folder / name).read_bytes())
    change(model)
    (folder / name).write_bytes(model.SerializeToString())
    return folder


@pytest.mark.parametrize(
    "change",
    [
        lambda model: setattr(model.trainer_spec, "model_type", 2),
        lambda model: setattr(model.trainer_spec, "byte_fallback", True),
        lambda model: setattr(model.trainer_spec, "treat_whitespace_as_suffix", True),
        lambda model: setattr(model.normalizer_spec, "add_dummy_prefix", False),
        lambda model: setattr(model.normalizer_spec, "name", "user_defined"),
        lambda model: setattr(model.pieces[9], "type", 4),
    ],
    ids=["BPE", "bytes", "suffix", "prefix", "map", "symbols"],
)
def test_models_that_would_be_split_otherwise_are_refused(change, tmp_path):
    """By the file's name, before anything is trained."""
    with pytest.raises(BadConfigError, match=r"target\.spm is no unigram model with SentencePiece's defaults"):
        inspect_model(changed(tmp_path / "model", TARGET, change))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("target.spm", None, "has source.spm and no target.spm"),
        ("vocab.json", None, "has source.spm and no vocab.json"),
        ("vocab.json", '{"</s>": 0, "<unk>": 1, "<pad>": 3}', "must give each piece a number from 0 on"),
        ("vocab.json", "[0]", "must give each piece a number from 0 on"),
        ("source.spm", "no model", "source.spm is no SentencePiece model"),
        (
            "tokenizer_config.json",
            '{"separate_vocabs": true}',
            "use a model whose source and target share one vocab.json",
        ),
    ],
)
def test_incomplete_folders_are_refused(name, content, message, tmp_path):
    """By the file's name."""
    folder = tmp_path / "model"
    shutil.copytree(OPUS, folder)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises((BadConfigError, InputNotFoundError), match=message):
        inspect_model(folder)


def test_the_identity_leaves_characters_as_they_are(tmp_path):
    """A model that was trained without a map of characters."""

    def unmapped(model):
        model.normalizer_spec.name, model.normalizer_spec.precompiled_charsmap = "identity", b""

    folder = changed(tmp_path / "model", SOURCE, unmapped)
    with pytest.warns(UserWarning, match="sacremoses"):
        wanted = MarianTokenizer.from_pretrained(folder)
    for text in ("the ﬁrst  cat ", "ａ cat²"):
        assert load_marian(folder)(text)["input_ids"] == wanted(text)["input_ids"]
