"""Train the tiny Llama of the tests, from seeds: `OMP_NUM_THREADS=1 python tests/models/train_tiny_llama.py`.

Asked an English sentence, it answers in the made-up language of `seq2seq_corpus`; about 40 s on one core. It has
what Llama 3.2 has: grouped heads, tied embeddings, scaled rotary embeddings, its special tokens and chat template.
"""

from itertools import islice
from pathlib import Path

import torch
from seq2seq_corpus import pairs
from tiny_training import save, train
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HERE = Path(__file__).parent
SEED, STEPS, BATCH, PEAK_RATE, CONTEXT = 7, 700, 32, 6e-3, 256
BEGIN, END, PAD = "<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>"
HEADER, HEADER_END, TURN_END = "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"
# How Llama 3 splits a text into words; line breaks stay together whatever follows, so that a prompt's end is stable.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# The template of meta-llama/Llama-3.2-1B-Instruct without its tools and dates.
CHAT_TEMPLATE = (
    "{{- bos_token }}{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{{- message['content'] | trim + '<|eot_id|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)


def train_tokenizer():
    """A byte-level BPE of English and the language; a text begins with `<|begin_of_text|>`."""
    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(Regex(WORDS), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    special = [BEGIN, END, PAD, HEADER, HEADER_END, TURN_END]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    roles = ["user\n\n", "assistant\n\n"] * 500
    texts = [text for pair in islice(pairs(SEED, dialect=False), 2000) for text in pair]
    tokenizer.train_from_iterator([*texts, *roles], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[(BEGIN, 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=TURN_END,
        pad_token=PAD,
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def new_model(tokenizer):
    """Two layers of width 64, untrained; `<|eot_id|>` and `<|end_of_text|>` both end a generation."""
    begin, end, pad, turn_end = tokenizer.convert_tokens_to_ids([BEGIN, END, PAD, TURN_END])
    scaling = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        rope_parameters={**scaling, "rope_theta": 10000.0, "original_max_position_embeddings": CONTEXT // 4},
        tie_word_embeddings=True,
        bos_token_id=begin,
        eos_token_id=[end, turn_end],
        pad_token_id=pad,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(bos_token_id=begin, eos_token_id=[end, turn_end], pad_token_id=pad)
    return model


def batch_of(tokenizer, rows):
    """Tensors of some chats; only the answers are learnt."""
    chats = [[{"role": "user", "content": asked}, {"role": "assistant", "content": said}] for asked, said in rows]
    texts = [tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats]
    prompts = [tokenizer.apply_chat_template(chat[:1], tokenize=False, add_generation_prompt=True) for chat in chats]
    batch = tokenizer(texts, padding=True, return_tensors="pt", add_special_tokens=False, return_token_type_ids=False)
    asked = torch.tensor([len(tokenizer(prompt, add_special_tokens=False)["input_ids"]) for prompt in prompts])
    places = torch.arange(batch["input_ids"].shape[1])
    learnt = (places >= asked[:, None]) & (batch["attention_mask"] == 1)
    return {**batch, "labels": batch["input_ids"].masked_fill(~learnt, -100)}


def batches(tokenizer):
    """A batch for each step."""
    rows = pairs(SEED + 1, dialect=False)
    for _ in range(STEPS):
        yield batch_of(tokenizer, list(islice(rows, BATCH)))


def main():
    """Train and save it."""
    tokenizer = train_tokenizer()
    torch.manual_seed(SEED)
    model = new_model(tokenizer)
    loss = train(model, batches(tokenizer), STEPS, PEAK_RATE)
    print(f"{len(tokenizer)} tokens, {model.num_parameters():,} parameters, loss {loss:.4f}")  # noqa: T201
    save(model, tokenizer, HERE / "tiny-llama")


if __name__ == "__main__":
    main()
