"""How fast the server is: `python bench/server.py [--quick]`.

One run, one machine, one random Phi-3 model (about 90 million parameters, fp32), the same prompts and token counts
for everyone: torch's eager greedy loop, onnxruntime-genai's Generator on a fixed batch, the slot engine, and the slot
engine through HTTP with server-sent events (server and client share the machine). Each contender has a process of its
own, and they take turns in each repetition; the table has medians of generated tokens per second, prompt processing
included, and medians of each repetition's ratios.
"""

import argparse
import asyncio
import hashlib
import json
import multiprocessing
import os
import runpy
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

os.environ |= {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tunesmith_server.cpu import threads as usable_threads
from tunesmith_server.engine import Event, Request, Sequence, TokenEvent
from tunesmith_server.folder import read_folder
from tunesmith_server.sampling import SamplingParams
from tunesmith_server.session import Decoder, describe, open_session
from tunesmith_server.slot_engine import EngineLimits, SlotEngine
from tunesmith_server.slots import SlotCache

END_TOKEN = 3
Measure = Callable[[np.ndarray], float]
"""Generates for prompts [streams, tokens]; generated tokens per second."""


@dataclass(frozen=True)
class Size:
    """A model's shape and the work given to it."""

    layers: int = 10
    hidden: int = 768
    vocabulary: int = 16384
    prompt: int = 64
    generated: int = 64
    repeats: int = 5


@dataclass(frozen=True)
class Setup:
    """What every contender gets; `slots` is the largest number of streams."""

    root: Path
    size: Size
    threads: int
    slots: int


QUICK = Size(layers=2, hidden=128, vocabulary=1024, prompt=16, generated=16, repeats=2)


def model_folder(size: Size, cache: Path) -> Path:
    """Where the model of a shape lies."""
    shape = json.dumps([size.layers, size.hidden, size.vocabulary])
    return cache / hashlib.sha256(shape.encode()).hexdigest()[:12]


def make_model(size: Size, root: Path) -> None:
    """A random model with `torch` and `onnx` folders."""
    import torch  # noqa: PLC0415 - each process loads only what it measures
    from transformers import Phi3Config, Phi3ForCausalLM, PreTrainedTokenizerFast  # noqa: PLC0415 - as above

    torch.manual_seed(0)
    config = Phi3Config(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=size.hidden * 8 // 3,
        num_hidden_layers=size.layers,
        num_attention_heads=size.hidden // 64,
        num_key_value_heads=size.hidden // 64,
        max_position_embeddings=4096,
        original_max_position_embeddings=4096,
        bos_token_id=1,
        eos_token_id=END_TOKEN,
        pad_token_id=END_TOKEN,
        sliding_window=None,
    )
    Phi3ForCausalLM(config).save_pretrained(root / "torch")
    tokenizer = make_tokenizer(size.vocabulary)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="<|endoftext|>")
    fast.save_pretrained(root / "torch")
    folders = ["-i", str(root / "torch"), "-o", str(root / "onnx"), "-c", str(root / "cache")]
    sys.argv = ["builder", *folders, "-p", "fp32", "-e", "cpu", "--extra_options", "hf_token=false"]
    runpy.run_module("onnxruntime_genai.models.builder", run_name="__main__")


def make_tokenizer(vocabulary: int) -> Tokenizer:
    """A byte-level BPE trained on random words, so that decoding costs what it costs with a real one."""
    rng = np.random.default_rng(0)
    words = ["".join(map(chr, rng.integers(97, 123, rng.integers(3, 9)))) for _ in range(vocabulary)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<unk>", "<s>", "</s>", "<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(words)], trainer)
    return tokenizer


@contextmanager
def torch_eager(setup: Setup) -> Iterator[Measure]:
    """A hand-written greedy loop over a static batch."""
    import torch  # noqa: PLC0415 - each process loads only what it measures
    from transformers import DynamicCache, Phi3ForCausalLM  # noqa: PLC0415 - as above

    torch.set_num_threads(setup.threads)
    model = Phi3ForCausalLM.from_pretrained(setup.root / "torch").eval()

    def measure(prompts: np.ndarray) -> float:
        tokens, cache = torch.from_numpy(prompts), DynamicCache()
        started = time.perf_counter()
        with torch.inference_mode():
            for _ in range(setup.size.generated):
                logits = model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
                tokens = logits[:, -1].argmax(-1, keepdim=True)
        return prompts.shape[0] * setup.size.generated / (time.perf_counter() - started)

    yield measure


@contextmanager
def genai_batch(setup: Setup) -> Iterator[Measure]:
    """onnxruntime-genai's Generator over a static batch."""
    import onnxruntime_genai as og  # noqa: PLC0415 - each process loads only what it measures

    config = og.Config(str(setup.root / "onnx"))
    # The engine's own thread settings: spinning threads would slow everyone down on a shared machine.
    options = {"intra_op_num_threads": setup.threads, "session.intra_op.allow_spinning": "0"}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
    model = og.Model(config)

    def measure(prompts: np.ndarray) -> float:
        params = og.GeneratorParams(model)
        length = setup.size.prompt + setup.size.generated
        params.set_search_options(do_sample=False, batch_size=prompts.shape[0], min_length=length, max_length=length)
        started = time.perf_counter()
        generator = og.Generator(model, params)
        generator.append_tokens(prompts.astype(np.int32))
        for _ in range(setup.size.generated):
            generator.generate_next_token()
        return prompts.shape[0] * setup.size.generated / (time.perf_counter() - started)

    yield measure


@contextmanager
def slot_engine(setup: Setup) -> Iterator[Measure]:
    """The engine, called as the routes call it."""
    folder = read_folder(setup.root / "onnx")
    session, _ = open_session(folder, ["CPUExecutionProvider"], "Require", setup.threads)
    graph = describe(session, folder)
    cache = SlotCache(graph.cache, setup.slots, folder.context_length)
    engine = SlotEngine(Decoder(session, graph, cache), cache, frozenset(), EngineLimits())

    def measure(prompts: np.ndarray) -> float:
        done, lock, open_sequences = threading.Event(), threading.Lock(), set(range(len(prompts)))

        def sink(event: Event) -> None:
            with lock:
                if not isinstance(event, TokenEvent) or event.finish:
                    open_sequences.discard(event.index)
                if not open_sequences:
                    done.set()

        greedy = SamplingParams(temperature=0)
        sequences = [Sequence(at, tuple(map(int, one)), greedy, setup.size.generated) for at, one in enumerate(prompts)]
        started = time.perf_counter()
        engine.submit(Request(f"r{started}", tuple(sequences)), sink)
        done.wait()
        return len(prompts) * setup.size.generated / (time.perf_counter() - started)

    try:
        yield measure
    finally:
        engine.close()


@contextmanager
def http_server(setup: Setup) -> Iterator[Measure]:
    """The engine behind HTTP: one streamed completion per prompt, each on its own connection."""
    flags = [
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--threads",
        str(setup.threads),
        "--max-concurrency",
        str(setup.slots),
    ]
    command = [
        sys.executable,
        "-m",
        "tunesmith_server",
        str(setup.root / "onnx"),
        "--served-model-name",
        "bench",
        *flags,
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines = (json.loads(line) for line in process.stderr)
    port = next(line["port"] for line in lines if line["message"] == "listening")
    next(line for line in lines if line["message"] == "ready")
    threading.Thread(target=lambda: list(lines), daemon=True).start()  # the access log must not fill the pipe

    def measure(prompts: np.ndarray) -> float:
        started = time.perf_counter()
        tokens = asyncio.run(_complete_all(port, prompts.tolist(), setup.size.generated))
        elapsed = time.perf_counter() - started
        assert tokens == len(prompts) * setup.size.generated, f"{tokens} tokens came"
        return tokens / elapsed

    try:
        yield measure
    finally:
        process.terminate()
        process.wait()


async def _complete_all(port: int, prompts: list[list[int]], generated: int) -> int:
    return sum(await asyncio.gather(*(_complete(port, prompt, generated) for prompt in prompts)))


async def _complete(port: int, prompt: list[int], generated: int) -> int:
    """Stream one completion with as little client as possible; the completion tokens that its usage chunk tells."""
    body = json.dumps(
        {
            "model": "bench",
            "prompt": prompt,
            "max_tokens": generated,
            "temperature": 0,
            "logit_bias": {str(END_TOKEN): -100},
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + body)
    last = b""
    async for line in reader:
        if line.startswith(b"data: {"):
            last = line
    writer.close()
    return int(json.loads(last.removeprefix(b"data: "))["usage"]["completion_tokens"])


CONTENDERS = {
    "torch eager": torch_eager,
    "onnxruntime-genai": genai_batch,
    "slot engine": slot_engine,
    "slot engine over HTTP": http_server,
}


def work(connection: Connection, name: str, setup: Setup) -> None:
    """A contender's process: prompts in, rates out, until None comes."""
    with CONTENDERS[name](setup) as measure:
        while (prompts := connection.recv()) is not None:
            connection.send(measure(prompts))


@contextmanager
def contender(name: str, setup: Setup) -> Iterator[Measure]:
    """A contender in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=work, args=(theirs, name, setup))
    process.start()
    theirs.close()

    def measure(prompts: np.ndarray) -> float:
        ours.send(prompts)
        return float(ours.recv())

    try:
        yield measure
    finally:
        ours.send(None)
        process.join()


def compare(contenders: dict[str, Measure], size: Size, streams: int) -> dict[str, list[float]]:
    """Rates of each contender, one per repetition, after a warm-up; the order rotates."""
    rng = np.random.default_rng(streams)
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for repetition in range(size.repeats + 1):
        prompts = rng.integers(10, size.vocabulary, (streams, size.prompt))
        for name in names[repetition % len(names) :] + names[: repetition % len(names)]:
            rate = contenders[name](prompts)
            if repetition:
                rates[name].append(rate)
    return rates


def show(streams: int, rates: dict[str, list[float]]) -> None:
    """One table."""

    def ratio(name: str, other: str) -> str:
        return f"{statistics.median(a / b for a, b in zip(rates[name], rates[other], strict=True)):.2f}"

    print(f"\n{streams} stream{'s' if streams > 1 else ''}")
    print(f"| {'contender':30} | tokens/s | of torch | of genai | of engine |")
    print(f"|{'-' * 32}|---------:|---------:|---------:|----------:|")
    for name, values in rates.items():
        ratios = [ratio(name, other) for other in ("torch eager", "onnxruntime-genai", "slot engine")]
        print(f"| {name:30} | {statistics.median(values):8.1f} | {ratios[0]:>8} | {ratios[1]:>8} | {ratios[2]:>9} |")
    overhead = 1 - float(ratio("slot engine over HTTP", "slot engine"))
    print(f"HTTP overhead: {overhead:.0%}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model and few tokens: does it work, not how fast")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--threads", type=int, default=usable_threads())
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "tunesmith-bench-server")
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else Size()
    root = model_folder(size, arguments.cache)
    if not (root / "onnx" / "genai_config.json").exists():
        maker = multiprocessing.get_context("spawn").Process(target=make_model, args=(size, root))
        maker.start()
        maker.join()
    setup = Setup(root, size, arguments.threads, max(arguments.streams))
    megabytes = (root / "onnx" / "model.onnx.data").stat().st_size / 1e6
    print(f"{megabytes / 4:.0f} M parameters, fp32, {setup.threads} threads, {json.dumps(asdict(size))}")
    with ExitStack() as stack:
        contenders = {name: stack.enter_context(contender(name, setup)) for name in CONTENDERS}
        for streams in arguments.streams:
            show(streams, compare(contenders, size, streams))


if __name__ == "__main__":
    main()
