"""Make random tiny Phi-3 models and export them: `python export_models.py OUT`.

`OUT/plain` and `OUT/long` (LongRoPE, switching at 64 tokens) each get a random transformers checkpoint in `torch` and
the exported folder in `onnx`; `OUT/tiny` gets the repository's trained tiny model. Run as a process of its own, so that
the tests of the torch-free server stay torch-free.
"""

import json
import os
import runpy
import shutil
import sys
from pathlib import Path

os.environ |= {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Phi3Config, Phi3ForCausalLM, PreTrainedTokenizerFast

TINY = Path(__file__).parents[2] / "examples" / "models" / "tiny-phi3"
SPECIAL = ["<unk>", "<s>", "</s>", "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
TEXT = "turn on the kitchen light and set the heating to twenty degrees, please; is it naïve to ask for 20 °C or ☕?"
TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}{{ raise_exception('bad role') }}{% endif %}"
    "{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
LONG_ROPE = {
    "type": "longrope",
    "rope_type": "longrope",
    "short_factor": [1.0] * 8,
    "long_factor": [1.0 + step for step in range(8)],
}


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE with Phi-3's special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([TEXT] * 10, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        unk_token="<unk>",
    )
    fast.chat_template = TEMPLATE
    return fast


def make_model(out: Path, context: int, original: int, rope_scaling: dict | None) -> None:
    """Write a checkpoint to `out/torch` and its fp32 export to `out/onnx`."""
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    config = Phi3Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        original_max_position_embeddings=original,
        rope_scaling=rope_scaling,
        bos_token_id=1,
        eos_token_id=3,
        pad_token_id=3,
        sliding_window=None,
        initializer_range=0.3,
    )
    Phi3ForCausalLM(config).save_pretrained(out / "torch")
    tokenizer.save_pretrained(out / "torch")
    if rope_scaling:  # transformers drops the key that the builder reads
        path = out / "torch" / "config.json"
        saved = json.loads(path.read_text())
        saved["rope_parameters"]["type"] = rope_scaling["type"]
        path.write_text(json.dumps(saved))
    export(out)


def export(out: Path) -> None:
    """Run the builder's command line in this process: importing torch once more would take ten seconds."""
    folders = ["-i", str(out / "torch"), "-o", str(out / "onnx"), "-c", str(out / "cache")]
    sys.argv = ["builder", *folders, "-p", "fp32", "-e", "cpu", "--extra_options", "hf_token=false"]
    runpy.run_module("onnxruntime_genai.models.builder", run_name="__main__")


if __name__ == "__main__":
    root = Path(sys.argv[1])
    make_model(root / "plain", context=8192, original=8192, rope_scaling=None)
    make_model(root / "long", context=512, original=64, rope_scaling=LONG_ROPE)
    shutil.copytree(TINY, root / "tiny" / "torch")
    export(root / "tiny")
