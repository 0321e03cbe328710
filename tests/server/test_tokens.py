"""Tests of text to tokens and back."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from tunesmith_server.errors import ModelError
from tunesmith_server.tokens import TextStream, TokenBytes, decode, encode, load_tokenizer

FIXTURE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)


@given(text=st.text(max_size=40))
@FIXTURE
def test_streamed_text_is_the_text(tokenizer, text):
    """Pieces of a text's tokens, put together, are the text, also for characters of several tokens."""
    stream = TextStream(tokenizer)
    pieces = [stream.feed(token) for token in encode(tokenizer, text, special=False)]
    assert "".join(pieces) + stream.flush() == text


@given(tokens=st.lists(st.integers(0, 319), max_size=30))
@FIXTURE
def test_streaming_equals_decoding_at_once(tokenizer, tokens):
    """Any tokens, also such that are no valid text, give the same characters streamed as decoded together."""
    stream = TextStream(tokenizer)
    pieces = [stream.feed(token) for token in tokens]
    assert "".join(pieces) + stream.flush() == decode(tokenizer, tokens)


def test_half_a_character_waits(tokenizer):
    """A character is shown when its last byte has come, and never as a replacement character before."""
    tokens = encode(tokenizer, "é漢", special=False)
    stream = TextStream(tokenizer)
    pieces = [stream.feed(token) for token in tokens]
    assert len(tokens) > 2
    assert [piece for piece in pieces if piece] == ["é", "漢"]


@given(text=st.text(max_size=40))
@FIXTURE
def test_bytes_of_tokens_are_the_bytes_of_the_text(tokenizer, text):
    """The bytes of each token, put together, are the text's UTF-8 bytes."""
    names = TokenBytes(tokenizer)
    assert b"".join(names.of(token) for token in encode(tokenizer, text, special=False)) == text.encode()


def test_bytes_of_sentencepiece_tokens():
    """Byte-fallback tokens are one byte, the word-boundary mark is a space, and an unknown number is nothing."""
    vocabulary = {"<unk>": 0, "<0xE2>": 1, "▁the": 2}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    names = TokenBytes(tokenizer)
    assert [names.of(token) for token in (1, 2, 99)] == [b"\xe2", b" the", b""]


@pytest.mark.parametrize("content", [None, "{}", "not json"])
def test_a_bad_tokenizer_file_is_named(tmp_path, content):
    """A missing or malformed tokenizer.json stops the server with its path."""
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        load_tokenizer(path)
