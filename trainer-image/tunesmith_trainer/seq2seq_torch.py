"""Encoder-decoder models of transformers: loading, the loss, and the steps of the greedy loop."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import AutoModelForSeq2SeqLM

from tunesmith_trainer.encode_seq2seq import Seq2SeqRow
from tunesmith_trainer.model import load_pretrained
from tunesmith_trainer.recipe import Batch
from tunesmith_trainer.seq2seq_model import IGNORED, Floats, Integers, pad, shift

#: Targets of models with relative positions have no longest length of their own.
UNBOUNDED = 2**20


def load_seq2seq(path: Path, device: str = "cpu", quantization: Any = None, **options: Any) -> Any:
    """The base model; see `load_pretrained`."""
    return load_pretrained(AutoModelForSeq2SeqLM, path, device, quantization, **options)[0]


def longest_target(config: Any) -> int:
    """Most tokens of a target: the decoder's positions where it has absolute ones."""
    return int(getattr(config, "max_position_embeddings", None) or UNBOUNDED)


def never_written(model: Any) -> list[int]:
    """Single tokens that the model's generation settings forbid."""
    forbidden = getattr(model.generation_config, "bad_words_ids", None) or []
    return [int(ids[0]) for ids in forbidden if len(ids) == 1]


def collate(rows: Sequence[Seq2SeqRow], start: int) -> Batch:
    """A right-padded batch: source, its mask, what the decoder reads, and what it must say."""
    ids, mask = pad([row.input_ids for row in rows])
    labels, _ = pad([row.labels for row in rows], IGNORED)
    arrays = {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": shift(labels, start), "labels": labels}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def target_loss(model: Any, batch: Batch, items: torch.Tensor | int | None = None) -> torch.Tensor:
    """Cross-entropy summed over the target tokens and divided by `items`, or by their own number when it is None."""
    labels = batch["labels"]
    read = {name: tensor for name, tensor in batch.items() if name != "labels"}
    logits = model(**read, use_cache=False).logits
    count = (labels != IGNORED).sum() if items is None else items
    total = functional.cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total / count


class TorchSteps:
    """A model of transformers, with or without an adapter."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.start = int(model.config.decoder_start_token_id)
        self.longest = longest_target(model.config)
        self.never = never_written(model)

    @torch.inference_mode()
    def encode(self, ids: Integers, mask: Integers) -> Any:
        """The encoder's states, as a tensor."""
        self._model.eval()
        encoder = self._model.get_encoder()
        states: Any = encoder(input_ids=self._tensor(ids), attention_mask=self._tensor(mask)).last_hidden_state
        return states

    @torch.inference_mode()
    def decode(self, ids: Integers, states: Any, mask: Integers, past: Any) -> tuple[Floats, Any]:
        """Logits, and transformers' cache."""
        output = self._model(
            attention_mask=self._tensor(mask),
            encoder_outputs=(states,),
            decoder_input_ids=self._tensor(ids),
            past_key_values=past,
            use_cache=True,
        )
        logits: Floats = output.logits.float().cpu().numpy()
        return logits, output.past_key_values

    def _tensor(self, array: Integers) -> torch.Tensor:
        return torch.from_numpy(array).to(self._model.device)
