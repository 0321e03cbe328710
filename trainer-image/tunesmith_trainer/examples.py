"""Examples: what every data format becomes, one frozen type for each kind of thing that a model learns from.

Two examples are equal when their contents are, wherever they come from; `origin` is the row that a message names.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

SYSTEM, USER, ASSISTANT, TOOL = "system", "user", "assistant", "tool"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a row lies.

    Attributes:
        file: path below the data set's folder, or the file's name.
        row: number of the row in the file, from 1: of a text file the line that it begins at, else of the record or,
            in a JSON document, of the object or question.
    """

    file: str
    row: int


#: The origin of an example that no file holds.
NOWHERE = Origin("", 0)


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation.

    Attributes:
        role: system, user, assistant or tool.
        content: what was said; empty when the assistant only calls tools.
        tool_calls: the calls as a JSON list; empty when there are none.
        name: who speaks, such as the tool that was called; empty when it is not said.
        tool_call_id: the call that a tool's result answers; empty when it is not said.
        reasoning: what an assistant thought before its answer; empty when it is not said.
        learnt: whether an assistant's turn is learnt, beside being read.
    """

    role: str
    content: str
    tool_calls: str = ""
    name: str = ""
    tool_call_id: str = ""
    reasoning: str = ""
    learnt: bool = True


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns whose last one is the assistant's; a prompt with its completion is a conversation of two turns.

    Attributes:
        turns: system or none, then user and assistant in turn, with tool turns after an assistant's calls.
        tools: what the chat template is told of tools, as a JSON list; empty when there are none.
    """

    turns: tuple[Turn, ...]
    tools: str = ""
    origin: Origin = field(default=NOWHERE, compare=False, repr=False, kw_only=True)

    @property
    def is_pair(self) -> bool:
        """Whether it is a prompt and its completion and nothing else, so that it can be written without a template."""
        more = self.has_tools or any(turn.reasoning for turn in self.turns)
        return not more and [turn.role for turn in self.turns] == [USER, ASSISTANT]

    @property
    def has_tools(self) -> bool:
        """Whether it is more than texts: it tells of tools, or calls them."""
        return bool(self.tools) or any(turn.tool_calls for turn in self.turns)


@dataclass(frozen=True, slots=True)
class PlainText:
    """Text that is learnt whole."""

    text: str
    origin: Origin = field(default=NOWHERE, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Labeled:
    """A text and its classes.

    Attributes:
        text: what is classified.
        labels: names of the classes; exactly one unless `multiple`.
        multiple: whether a text may have any number of classes (the row gave a list).
    """

    text: str
    labels: tuple[str, ...]
    multiple: bool = False
    origin: Origin = field(default=NOWHERE, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Span:
    """A named entity: characters of a text, the end excluded."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, slots=True)
class TokenLabeled:
    """A text whose words have tags.

    Attributes:
        text: the text; words of a tokenised row are joined by one blank.
        words: start and end of each word in the text, in order and apart.
        tags: the tag of each word in IOB2: O, B-name, I-name (Tjong Kim Sang and Veenstra 1999).
        plain: whether the row had plain names, of which neighbours are taken as one entity.
    """

    text: str
    words: tuple[tuple[int, int], ...]
    tags: tuple[str, ...]
    plain: bool = False
    origin: Origin = field(default=NOWHERE, compare=False, repr=False, kw_only=True)

    @property
    def tokens(self) -> tuple[str, ...]:
        """The words themselves."""
        return tuple(self.text[start:end] for start, end in self.words)

    @property
    def spans(self) -> tuple[Span, ...]:
        """The entities as characters of the text."""
        return tuple(_spans(self.words, self.tags))


def _spans(words: tuple[tuple[int, int], ...], tags: tuple[str, ...]) -> Iterator[Span]:
    opened: Span | None = None
    for (start, end), tag in zip(words, tags, strict=True):
        if tag.startswith("I-") and opened is not None:
            opened = Span(opened.start, end, opened.label)
            continue
        if opened is not None:
            yield opened
        opened = Span(start, end, tag[2:]) if tag != "O" else None
    if opened is not None:
        yield opened


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that stands in the context: its text, and the character that it starts at."""

    text: str
    start: int


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a passage; no answers means that the passage does not answer it (SQuAD v2)."""

    context: str
    question: str
    answers: tuple[Answer, ...]
    origin: Origin = field(default=NOWHERE, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Pair:
    """A text and its translation.

    Attributes:
        source: the text.
        target: its translation.
        source_language: name of the source's language or column; empty when the data do not say.
        target_language: the same of the target's.
    """

    source: str
    target: str
    source_language: str = ""
    target_language: str = ""
    origin: Origin = field(default=NOWHERE, compare=False, repr=False, kw_only=True)


Example = Conversation | PlainText | Labeled | TokenLabeled | Question | Pair
