"""The prepare stage: what it makes, and how each kind of bad input ends."""

import gzip
import json
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunesmith_api import ExitCode, FailureCategory, Stage, find_preset
from tunesmith_api.enums import Task
from tunesmith_trainer import making, parts, prepare
from tunesmith_trainer.encode import EncodedRow
from tunesmith_trainer.encoded import read_encoded
from tunesmith_trainer.prepared import read_prepared
from tunesmith_trainer.scoring import judge_of
from tunesmith_trainer.tokenizer import load_tokenizer
from tunesmith_trainer.workspace import Workspace

PREPARE = Stage.PREPARE
MODELS = Path(__file__).parents[2] / "examples" / "models"
GOOD = {"prompt": "hi", "completion": "hello"}


def rows_of(config, part="train"):
    """The tokenised rows of a part."""
    return read_encoded(Path(config["workspace"]) / "data" / f"{part}.arrow", EncodedRow)


def on_rows(job, uri, **changes):
    """The example's job on other rows, half of them held out."""
    config = job(**changes)
    config["spec"]["dataset"] = {"train": {"uri": uri}, "evaluation": {"fraction": 0.5}, **changes.get("dataset", {})}
    return config


def test_it_tokenises_and_reports_the_example(job, run_here):
    """The report counts rows and tokens, and the answer's tokens are the only labels."""
    config = job()
    ended = run_here(PREPARE, config)
    assert ended.code == 0, ended.message
    dataset = ended.outcome.dataset
    assert (dataset.examples, dataset.evaluation_examples, dataset.format) == (500, 200, "Messages")
    assert dataset.warnings == []
    rows = rows_of(config)
    assert dataset.tokens == sum(rows.lengths)
    for row in rows:
        assert set(row.labels[: row.prompt_tokens]) == {-100}
        assert row.labels[row.prompt_tokens :] == row.input_ids[row.prompt_tokens :]


def test_a_second_run_with_the_same_inputs_does_nothing(job, run_here):
    """The outputs are kept by the digest of what they are made of, and made again when that changes."""
    config = job()
    first = run_here(PREPARE, config)
    rows = Path(config["workspace"]) / "data" / "train.arrow"
    written = rows.stat().st_mtime_ns
    again = run_here(PREPARE, config)
    assert again.outcome.dataset == first.outcome.dataset
    assert rows.stat().st_mtime_ns == written
    config["spec"]["training"]["maxSequenceLength"] = 120
    run_here(PREPARE, config)
    assert rows.stat().st_mtime_ns != written


def test_the_split_is_drawn_with_the_seed(job, run_here, write_rows):
    """The same seed holds out the same rows, another seed others, and no row is in both parts."""
    uri = write_rows([{"prompt": f"p{n}", "completion": f"answer {n}"} for n in range(20)])
    held_out = []
    for seed in (1, 1, 2):
        config = on_rows(job, uri, training={"seed": seed})
        assert run_here(PREPARE, config).code == 0
        parts = [[row.reference for row in rows_of(config, part)] for part in ("train", "evaluation")]
        assert len(parts[0]) == len(parts[1]) == 10
        assert not set(parts[0]) & set(parts[1])
        held_out.append(parts[1])
    assert held_out[0] == held_out[1] != held_out[2]


LONG = {"prompt": "turn on the lamp " * 60, "completion": "ok"}
LONG_ANSWER = {"prompt": "hi", "completion": "turn on the lamp " * 60}
BAD_ROWS = [
    ([], "is empty"),
    ([{"prompt": "hi", "completion": ""}, GOOD], r"row 1: completion is empty$"),
    ([GOOD, {"prompt": None, "completion": "x"}], r"row 2: prompt is null$"),
    ([GOOD, *[{"prompt": "x"}] * 5], r"row 2: has no column 'completion'; row 3: .*; row 4: .*; and 2 more rows$"),
    ([{"messages": [{"role": "assistant", "content": "x"}]}] * 2, "roles are assistant; they must be user, assistant"),
    ([{"messages": [{"role": "user", "content": "x"}]}] * 2, "has no answer"),
    ([LONG] * 4, "every row is longer than 128 tokens"),
    ([LONG, LONG_ANSWER] * 4, "every row is longer than 128 tokens"),
    ([GOOD], "leaves none to train on"),
    ([{"question": "x"}] * 2, "columns question fit no format .* name them in spec.dataset.columns"),
]


@pytest.mark.parametrize(("rows", "message"), BAD_ROWS)
def test_bad_rows_end_with_65(job, run_here, write_rows, rows, message):
    """Each kind of bad data names the rows: the first three, and the count of the rest."""
    ended = run_here(PREPARE, on_rows(job, write_rows(rows)))
    assert ended.code == ExitCode.BAD_DATA, ended.message
    assert "spec.dataset.train" in ended.message
    assert re.search(message, ended.message), ended.message


@pytest.mark.parametrize("given", [[], ["a", "b"]])
def test_evaluation_rows_with_lists_of_labels_do_not_measure_one_label(job, run_here, write_rows, given):
    """Both parts give their classes alike, which is told with the evaluation rows before a model is loaded."""
    train = write_rows([{"text": f"{label} {n}", "label": label} for n in range(4) for label in "ab"])
    evaluation = write_rows([{"text": "x", "labels": given}], "evaluation.jsonl")
    config = on_rows(job, train, task="TextClassification", dataset={"evaluation": {"uri": evaluation}})
    ended = run_here(PREPARE, config)
    assert ended.code == ExitCode.BAD_DATA, ended.message
    assert "spec.dataset.evaluation (LabeledText): row 1: a list of labels, where the training rows" in ended.message


def test_a_file_that_is_not_utf_8_ends_with_65(job, run_here, tmp_path):
    """The message has the byte's offset and the row."""
    path = tmp_path / "latin.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b'\n{"prompt": "caf\xe9", "completion": "x"}\n')
    ended = run_here(PREPARE, on_rows(job, f"file://{path}"))
    assert ended.code == ExitCode.BAD_DATA
    assert "not UTF-8: byte 0xe9 at offset 55, line 2" in ended.message


def test_long_rows_are_dropped_or_cut_with_a_warning(job, run_here, write_rows):
    """A prompt that fills the context is dropped, an answer that crosses its end is cut, and both are counted."""
    uri = write_rows([GOOD, {"prompt": "a", "completion": "b"}, LONG, LONG_ANSWER])
    config = on_rows(job, uri, dataset={"evaluation": {"uri": write_rows([GOOD], "evaluation.jsonl")}})
    ended = run_here(PREPARE, config)
    assert ended.code == 0, ended.message
    assert ended.outcome.dataset.examples == 3
    assert ended.outcome.dataset.longest_tokens == 128
    assert ended.outcome.dataset.warnings == [
        "spec.dataset.train: 1 rows dropped, their prompts fill all 128 tokens: row 3",
        "spec.dataset.train: 1 rows cut to 128 tokens, their answers lack the end: row 4",
        "1 evaluation rows are among the training rows; their scores say little: row 1",
    ]


@pytest.mark.parametrize(
    ("model", "data"),
    [
        ("pvc://claim/models/tiny", "pvc://claim/rows"),
        ("pvc://claim/models/tiny", "pvc://claim/rows/train.jsonl"),
        ("job://first", "job://first/rows/train.jsonl"),
    ],
)
def test_mounted_inputs_are_read_in_place(job, run_here, tmp_path, model, data):
    """A claim's folder, one of its files, and another job's results: as they are mounted, without a copy."""
    rows = tmp_path / "rows"
    rows.mkdir()
    (rows / "train.jsonl").write_text(f"{json.dumps(GOOD)}\n" * 8)
    config = on_rows(job, data, model={"preset": None, "uri": model})
    config["inputs"] = {model: str(MODELS / "tiny-phi3"), data: str(rows / data.partition("/rows")[2].lstrip("/"))}
    ended = run_here(PREPARE, config)
    assert ended.code == 0, ended.message
    assert ended.outcome.dataset.examples == 4
    workspace = Workspace(Path(config["workspace"]))
    assert not workspace.model.exists()
    assert not workspace.downloads.exists()
    assert [file.name for file in rows.iterdir()] == ["train.jsonl"]


ABSENT = [
    ("configmap://absent/train.jsonl", "is not mounted"),
    ("pvc://claim/train.jsonl", "does not exist"),
    ("file:///nowhere/train.jsonl", "does not exist"),
]


@pytest.mark.parametrize(("uri", "message"), ABSENT)
def test_an_absent_input_ends_with_66(job, run_here, uri, message):
    """A missing ConfigMap key, claim path or file names the URI."""
    config = on_rows(job, uri)
    config["inputs"]["pvc://claim/train.jsonl"] = "/nowhere"
    ended = run_here(PREPARE, config)
    assert ended.code == ExitCode.INPUT_NOT_FOUND
    assert message in ended.message
    assert uri in ended.message


BAD_CONFIGS = [
    ({"technique": {"lora": {"rank": 0}}}, "spec.technique.lora.rank"),
    ({"technique": {"lora": {"rank": 512}}}, "spec.technique.lora.rank: 512 is above the width 128 of the narrowest"),
    (
        {"technique": {"lora": {"targetModules": ["q_proj"]}}},
        "targetModules: the model has no q_proj; it has down_proj",
    ),
    ({"technique": {"type": "Auto"}}, "spec.technique.type: Auto must be replaced"),
    ({"training": {"maxSequenceLength": 100_000}}, "maxSequenceLength: 100000 is above the model's context"),
    ({"training": {"epoch": 3}}, "spec.training.epoch: Extra inputs are not permitted"),
    ({"model": {"preset": "tiny-phi"}}, "spec.model.preset: 'tiny-phi' is not in the catalog; did you mean tiny-phi3"),
    ({"queue": {"localQueue": "a"}}, "spec.queue: this field is not supported yet"),
    ({"dataset": {"format": "Text"}}, "spec.dataset.format: Text is not for task Chat, which takes"),
    (
        {"evaluation": {"generation": {"maxSamples": 0}, "gates": [{"metric": "exact_match", "min": 0.5}]}},
        "spec.evaluation.gates: exact_match is not measured",
    ),
    (
        {"model": {"preset": None, "uri": "https://host/model"}},
        "spec.model.uri: https://host/model is not supported yet; use one of az://",
    ),
    ({"model": {"preset": None, "uri": "hf://tiny"}}, "spec.model.uri: 'hf://tiny' is incomplete"),
    ({"output": {"uri": "s3://box"}}, "spec.output.uri: 's3://box' is a whole bucket; write s3://bucket/folder"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_CONFIGS)
def test_a_bad_config_ends_with_64(job, run_here, changes, message):
    """The message names the field and the value."""
    ended = run_here(PREPARE, job(**changes))
    assert ended.code == ExitCode.BAD_CONFIG, ended.message
    assert message in ended.message


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ((), ExitCode.INPUT_NOT_FOUND),
        (("username",), ExitCode.INPUT_NOT_FOUND),
        (("username", "password"), 0),
        (("token",), 0),
    ],
)
def test_a_tracker_without_its_login_ends_with_66(job, run_here, tmp_path, keys, code):
    """A tracker's secret is looked at before a device is asked for, and before anything is fetched."""
    for key in keys:
        (tmp_path / key).write_text("hunter2")
    config = job(tracking=[{"type": "MLflow", "uri": "http://mlflow", "secretRef": {"name": "login"}}])
    ended = run_here(PREPARE, {**config, "secrets": {"login": str(tmp_path)}})
    assert ended.code == code, ended.message
    if code:
        assert "spec.tracking[0].secretRef: secret 'login' has no key 'token', nor the keys" in ended.message
        assert not list(Path(config["workspace"]).iterdir())


def test_text_generation_learns_plain_text(job, run_here, write_rows):
    """Rows of text are learnt whole, but for the first token, and end with the eos token."""
    config = on_rows(job, write_rows([{"text": "turn on the lamp"}] * 4), task="TextGeneration")
    assert run_here(PREPARE, config).code == 0
    row = rows_of(config)[0]
    assert row.labels == [-100, *row.input_ids[1:]]
    assert row.prompt_tokens == 0


def test_long_texts_are_learnt_whole(job, run_here, write_rows):
    """A data set of nothing but texts that are longer than a row is one to learn from, without a warning."""
    texts = [f"turn on lamp {n} " * 90 for n in range(4)]
    config = on_rows(job, write_rows([{"text": text} for text in texts]), task="TextGeneration")
    ended = run_here(PREPARE, config)
    assert ended.code == 0, ended.message
    found = ended.outcome.dataset
    assert (found.examples, found.evaluation_examples, found.longest_tokens, found.warnings) == (2, 2, 128, [])
    rows = [row for part in ("train", "evaluation") for row in rows_of(config, part)]
    tokenizer = load_tokenizer(MODELS / "tiny-phi3")
    learnt = sum(label != -100 for row in rows for label in row.labels)
    assert learnt == sum(len(tokenizer(text)["input_ids"]) for text in texts)


QUESTION = {"context": "the lamp is on", "question": "what", "answers": [{"text": "lamp", "answer_start": 4}]}


@pytest.mark.parametrize(("row", "template"), [(GOOD, None), (QUESTION, "Text: {context}")])
def test_raw_prompts_have_no_instruction(job, run_here, write_rows, row, template):
    """A client must not be told to put questions into a template that the model was never asked by."""
    config = on_rows(job, write_rows([row] * 4), task="QuestionAnswering")
    assert run_here(PREPARE, config).code == 0
    found = read_prepared(Workspace(Path(config["workspace"]))).instruction
    assert found is None if template is None else template in found.template
    assert judge_of(Task.QUESTION_ANSWERING, found)(["hello"], ['["hello"]']).scores.exact_match == 1


def test_a_gate_on_exact_match_needs_answers(job, run_here, write_rows):
    """Rows that turn out to be plain text cannot be gated on exact match."""
    gates = {"gates": [{"metric": "exact_match", "min": 0.5}]}
    config = on_rows(job, write_rows([{"text": "x y z"}] * 4), task="TextGeneration", evaluation=gates)
    ended = run_here(PREPARE, config)
    assert ended.code == ExitCode.BAD_CONFIG
    assert "rows of format Text have no answer" in ended.message


def test_the_process_leaves_a_termination_message(job, run_stage):
    """The command line ends with the code of the contract, and the message says the field and the way out."""
    code, termination = run_stage(PREPARE, job(technique={"lora": {"rank": 512}}))
    assert code == termination.exit_code == ExitCode.BAD_CONFIG
    assert termination.failure.category is FailureCategory.BAD_CONFIG
    assert "512" in termination.failure.message
    assert termination.failure.resolution


def test_a_crash_ends_with_1(job, run_stage, tmp_path):
    """An error that is not ours is a crash, with its name in the message."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    config = job() | {"workspace": str(blocked / "below")}
    code, termination = run_stage(PREPARE, config)
    assert code == termination.exit_code == 1
    assert termination.failure.category is FailureCategory.CRASHED
    assert "NotADirectoryError" in termination.failure.message


def test_weights_in_pickles_are_refused(job, run_here, tmp_path):
    """A model folder without safetensors is not loaded, whatever else it has."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (tmp_path / "model" / "pytorch_model.bin").write_bytes(b"")
    ended = run_here(PREPARE, job(model={"preset": None, "uri": f"file://{tmp_path}/model"}))
    assert ended.code == ExitCode.BAD_CONFIG
    assert "write them as safetensors" in ended.message


def test_code_of_a_repository_is_never_run(job, run_here, tmp_path):
    """A model that brings its own code is refused."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(
        '{"architectures": ["OwnModel"], "auto_map": {"AutoModel": "own.py"}}'
    )
    ended = run_here(PREPARE, job(model={"preset": None, "uri": f"file://{tmp_path}/model"}))
    assert ended.code == ExitCode.BAD_CONFIG
    assert "code of its own, which is never run" in ended.message


def parts_written(config):
    """When each part was written."""
    folder = Path(config["workspace"]) / "data"
    return [(folder / f"{part}.arrow").stat().st_mtime_ns for part in ("train", "evaluation")]


def test_new_evaluation_data_leave_the_training_rows_alone(job, run_here, write_rows):
    """Each part is made of its own inputs: only what changed is tokenised again, and leaks are looked for anew."""
    first, second = write_rows([GOOD], "first.jsonl"), write_rows([{"prompt": "a", "completion": "b"}], "second.jsonl")
    train = write_rows([GOOD, {"prompt": "c", "completion": "d"}])
    config = on_rows(job, train, dataset={"evaluation": {"uri": first}})
    leaky = run_here(PREPARE, config).outcome.dataset
    before = parts_written(config)
    config["spec"]["dataset"]["evaluation"]["uri"] = second
    clean = run_here(PREPARE, config).outcome.dataset
    after = parts_written(config)
    assert (before[0] == after[0], before[1] == after[1]) == (True, False)
    assert leaky.warnings == ["1 evaluation rows are among the training rows; their scores say little: row 1"]
    assert clean.warnings == []
    assert leaky.digest != clean.digest


def test_a_setting_of_the_training_tokenises_nothing_again(job, run_here, write_rows):
    """A gate changes what prepare hands on, not the tokens."""
    config = on_rows(job, write_rows([GOOD, {"prompt": "c", "completion": "d"}]))
    first = run_here(PREPARE, config).outcome.dataset
    before = parts_written(config)
    config["spec"]["evaluation"]["gates"] = [{"metric": "perplexity", "max": 100}]
    assert run_here(PREPARE, config).outcome.dataset == first
    assert parts_written(config) == before


def test_a_part_that_was_not_finished_is_made_again(job, run_here, write_rows):
    """Rows without their report are those of a run that was killed."""
    config = on_rows(job, write_rows([GOOD, {"prompt": "c", "completion": "d"}]))
    first = run_here(PREPARE, config).outcome.dataset
    before = parts_written(config)
    folder = Path(config["workspace"])
    (folder / "prepared.json").unlink()
    (folder / "data" / "evaluation.json").unlink()
    assert run_here(PREPARE, config).outcome.dataset == first
    assert parts_written(config) != before


def test_parquet_inside_gzip_is_unpacked_into_the_workspace(job, run_here, tmp_path):
    """It is read as any other file; nothing of it stays, not even from a run that was killed."""
    table = pa.Table.from_pylist([GOOD, {"prompt": "c", "completion": "d"}])
    pq.write_table(table, tmp_path / "rows.parquet")
    (tmp_path / "rows.parquet.gz").write_bytes(gzip.compress((tmp_path / "rows.parquet").read_bytes()))
    config = on_rows(job, f"file://{tmp_path}/rows.parquet.gz")
    unpacked = Path(config["workspace"]) / "unpacked"
    unpacked.mkdir(parents=True)
    (unpacked / "rest").write_bytes(b"PAR1")
    ended = run_here(PREPARE, config)
    assert (ended.code, ended.outcome.dataset.examples) == (0, 1), ended.message
    assert list(unpacked.iterdir()) == []


def test_rows_of_an_earlier_revision_are_made_again(job, run_here, write_rows, monkeypatch):
    """An image that reads the same inputs otherwise takes nothing that another one has left."""
    config = on_rows(job, write_rows([GOOD, {"prompt": "c", "completion": "d"}]))
    run_here(PREPARE, config)
    before = parts_written(config)
    for module in (making, prepare):
        monkeypatch.setattr(module, "REVISION", 0)
    assert run_here(PREPARE, config).code == 0
    after = parts_written(config)
    assert before[0] != after[0]
    assert before[1] != after[1]


EDITS = {
    "chat_template.jinja": "{% for m in messages %}{{ m.content }}<|end|>{% endfor %}",
    "tokenizer_config.json": None,
    "special_tokens_map.json": '{"unk_token": "<|user|>"}',
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_tokenizer_or_template_prepares_anew(job, run_here, write_rows, tmp_path, name):
    """In the same folder with the same weights: what the rows were tokenised with is another thing now."""
    model = tmp_path / "model"
    shutil.copytree(MODELS / "tiny-phi3", model)
    config = on_rows(job, write_rows([GOOD] * 2), model={"preset": None, "uri": f"file://{model}"})
    run_here(PREPARE, config)
    workspace = Workspace(Path(config["workspace"]))
    written = [workspace.training_rows.stat().st_mtime_ns, read_prepared(workspace).key]
    run_here(PREPARE, config)
    assert [workspace.training_rows.stat().st_mtime_ns, read_prepared(workspace).key] == written
    file = model / name
    file.write_text(EDITS[name] or file.read_text().replace("{", '{"more": 1, ', 1))
    assert run_here(PREPARE, config).code == 0
    assert workspace.training_rows.stat().st_mtime_ns != written[0]
    assert read_prepared(workspace).key != written[1]


CATALOGUE = 'msgid "open"\nmsgstr "offen"\n\nmsgid "shut"\nmsgstr "zu"\n'


@pytest.mark.parametrize(
    ("name", "content"), [("de.po", CATALOGUE), ("rows.tsv", "source\ttarget\nopen\toffen\nshut\tzu\n")]
)
def test_languages_of_plain_columns_make_the_prefix(job, run_here, tmp_path, name, content):
    """T5 is asked as it knows the task, for a catalogue and for columns that are called source and target."""
    (tmp_path / name).write_text(content)
    columns = {"columns": {"source": "English", "target": "German"}}
    config = on_rows(job, f"file://{tmp_path / name}", task="Translation", dataset=columns)
    config["spec"]["model"] = {"uri": f"file://{Path(__file__).parents[1] / 'models' / 'tiny-t5'}"}
    ended = run_here(PREPARE, config)
    assert ended.code == 0, ended.message
    prepared = json.loads((Path(config["workspace"]) / "prepared.json").read_text())
    assert prepared["instruction"]["template"] == "translate English to German: {text}"


def test_repeated_rows_are_warned_of(job, run_here, write_rows):
    """Duplicates weigh more than others, which is told with their numbers, and not forbidden."""
    other = [{"prompt": f"p{n}", "completion": "x"} for n in range(3)]
    uri = write_rows([GOOD, other[0], GOOD, *other[1:], GOOD, GOOD, GOOD])
    ended = run_here(PREPARE, on_rows(job, uri, dataset={"evaluation": {"uri": write_rows(other[:1], "e.jsonl")}}))
    assert ended.outcome.dataset.warnings == [
        "spec.dataset.train: 4 rows repeat earlier ones; drop them unless they weigh more: rows 3, 6, 7 and 1 more",
        "1 evaluation rows are among the training rows; their scores say little: row 1",
    ]


@pytest.mark.parametrize(("classes", "lost"), [(10, 5), (2, 0)])
def test_a_class_that_is_held_out_whole_is_warned_of(job, run_here, write_rows, classes, lost):
    """Half of the rows are held out: of ten classes with a row each five cannot be learnt, of two both can."""
    uri = write_rows([{"text": f"t{n}", "label": f"c{n % classes}"} for n in range(10)])
    ended = run_here(PREPARE, on_rows(job, uri, task="TextClassification"))
    assert ended.code == 0, ended.message
    told = [warning for warning in ended.outcome.dataset.warnings if "is held out" in warning]
    assert len(told) == bool(lost)
    assert not lost or re.search(rf"every row with the labels (c\d,? ?){{{lost}}}is held out, so that none", told[0])


def test_control_tokens_are_those_of_the_jobs_model(job, run_here, write_rows):
    """A prompt that has the model's end of a turn in it is told of."""
    uri = write_rows([GOOD, GOOD | {"prompt": "what does <|end|> mean"}])
    ended = run_here(PREPARE, on_rows(job, uri, dataset={"evaluation": {"uri": write_rows([GOOD], "e.jsonl")}}))
    assert "control tokens of spec.model in their texts" in ended.outcome.dataset.warnings[0]


@pytest.mark.parametrize("task", ["Chat", "TextGeneration"])
def test_tools_and_system_reach_the_template(job, run_here, write_rows, tmp_path, task):
    """A model whose template knows tools is told of them, and learns the call that the assistant makes.

    No endpoint takes tools, so such a row is no sample to ask one.
    """
    model = tmp_path / "model"
    shutil.copytree(MODELS / "tiny-phi3", model)
    (model / "chat_template.jinja").write_text(
        "{% for t in tools or [] %}tool {{ t.function.name }}<|end|>{% endfor %}{% for m in messages %}<|{{ m.role }}|>"
        "{{ m.content }}{% for c in m.tool_calls or [] %}call {{ c.function.name }}{% endfor %}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    call = {"type": "function", "function": {"name": "dim", "arguments": "{}"}}
    row = {
        "system": "be brief",
        "tools": [{"type": "function", "function": {"name": "dim"}}],
        "messages": [{"role": "user", "content": "lamp"}, {"role": "assistant", "content": "", "tool_calls": [call]}],
    }
    config = on_rows(job, write_rows([row] * 2), task=task, model={"preset": None, "uri": f"file://{model}"})
    ended = run_here(PREPARE, config)
    assert ended.code == 0, ended.message
    found, tokenizer = rows_of(config)[0], load_tokenizer(model)
    assert tokenizer.decode(found.input_ids) == (
        "tool dim<|end|><|system|>be brief<|end|><|user|>lamp<|end|><|assistant|>call dim<|end|>"
    )
    assert tokenizer.decode(found.input_ids[found.prompt_tokens :]) == "call dim<|end|>"
    assert found.reference == "call dim"
    assert Workspace(Path(config["workspace"])).samples.read_text() == ""


MULTI_TURN = {
    "messages": [
        {"role": role, "content": content}
        for role, content in (("user", "lamp"), ("assistant", "on"), ("user", "now"), ("assistant", "off"))
    ]
}
CONVERSATIONS = [
    MULTI_TURN,
    {"messages": MULTI_TURN["messages"][:2], "system": "be brief"},
    {"conversations": [{"from": "human", "value": "lamp"}, {"from": "gpt", "value": "on"}], "system": "be brief"},
    {"instruction": "lamp", "output": "on", "system": "be brief"},
    {"prompt": "lamp", "completion": "on", "system": "be brief"},
]


@pytest.mark.parametrize("row", CONVERSATIONS, ids=["turns", "system", "ShareGPT", "Alpaca", "PromptCompletion"])
def test_text_generation_learns_conversations_by_the_template(job, run_here, write_rows, tmp_path, row):
    """Each format that the task takes, as Chat has it; a model without a template refuses the rows by number."""
    uri = write_rows([row] * 2)
    assert run_here(PREPARE, on_rows(job, uri)).code == 0
    chat = rows_of(job())[0]
    config = on_rows(job, uri, task="TextGeneration")
    ended = run_here(PREPARE, config)
    assert ended.code == 0, ended.message
    assert rows_of(config)[0] == chat
    assert read_prepared(Workspace(Path(config["workspace"]))).stop_token == "<|end|>"
    model = tmp_path / "model"
    shutil.copytree(MODELS / "tiny-phi3", model)
    (model / "chat_template.jinja").unlink()
    config["spec"]["model"] = {"uri": f"file://{model}"}
    ended = run_here(PREPARE, config)
    assert ended.code == ExitCode.BAD_DATA
    assert "row 1: is more than a prompt and its completion, which takes a chat template, and spec.m" in ended.message


#: Writes the last answer only.
FORGETFUL = (
    "{% for m in messages %}{% if m.role == 'user' or loop.last %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def test_answers_that_a_template_rewrites_are_warned_of(job, run_here, write_rows, tmp_path):
    """Those before the last one have no place in the text; a row with weight 0 on them does not ask for it."""
    model = tmp_path / "model"
    shutil.copytree(MODELS / "tiny-phi3", model)
    (model / "chat_template.jinja").write_text(FORGETFUL)
    turns = MULTI_TURN["messages"]
    unasked = {"messages": [turns[0], turns[1] | {"weight": 0}, *turns[2:]]}
    uri, evaluation = write_rows([MULTI_TURN, {"messages": turns[:2]}, unasked]), write_rows([GOOD], "evaluation.jsonl")
    dataset = {"evaluation": {"uri": evaluation}}
    ended = run_here(PREPARE, on_rows(job, uri, model={"preset": None, "uri": f"file://{model}"}, dataset=dataset))
    assert ended.code == 0, ended.message
    (warning,) = ended.outcome.dataset.warnings
    assert warning == (
        "spec.dataset.train: 1 rows have answers that are not learnt, since the chat template of spec.model writes them"
        " otherwise once others follow; give each a row that ends with it: row 1"
    )


def test_a_template_that_ignores_tools_ends_with_65(job, run_here, write_rows):
    """The bundled model's would make an empty answer of a call, which would be learnt."""
    call = {"type": "function", "function": {"name": "dim", "arguments": "{}"}}
    asked = {"role": "user", "content": "lamp"}
    row = {"messages": [asked, {"role": "assistant", "content": None, "tool_calls": [call]}]}
    ended = run_here(PREPARE, on_rows(job, write_rows([MULTI_TURN, row])))
    assert ended.code == ExitCode.BAD_DATA
    assert ended.message == (
        "spec.dataset.train (Messages): row 2: has tool_calls, which the chat template of spec.model leaves out;"
        " use a model whose template knows tools, or leave such rows out"
    )


def test_rows_are_the_same_however_many_are_tokenised_at_once(job, run_here, monkeypatch):
    """One by one, or as many as make a batch by their bytes or their number: the files are equal to the byte."""
    files = []
    for rows, size in ((1, 1 << 16), (7, 1 << 16), (64, 500)):
        monkeypatch.setattr(parts, "_BATCH_ROWS", rows)
        monkeypatch.setattr(parts, "_BATCH_BYTES", size)
        config = job()
        shutil.rmtree(config["workspace"], ignore_errors=True)
        assert run_here(PREPARE, config).code == 0
        made = sorted((Path(config["workspace"]) / "data").iterdir())
        files.append({file.name: file.read_bytes() for file in made})
    assert len(files[0]) == 6
    assert files[0] == files[1] == files[2]


def test_the_numbers_of_a_model_by_uri_are_told(job, run_here):
    """What the planner needs of it, as the catalog has it of a preset; of a preset nothing is told twice."""
    named = job()
    ended = run_here(PREPARE, named)
    assert ended.code == 0, ended.message
    assert ended.outcome.model is None
    named["spec"]["model"] = {"uri": f"file://{MODELS / 'tiny-phi3'}"}
    ended = run_here(PREPARE, named)
    assert ended.code == 0, ended.message
    assert ended.outcome.model == find_preset("tiny-phi3").architecture
