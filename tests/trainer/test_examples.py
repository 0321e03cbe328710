"""The example data and the tiny model are what their scripts and their documentation say."""

import importlib.util
import itertools
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from jinja2.sandbox import ImmutableSandboxedEnvironment
from safetensors import safe_open
from tokenizers import Tokenizer

from tunesmith_api import FineTuneJobSpec, unsupported_job_fields

EXAMPLES = Path(__file__).parents[2] / "examples"
HOME_ASSISTANT = EXAMPLES / "home-assistant"
TINY_PHI3 = EXAMPLES / "models" / "tiny-phi3"
DATA_FILES = ("train.jsonl", "test.jsonl")
# `kubectl apply` keeps a copy of the object in an annotation, and all annotations together may have 262,144 bytes.
ANNOTATION_LIMIT_BYTES = 262_144


def rows(name):
    """The (command, answer) pairs of a data file."""
    parsed = [json.loads(line)["messages"] for line in (HOME_ASSISTANT / name).read_text().splitlines()]
    return [(messages[0]["content"], messages[1]["content"]) for messages in parsed]


def load_script(path: Path) -> ModuleType:
    """Import a script by its path."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def make_data():
    """The script that writes the data."""
    return load_script(HOME_ASSISTANT / "make_data.py")


@pytest.fixture(scope="module")
def tokenizer():
    """The model's tokenizer, without transformers."""
    return Tokenizer.from_file(str(TINY_PHI3 / "tokenizer.json"))


@pytest.fixture(scope="module")
def template():
    """The model's chat template."""
    environment = ImmutableSandboxedEnvironment()
    return environment.from_string((TINY_PHI3 / "chat_template.jinja").read_text())


@pytest.mark.parametrize("name", DATA_FILES)
def test_the_committed_data_are_what_the_script_writes(make_data, name):
    """Running the script again changes nothing."""
    assert make_data.files()[name] == (HOME_ASSISTANT / name).read_text()


def test_the_rows_of_the_small_scenarios_are_what_their_script_writes(monkeypatch):
    """Running it again changes nothing, and each scenario has a job."""
    monkeypatch.setattr("sys.path", [*sys.path])  # the script adds to it
    script = load_script(EXAMPLES / "make_scenarios.py")
    for scenario in script.SCENARIOS:
        folder = EXAMPLES / scenario
        assert script.files(scenario) == {name: (folder / name).read_text() for name in DATA_FILES}, scenario
        assert (folder / "job.yaml").is_file()


def test_the_data_have_the_documented_number_of_rows():
    """There are 500 training and 200 test rows."""
    assert [len(rows(name)) for name in DATA_FILES] == [500, 200]


def test_no_command_occurs_twice():
    """No test command was seen in training, and none counts twice."""
    commands = [command for name in DATA_FILES for command, _ in rows(name)]
    assert len(set(commands)) == len(commands)


@pytest.mark.parametrize("name", DATA_FILES)
def test_rows_are_a_user_and_an_assistant_message(name):
    """Every line is one exchange in the Messages format and nothing else."""
    for line in (HOME_ASSISTANT / name).read_text().splitlines():
        row = json.loads(line)
        assert list(row) == ["messages"]
        assert [message["role"] for message in row["messages"]] == ["user", "assistant"]


@pytest.mark.parametrize("name", DATA_FILES)
def test_answers_are_compact_json_actions(make_data, name):
    """Every answer is JSON without blanks, with an action of the table, a device of that action, and its value."""
    actions = {action.name: action for action in make_data.ACTIONS}
    for _, answer in rows(name):
        meaning = json.loads(answer)
        action = actions[meaning["action"]]
        assert answer == json.dumps(meaning, separators=(",", ":"))
        assert meaning["device"].replace("_", " ") in action.devices
        assert ("value" in meaning) == (action.values is not None)


def test_every_answer_follows_from_its_command():
    """Device, room and value of the answer stand in the command, the value as digits or as a word."""
    tens = {10: "ten", 20: "twenty", 30: "thirty", 40: "forty", 50: "fifty", 60: "sixty", 70: "seventy", 80: "eighty"}
    for command, answer in [*rows("train.jsonl"), *rows("test.jsonl")]:
        meaning = json.loads(answer)
        assert meaning["device"].replace("_", " ") in command
        assert meaning["room"].replace("_", " ") in command or meaning["room"] == "all"
        if "value" in meaning:
            words = command.split()
            assert str(meaning["value"]) in words or tens[meaning["value"]] in words


def test_the_data_fit_a_config_map_that_is_applied():
    """The ConfigMap of both files stays below what `kubectl apply` can annotate."""
    data = {name: (HOME_ASSISTANT / name).read_text() for name in DATA_FILES}
    assert len(json.dumps({"data": data})) < ANNOTATION_LIMIT_BYTES - 20_000


def test_the_job_is_valid_and_supported():
    """The job meets the contract and asks for nothing that is not built."""
    job = yaml.safe_load((HOME_ASSISTANT / "job.yaml").read_text())
    spec = FineTuneJobSpec.model_validate(job["spec"])
    assert (job["apiVersion"], job["kind"]) == ("tunesmith.dev/v1alpha1", "FineTuneJob")
    assert unsupported_job_fields(spec) == []


def test_the_kustomization_generates_the_config_map_that_the_job_reads():
    """The job's URIs name the generated ConfigMap and its keys, without a hash suffix."""
    kustomization = yaml.safe_load((HOME_ASSISTANT / "kustomization.yaml").read_text())
    dataset = yaml.safe_load((HOME_ASSISTANT / "job.yaml").read_text())["spec"]["dataset"]
    (generator,) = kustomization["configMapGenerator"]
    generated = {f"configmap://{generator['name']}/{name}" for name in generator["files"]}
    assert {dataset["train"]["uri"], dataset["evaluation"]["uri"]} == generated
    assert kustomization["generatorOptions"]["disableNameSuffixHash"] is True
    assert kustomization["resources"] == ["job.yaml"]


def test_the_model_folder_has_at_most_4_mb():
    """A clone stays small."""
    assert sum(path.stat().st_size for path in TINY_PHI3.iterdir()) <= 4_000_000


def test_every_model_file_is_readable_by_all():
    """A server under another user can read the folder."""
    assert {path.name: path.stat().st_mode & 0o044 for path in TINY_PHI3.iterdir()} == {
        path.name: 0o044 for path in TINY_PHI3.iterdir()
    }


def test_the_model_is_a_phi3_of_fewer_than_a_million_parameters():
    """The weights are 32-bit, of the configured shape, and as many as the page says."""
    config = json.loads((TINY_PHI3 / "config.json").read_text())
    with safe_open(TINY_PHI3 / "model.safetensors", framework="np") as weights:
        shapes = {name: weights.get_tensor(name).shape for name in weights.keys()}  # noqa: SIM118 - no mapping
        kinds = {str(weights.get_tensor(name).dtype) for name in shapes}
        count = sum(weights.get_tensor(name).size for name in shapes)
    assert config["architectures"] == ["Phi3ForCausalLM"]
    assert shapes["lm_head.weight"] == (config["vocab_size"], config["hidden_size"])
    assert (kinds, count) == ({"float32"}, 803_968)


def test_both_stop_tokens_end_a_generation(tokenizer):
    """`<|end|>` ends a turn and `<|endoftext|>` a text."""
    stops = json.loads((TINY_PHI3 / "generation_config.json").read_text())["eos_token_id"]
    assert stops == [tokenizer.token_to_id("<|end|>"), tokenizer.token_to_id("<|endoftext|>")]


@pytest.mark.parametrize(
    "text", ["dim the lamp in the living room to 37 percent", '{"value":100}', "Größe 二 🙂", " two  blanks\n", ""]
)
def test_the_tokenizer_loses_nothing(tokenizer, text):
    """Decoding gives back any text, whether or not the tokenizer saw its like."""
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_each_digit_is_a_token(tokenizer):
    """Numbers are copied digit by digit."""
    assert tokenizer.encode("1984").tokens == ["1", "9", "8", "4"]


def test_a_special_token_is_one_token(tokenizer):
    """The markers of the chat template are not split."""
    assert tokenizer.encode("<|user|>\nhi<|end|>").tokens[0] == "<|user|>"
    assert tokenizer.encode("hi<|end|>").tokens[-1] == "<|end|>"


def test_rows_fit_the_sequence_length_of_the_job(tokenizer, template):
    """No exchange has more tokens than maxSequenceLength, so none is truncated."""
    limit = yaml.safe_load((HOME_ASSISTANT / "job.yaml").read_text())["spec"]["training"]["maxSequenceLength"]
    for command, answer in [*rows("train.jsonl"), *rows("test.jsonl")]:
        messages = [{"role": "user", "content": command}, {"role": "assistant", "content": answer}]
        assert len(tokenizer.encode(template.render(messages=messages, eos_token="<|endoftext|>"))) <= limit


@pytest.mark.parametrize(
    ("roles", "add_generation_prompt", "rendered"),
    [
        (["user"], True, "<|user|>\nA<|end|>\n<|assistant|>\n"),
        (["system", "user"], True, "<|system|>\nA<|end|>\n<|user|>\nB<|end|>\n<|assistant|>\n"),
        (["user", "assistant"], False, "<|user|>\nA<|end|>\n<|assistant|>\nB<|end|>\n<|endoftext|>"),
    ],
)
def test_the_template_renders_as_phi3(template, roles, add_generation_prompt, rendered):
    """Chats look as Phi-3-mini-4k-instruct's do."""
    messages = [{"role": role, "content": content} for role, content in zip(roles, "AB", strict=False)]
    context = {"messages": messages, "add_generation_prompt": add_generation_prompt, "eos_token": "<|endoftext|>"}
    assert template.render(**context) == rendered


@pytest.fixture
def base(monkeypatch):
    """The training script, and the committed model and tokenizer as transformers load them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415 - imports torch

    monkeypatch.syspath_prepend(str(EXAMPLES / "models"))
    script = load_script(EXAMPLES / "models" / "train_tiny_phi3.py")
    return script, AutoModelForCausalLM.from_pretrained(TINY_PHI3), AutoTokenizer.from_pretrained(TINY_PHI3)


@pytest.mark.torch
def test_the_base_model_does_not_know_the_example(base):
    """Before fine-tuning fewer than a tenth of the commands are answered by their action."""
    script, model, tokenizer = base
    assert script.exact_match(model, tokenizer, rows("test.jsonl")) < 0.1


@pytest.mark.torch
def test_the_base_model_knows_what_it_was_trained_on(base):
    """It is a trained model: most unseen chats of its own tasks are answered to the letter."""
    script, model, tokenizer = base
    unseen = list(itertools.islice(script.chats(script.SEED + 2), 100))
    assert script.exact_match(model, tokenizer, unseen) >= 0.8


@pytest.mark.torch
def test_transformers_and_tokenizers_read_the_same_tokenizer(base, tokenizer, template):
    """Template and tokens are equal with and without transformers."""
    _, _, automatic = base
    for command, _ in rows("test.jsonl"):
        messages = [{"role": "user", "content": command}]
        text = template.render(messages=messages, add_generation_prompt=True)
        assert automatic.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == text
        assert automatic.encode(text) == tokenizer.encode(text).ids
