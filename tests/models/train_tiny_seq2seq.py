"""Train the tiny T5 and Marian models of the tests, from seeds: `python tests/models/train_tiny_seq2seq.py`.

Each learns to translate English into the made-up language of `seq2seq_corpus`; about half a minute on one core.
"""

import json
from itertools import islice
from pathlib import Path

import torch
from seq2seq_corpus import pairs
from tiny_training import train
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import MarianConfig, MarianMTModel, PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

HERE = Path(__file__).parent
SEED, STEPS, BATCH, PEAK_RATE = 7, 700, 32, 4e-3
PAD, EOS, UNK = "<pad>", "</s>", "<unk>"


def train_tokenizer():
    """A byte-level BPE of English and the language; `</s>` ends every text."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=360, special_tokens=[PAD, EOS, UNK], initial_alphabet=alphabet, show_progress=False
    )
    texts = [text for pair in islice(pairs(SEED, dialect=False), 2000) for text in pair]
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {EOS}", special_tokens=[(EOS, 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS, unk_token=UNK)


def tiny_t5(vocabulary):
    """Two layers on each side, relative positions."""
    config = T5Config(
        vocab_size=vocabulary,
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_decoder_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    return T5ForConditionalGeneration(config)


def tiny_marian(vocabulary):
    """Two layers on each side; without scaled embeddings and wide initial weights it learns nothing at this size."""
    config = MarianConfig(
        vocab_size=vocabulary,
        d_model=64,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        max_position_embeddings=128,
        scale_embedding=True,
        init_std=0.1,
        dropout=0.0,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        forced_eos_token_id=None,
    )
    return MarianMTModel(config)


def batch_of(tokenizer, rows):
    """Tensors of some pairs; padding is not learnt."""
    source = tokenizer([row[0] for row in rows], padding=True, return_tensors="pt")
    labels = tokenizer([row[1] for row in rows], padding=True, return_tensors="pt")["input_ids"]
    return {
        "input_ids": source["input_ids"],
        "attention_mask": source["attention_mask"],
        "labels": labels.masked_fill(labels == 0, -100),
    }


def batches(tokenizer):
    """A batch for each step."""
    rows = pairs(SEED + 1, dialect=False)
    for _ in range(STEPS):
        yield batch_of(tokenizer, list(islice(rows, BATCH)))


def main():
    """Train and save both."""
    tokenizer = train_tokenizer()
    for name, make in (("tiny-t5", tiny_t5), ("tiny-marian", tiny_marian)):
        torch.manual_seed(SEED)
        model = make(len(tokenizer))
        print(name, "loss", train(model, batches(tokenizer), STEPS, PEAK_RATE))  # noqa: T201 - a script
        model.save_pretrained(HERE / name)
        tokenizer.save_pretrained(HERE / name)
        settings = HERE / name / "tokenizer_config.json"
        known = json.loads(settings.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
        settings.write_text(json.dumps(known, indent=2) + "\n")
        for path in (HERE / name).iterdir():
            path.chmod(0o644)


if __name__ == "__main__":
    main()
