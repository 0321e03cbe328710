"""Random models of several shapes for the planner's benchmark, each with a tokenizer of one token per word.

`python bench/planner_models.py FOLDER` writes them; a process of its own, so that the benchmark itself stays small.
"""

import argparse
from pathlib import Path
from typing import Any

MODELS: dict[str, dict[str, Any]] = {
    "phi3-7m": {"model_type": "phi3", "hidden": 256, "wide": 512, "layers": 4, "heads": 4, "keys": 4, "vocab": 8192},
    "phi3-23m": {"model_type": "phi3", "hidden": 384, "wide": 1024, "layers": 6, "heads": 6, "keys": 6, "vocab": 16384},
    "phi3-74m": {"model_type": "phi3", "hidden": 640, "wide": 1280, "layers": 8, "heads": 8, "keys": 8, "vocab": 32064},
    "llama-9m": {"model_type": "llama", "hidden": 256, "wide": 704, "layers": 6, "heads": 8, "keys": 2, "vocab": 20000},
    "llama-39m": {
        "model_type": "llama",
        "hidden": 512,
        "wide": 1408,
        "layers": 8,
        "heads": 8,
        "keys": 2,
        "vocab": 16000,
    },
    "bert-11m": {"model_type": "bert", "hidden": 256, "wide": 1024, "layers": 4, "heads": 4, "keys": 4, "vocab": 30522},
    "t5-17m": {"model_type": "t5", "hidden": 256, "wide": 1024, "layers": 6, "heads": 4, "keys": 4, "vocab": 32128},
}
MODELS |= {f"{name}-bf16": MODELS[name] | {"dtype": "bfloat16"} for name in ("phi3-74m", "llama-39m")}
CONTEXT = 2048


def config_of(name: str) -> dict[str, Any]:
    """The configuration of a model, as its config.json has it."""
    row = MODELS[name]
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "vocab_size": row["vocab"]}
    if row["model_type"] == "t5":
        own = {"d_model": row["hidden"], "d_ff": row["wide"], "num_layers": row["layers"], "num_heads": row["heads"]}
        more = {
            "dropout_rate": 0.1,
            "d_kv": row["hidden"] // row["heads"],
            "feed_forward_proj": "relu",
            "decoder_start_token_id": 0,
        }
        return {"model_type": "t5", "is_encoder_decoder": True, **special, **own, **more}
    common = {
        "model_type": row["model_type"],
        "hidden_size": row["hidden"],
        "intermediate_size": row["wide"],
        "num_hidden_layers": row["layers"],
        "num_attention_heads": row["heads"],
        "max_position_embeddings": CONTEXT if row["model_type"] != "bert" else 512,
        "dtype": row.get("dtype", "float32"),
        **special,
    }
    if row["model_type"] == "bert":
        return {**common, "attention_probs_dropout_prob": 0.1}
    original = {"original_max_position_embeddings": CONTEXT} if row["model_type"] == "phi3" else {}
    tied = {"tie_word_embeddings": name == "llama-9m"}
    return {**common, **original, **tied, "num_key_value_heads": row["keys"]}


def write(name: str, folder: Path) -> None:
    """Write one model with random weights, and its tokenizer."""
    import torch  # noqa: PLC0415 - only this process needs it
    from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: PLC0415
    from transformers import (  # noqa: PLC0415
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForMaskedLM,
        AutoModelForSeq2SeqLM,
        PreTrainedTokenizerFast,
    )

    settings = config_of(name)
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    kinds = {"bert": AutoModelForMaskedLM, "t5": AutoModelForSeq2SeqLM}
    torch.manual_seed(0)
    model = kinds.get(config.model_type, AutoModelForCausalLM).from_config(config)
    model = model.to(config.dtype or torch.float32)
    model.save_pretrained(folder / name)
    special = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3}
    words = special | {f"w{number}": number for number in range(4, config.vocab_size)}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="</s>", pad_token="<pad>", bos_token="<s>", unk_token="<unk>"
    )
    tokenizer.save_pretrained(folder / name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the models go")
    parser.add_argument("names", nargs="*", help=f"which of {', '.join(MODELS)}; all of them unless said otherwise")
    options = parser.parse_args()
    for one in options.names or MODELS:
        write(one, options.folder)
