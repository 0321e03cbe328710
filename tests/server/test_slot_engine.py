"""Tests of continuous batching: exactness whatever shares the batch, admission, cancellation, failure."""

import random
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

from tunesmith_server.engine import FailedEvent, Request, Sequence, TokenEvent
from tunesmith_server.errors import EngineClosedError, QueueFullError
from tunesmith_server.sampling import SamplingParams

GREEDY = SamplingParams(temperature=0)


def prompt_of(rng: random.Random, length: int) -> tuple[int, ...]:
    """A random prompt without special tokens."""
    return tuple(rng.randrange(8, 320) for _ in range(length))


def transformers_tokens(folder: Path, prompts: list[tuple[int, ...]], counts: list[int]) -> list[list[int]]:
    """Greedy continuations by transformers, one prompt at a time."""
    import torch  # noqa: PLC0415 - only the tests marked `torch` may import it
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - as above

    torch.set_num_threads(1)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # transformers' own deprecations
        model = AutoModelForCausalLM.from_pretrained(folder).eval()
        model.generation_config.eos_token_id = None
        return [
            model.generate(torch.tensor([prompt]), max_new_tokens=count, do_sample=False, pad_token_id=3)[0].tolist()[
                len(prompt) :
            ]
            for prompt, count in zip(prompts, counts, strict=True)
        ]


@pytest.mark.torch
@pytest.mark.parametrize("name", ["tiny", "plain", "long"])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_request_gets_transformers_tokens_whatever_shares_the_batch(models, make_engine, name, seed):
    """Requests joining and leaving at random get transformers' greedy tokens, also around a LongRoPE switch."""
    rng = random.Random(seed)
    shared = prompt_of(rng, 20)
    lengths = [rng.choice([1, 2, 5, 31, 32, 33, 60, 63, 64, 65, 66, 90, 150]) for _ in range(20)]
    prompts = [prompt_of(rng, length) for length in lengths] + [shared + prompt_of(rng, 8) for _ in range(4)]
    counts = [rng.choice([1, 2, 9, 40]) for _ in prompts]
    bench = make_engine(models / name / "onnx", slots=rng.choice([3, 5]))
    collectors, started = [], []
    for at, (prompt, count) in enumerate(zip(prompts, counts, strict=True)):
        if started and rng.random() < 0.6:
            assert rng.choice(started).first.wait(60)
        collectors.append(bench.submit(f"r{at}", Sequence(0, prompt, GREEDY, count)))
        started.append(collectors[-1])
    wanted = transformers_tokens(models / name / "torch", prompts, counts)
    assert [collector.tokens() for collector in collectors] == wanted
    assert bench.engine.stats().running == 0


def test_sampling_depends_on_the_seed_and_not_on_the_batch(plain, make_engine):
    """A seeded request gets the same tokens alone and among others; another seed gives others."""
    bench = make_engine(plain)
    params = SamplingParams(temperature=1.5, top_p=0.9, frequency_penalty=0.5)
    prompt = list(prompt_of(random.Random(0), 12))
    alone = bench.generate(prompt, 24, params, seed=5)
    busy = [
        bench.submit(f"n{at}", Sequence(0, prompt_of(random.Random(at), 7 * at + 1), SamplingParams(), 40))
        for at in range(6)
    ]
    assert bench.generate(prompt, 24, params, seed=5) == alone
    assert bench.generate(prompt, 24, params, seed=6) != alone
    for collector in busy:
        collector.tokens()


def test_choices_of_one_prompt_share_its_computation(plain, make_engine):
    """Several greedy choices of a prompt are equal, and the prompt is computed once."""
    bench = make_engine(plain)
    prompt = prompt_of(random.Random(1), 50)
    collector = bench.submit("r", *(Sequence(index, prompt, GREEDY, 12) for index in range(3)))
    assert collector.tokens(0) == collector.tokens(1) == collector.tokens(2)
    assert bench.engine.stats().reused_tokens == 2 * 49


def test_a_sequence_ends_at_an_end_token_or_its_limit(plain, make_engine):
    """An end-of-text token finishes with `stop`, the token limit with `length`, and so does the end of the context."""
    prompt = list(prompt_of(random.Random(2), 10))
    tokens = make_engine(plain).generate(prompt, 9)
    stopped = make_engine(plain, end=frozenset([tokens[4]])).submit("a", Sequence(0, tuple(prompt), GREEDY, 9))
    assert stopped.tokens() == tokens[: tokens.index(tokens[4]) + 1]
    assert stopped.events[0][-1].finish == "stop"
    limited = make_engine(plain).submit("b", Sequence(0, tuple(prompt), GREEDY, 9))
    assert limited.tokens() == tokens
    assert [event.finish for event in limited.events[0]] == [None] * 8 + ["length"]


def test_a_full_context_ends_a_sequence(long, make_engine):
    """A sequence that reaches the context's last token finishes with `length`."""
    bench = make_engine(long)
    collector = bench.submit("r", Sequence(0, prompt_of(random.Random(3), 500), GREEDY, 1000))
    assert len(collector.tokens()) == 12
    assert collector.events[0][-1].finish == "length"


def test_a_full_queue_refuses_all_sequences_of_a_request(plain, make_engine):
    """What fits neither slots nor queue is refused as a whole, and accepted once there is room."""
    bench = make_engine(plain, slots=2, max_queue=1)
    prompt = (9,) * 5
    bench.submit("a", *(Sequence(index, prompt, GREEDY, 8000) for index in range(2))).first.wait(60)
    with pytest.raises(QueueFullError):
        bench.submit("b", *(Sequence(index, prompt, GREEDY, 3) for index in range(2)))
    waiting = bench.submit("c", Sequence(0, prompt, GREEDY, 3))
    with pytest.raises(QueueFullError):
        bench.submit("d", Sequence(0, prompt, GREEDY, 3))
    assert bench.engine.stats().waiting == 1
    bench.engine.cancel("a", 1)
    assert len(waiting.tokens()) == 3
    assert bench.engine.stats().running == 1


def test_a_cancelled_request_frees_its_slots_and_is_silent(plain, make_engine):
    """After a cancel no event follows, and what waited runs."""
    bench = make_engine(plain, slots=1)
    gone = bench.submit("gone", Sequence(0, (9, 10, 11), GREEDY, 8000))
    assert gone.first.wait(60)
    never = bench.submit("never", Sequence(0, (9, 10), GREEDY, 5))
    bench.engine.cancel("never")
    bench.engine.cancel("gone")
    assert len(bench.generate([9, 10, 11], 4)) == 4
    seen = len(gone.events[0])
    assert len(bench.generate([9, 10, 11], 4)) == 4
    assert len(gone.events[0]) == seen
    assert not never.events


def test_closing_tells_everyone(plain, make_engine):
    """Running and waiting sequences end with an event that says so, and no more work is taken."""
    bench = make_engine(plain, slots=1)
    running, waiting = (bench.submit(name, Sequence(0, (9, 10), GREEDY, 8000)) for name in ("a", "b"))
    assert running.first.wait(60)
    bench.engine.close()
    assert all(isinstance(one.events[0][-1], FailedEvent) and one.events[0][-1].closed for one in (running, waiting))
    with pytest.raises(EngineClosedError):
        bench.submit("c", Sequence(0, (9,), GREEDY, 1))
    assert not bench.engine.stats().alive


def test_a_failed_step_ends_its_own_sequences_only(plain, make_engine, monkeypatch):
    """When the runtime fails in one request's prefill, that request fails and another one goes on to its end."""
    bench = make_engine(plain)
    run = bench.decoder.run

    def failing(first, tokens, lengths, width):
        if 300 in tokens and tokens.shape[1] > 1:
            raise RuntimeError("out of memory")
        return run(first, tokens, lengths, width)

    monkeypatch.setattr(bench.decoder, "run", failing)
    prompt = [9, 10, 11, 12]
    wanted = bench.generate(prompt, 200)
    other = bench.submit("other", Sequence(0, tuple(prompt), GREEDY, 200))
    assert other.first.wait(60)
    failed = bench.submit("bad", Sequence(0, (300,) * 20, GREEDY, 5))
    assert other.tokens() == wanted
    assert failed.done.wait(60)
    assert failed.events[0] == [FailedEvent(0, "the engine failed: RuntimeError")]
    assert bench.engine.stats().failures == 1


def test_a_long_prompt_does_not_stop_the_others(plain, make_engine):
    """While a long prompt is computed, a running sequence keeps getting tokens."""
    bench = make_engine(plain, prefill_chunk=16)
    order, seen = [], threading.Event()

    def sink(event):
        order.append("short")
        seen.set()

    bench.engine.submit(Request("short", (Sequence(0, (9, 10), GREEDY, 2000),)), sink)
    assert seen.wait(60)
    before = len(order)
    assert len(bench.generate(list(prompt_of(random.Random(4), 480)), 1)) == 1
    assert len(order) - before >= 480 // 16 - 1


def test_memory_follows_the_longest_sequence(plain, make_engine):
    """The cache grows with a long sequence, and an idle engine gives the memory back."""
    bench = make_engine(plain)
    small = bench.cache.size_bytes
    holder = bench.submit("holder", Sequence(0, prompt_of(random.Random(5), 700), GREEDY, 7000))
    assert holder.first.wait(60)
    assert bench.cache.size_bytes >= 4 * small
    bench.engine.cancel("holder")
    bench.generate([9, 10], 1)
    bench.generate([9, 10], 1)
    assert bench.cache.size_bytes == small


def test_log_probabilities_belong_to_the_tokens(plain, make_engine):
    """A greedy token is its own first alternative."""
    bench = make_engine(plain)
    collector = bench.submit("r", Sequence(0, (9, 10), SamplingParams(temperature=0, top_logprobs=3), 5))
    collector.tokens()
    for event in collector.events[0]:
        assert isinstance(event, TokenEvent)
        assert event.logprobs is not None
        assert event.logprobs.top[0] == (event.token, event.logprobs.logprob)
        assert len(event.logprobs.top) == 3


def test_prefilling_in_chunks_gives_the_same_logits(plain, make_engine):
    """A prompt computed in one step and in pieces has the same logits to the last bit."""
    bench = make_engine(plain)
    tokens = np.array([prompt_of(random.Random(6), 40)])
    whole = bench.decoder.run(0, tokens, np.array([40]), 40).copy()
    for start in range(0, 40, 8):
        pieces = bench.decoder.run(1, tokens[:, start : start + 8], np.array([start + 8]), start + 8)
    assert np.array_equal(whole, pieces)
