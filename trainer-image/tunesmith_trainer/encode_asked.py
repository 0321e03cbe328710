"""Tokenising the examples of a task that a model does by an instruction."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerFast

from tunesmith_api.enums import Task
from tunesmith_trainer.encode import EncodedRow, Encoder, make_encoder
from tunesmith_trainer.examples import Example
from tunesmith_trainer.instructions import Instruction, ask


@dataclass(frozen=True)
class AskedEncoder:
    """Asks each example by the task's instruction, through the chat template where the model has one.

    Attributes:
        encoder: tokenises prompt and answer.
        instruction: what the model is asked.
    """

    encoder: Encoder
    instruction: Instruction

    @property
    def stop(self) -> str:
        """The token that ends an answer."""
        return self.encoder.stop

    @property
    def needs_end(self) -> bool:
        """An answer that does not end teaches to go on for ever."""
        return self.encoder.needs_end

    def encode(self, examples: Sequence[Example]) -> list[tuple[EncodedRow, ...]]:
        """The row of each example, whose reference is what the task's metrics read; none when it is too long."""
        asked = [ask(self.instruction, example) for example in examples]
        encoded = self.encoder.encode([one.conversation() for one in asked])
        return [
            tuple(replace(row, reference=one.reference) for row in rows)
            for one, rows in zip(asked, encoded, strict=True)
        ]


def make_asked_encoder(tokenizer: PreTrainedTokenizerFast, instruction: Instruction, limit: int) -> AskedEncoder:
    """The encoder of a causal model's task with an instruction."""
    way = Task.CHAT if instruction.chats else Task.TEXT_GENERATION
    return AskedEncoder(make_encoder(tokenizer, way, limit), instruction)
