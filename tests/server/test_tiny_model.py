"""Test of the repository's own tiny model, from chat messages to text, against transformers."""

import warnings

import openai
import pytest

CHATS = [
    [{"role": "user", "content": "turn on the kitchen light"}],
    [{"role": "system", "content": "Answer in JSON."}, {"role": "user", "content": "what is the weather like?"}],
    [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}, {"role": "user", "content": "7 °C"}],
]


@pytest.mark.torch
def test_answers_over_http_are_transformers_answers(models, serve):
    """Template, tokens, greedy decoding, end tokens and text are those of transformers' chat generation."""
    import torch  # noqa: PLC0415 - only the tests marked `torch` may import it
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415 - as above

    torch.set_num_threads(1)
    checkpoint = models / "tiny" / "torch"
    with serve(models / "tiny" / "onnx") as server, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # transformers' own deprecations
        tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        model = AutoModelForCausalLM.from_pretrained(checkpoint).eval()
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="x") as client:
            name = client.models.list().data[0].id
            for chat in CHATS:
                inputs = tokenizer.apply_chat_template(
                    chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
                )
                generated = model.generate(**inputs, max_new_tokens=100, do_sample=False)[0]
                wanted = tokenizer.decode(generated[inputs["input_ids"].shape[1] :], skip_special_tokens=True)
                answer = client.chat.completions.create(model=name, messages=chat, temperature=0, max_tokens=100)
                assert answer.choices[0].message.content == wanted
                assert answer.usage.prompt_tokens == inputs["input_ids"].shape[1]
                assert (answer.choices[0].finish_reason == "stop") == (
                    generated.shape[0] - answer.usage.prompt_tokens < 100
                )
