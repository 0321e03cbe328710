"""The base model's tokenizer and chat template, loaded without torch."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerFast

from tunesmith_trainer.errors import BadConfigError
from tunesmith_trainer.examples import ASSISTANT, USER, Turn
from tunesmith_trainer.marian_tokenizer import TARGET, is_marian, load_marian

_SENTINEL = "tunesmith-sentinel"


def load_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a model folder, exactly as its tokenizer.json has it (as the server loads it).

    Of Marian's own files it is the sources'; see `load_target_tokenizer`.

    Raises:
        BadConfigError: it has no end-of-text token.
    """
    if is_marian(path):
        return load_marian(path)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(path, local_files_only=True)
    if tokenizer.eos_token_id is None:
        raise BadConfigError("spec.model: the tokenizer has no eos_token, so a tuned model could never stop")
    return tokenizer


def load_target_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """What an encoder-decoder model's targets are tokenised with: the sources' tokenizer, but of Marian's own files."""
    return load_marian(path, TARGET) if is_marian(path) else load_tokenizer(path)


def load_encoder_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of an encoder's folder, exactly as its tokenizer.json has it; it needs no end-of-text token."""
    return PreTrainedTokenizerFast.from_pretrained(path, local_files_only=True)


def ids_of(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], *, add_special_tokens: bool = True
) -> list[list[int]]:
    """The tokens of each of some texts, in one call: a call's own cost is that of a short text."""
    if not texts:
        return []
    found = tokenizer(list(texts), add_special_tokens=add_special_tokens, return_attention_mask=False)
    ids: list[list[int]] = found["input_ids"]
    return ids


def render(tokenizer: PreTrainedTokenizerFast, turns: tuple[Turn, ...], *, answer_next: bool, tools: str = "") -> str:
    """The chat template's text for some turns; with the assistant's opening when its answer comes next.

    Raises:
        BadConfigError: the model has no chat template, or the template refuses the turns.
    """
    return render_all(tokenizer, [turns], answer_next=answer_next, tools=tools)[0]


def render_all(
    tokenizer: PreTrainedTokenizerFast, talks: Sequence[tuple[Turn, ...]], *, answer_next: bool, tools: str = ""
) -> list[str]:
    """The same for several conversations with the same tools, in one call.

    Raises:
        BadConfigError: the model has no chat template, or the template refuses the turns of one of them.
    """
    if not tokenizer.chat_template:
        raise BadConfigError("spec.model: the tokenizer has no chat template; use spec.task TextGeneration")
    messages = [[_message(turn) for turn in turns] for turns in talks]
    known = json.loads(tools) if tools else None
    try:
        texts = tokenizer.apply_chat_template(messages, known, tokenize=False, add_generation_prompt=answer_next)
    except (jinja2.TemplateError, TypeError) as error:  # TypeError: it joins texts with what is none
        raise BadConfigError(f"spec.model: the chat template refuses the messages: {error}") from error
    return [str(text) for text in texts]


def _message(turn: Turn) -> dict[str, Any]:
    beside = {
        "tool_calls": json.loads(turn.tool_calls) if turn.tool_calls else None,
        "name": turn.name,
        "tool_call_id": turn.tool_call_id,
        "reasoning_content": turn.reasoning,
    }
    return {"role": turn.role, "content": turn.content} | {key: value for key, value in beside.items() if value}


def end_of_turn(tokenizer: PreTrainedTokenizerFast) -> str:
    """The special token that ends an answer in the chat template, such as `<|end|>`; the eos token when it has none."""
    turns = (Turn(USER, "hi"), Turn(ASSISTANT, _SENTINEL))
    tail = render(tokenizer, turns, answer_next=False).partition(_SENTINEL)[2]
    special = {str(token) for token in tokenizer.added_tokens_decoder.values()}
    found = [(tail.index(token), -len(token), token) for token in special if token in tail]
    return min(found)[2] if found else str(tokenizer.eos_token)
