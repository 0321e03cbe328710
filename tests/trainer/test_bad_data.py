"""Bad data, from the file to the message: one table; each names the field, the rows, the value and the way out."""

import gzip
import json
import re
from pathlib import Path

import pytest

from tunesmith_api.enums import DataFormat, Task
from tunesmith_api.finetunejob import Columns
from tunesmith_trainer.controls import control_tokens
from tunesmith_trainer.errors import StageError
from tunesmith_trainer.recipes import find_entry
from tunesmith_trainer.rows import Request, open_data
from tunesmith_trainer.survey import Survey, survey
from tunesmith_trainer.tables import Split

#: Its chat template knows nothing of tools.
PHI3 = Path(__file__).parents[2] / "examples" / "models" / "tiny-phi3"
CHAT, CLASSES, TOKENS = Task.CHAT, Task.TEXT_CLASSIFICATION, Task.TOKEN_CLASSIFICATION
ANSWERS, TRANSLATION, WRITING = Task.QUESTION_ANSWERING, Task.TRANSLATION, Task.TEXT_GENERATION
FIELD = "spec.dataset.train"


def lines(*rows):
    """Rows as JSONL."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def talk(*roles):
    """A row of messages."""
    return {"messages": [{"role": role, "content": "x"} for role in roles]}


def called(*roles):
    """A row of messages whose first answer calls a tool."""
    row, call = talk("user", "assistant", *roles), {"type": "function", "function": {"name": "x", "arguments": "{}"}}
    row["messages"][1] |= {"content": "", "tool_calls": [call]}
    return row


def asked(start):
    """A row of SQuAD whose answer is said to start somewhere."""
    return {"context": "the lamp is on", "question": "what?", "answers": {"text": ["lamp"], "answer_start": [start]}}


def marked(*spans):
    """A row of a text with spans."""
    return {
        "text": "Ada ran home",
        "spans": [dict(zip(("start", "end", "label"), span, strict=False)) for span in spans],
    }


GOOD = talk("user", "assistant")
ASKED = {"prompt": "x", "completion": "y"}
A, B = {"text": "x", "label": "a"}, {"text": "y", "label": "b"}
TAGGED = {"tokens": ["x"], "tags": ["B-PER"]}
CASES = {
    "no rows": (CHAT, "a.jsonl", b"", "is empty: it has no rows"),
    "blank lines": (CHAT, "a.jsonl", b"\n \n", "is empty: it has no rows"),
    "null": (CHAT, "a.jsonl", lines(GOOD, {"messages": None}), r"\(Messages\): row 2: messages is null"),
    "empty text": (
        CHAT,
        "a.jsonl",
        lines(*[{"prompt": "x", "completion": " "}] * 5),
        r"row 1: completion is empty; row 2: .*; row 3: completion is empty; and 2 more rows$",
    ),
    "wrong type": (CHAT, "a.jsonl", lines({"prompt": 7, "completion": "x"}), "row 1: prompt is int, not text: 7"),
    "half a surrogate pair": (
        CHAT,
        "a.jsonl",
        lines(GOOD, {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "ab\ud800"}]}),
        r"row 2: messages\[1\].content has '\\ud800' at character 2, half of a surrogate pair; write the whole char",
    ),
    "half a pair beside the turns": (
        CHAT,
        "a.jsonl",
        lines(ASKED | {"system": "\udc00"}, ASKED | {"tools": [{"name": "\ud800"}]}),
        "row 1: system has .* half of a surrogate pair; .* row 2: tools has .* half of a surrogate pair",
    ),
    "half a pair in a cell": (
        CLASSES,
        "a.csv",
        b'text,labels\nx,"[""\\ud800""]"\n',
        r"row 2: labels\[0\] has '\\ud800' at character 0, half of a surrogate pair",
    ),
    "wrong role order": (
        CHAT,
        "a.jsonl",
        lines(GOOD, talk("assistant", "user")),
        "row 2: roles are assistant, user; they must be user, assistant in turn",
    ),
    "no answer": (
        CHAT,
        "a.jsonl",
        lines(talk("user")),
        "row 1: has no answer: the last message must be the assistant's",
    ),
    "tools": (
        CHAT,
        "a.jsonl",
        lines(GOOD, GOOD | {"tools": [{"type": "function", "function": {"name": "x"}}]}),
        "row 2: has tools, which the chat template .* leaves out; use a model whose template knows tools, or leave",
    ),
    "tool calls": (CHAT, "a.jsonl", lines(GOOD, called()), "row 2: has tool_calls, which the chat template .* leaves"),
    "tools of a text": (
        WRITING,
        "a.jsonl",
        lines(ASKED, ASKED | {"tools": [{"name": "x"}]}),
        "row 2: has tools, which",
    ),
    "calls of ShareGPT": (
        WRITING,
        "a.jsonl",
        lines(
            {"conversations": [{"from": "human", "value": "x"}, {"from": "function_call", "value": '{"name": "x"}'}]}
        ),
        r"\(ShareGPT\): row 1: has tool_calls, which",
    ),
    "a call that is none": (
        CHAT,
        "a.jsonl",
        lines({"conversations": [{"from": "human", "value": "x"}, {"from": "function_call", "value": "look"}]}),
        r"\(ShareGPT\): row 1: conversations\[1\].value is 'look', not the JSON of a call: name, arguments",
    ),
    "broken line": (CHAT, "a.jsonl", lines(GOOD) + b'{"mess\n', "row 2: is no JSON: Unterminated string"),
    "only broken lines": (CHAT, "a.jsonl", b"oops\n", "row 1: is no JSON: Expecting value"),
    "no object": (CHAT, "a.jsonl", lines(GOOD, [1]), r"row 2: is no JSON object: '\[1\]'"),
    "two lists of objects": (
        CHAT,
        "a.json",
        json.dumps({"validation": [GOOD], "train": [GOOD]}).encode(),
        "a.json has two lists of objects, 'validation' and 'train'; write each to a file of its own",
    ),
    "a list without objects": (CHAT, "a.json", b'{"data": []}', "is empty: it has no rows"),
    "unknown columns": (
        CLASSES,
        "a.jsonl",
        lines({"sentence": "x", "class": 1}),
        r"columns class, sentence fit no format \(LabeledText: text, label\); name them in spec.dataset.columns",
    ),
    "another task's format": (
        CLASSES,
        "a.jsonl",
        lines({"context": "c", "question": "q", "answers": []}),
        "SQuAD is not for task TextClassification, which takes LabeledText; use spec.task QuestionAnswering",
    ),
    "text without answers": (CHAT, "a.txt", b"x\n", "Text is not for task Chat, .*; use spec.task TextGeneration"),
    "label missing": (CLASSES, "a.jsonl", lines(A, {"text": "y"}, B), "row 2: has no column 'label'"),
    "label null": (CLASSES, "a.jsonl", lines(A, B, {"text": "y", "label": None}), "row 3: label is null"),
    "one class only": (CLASSES, "a.jsonl", lines(A, A), "every row has the label 'a'; .* needs two classes or more"),
    "one label and lists": (
        CLASSES,
        "a.jsonl",
        lines(A, B, {"text": "z", "label": ["a"]}),
        "rows 1, 2: one label; row 3: a list of labels; write all rows alike",
    ),
    "empty lists of labels": (
        CLASSES,
        "a.jsonl",
        lines({"text": "x", "labels": []}, {"text": "y", "labels": []}),
        "no row has a label: every list is empty; classification needs a class to learn",
    ),
    "several labels as text": (
        CLASSES,
        "a.csv",
        b'text,labels\nx,"a,b"\ny,"[""a""]"\n',
        "row 2: labels is text, not a list: 'a,b'; write a JSON list",
    ),
    "text as label": (
        CLASSES,
        "a.jsonl",
        lines(*({"text": "x", "label": f"l{n}"} for n in range(10_001))),
        "has more than 10000 labels; is spec.dataset.columns.label a text",
    ),
    "tags and tokens differ": (
        TOKENS,
        "a.jsonl",
        lines(TAGGED, {"tokens": ["x", "y"], "tags": ["O"]}),
        "row 2: tags has 1 entries, tokens has 2; each token needs one tag",
    ),
    "no BIO name": (
        TOKENS,
        "a.jsonl",
        lines({"tokens": ["x", "y"], "tags": ["B-PER", "PER"]}),
        r"row 1: tags\[1\] is 'PER', which is neither O nor B-name nor I-name",
    ),
    "BIO and plain names": (
        TOKENS,
        "a.jsonl",
        lines(TAGGED, {"tokens": ["x"], "tags": ["O"]}, {"tokens": ["x"], "tags": ["PER"]}),
        "row 1: tags B-name and I-name; row 3: plain tag names; write all rows alike",
    ),
    "no entity": (TOKENS, "a.jsonl", lines({"tokens": ["x"], "tags": ["O"]}), "no row has an entity: every tag is O"),
    "unbalanced CoNLL": (
        TOKENS,
        "a.conll",
        b"Ada NNP B-PER\n\nran VB O\nhome O\n",
        "row 3: line 4 has 2 columns, the first line has 3",
    ),
    "CoNLL without tags": (
        TOKENS,
        "a.conll",
        b"Ada\nran\n",
        "row 1: line 1 has one column; a token and its tag are two",
    ),
    "span outside": (
        TOKENS,
        "a.jsonl",
        lines(marked((8, 13, "LOC"))),
        r"row 1: spans\[0\] runs from 8 to 13, outside the text of 12 characters",
    ),
    "spans overlap": (
        TOKENS,
        "a.jsonl",
        lines(marked((0, 3, "PER")), marked((4, 7, "X"), (0, 5, "Y"))),
        "row 2: spans: Y 0-5 and X 4-7 overlap; keep one of them",
    ),
    "answer elsewhere": (
        ANSWERS,
        "a.jsonl",
        lines(asked(4), asked(5)),
        r"row 2: answers\[0\].answer_start is 5, where the context has 'amp ', not 'lamp'; it stands at 4",
    ),
    "question with a system text": (
        ANSWERS,
        "a.jsonl",
        lines(ASKED, ASKED | {"system": "be brief"}, ASKED | {"tools": [{"name": "look"}]}),
        "row 2: is more than a prompt and its completion; use spec.task Chat; row 3: is more than a prompt",
    ),
    "question without text": (
        ANSWERS,
        "a.json",
        json.dumps({"data": [{"paragraphs": [{"context": "c", "qas": [{"question": "", "answers": []}]}]}]}).encode(),
        "row 1: question is empty",
    ),
    "TSV without a column": (
        TRANSLATION,
        "a.tsv",
        b"source\ttarget\na\tb\nonly\n",
        r"row 3: has fewer fields than the header \(1, not 2\); write one tab between two columns",
    ),
    "a column twice": (
        TRANSLATION,
        "a.tsv",
        b"source\ttarget\tsource\na\tb\tc\n",
        "a.tsv has more than one column 'source' in its header; give each a name of its own",
    ),
    "TSV without a header": (TRANSLATION, "a.tsv", b"hi\thallo\nyes\tja\n", "columns hallo, hi fit no format"),
    "no direction": (
        TRANSLATION,
        "a.jsonl",
        lines({"translation": {"en": "a", "de": "b"}}),
        "row 1: translation has de, en; name the direction in columns.source and columns.target",
    ),
    "nothing translated": (TRANSLATION, "a.po", b'msgid "a"\nmsgstr ""\n', "is empty: it has no rows"),
    "blank message": (
        TRANSLATION,
        "a.po",
        b'msgid "a"\nmsgstr "b"\n\nmsgid " "\nmsgstr "c"\n',
        "row 4: source is empty",
    ),
    "not UTF-8": (
        CHAT,
        "a.jsonl",
        lines(GOOD) + b"\xff\n",
        "a.jsonl is not UTF-8: byte 0xff at offset .*, line 2; save it",
    ),
    "UTF-16": (CHAT, "a.jsonl", "{}".encode("utf-16"), "not UTF-8: byte 0xff at offset 0, line 1; save it as UTF-8"),
    "cut gzip": (
        CHAT,
        "a.jsonl.gz",
        gzip.compress(lines(*[GOOD] * 99), mtime=0)[:50],
        "a.jsonl.gz is a broken gzip file: .*; copy",
    ),
    **{
        f"unread {name}": (
            CHAT,
            name,
            content,
            f"{name} is {kind}, which is not read; .*{way} .*read: .parquet, .*.csv",
        )
        for name, content, kind, way in (
            ("a.xlsx", b"PK\x03\x04..", "an Excel file", "save it as CSV"),
            ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1..", "an Excel file", "save it as CSV"),
            ("a.zip", b"PK\x03\x04..", "a ZIP archive", "unpack it; a spreadsheet is saved as CSV"),
            ("a.csv", b"PK\x03\x04..", "a ZIP archive", "unpack it; a spreadsheet is saved as CSV"),
            ("a.jsonl.zst", b"\x28\xb5\x2f\xfd..", "compressed with zstd", "unpack it, or compress it with gzip"),
            ("a.jsonl.bz2", b"BZh91AY&SY", "compressed with bzip2", "unpack it, or compress it with gzip"),
            ("a.tar.gz", gzip.compress(b"x" * 257 + b"ustar", mtime=0), "a tar archive", "unpack it"),
        )
    },
    "semicolons": (
        CLASSES,
        "a.csv",
        b'"text";"label"\n"x";"a"\n',
        'a.csv: the header \'"text";"label"\' has semicolons and no commas; separate the columns by commas in a .csv',
    ),
    "commas in a TSV": (CLASSES, "a.tsv", b"text,label\nx,a\n", "the header 'text,label' has commas and no tabs"),
    "broken Parquet": (
        CHAT,
        "a.parquet",
        b"PAR1 and no more",
        "a.parquet is a broken Parquet file: .*; copy or write it",
    ),
    "broken Arrow": (CHAT, "a.arrow", b"ARROW1 and no more", "a.arrow is a broken Arrow file: .*; copy or write it"),
    "messages that are no JSON": (
        CHAT,
        "a.csv",
        b"messages\n\"[{'role': 'user'}]\"\n",
        r"row 2: messages is no list of messages: .*role",
    ),
    "reasoning": (
        CHAT,
        "a.jsonl",
        lines({"messages": [GOOD["messages"][0], GOOD["messages"][1] | {"reasoning_content": "y"}]}),
        "row 1: has reasoning_content, which the chat template .* leaves out; use a model whose template knows",
    ),
    "nothing to learn": (
        CHAT,
        "a.jsonl",
        lines({"messages": [GOOD["messages"][0], GOOD["messages"][1] | {"weight": 0}]}),
        "row 1: has weight 0 on its last answer; end the row with an answer that is learnt",
    ),
}


def look(path, task, columns=None, train=None, field=FIELD, asked=DataFormat.AUTO):
    """Check a data set as the stage does."""
    check = find_entry(task, PHI3).check(task, PHI3)
    controls = control_tokens(PHI3)
    request = Request(field, path, Split.TRAIN, task, asked, columns or Columns(), check, controls=controls)
    return survey(open_data(request), train)


@pytest.mark.parametrize(("task", "name", "content", "message"), CASES.values(), ids=CASES)
def test_bad_data_are_refused_by_name(tmp_path, task, name, content, message):
    """Whatever is wrong, the message says where and what to do."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StageError) as raised:
        look(tmp_path / name, task)
    assert re.search(message, str(raised.value)), raised.value
    assert FIELD in str(raised.value) or name in str(raised.value)


def test_rows_of_several_files_are_named_with_their_file(tmp_path):
    """A row's number alone would not say where it is; the path is the one below the data set's folder."""
    for name, rows in (("a/x.jsonl", [GOOD]), ("b/x.jsonl", [GOOD, talk("user")])):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(lines(*rows))
    with pytest.raises(StageError, match=r"spec\.dataset\.train \(Messages\): b/x\.jsonl row 2: has no answer"):
        look(tmp_path, CHAT)


def test_a_folder_of_files_that_are_not_read_says_what_to_do(tmp_path):
    """Nothing of it is data as it is, and one of its files could be."""
    (tmp_path / "rows.zip").write_bytes(b"PK")
    with pytest.raises(StageError, match=r"no data files \(.*\.gz too\); rows\.zip is a ZIP archive: unpack it"):
        look(tmp_path, CHAT)


def test_an_empty_text_of_a_class_is_named_with_its_folder(tmp_path):
    """Each text is row 1 of its file, so the file is what tells it apart."""
    for name, text in (("pos/1.txt", "good"), ("neg/1.txt", "bad"), ("neg/2.txt", " ")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(StageError, match=r"train \(LabeledText\): neg/2\.txt row 1: text is empty$"):
        look(tmp_path, CLASSES)


def test_an_evaluation_class_must_be_on_a_training_row(tmp_path):
    """A class that was never seen cannot be learnt, so its rows are told."""
    (tmp_path / "a.jsonl").write_bytes(lines(A, B, {"text": "z", "label": "c"}))
    message = r"evaluation \(LabeledText\): row 3: label 'c' is on no training row, .*; those have a, b"
    with pytest.raises(StageError, match=message):
        look(tmp_path / "a.jsonl", CLASSES, train=Survey(9, ("a", "b")), field="spec.dataset.evaluation")
    assert look(tmp_path / "a.jsonl", CLASSES, train=Survey(9, ("a", "b", "c"))).examples == 3


def test_an_evaluation_may_have_one_class(tmp_path):
    """What cannot be trained on can still be measured on."""
    (tmp_path / "a.jsonl").write_bytes(lines(A))
    assert look(tmp_path / "a.jsonl", CLASSES, train=Survey(9, ("a", "b"))) == Survey(1, ("a", "b"))


@pytest.mark.parametrize(
    ("multiple", "rows", "message"),
    [
        (False, [{"text": "x", "labels": ["a", "b"]}], "row 1: a list of labels, where the training rows have one"),
        (False, [{"text": "x", "labels": []}] * 4, "rows 1, 2, 3 and 1 more: a list of labels, where"),
        (True, [A], "row 1: one label, where the training rows have a list of labels; write all rows alike"),
    ],
)
def test_evaluation_rows_give_classes_as_the_training_rows_do(tmp_path, multiple, rows, message):
    """A list where one class was learnt would always count as wrong, so its rows are told; and the other way round."""
    (tmp_path / "a.jsonl").write_bytes(lines(*rows))
    with pytest.raises(StageError, match=message):
        look(tmp_path / "a.jsonl", CLASSES, train=Survey(9, ("a", "b"), multiple))


CATALOGUE = b"""
msgid "a"
msgstr "b"

#, fuzzy
msgid "c"
msgstr "d"

msgid "e"
msgstr ""

msgid "f"
msgstr ""
"""


def test_skipped_entries_are_warned_of(tmp_path):
    """Fuzzy and untranslated entries of a catalogue are left out, and counted with the lines they begin at."""
    (tmp_path / "de.po").write_bytes(CATALOGUE)
    found = look(tmp_path / "de.po", TRANSLATION)
    assert found.examples == 1
    assert found.warnings == (
        "spec.dataset.train: 1 rows skipped, fuzzy entries: row 5",
        "spec.dataset.train: 2 rows skipped, untranslated entries: rows 9, 12",
    )


def test_plural_forms_between_the_first_and_the_last_are_warned_of(tmp_path):
    """Polish has three: one, a few, many; the two rows are of the first and the last, and the message tells of it."""
    forms = "".join(f'msgstr[{n}] "%d {word}"\n' for n, word in enumerate(("plik", "pliki", "plików")))
    (tmp_path / "pl.po").write_text(f'msgid "a"\nmsgstr "b"\n\nmsgid "%d file"\nmsgid_plural "%d files"\n{forms}')
    found = look(tmp_path / "pl.po", TRANSLATION)
    assert found.examples == 3
    message = "spec.dataset.train: 1 rows skipped, plural forms between the first and the last: row 4"
    assert found.warnings == (message,)


CONTROL = "see <|end|> there"


@pytest.mark.parametrize(
    ("task", "good", "bad"),
    [
        (CHAT, ASKED, ASKED | {"prompt": CONTROL}),
        (CHAT, GOOD, {"messages": [{"role": "user", "content": CONTROL}, GOOD["messages"][1]]}),
        (WRITING, {"text": "<end>"}, {"text": CONTROL}),
        (TRANSLATION, {"source": "a", "target": "b"}, {"source": "a", "target": CONTROL}),
        (ANSWERS, asked(4), asked(4) | {"question": CONTROL}),
        (CLASSES, A, B | {"text": CONTROL}),
    ],
)
def test_control_tokens_in_texts_are_warned_of(tmp_path, task, good, bad):
    """What somebody typed would end a turn; the rows are usable, and told with their count."""
    (tmp_path / "a.jsonl").write_bytes(lines(good, bad, good, bad))
    (warning,) = look(tmp_path / "a.jsonl", task).warnings
    assert warning.startswith("spec.dataset.train: 2 rows have control tokens of spec.model in their texts")
    assert warning.endswith("the first one '<|end|>': rows 2, 4")


def test_labels_that_look_alike_are_warned_of(tmp_path):
    """`a`, `A` and `a ` are learnt as classes of their own, which is seldom meant."""
    (tmp_path / "a.jsonl").write_bytes(lines(A, B, A | {"label": "A"}, A | {"label": "a "}))
    found = look(tmp_path / "a.jsonl", CLASSES)
    assert found.labels == ("A", "a", "a ", "b")
    (warning,) = found.warnings
    assert warning.startswith("spec.dataset.train: labels 'A' and 'a' and 'a ' differ by blanks or case only and are")
    assert warning.endswith("learnt apart: row 3; row 1; row 4")


@pytest.mark.parametrize("asked", [DataFormat.AUTO, DataFormat.LABELED_TEXT])
def test_a_column_that_is_not_there_is_named(tmp_path, asked):
    """With the field of the job that names it, and the columns that there are."""
    (tmp_path / "a.jsonl").write_bytes(lines({"sent": "x", "class": "a"}, {"sent": "y", "class": "b"}))
    message = r"train: spec\.dataset\.columns\.text: no row has a column 'sentence'; they have: class, sent$"
    with pytest.raises(StageError, match=message):
        look(tmp_path / "a.jsonl", CLASSES, Columns(text="sentence", label="class"), asked=asked)
    assert look(tmp_path / "a.jsonl", CLASSES, Columns(text="sent", label="class"), asked=asked).labels == ("a", "b")


def test_classes_are_listed_by_name(tmp_path):
    """Labels are sorted, so that their numbers do not depend on the order of the rows."""
    (tmp_path / "a.jsonl").write_bytes(lines(B, A))
    found = look(tmp_path / "a.jsonl", CLASSES)
    assert (found.labels, found.multiple) == (("a", "b"), False)
    (tmp_path / "b.jsonl").write_bytes(lines({"text": "x", "labels": ["b"]}, {"text": "y", "labels": []}))
    found = look(tmp_path / "b.jsonl", CLASSES)
    assert (found.labels, found.multiple) == (("b",), True)
    (tmp_path / "b.csv").write_bytes(b'text,labels\nx,"[""b""]"\ny,[]\n')
    (tmp_path / "b.tsv").write_bytes(b'text\tlabels\nx\t["b"]\ny\t[]\n')
    assert look(tmp_path / "b.csv", CLASSES) == look(tmp_path / "b.tsv", CLASSES) == found
    (tmp_path / "c.conll").write_bytes(b"x B-PER\ny I-PER\n\nz I-LOC\n")
    assert look(tmp_path / "c.conll", TOKENS).labels == ("LOC", "PER")
