"""Encoder-decoder models in ONNX: two graphs, and their steps on plain ONNX Runtime.

`encoder_model.onnx` reads the source; `decoder_model.onnx` writes the target with a cache of its self-attention, whose
length may be 0, and looks at the encoder's states anew in each step.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from tunesmith_api.enums import ExportPrecision
from tunesmith_trainer import log
from tunesmith_trainer.onnx_session import open_session
from tunesmith_trainer.seq2seq_model import Floats, Integers
from tunesmith_trainer.seq2seq_torch import load_seq2seq, longest_target, never_written
from tunesmith_trainer.workspace import read_json, write_json

ENCODER, DECODER, SETTINGS = "encoder_model.onnx", "decoder_model.onnx", "seq2seq_config.json"
_OPSET = 18


class _Encoder(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = model.get_encoder()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return states


class _Decoder(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, states: torch.Tensor, attention_mask: torch.Tensor, past: list[torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        for layer in range(len(past) // 2):
            cache.self_attention_cache.update(past[2 * layer], past[2 * layer + 1], layer)
        output = self.model(
            attention_mask=attention_mask,
            encoder_outputs=(states,),
            decoder_input_ids=input_ids,
            past_key_values=cache,
            use_cache=True,
        )
        layers = output.past_key_values.self_attention_cache.layers
        return (output.logits, *(tensor for layer in layers for tensor in (layer.keys, layer.values)))


@torch.no_grad()
def export_seq2seq(merged: Path, folder: Path, precision: ExportPrecision) -> None:
    """Write both graphs of a merged model, and what the greedy loop must know of it.

    fp32 for Exact; any other precision is int8, weights quantised and activations at run time: blocks of 4 bits are for
    decoders alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = load_seq2seq(merged, attn_implementation="eager")  # sdpa of T5 does not decompose
    _export_encoder(model, folder / ENCODER)
    heads, width, layers = _export_decoder(model, folder / DECODER)
    if precision is not ExportPrecision.EXACT:
        for name in (ENCODER, DECODER):
            _quantise(folder / name)
    settings = {"start": int(model.config.decoder_start_token_id), "longest": longest_target(model.config)}
    sizes = {"heads": heads, "head_width": width, "layers": layers}
    write_json(folder / SETTINGS, {**settings, **sizes, "never": never_written(model)})


def _export_encoder(model: Any, path: Path) -> None:
    ids = torch.ones(2, 5, dtype=torch.long)
    two, names = _sizes(0, 1), ["input_ids", "attention_mask"]
    _export(_Encoder(model), (ids, torch.ones_like(ids)), path, _Names((two, two), names, ["states"]))


def _export_decoder(model: Any, path: Path) -> tuple[int, int, int]:
    ids, mask = torch.ones(2, 4, dtype=torch.long), torch.ones(2, 5, dtype=torch.long)
    states = model.get_encoder()(input_ids=mask, attention_mask=mask).last_hidden_state
    known = model(attention_mask=mask, encoder_outputs=(states,), decoder_input_ids=ids[:, :3], use_cache=True)
    layers = known.past_key_values.self_attention_cache.layers
    past = [tensor for layer in layers for tensor in (layer.keys, layer.values)]
    two, cache = _sizes(0, 1), _sizes(0, 2)
    names = [f"{kind}.{layer}" for layer in range(len(layers)) for kind in ("key", "value")]
    inputs = ["input_ids", "states", "attention_mask", *(f"past.{name}" for name in names)]
    outputs = ["logits", *(f"present.{name}" for name in names)]
    sizes = (two, two, two, [cache] * len(past))
    _export(_Decoder(model), (ids, states, mask, past), path, _Names(sizes, inputs, outputs))
    return int(past[0].shape[1]), int(past[0].shape[3]), len(layers)


def _sizes(*dimensions: int) -> dict[int, Any]:
    return dict.fromkeys(dimensions, torch.export.Dim.DYNAMIC)


@dataclass(frozen=True)
class _Names:
    """What the inputs and outputs of a graph are called, and which of their sizes vary."""

    sizes: Any
    inputs: list[str]
    outputs: list[str]


def _export(module: Any, arguments: Any, path: Path, names: _Names) -> None:
    log.info("exporting", graph=path.name)
    torch.onnx.export(
        module.eval(),
        arguments,
        str(path),
        dynamo=True,
        dynamic_shapes=names.sizes,
        input_names=names.inputs,
        output_names=names.outputs,
        opset_version=_OPSET,
        external_data=True,
        verbose=False,
    )


def _quantise(path: Path) -> None:
    """Weights of matrix products to int8 per channel; stale shapes of the exporter would break it, so they go first."""
    graph = onnx.load(path)
    del graph.graph.value_info[:]
    path.with_name(f"{path.name}.data").unlink(missing_ok=True)
    quantised = path.with_name(f"{path.stem}_int8.onnx")
    plain = path.with_name(f"{path.stem}_fp32.onnx")
    onnx.save(graph, plain)
    products = ["MatMul", "Gemm"]
    quantize_dynamic(plain, quantised, weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=products)
    plain.unlink()
    quantised.replace(path)


class OnnxSteps:
    """The exported graphs.

    Raises:
        RuntimeError: ONNX Runtime fell back to another execution provider.
    """

    def __init__(self, folder: Path) -> None:
        settings = read_json(folder / SETTINGS) or {}
        self.start, self.longest = int(settings["start"]), int(settings["longest"])
        self.never: list[int] = settings["never"]
        self._heads, self._width = int(settings["heads"]), int(settings["head_width"])
        self._encoder, self._decoder = open_session(folder / ENCODER), open_session(folder / DECODER)
        names = [value.name for value in self._decoder.get_inputs()]
        self._past = [name for name in names if name.startswith("past.")]

    def encode(self, ids: Integers, mask: Integers) -> Any:
        """The encoder's states, as an array."""
        return self._encoder.run(["states"], {"input_ids": ids, "attention_mask": mask})[0]

    def decode(self, ids: Integers, states: Any, mask: Integers, past: Any) -> tuple[Floats, Any]:
        """Logits, and the cache as a list of arrays."""
        empty = np.zeros((len(ids), self._heads, 0, self._width), np.float32)
        cache = past or [empty] * len(self._past)
        feeds = {"input_ids": ids, "states": states, "attention_mask": mask}
        logits, *present = self._decoder.run(None, feeds | dict(zip(self._past, cache, strict=True)))
        return logits, present
