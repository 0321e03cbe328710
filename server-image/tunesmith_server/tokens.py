"""Text to tokens and back, by the `tokenizers` library: what the model was trained with, bit for bit."""

import asyncio
import json
import re
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from tunesmith_server.errors import ModelError


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a `tokenizer.json`, with padding and truncation off.

    Raises:
        ModelError: the file is missing or cannot be read.
    """
    if not path.is_file():
        raise ModelError(f"{path}: not found; export the model with its tokenizer.json")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise ModelError(f"{path}: not a tokenizer of this library's version: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def encode(tokenizer: Tokenizer, text: str, *, special: bool) -> list[int]:
    """Tokens of `text`; `special` adds what the tokenizer puts around a document (a rendered chat has it already)."""
    return list(tokenizer.encode(text, add_special_tokens=special).ids)


async def encode_aside(tokenizer: Tokenizer, text: str, *, special: bool) -> list[int]:
    """`encode`, on another thread for a long text, which would hold up every other request."""
    if len(text) < _LONG_TEXT:
        return encode(tokenizer, text, special=special)
    return await asyncio.to_thread(encode, tokenizer, text, special=special)


class TokenBytes:
    """The bytes that single tokens stand for, which may be half a character; log probabilities report them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._added = {number: one.content for number, one in tokenizer.get_added_tokens_decoder().items()}
        self._byte_level = '"ByteLevel"' in json.dumps(json.loads(tokenizer.to_str())["decoder"])

    def of(self, token: int) -> bytes:
        """The bytes of `token`; empty for a number that the tokenizer does not have."""
        piece = self._tokenizer.id_to_token(token) or ""
        if token in self._added:
            return self._added[token].encode()
        if self._byte_level:
            return b"".join(_BYTE_OF.get(one, one.encode()) for one in piece)
        if _BYTE_TOKEN.fullmatch(piece):
            return bytes([int(piece[3:5], 16)])
        return piece.replace("\u2581", " ").encode()


def _byte_alphabet() -> dict[str, bytes]:
    """The characters that byte-level BPE writes for bytes (Radford et al. 2019, `bytes_to_unicode` of GPT-2)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    characters = {byte: chr(byte) for byte in printable} | {byte: chr(0x100 + at) for at, byte in enumerate(others)}
    return {character: bytes([byte]) for byte, character in characters.items()}


_LONG_TEXT = 10_000  # characters; about 5 ms
_BYTE_OF = _byte_alphabet()
_BYTE_TOKEN = re.compile("<0x[0-9A-F]{2}>")


class TextStream:
    """Tokens in, text out; half a character waits for its other half.

    The pieces together are exactly what decoding all tokens at once gives.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self._tokens: list[int] = []
        self._shown = 0

    def feed(self, token: int) -> str:
        """Add a token; the text that is complete now, possibly empty."""
        self._tokens.append(token)
        return self._show(self._stream.step(self._tokenizer, token) or "")

    def flush(self) -> str:
        """The end: what the last tokens still hold, with U+FFFD for a character that never completed."""
        return self._show(decode(self._tokenizer, self._tokens)[self._shown :])

    def _show(self, text: str) -> str:
        self._shown += len(text)
        return text


def decode(tokenizer: Tokenizer, tokens: Sequence[int]) -> str:
    """Text of `tokens` without special tokens."""
    return str(tokenizer.decode(list(tokens), skip_special_tokens=True))
