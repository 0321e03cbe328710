"""Train `tiny-phi3`: a 0.8 M parameter Phi-3 with its own tokenizer, small enough to live in the repository.

OMP_NUM_THREADS=2 python examples/models/train_tiny_phi3.py --out examples/models/tiny-phi3
"""

import argparse
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from tiny_phi3_corpus import chats
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional
from transformers import GenerationConfig, Phi3Config, Phi3ForCausalLM, PreTrainedTokenizerFast

SEED = 20
VOCABULARY = 576
CONTEXT = 512
BATCH = 64
PEAK_LEARNING_RATE = 4e-3
PROMPT_WEIGHT = 0.1
SPECIAL_TOKENS = ("<unk>", "<pad>", "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
# The template of microsoft/Phi-3-mini-4k-instruct, character by character.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{'<|system|>\n' + message['content'] + '<|end|>\n'}}"
    "{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}"
    "{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)


def train_tokenizer(texts: Iterator[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE in which each digit is a token, so that numbers are copied digit by digit."""
    bpe = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    # No merge joins digits now, so plain ByteLevel gives the same tokens and every runtime implements that one.
    bpe.pre_tokenizer = byte_level
    bpe.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        unk_token="<unk>",  # noqa: S106 - a token of the vocabulary, not a password
        pad_token="<pad>",  # noqa: S106 - as above
        eos_token="<|endoftext|>",  # noqa: S106 - as above
        bos_token="<|endoftext|>",  # noqa: S106 - as above
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


def new_model(tokenizer: PreTrainedTokenizerFast) -> Phi3ForCausalLM:
    """A Phi-3 of 4 layers and width 128, untrained; `<|end|>` and `<|endoftext|>` both end a generation."""
    eos, end, pad = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|end|>", "<pad>"])
    config = Phi3Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        original_max_position_embeddings=CONTEXT,
        sliding_window=None,
        tie_word_embeddings=False,
        bos_token_id=eos,
        eos_token_id=eos,
        pad_token_id=pad,
    )
    model = Phi3ForCausalLM(config)
    model.generation_config = GenerationConfig(bos_token_id=eos, eos_token_id=[end, eos], pad_token_id=pad)
    return model


def encode(tokenizer: PreTrainedTokenizerFast, question: str, answer: str) -> tuple[list[int], int]:
    """Token ids of one chat and how many of them are the prompt."""
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    prompt = tokenizer.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    return tokenizer.encode(whole), len(tokenizer.encode(prompt))


def batches(tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless right-padded (ids, loss weights), both [batch, length]; eight batches are sorted by length together."""
    source = chats(SEED)
    while True:
        window = [encode(tokenizer, *next(source)) for _ in range(8 * BATCH)]
        window.sort(key=lambda row: len(row[0]))
        starts = torch.randperm(8) * BATCH
        for start in starts.tolist():
            yield collate(window[start : start + BATCH], tokenizer.pad_token_id)


def collate(rows: list[tuple[list[int], int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad the rows to the longest; prompts weigh little, padding nothing."""
    length = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), length), pad)
    weights = torch.zeros(len(rows), length)
    for row, (tokens, prompt) in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        weights[row, :prompt] = PROMPT_WEIGHT
        weights[row, prompt : len(tokens)] = 1.0
    return ids, weights


def train(model: Phi3ForCausalLM, tokenizer: PreTrainedTokenizerFast, steps: int) -> None:
    """AdamW with a one-cycle learning rate on weighted next-token cross-entropy."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, total_steps=steps, pct_start=0.1)
    model.train()
    for step, (ids, weights) in enumerate(itertools.islice(batches(tokenizer), steps), start=1):
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
        losses = functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        loss = (losses * weights[:, 1:].flatten()).sum() / weights[:, 1:].sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step} of {steps}: loss {loss.item():.3f}", flush=True)


@torch.inference_mode()
def exact_match(model: Phi3ForCausalLM, tokenizer: PreTrainedTokenizerFast, rows: list[tuple[str, str]]) -> float:
    """Share of the chats that greedy decoding answers to the letter."""
    model.eval()
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        for question, _ in rows
    ]
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False)
    output = model.generate(**inputs, max_new_tokens=64, do_sample=False)
    answers = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    matches: list[bool] = [said == wanted for said, (_, wanted) in zip(answers, rows, strict=True)]
    return float(sum(matches) / len(matches))


def save(model: Phi3ForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write both to `out`, readable by everyone: safetensors creates files that only the owner can read."""
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    config = out / "tokenizer_config.json"  # a class name which runtimes older than transformers 5 know as well
    config.write_text(config.read_text().replace("TokenizersBackend", "PreTrainedTokenizerFast"))
    for path in out.iterdir():
        path.chmod(0o644)


def main() -> None:
    """Train tokenizer and model, print what the model can do on unseen chats, and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    arguments = parser.parse_args()
    started = time.monotonic()
    torch.manual_seed(SEED)
    corpus = itertools.islice(chats(SEED + 1), 20_000)
    tokenizer = train_tokenizer(f"{question}\n{answer}" for question, answer in corpus)
    model = new_model(tokenizer)
    print(f"{len(tokenizer)} tokens, {model.num_parameters():,} parameters")
    train(model, tokenizer, arguments.steps)
    unseen = list(itertools.islice(chats(SEED + 2), 256))
    print(f"exact match on 256 unseen chats: {exact_match(model, tokenizer, unseen):.3f}")
    save(model, tokenizer, arguments.out)
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
