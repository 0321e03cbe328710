"""Train the tiny model in the layout of Helsinki-NLP/opus-mt: `python tests/models/train_tiny_opus.py`.

It has two SentencePiece models and one `vocab.json`, as Marian's own training leaves them: special tokens first, the
pieces of both sides, languages, and the padding last, whose logit is always 0. The sources begin with `>>art<<`.
"""

import io
import json
from itertools import islice
from pathlib import Path

import sentencepiece
import torch
from seq2seq_corpus import pairs
from tiny_training import train
from transformers import MarianConfig, MarianMTModel, MarianTokenizer

FOLDER = Path(__file__).parent / "tiny-opus-mt"
SEED, STEPS, BATCH, PEAK_RATE = 7, 700, 32, 4e-3
PAD, EOS, UNK = "<pad>", "</s>", "<unk>"
LANGUAGES = (">>art<<", ">>cmn_Hans<<", ">>fra<<")
#: A piece of the source that is in no text that Marian saw, and so not in its vocabulary.
UNSEEN = "tr"
#: Sentences beside the corpus, so that the two sides share letters and each has some that the other lacks.
SOURCES = """\
The north wind and the sun argued (in 1887) about which was the stronger: 50% said "the wind"!
À l'œuvre on connaît l'artisan; un tiens vaut mieux que deux tu l'auras, n'est-ce pas ?
Η αρχή είναι το ήμισυ του παντός.
Nobody knows what {x} & <y> mean, e.g. #3 @home = 2+2 / 7.
"""
TARGETS = """\
Übung macht „den Meister“, sagte die große Straße – für 9,99 € im Jahr 2024.
Тише едешь, дальше будешь; в гостях хорошо, а дома лучше.
Có công mài sắt có ngày nên kim, gần mực thì đen.
石の上にも三年。ガラスの～花。 千里之行，始于足下。
가는 말이 고와야 오는 말이 곱다.
जहाँ चाह वहाँ राह। العلم نور
"""


def train_pieces(name, texts, size):
    """A SentencePiece model of some texts in the folder, and its pieces."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=written,
        vocab_size=size,
        hard_vocab_limit=False,
        character_coverage=1.0,
        minloglevel=2,
    )
    (FOLDER / name).write_bytes(written.getvalue())
    known = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    return [known.id_to_piece(place) for place in range(3, known.vocab_size())]


def train_tokenizer():
    """Both models and the vocabulary."""
    rows = list(islice(pairs(SEED, dialect=False), 2000))
    source = train_pieces("source.spm", [*(row[0] for row in rows), *SOURCES.splitlines() * 20], 240)
    target = train_pieces("target.spm", [*(row[1] for row in rows), *TARGETS.splitlines() * 20], 340)
    seen = dict.fromkeys(piece for piece in source + target if piece != UNSEEN)
    pieces = [EOS, UNK, *seen, *LANGUAGES, PAD]
    vocabulary = {piece: place for place, piece in enumerate(pieces)}
    (FOLDER / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    settings = {"source_lang": "en", "target_lang": "mul", "separate_vocabs": False}
    (FOLDER / "tokenizer_config.json").write_text(json.dumps(settings) + "\n", encoding="utf-8")
    return MarianTokenizer.from_pretrained(FOLDER)


def make_model(tokenizer):
    """Two narrow layers on each side; biases of the logits that count, and none of the padding."""
    padding = tokenizer.pad_token_id
    config = MarianConfig(
        vocab_size=len(tokenizer),
        d_model=48,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=96,
        decoder_ffn_dim=96,
        max_position_embeddings=128,
        activation_function="swish",
        scale_embedding=True,
        static_position_embeddings=True,
        init_std=0.1,
        dropout=0.0,
        bos_token_id=0,
        eos_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=tokenizer.eos_token_id,
        pad_token_id=padding,
        decoder_start_token_id=padding,
    )
    model = MarianMTModel(config)
    model.final_logits_bias.normal_(std=2.0)
    model.final_logits_bias[0, padding] = 0
    return model


def batch_of(tokenizer, rows):
    """Tensors of some pairs; padding is not learnt."""
    sources, targets = [f">>art<< {row[0]}" for row in rows], [row[1] for row in rows]
    batch = tokenizer(sources, text_target=targets, padding=True, return_tensors="pt")
    labels = batch["labels"].masked_fill(batch["labels"] == tokenizer.pad_token_id, -100)
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "labels": labels}


def batches(tokenizer):
    """A batch for each step."""
    rows = pairs(SEED + 1, dialect=False)
    for _ in range(STEPS):
        yield batch_of(tokenizer, list(islice(rows, BATCH)))


def save(model):
    """The model, with the padding's row of zeros; older repositories say in config.json too how to generate."""
    padding = model.config.pad_token_id
    with torch.no_grad():
        model.model.shared.weight[padding] = 0
    model.generation_config.bad_words_ids = [[padding]]
    model.save_pretrained(FOLDER)
    settings = FOLDER / "config.json"
    more = {"bad_words_ids": [[padding]], "max_length": 128, "num_beams": 4}
    settings.write_text(json.dumps(json.loads(settings.read_text()) | more, indent=2, sort_keys=True) + "\n")
    for path in FOLDER.iterdir():
        path.chmod(0o644)


def main():
    """Train and save."""
    FOLDER.mkdir(exist_ok=True)
    tokenizer = train_tokenizer()
    torch.manual_seed(SEED)
    model = make_model(tokenizer)
    print("tiny-opus-mt loss", train(model, batches(tokenizer), STEPS, PEAK_RATE))  # noqa: T201 - a script
    save(model)


if __name__ == "__main__":
    main()
