"""A decoder graph in ONNX Runtime, run over a range of cache rows.

Names, types and sizes come from the session and `genai_config.json`; nothing about the architecture is assumed beyond
grouped-query attention with a shared past and present buffer, which is what the model builder writes.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from tunesmith_server.errors import ModelError
from tunesmith_server.folder import ModelFolder
from tunesmith_server.onnx_graph import rope_switch
from tunesmith_server.providers import CPU, ProviderPolicy, ProviderStatus, assert_policy, usable
from tunesmith_server.sampling import Logits
from tunesmith_server.slots import CacheShape, SlotCache

_TYPES: dict[str, np.dtype[Any]] = {"tensor(float)": np.dtype(np.float32), "tensor(float16)": np.dtype(np.float16)}
_INTEGERS: dict[str, np.dtype[Any]] = {"tensor(int64)": np.dtype(np.int64), "tensor(int32)": np.dtype(np.int32)}


@dataclass(frozen=True)
class Graph:
    """What a step needs to know of a loaded graph; `rope_switch` is the original context of a LongRoPE model."""

    names: dict[str, str]
    integer: np.dtype[Any]
    logits: np.dtype[Any]
    vocabulary: int
    last_logits_only: bool
    cache: CacheShape
    rope_switch: int | None


def open_session(
    folder: ModelFolder, providers: Sequence[str], policy: ProviderPolicy, threads: int
) -> tuple[ort.InferenceSession, ProviderStatus]:
    """Load the graph and hold the session to the provider policy.

    Raises:
        ModelError: ONNX Runtime cannot load the graph.
        ProviderError: a required provider is not active.
    """
    available = ort.get_available_providers()
    assert_policy(
        ProviderStatus(tuple(providers), tuple(p for p in providers if p in available)), policy, available
    )  # before minutes are spent on loading
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads starve the HTTP thread and each other under a CPU quota (467 -> 156 tokens/s on one CPU).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the fallback warning; the policy below says it better
            session = ort.InferenceSession(str(folder.graph), options, providers=list(usable(providers, available)))
    except Exception as error:  # the binding raises one class per ORT status, none of them exported
        raise ModelError(f"{folder.graph}: ONNX Runtime cannot load it: {error}") from error
    status = ProviderStatus(tuple(providers), tuple(session.get_providers()))
    assert_policy(status, policy, available)
    return session, status


def describe(session: ort.InferenceSession, folder: ModelFolder) -> Graph:
    """Match the session's inputs and outputs with the roles of `genai_config.json`.

    Raises:
        ModelError: an input, type or shape is not one that this server can feed; the message names it.
    """
    if not folder.shares_buffers:
        raise ModelError(
            f"{folder.path / 'genai_config.json'}: search.past_present_share_buffer is not true: the graph has no "
            "grouped-query attention (fp16 on the CPU, for example); export it as fp32, int8 or int4"
        )
    inputs = {one.name: one for one in session.get_inputs()}
    outputs = {one.name: one for one in session.get_outputs()}
    names = _names(folder, set(inputs), set(outputs))
    key = inputs[names["past_key_names"] % 0]
    heads, head_dim = key.shape[1], key.shape[3]
    if not isinstance(head_dim, int):
        head_dim = _head_size(folder)
    logits = outputs[names["logits"]]
    return Graph(
        names=names,
        integer=_dtype(inputs[names["input_ids"]], _INTEGERS),
        logits=_dtype(logits, _TYPES),
        vocabulary=int(logits.shape[2]),
        last_logits_only=logits.shape[1] == 1,
        cache=CacheShape(folder.layers, int(heads), int(head_dim), _dtype(key, _TYPES)),
        rope_switch=rope_switch(folder.graph),
    )


def _head_size(folder: ModelFolder) -> int:
    # The builder leaves head_dim symbolic in the graph and states it in genai_config.json.
    if folder.head_size is None:
        raise ModelError(f"{folder.path / 'genai_config.json'}: model.decoder.head_size is missing")
    return folder.head_size


def _names(folder: ModelFolder, inputs: set[str], outputs: set[str]) -> dict[str, str]:
    names = dict(folder.names)
    layers = range(folder.layers)
    known = {names[role] for role in ("input_ids", "attention_mask", "position_ids") if names.get(role) in inputs}
    known |= {names[role] % layer for role in ("past_key_names", "past_value_names") for layer in layers}
    if known != inputs:
        raise ModelError(f"{folder.graph}: inputs not supported or not found: {', '.join(sorted(known ^ inputs))}")
    if "position_ids" in names and names["position_ids"] not in inputs:
        del names["position_ids"]
    made = {names["logits"]}
    made |= {names[role] % layer for role in ("present_key_names", "present_value_names") for layer in layers}
    if missing := made - outputs:
        raise ModelError(f"{folder.graph}: outputs not found: {', '.join(sorted(missing))}")
    return names


def _dtype(node: ort.NodeArg, table: dict[str, np.dtype[Any]]) -> np.dtype[Any]:
    if node.type not in table:
        raise ModelError(f"{node.name}: type {node.type} is not supported; one of {', '.join(table)} is")
    return table[node.type]


class Decoder:
    """Runs steps over rows of a `SlotCache`; one thread at a time."""

    def __init__(self, session: ort.InferenceSession, graph: Graph, cache: SlotCache) -> None:
        if session.get_providers()[0] != CPU:
            raise ModelError(
                f"the slot engine keeps its cache in host memory and cannot use {session.get_providers()[0]}"
            )
        self._session = session
        self._cache = cache
        self.graph = graph
        self._bindings: dict[tuple[int, int], Any] = {}

    def rebind(self) -> None:
        """Forget bindings after the cache's buffers moved."""
        self._bindings.clear()

    def run(self, first: int, tokens: NDArray[Any], lengths: NDArray[np.int64], width: int) -> Logits:
        """One step over rows `first`… of the cache.

        Args:
            first: The first row.
            tokens: New tokens [rows, new], the same number for each row; more than one only for a single row.
            lengths: Tokens of each row including the new ones [rows].
            width: Columns of the attention mask, at least the longest length; LongRoPE graphs choose factors by it.

        Returns:
            Logits of each row's last token [rows, vocabulary].
        """
        rows, new = tokens.shape
        graph, binding = self.graph, self._binding(first, rows)
        mask = (np.arange(width) < lengths[:, None]).astype(graph.integer)
        fed = {"input_ids": np.ascontiguousarray(tokens, graph.integer), "attention_mask": mask}
        if "position_ids" in graph.names:
            fed["position_ids"] = (lengths[:, None] - new + np.arange(new)).astype(graph.integer)
        for role, array in fed.items():
            binding.bind_input(graph.names[role], "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        logits = np.empty((rows, 1 if graph.last_logits_only else new, graph.vocabulary), graph.logits)
        binding.bind_output(graph.names["logits"], "cpu", 0, graph.logits, logits.shape, logits.ctypes.data)
        self._session.run_with_iobinding(binding)
        return logits[:, -1].astype(np.float32, copy=False)

    def _binding(self, first: int, rows: int) -> Any:
        if (first, rows) not in self._bindings:
            self._bindings[first, rows] = self._bind(first, rows)
        return self._bindings[first, rows]

    def _bind(self, first: int, rows: int) -> Any:
        binding, names = self._session.io_binding(), self.graph.names
        for kind, buffers in (("key", self._cache.keys), ("value", self._cache.values)):
            for layer, buffer in enumerate(buffers):
                part = buffer[first : first + rows]
                where = ("cpu", 0, part.dtype, part.shape, part.ctypes.data)
                binding.bind_input(names[f"past_{kind}_names"] % layer, *where)
                binding.bind_output(names[f"present_{kind}_names"] % layer, *where)
        return binding
