"""Where a prompt ends among the tokens of a whole conversation: as if the prompt had been tokenised alone."""

import json
from bisect import bisect_left
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tunesmith_api.enums import Task
from tunesmith_trainer.encode import IGNORED, make_encoder
from tunesmith_trainer.examples import Conversation, Turn
from tunesmith_trainer.prompt_tokens import cutting_tokens, tokenize
from tunesmith_trainer.tokenizer import ids_of, render

ROOT = Path(__file__).parents[2]
MODELS = {"phi3": ROOT / "examples" / "models" / "tiny-phi3", "t5": ROOT / "tests" / "models" / "tiny-t5"}
MARKS = ("<|user|>", "<|assistant|>", "<|end|>", "<|end|>\n")
TEMPLATES = {
    "blanks kept": "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
    "blanks trimmed": "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}",
    "no special tokens": "{% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}",
}
#: How a special token is looked for: Phi-3's take the blanks behind them.
WAYS = {
    "as they are": {},
    "with the blanks behind": {"rstrip": True},
    "with all blanks": {"lstrip": True, "rstrip": True},
    "as whole words": {"single_word": True},
    "in the normalised text": {"normalized": True},
}
PIECES = ("turn on", "lamp", " ", "\n", "\u00e9", "e\u0301", "\U0001f642", "\u200b", "\ufb01", "<unk>", "</s>", *MARKS)
TEXTS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=8).map("".join).filter(str.strip)


def unigram():
    """A tokenizer as sentencepiece makes them: a blank before each text, and `<unk>` for letters it has not seen."""
    letters = [(letter, -3.0) for letter in "\u2581turnolampsie:\n"]
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("</s>", 0.0), *letters, ("\u2581turn", -1.0)], unk_id=0))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")


@cache
def tokenizer_of(model, way):
    """A model's tokenizer that knows the marks of the templates, looked for in one of the ways."""
    known = PreTrainedTokenizerFast.from_pretrained(MODELS[model]) if model in MODELS else unigram()
    known.add_special_tokens({"extra_special_tokens": list(MARKS)})
    settings = json.loads(known.backend_tokenizer.to_str())
    for token in settings["added_tokens"]:
        token.update(WAYS[way] if token["content"] in MARKS else {})
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(settings)), eos_token=known.eos_token, unk_token="<unk>"
    )


def by_definition(tokenizer, turns, stop):
    """Tokens of a prompt and its answer, and how many are the prompt's, by tokenising the prompt alone."""
    prompt, whole = (render(tokenizer, turns[:-1], answer_next=True), render(tokenizer, turns, answer_next=False))
    said = turns[-1].content.strip()
    end = whole.find(stop, whole.find(said, len(prompt)) + len(said))
    text = whole[: end + len(stop)] if end >= 0 else whole + stop
    head, ids = ids_of(tokenizer, [prompt, text], add_special_tokens=False)
    (tail,) = ids_of(tokenizer, [text[len(prompt) :]], add_special_tokens=False)
    return (ids if ids[: len(head)] == head else head + tail), len(head)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model", [*MODELS, "unigram"])
def test_a_prompt_has_the_tokens_that_it_has_alone(model, way, template):
    """Whatever special tokens, blanks and unknown letters stand at its end, and however many rows go together."""
    tokenizer = tokenizer_of(model, way)
    tokenizer.chat_template = TEMPLATES[template]
    encoder = make_encoder(tokenizer, Task.CHAT, 10_000)

    @settings(max_examples=30)
    @given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=8))
    def check(pairs):
        talks = [(Turn("user", asked), Turn("assistant", said)) for asked, said in pairs]
        for turns, (row,) in zip(talks, encoder.encode([Conversation(turns) for turns in talks]), strict=True):
            assert (row.input_ids, row.prompt_tokens) == by_definition(tokenizer, turns, encoder.stop)
            assert row.labels[-1] == row.input_ids[-1]
            assert IGNORED in row.labels

    check()


@pytest.mark.parametrize("model", [*MODELS, "unigram"])
@given(text=TEXTS, character=st.integers(0, 40))
def test_tokens_are_found_by_their_characters(model, text, character):
    """The first token from a character on is the one that all offsets say, which go up."""
    (tokens,) = tokenize(tokenizer_of(model, "with the blanks behind"), [text])
    starts = [start for start, _ in tokens.encoding.offsets]
    assert starts == sorted(starts)
    assert tokens.first_from(character) == bisect_left(starts, character)


def test_a_text_is_cut_where_no_neighbour_matters():
    """Tokens that must be whole words, or that are looked for in the normalised text, are no place to cut at."""
    marks = {way: set(cutting_tokens(tokenizer_of("phi3", way)).values()) & set(MARKS) for way in WAYS}
    assert [len(marks[way]) for way in WAYS] == [3, 3, 3, 0, 0]
    tokenizer = PreTrainedTokenizerFast.from_pretrained(MODELS["phi3"], split_special_tokens=True)
    assert cutting_tokens(tokenizer) == {}
