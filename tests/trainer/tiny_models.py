"""Tiny models of several families, random but the same each time; they prove that a path works, never its quality."""

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    MarianConfig,
    MarianMTModel,
    RobertaConfig,
    RobertaForTokenClassification,
    T5Config,
    T5ForConditionalGeneration,
    XLMRobertaConfig,
    XLMRobertaForQuestionAnswering,
)

WIDTH, WORDS = 64, 320


def llama():
    """Two layers with grouped heads."""
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=WORDS, hidden_size=WIDTH, intermediate_size=128, num_hidden_layers=2, **heads)
    )


def _bert_shape():
    return {
        "vocab_size": WORDS,
        "hidden_size": WIDTH,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_labels": 3,
    }


def bert():
    """An encoder with a head for three classes."""
    return BertForSequenceClassification(BertConfig(**_bert_shape()))


def roberta():
    """An encoder with a head for three labels of a token."""
    return RobertaForTokenClassification(RobertaConfig(**_bert_shape()))


def distilbert():
    """An encoder whose head has two layers."""
    shape = {"vocab_size": WORDS, "dim": WIDTH, "hidden_dim": 128, "n_layers": 2, "n_heads": 4}
    return DistilBertForSequenceClassification(DistilBertConfig(num_labels=3, **shape))


def xlm_roberta():
    """An encoder with a head for both ends of an answer."""
    return XLMRobertaForQuestionAnswering(XLMRobertaConfig(**_bert_shape() | {"num_labels": 2}))


def t5():
    """An encoder-decoder with relative positions."""
    shape = {"d_model": WIDTH, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
    return T5ForConditionalGeneration(T5Config(vocab_size=WORDS, decoder_start_token_id=0, **shape))


def marian():
    """An encoder-decoder with absolute positions."""
    widths = {"d_model": WIDTH, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128}
    depths = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
    ends = {"pad_token_id": 0, "decoder_start_token_id": 0, "eos_token_id": 1, "forced_eos_token_id": 1}
    sizes = {"vocab_size": WORDS, "decoder_vocab_size": WORDS, "max_position_embeddings": 64}
    return MarianMTModel(MarianConfig(**sizes, **widths, **depths, **ends))


#: Maker and PEFT's name of the task, by `model_type`; of questions PEFT's own model stays out (see `extraction`).
FAMILIES = {
    "llama": (llama, "CAUSAL_LM"),
    "bert": (bert, "SEQ_CLS"),
    "roberta": (roberta, "TOKEN_CLS"),
    "distilbert": (distilbert, "SEQ_CLS"),
    "xlm-roberta": (xlm_roberta, ""),
    "t5": (t5, "SEQ_2_SEQ_LM"),
    "marian": (marian, "SEQ_2_SEQ_LM"),
}


def make_tiny(family):
    """The tiny model of a family, and PEFT's name of its task."""
    make, task = FAMILIES[family]
    torch.manual_seed(0)
    return make().eval(), task
