"""The torch model as the evaluation sees it; measured in fp32 on a CPU, in the weights' type on a device."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional
from transformers import GenerationConfig

from tunesmith_trainer.adapters import expected_warnings, has_virtual_tokens
from tunesmith_trainer.encode import IGNORED, EncodedRow
from tunesmith_trainer.evaluate import TokenCounts
from tunesmith_trainer.loss import collate, completion_logits


class TorchModel:
    """A causal language model of transformers, with or without an adapter.

    Without gradients, yet not in inference mode: DeepSpeed keeps weights that a forward pass gathered for training.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    @torch.no_grad()
    def count(self, rows: Sequence[EncodedRow]) -> TokenCounts:
        """The sums over the labelled tokens of one batch."""
        was_training = self._model.training
        self._model.eval()
        batch = {name: tensor.to(self._model.device) for name, tensor in collate(rows).items()}
        logits, targets = completion_logits(self._model, batch)
        flat, wanted = logits.flatten(0, 1).float(), targets.flatten()
        loss = functional.cross_entropy(flat, wanted, ignore_index=IGNORED, reduction="sum")
        labelled = wanted != IGNORED
        correct = (flat.argmax(-1) == wanted)[labelled].sum()
        self._model.train(was_training)
        return TokenCounts(loss.item(), int(correct), int(labelled.sum()))

    @torch.no_grad()
    def logits(self, ids: list[int]) -> npt.NDArray[np.float32]:
        """Logits of shape (tokens, vocabulary) for one sequence."""
        batch = torch.tensor([ids], device=self._model.device)
        logits: npt.NDArray[np.float32] = self._model(input_ids=batch, use_cache=False).logits[0].float().cpu().numpy()
        return logits

    @torch.no_grad()
    def generate(self, prompts: Sequence[list[int]], max_new_tokens: int, stop_ids: frozenset[int]) -> list[list[int]]:
        """The greedy continuation of each prompt, ending before a stop token or at the limit.

        Padding would lie between virtual tokens and prompt: prompts of different lengths are not decoded together then.
        """
        lengths = sorted({len(prompt) for prompt in prompts})
        if len(lengths) == 1 or not has_virtual_tokens(self._model):
            return self._decode(prompts, max_new_tokens, stop_ids)
        answers: dict[int, list[int]] = {}
        for length in lengths:
            places = [place for place, prompt in enumerate(prompts) if len(prompt) == length]
            decoded = self._decode([prompts[place] for place in places], max_new_tokens, stop_ids)
            answers |= dict(zip(places, decoded, strict=True))
        return [answers[place] for place in range(len(prompts))]

    def _decode(self, prompts: Sequence[list[int]], max_new_tokens: int, stop_ids: frozenset[int]) -> list[list[int]]:
        longest = max(len(prompt) for prompt in prompts)
        ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        config = GenerationConfig(
            do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=sorted(stop_ids), pad_token_id=min(stop_ids)
        )
        device = self._model.device
        with expected_warnings():
            output = self._model.generate(
                input_ids=ids.to(device), attention_mask=mask.to(device), generation_config=config
            )
        return [until_stop(row, stop_ids) for row in output[:, longest:].tolist()]


def until_stop(tokens: list[int], stop_ids: frozenset[int]) -> list[int]:
    """The tokens before the first stop token."""
    end = next((place for place, token in enumerate(tokens) if token in stop_ids), len(tokens))
    return tokens[:end]
