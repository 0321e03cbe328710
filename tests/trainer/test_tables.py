"""Reading data files: by content and by name, and what is wrong with a file or with a row of it."""

import gzip
import json
import random
import re
from pathlib import PurePath

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from tunesmith_api.enums import Task
from tunesmith_trainer.errors import BadDataError, InputNotFoundError
from tunesmith_trainer.examples import Origin
from tunesmith_trainer.readers import json_rows, text, unpacked
from tunesmith_trainer.tables import KINDS, Split, data_files, read_rows

ROWS = [{"prompt": "a, b", "completion": "ü"}, {"prompt": "c", "completion": "d"}]
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
TABLE = pa.Table.from_pylist(ROWS)


def written(write):
    """The bytes that a pyarrow writer leaves."""
    sink = pa.BufferOutputStream()
    write(sink)
    return sink.getvalue().to_pybytes()


def ipc(new, table=TABLE):
    """A table in one of Arrow's two layouts."""

    def write(sink):
        with new(sink, table.schema) as writer:
            writer.write_table(table)

    return written(write)


PARQUET = written(lambda sink: pq.write_table(TABLE, sink))
ARROW_FILE, ARROW_STREAM = ipc(pa.ipc.new_file), ipc(pa.ipc.new_stream)
CASES = {
    "rows.jsonl": JSONL,
    "rows.ndjson": JSONL,
    "rows.json": json.dumps(ROWS).encode(),
    "indented.json": json.dumps(ROWS, indent=2).encode(),
    "wrapped.json": json.dumps({"version": [1, 2], "errors": [], "data": ROWS, "more": {"a": []}}).encode(),
    "lines.json": JSONL,
    "rows.csv": 'prompt,completion\n"a, b",ü\n\nc,d\n'.encode(),
    "windows.csv": 'prompt,completion\r\n"a, b",ü\r\nc,d\r\n'.encode(),
    "rows.tsv": "prompt\tcompletion\na, b\tü\nc\td\n".encode(),
    "rows.parquet": PARQUET,
    "rows.arrow": ARROW_FILE,
    "stream.arrow": ARROW_STREAM,
    "rows.arrows": ARROW_STREAM,
    "rows.feather": ARROW_FILE,
    "rows": JSONL,
    "list": json.dumps(ROWS).encode(),
    "part-0": PARQUET,
    "bom.jsonl": b"\xef\xbb\xbf" + JSONL,
}
#: Lines of the two rows, where they are not the first two.
LINES_OF = {"rows.csv": (2, 4), "windows.csv": (2, 3), "rows.tsv": (2, 3)}
CONLL = """-DOCSTART- -X- O

# id 1 domain=en
Ada NNP B-PER
Lovelace NNP I-PER

# NN O
1 CD O
"""
SENTENCES = [{"tokens": ["Ada", "Lovelace"], "tags": ["B-PER", "I-PER"]}, {"tokens": ["#", "1"], "tags": ["O", "O"]}]
CATALOGUE = r"""
msgid ""
msgstr "Content-Type: text/plain; charset=UTF-8\n"

msgid "Open\nfile"
msgstr "Datei\nöffnen"

#, fuzzy
msgid "Close"
msgstr "Zu"

msgid "Save"
msgstr ""

msgid "%d file"
msgid_plural "%d files"
msgstr[0] "%d Datei"
msgstr[1] "%d Dateien"

#~ msgid "Old"
#~ msgstr "Alt"
"""
MESSAGES = [
    {"source": "Open\nfile", "target": "Datei\nöffnen"},
    {"source": "%d file", "target": "%d Datei"},
    {"source": "%d files", "target": "%d Dateien"},
]
LINES = "one\n\nzwei ü\n"
BOOK = """%abc-2.1
Jigs from two books.

X:1
T:a
K:C
CDEF|

Played slowly.
X:2
K:G
GABc|
X: 3
K:D
DEFG|
"""
TUNES = [
    {"text": "X:1\nT:a\nK:C\nCDEF|"},
    {"text": "X:2\nK:G\nGABc|"},
    {"text": "X: 3\nK:D\nDEFG|"},
]
DRAWING = '<?xml version="1.0"?>\n<svg>\n\n  <rect/>\n</svg>'
#: Kinds of text that have columns of their own.
OWN_COLUMNS = {
    "a.abc": (BOOK, TUNES),
    "windows.abc": (BOOK.replace("\n", "\r\n"), TUNES),
    "a.svg": (f"\n{DRAWING}\n\n", [{"text": DRAWING}]),
    "a.txt": (LINES, [{"text": "one"}, {"text": "zwei ü"}]),
    "a.po": (CATALOGUE, MESSAGES),
    **{f"a{suffix}": (CONLL, SENTENCES) for suffix in (".conll", ".conll2003", ".bio", ".iob", ".iob2")},
}
FILES = {name: (content, ROWS) for name, content in CASES.items()} | {
    name: (content.encode(), rows) for name, (content, rows) in OWN_COLUMNS.items()
}


def values(*arguments):
    """The columns of every row that is not skipped."""
    return [row.values for row in read_rows(*arguments) if not row.skipped]


@pytest.mark.parametrize("name", CASES)
def test_every_file_type_gives_the_same_rows(tmp_path, name):
    """Whatever the kind, the line ends or the name, the rows are the same, numbered from 1 or from their first line."""
    (tmp_path / name).write_bytes(CASES[name])
    rows = list(read_rows(tmp_path / name))
    assert [row.values for row in rows] == ROWS
    assert [row.origin for row in rows] == [Origin(name, number) for number in LINES_OF.get(name, (1, 2))]


#: Text files with blank lines, comments, and rows of more than one line; how many lines its header has.
SPREAD = {
    "a.jsonl": ('\n{"a": 1}\n\n \n{"a": 2}\n{"a": 3}', 0),
    "lines.json": ('{"a": 1}\n\n{"a": 2}\n{"a": 3}\n', 0),
    "a.txt": ("\none\n\n\ntwo\nthree", 0),
    "a.csv": ('a,b\n1,"two\nlines\n"\n\n2,x\n"y\n\n",3\n4,4', 1),
    "a.tsv": ("a\tb\n\n1\t2\n\n\n3\t4\n5\t6", 1),
    "a.po": (CATALOGUE.replace("#, fuzzy\n", "# a comment\n#: a.c:1\n"), 0),
    "headless.po": ('\n\nmsgid "a"\nmsgstr "b"\n\nmsgid "c"\nmsgstr "d"\n\nmsgid "e"\nmsgstr "f"', 0),
    "a.abc": (BOOK, 0),
    "a.conll": (CONLL + "\n\nx CD O\ny CD O\n\nz CD O", 0),
}


@pytest.mark.parametrize("name", SPREAD)
def test_a_text_file_has_each_row_at_the_line_that_it_is_named_by(tmp_path, name):
    """What is left of the file from there on, below its header, begins with the row."""
    content, header = SPREAD[name]
    (tmp_path / name).write_text(content)
    lines, found = content.split("\n"), list(read_rows(tmp_path / name))
    assert len({row.origin for row in found}) >= 3
    for place, row in enumerate(found):
        if place and found[place - 1].origin == row.origin:  # the plural of the same entry
            continue
        (tmp_path / name).write_text("\n".join(lines[:header] + lines[row.origin.row - 1 :]))
        again = next(read_rows(tmp_path / name))
        assert (again.values, again.skipped, again.origin.row) == (row.values, row.skipped, header + 1)
        assert lines[row.origin.row - 1].strip()


@pytest.mark.parametrize("name", FILES)
def test_gzip_changes_nothing(tmp_path, name):
    """A compressed file reads as the plain one, with `.gz` in its name or without."""
    content, rows = FILES[name]
    for given in (f"{name}.gz", name):
        (tmp_path / given).write_bytes(gzip.compress(content))
        assert values(tmp_path / given) == rows


@pytest.mark.parametrize("name", FILES)
def test_a_gzip_file_that_was_cut_is_refused(tmp_path, name):
    """However much of it can be read, a file without its end is not the file."""
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(FILES[name][0])[:-6])
    with pytest.raises(BadDataError, match=re.escape(f"{name}.gz is a broken ")):
        list(read_rows(tmp_path / f"{name}.gz"))


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("name", ["rows.jsonl", "indented.json", "wrapped.json", "rows.csv"])
def test_chunks_may_end_anywhere(tmp_path, monkeypatch, name, chunk):
    """A character, a string or an object that two chunks share is read whole."""
    monkeypatch.setattr(text.read_chunks, "__defaults__", (chunk,))
    (tmp_path / name).write_bytes(CASES[name])
    assert values(tmp_path / name) == ROWS


def test_any_json_reads_as_the_standard_library_reads_it(tmp_path, monkeypatch):
    """Random documents, read three bytes at a time, give what `json.loads` gives."""
    monkeypatch.setattr(text.read_chunks, "__defaults__", (3,))
    draw = random.Random(0)

    def value(depth):
        kinds = [lambda: draw.choice([None, True, -1.5e-3, 12345, 'ü"\\\n\U0001f600', ""])]
        if depth:
            kinds.append(lambda: [value(depth - 1) for _ in range(draw.randrange(3))])
            kinds.append(lambda: {f"k{n}": value(depth - 1) for n in range(draw.randrange(3))})
        return draw.choice(kinds)()

    for _ in range(100):
        rows = [{"a": value(3), "b": value(2)} for _ in range(draw.randrange(4))]
        (tmp_path / "a.json").write_text(
            json.dumps({"x": {"y": value(2)}, "rows": rows}, ensure_ascii=draw.random() < 0.5)
        )
        assert values(tmp_path / "a.json") == rows


def test_columns_without_a_name_may_be_several(tmp_path):
    """Spreadsheets leave empty columns at the end, which are no columns of the data."""
    (tmp_path / "a.csv").write_text("text,label,,\nx,y,,\n")
    assert values(tmp_path / "a.csv") == [{"text": "x", "label": "y", "": ""}]


@pytest.mark.parametrize(
    ("names", "task", "data"),
    [
        (("1.svg", "b/2.svg.gz", "tunes.abc"), Task.TEXT_GENERATION, ("1.svg", "b/2.svg.gz", "tunes.abc")),
        (("1.svg", "rows.jsonl"), Task.TEXT_GENERATION, ("rows.jsonl",)),
        (("logo.svg", "a.txt"), Task.TEXT_CLASSIFICATION, ("a.txt",)),
    ],
)
def test_drawings_are_data_where_they_can_be_learnt(tmp_path, names, task, data):
    """Beside files with columns, or where a task learns no drawings, they are pictures of the data set's page."""
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(DRAWING.encode())
    assert tuple(file.name for file in data_files(tmp_path, task=task)) == data


def test_text_files_give_a_row_per_line(tmp_path):
    """Empty lines are no rows."""
    (tmp_path / "a.txt").write_text(LINES)
    assert values(tmp_path / "a.txt") == [{"text": "one"}, {"text": "zwei ü"}]


def test_folders_of_texts_give_their_names_as_labels(tmp_path):
    """For classification a file is a row, and its folder's name the label; compressed ones too."""
    for name, content in (("pos/1.txt", b"good\nfun"), ("neg/1.txt.gz", gzip.compress(b"bad", mtime=0))):
        (tmp_path / "train" / name).parent.mkdir(parents=True)
        (tmp_path / "train" / name).write_bytes(content)
    rows = list(read_rows(tmp_path, Split.TRAIN, Task.TEXT_CLASSIFICATION))
    assert [row.values for row in rows] == [{"text": "bad", "label": "neg"}, {"text": "good\nfun", "label": "pos"}]
    assert rows[0].origin == Origin("train/neg/1.txt.gz", 1)
    assert values(tmp_path, Split.TRAIN, Task.TEXT_GENERATION)[1:] == [{"text": "good"}, {"text": "fun"}]


BROKEN_TEXTS = [
    (
        "train/pos/1.txt",
        b"gut\n\xfcbel",
        "train/pos/1.txt is not UTF-8: byte 0xfc at offset 4, line 2; save it as UTF-8",
    ),
    (
        "pos/1.txt.gz",
        gzip.compress(b"good" * 99, mtime=0)[:-6],
        "pos/1.txt.gz is a broken gzip file: .*; copy it again",
    ),
]


@pytest.mark.parametrize(("name", "content", "message"), BROKEN_TEXTS)
def test_a_broken_text_of_a_class_is_named_with_its_folder(tmp_path, name, content, message):
    """Among thousands of texts with the same names, the folder says which one it is."""
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadDataError, match=message):
        values(tmp_path, Split.TRAIN, Task.TEXT_CLASSIFICATION)


def test_texts_beside_the_folders_of_classes_are_skipped(tmp_path):
    """A README in a part's folder has no class, least of all `train`; it is left out with a warning, not unseen."""
    for name in ("train/README.txt", "train/pos/1.txt", "train/neg/1.txt", "README.txt", "test/pos/2.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    rows = list(read_rows(tmp_path, Split.TRAIN, Task.TEXT_CLASSIFICATION))
    assert [(row.origin.file, row.values.get("label"), row.skipped) for row in rows] == [
        ("train/README.txt", None, "texts beside the folders of the classes"),
        ("train/neg/1.txt", "neg", ""),
        ("train/pos/1.txt", "pos", ""),
    ]


@pytest.mark.parametrize("name", ["a.conll", "a.conll2003", "a.bio", "a.iob", "a.iob2", "a.txt"])
def test_conll_gives_a_row_per_sentence(tmp_path, name):
    """The first column is the token and the last one the tag; documents and comments are no tokens, a # can be."""
    (tmp_path / name).write_text(CONLL)
    assert values(tmp_path / name, Split.TRAIN, Task.TOKEN_CLASSIFICATION) == SENTENCES


def test_a_catalogue_gives_its_translated_messages(tmp_path):
    """Plurals are two rows; fuzzy and untranslated entries are skipped by name, obsolete ones are no entries."""
    (tmp_path / "de.po").write_text(CATALOGUE)
    rows = list(read_rows(tmp_path / "de.po"))
    assert [row.values for row in rows if row.values] == MESSAGES
    assert [(row.origin.row, row.skipped) for row in rows if row.skipped] == [
        (8, "fuzzy entries"),
        (12, "untranslated entries"),
    ]


def test_nested_squad_gives_a_row_per_question(tmp_path):
    """Questions are numbered over the paragraphs, each with its passage."""
    paragraphs = [
        {"context": f"c{n}", "qas": [{"id": i, "question": f"q{i}", "answers": []} for i in n]} for n in ("ab", "c")
    ]
    (tmp_path / "squad.json").write_text(
        json.dumps({"version": "v2.0", "data": [{"title": "t", "paragraphs": paragraphs}]})
    )
    rows = list(read_rows(tmp_path / "squad.json"))
    assert [(row.values["context"], row.values["question"]) for row in rows] == [
        ("cab", "qa"),
        ("cab", "qb"),
        ("cc", "qc"),
    ]
    assert [row.origin.row for row in rows] == [1, 2, 3]


def test_numbered_classes_get_their_names(tmp_path):
    """The names that the `datasets` library keeps in the schema replace the numbers, inside lists too."""
    names = ["O", "B-PER"]
    features = {
        "tags": {"feature": {"names": names, "_type": "ClassLabel"}, "_type": "List"},
        "label": {"names": names},
    }
    table = pa.Table.from_pylist([{"tags": [0, 1], "label": 1, "n": 1}])
    metadata = {"huggingface": json.dumps({"info": {"features": features | {"n": {"dtype": "int64"}}}})}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "a.parquet")
    assert values(tmp_path / "a.parquet") == [{"tags": names, "label": "B-PER", "n": 1}]


TOOL_TALKS = [
    {
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "tool_calls": [{"function": {"name": "look", "arguments": {"at": {"x": 1}}}}]},
            {"role": "tool", "content": "blue", "name": "look"},
            {"role": "assistant", "content": "blue"},
        ],
        "tools": [{"function": {"name": "look", "parameters": {"properties": {"at": {"type": "object"}}}}}],
    },
    {
        "messages": [
            {"role": "user", "content": "again"},
            {"role": "assistant", "tool_calls": [{"function": {"name": "call", "arguments": {"who": ["you", None]}}}]},
        ],
        "tools": [{"function": {"name": "call", "parameters": {"properties": {"who": {"type": "array"}}}}}],
    },
]


@pytest.mark.parametrize("name", ["a.parquet", "file.arrow", "a.arrows"])
def test_objects_have_the_members_that_were_written(tmp_path, name):
    """Columns of objects know one set of members for all rows; those that a row has not are not null arguments."""
    table = pa.Table.from_pylist(TOOL_TALKS)
    new = {"a.parquet": None, "file.arrow": pa.ipc.new_file, "a.arrows": pa.ipc.new_stream}[name]
    content = ipc(new, table) if new else written(lambda sink: pq.write_table(table, sink))
    (tmp_path / name).write_bytes(content)
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TOOL_TALKS))
    assert values(tmp_path / name) == values(tmp_path / "a.jsonl") == TOOL_TALKS


def test_a_column_that_is_null_stays(tmp_path):
    """A row says that it has none, which the messages about bad rows name."""
    table = pa.table({"a": pa.array([None, {"x": None, "y": 1}])})
    pq.write_table(table, tmp_path / "a.parquet")
    assert values(tmp_path / "a.parquet") == [{"a": None}, {"a": {"y": 1}}]


def test_a_folder_gives_the_files_of_one_split(tmp_path):
    """Files of other splits, hidden files and files that are no data are left out; without splits all are taken."""
    for name in ("train-1.jsonl", "train-0.jsonl", "test-0.jsonl", "README.md", "dataset_infos.json", ".train.jsonl"):
        (tmp_path / name).write_bytes(JSONL)
    assert [file.name for file in data_files(tmp_path)] == ["train-0.jsonl", "train-1.jsonl"]
    assert [file.name for file in data_files(tmp_path, Split.EVALUATION)] == ["test-0.jsonl"]
    (tmp_path / "rest").mkdir()
    for name in ("rows.jsonl", "test.jsonl"):
        (tmp_path / "rest" / name).write_bytes(JSONL)
    for split, name in ((Split.TRAIN, "rows.jsonl"), (Split.EVALUATION, "test.jsonl")):
        assert [file.name for file in data_files(tmp_path / "rest", split)] == [name]
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "constraints.csv").write_bytes(b"a\n")
    for split in Split:
        assert [file.name for file in data_files(tmp_path / "plain", split)] == ["constraints.csv"]


def test_a_folder_without_data_is_not_found(tmp_path):
    """An empty folder is an input that is absent, not an empty data set; the message lists what can be read."""
    (tmp_path / "logo.svg").write_text(DRAWING)
    with pytest.raises(InputNotFoundError, match=r"has no data files"):
        read_rows(tmp_path, task=Task.CHAT)
    (tmp_path / "logo.svg").unlink()
    with pytest.raises(
        InputNotFoundError, match=r"has no data files \(\.parquet, .*\.po, \.abc, \.svg, \.txt; \.gz too\)"
    ):
        read_rows(tmp_path)


BROKEN_FILES = [
    ("a.jsonl", b'{"a": 1}\n\xff\xfe\n', "a.jsonl is not UTF-8: byte 0xff at offset 9, line 2; save it as UTF-8"),
    ("a.txt", "ü".encode("utf-16"), "not UTF-8: byte 0xff at offset 0, line 1"),
    ("a.csv", b"a\n" * 3 + b"caf\xc3", "not UTF-8: byte 0xc3 at offset 9, line 4"),
    ("a.json", b"{", "is no JSON"),
    ("a.json", b"3", "is no list of objects"),
    ("a.json", b"", "is no list of objects"),
    ("a.json", b'[{"a": 1}, {"a" 2}]', "is no JSON: Expecting ':' delimiter"),
    ("a.json", b'[{"a": 1} {"a": 2}]', "is no JSON: '{' where , or ] should be"),
    ("a.json", b'[{"a": 1}', "is no JSON: 'its end' where , or ] should be"),
    ("a.json", b'[{"a": 1}] x', "there is text after its end; one object per line is .jsonl"),
    ("a.gz", b"\x1f\x8bxx", "broken gzip"),
    ("a.jsonl.gz", gzip.compress(JSONL * 100, mtime=0)[:60], "a.jsonl.gz is a broken gzip file: .*; copy it again"),
    ("a", b"PAR1xx", "broken Parquet"),
    ("a.parquet", PARQUET[:-20], "broken Parquet file: .*; copy or write it again"),
    ("a.arrow", ARROW_FILE[: len(ARROW_FILE) // 2], "broken Arrow file"),
    ("a.arrow", ARROW_STREAM[:-60], "broken Arrow file"),
    ("a.parquet.gz", gzip.compress(PARQUET, mtime=0)[:-20], "a.parquet.gz is a broken gzip file: .*; copy it again"),
    ("a.arrow.gz", gzip.compress(ARROW_FILE[:-20], mtime=0), "a.arrow.gz is a broken Arrow file: .*; copy or write"),
    ("a.po", b'msgid "a"\nmsgstr "\xe4"\n', "a.po is not UTF-8: byte 0xe4 at offset 18, line 2; save it as UTF-8"),
    ("a.conll", b"a O\n\n\xe4 O\n", "a.conll is not UTF-8: byte 0xe4 at offset 5, line 3; save it as UTF-8"),
    (
        "a.csv",
        b"text,label,text\nx,y,z\n",
        "a.csv has more than one column 'text' in its header; give each a name of its own",
    ),
    ("a.tsv", b"text\ttext\nx\ty\n", "a.tsv has more than one column 'text' in its header"),
    ("a.csv", b'"text,label\nx,y\n', "a.csv: the header is no CSV: unexpected end of data; close the quotes"),
    ("a.abc", b"T:a\nK:C\nCDEF|\n", "a.abc has no tune; each begins with a line X: and its number"),
    ("a.po", b'msgid "a"\nmsgstr "b"c"\n', "is no gettext catalogue: .*line 2"),
]


@pytest.mark.parametrize(("name", "content", "message"), BROKEN_FILES)
def test_a_broken_file_says_where(tmp_path, name, content, message):
    """The message names the file, the place and the way out."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadDataError, match=message):
        list(read_rows(tmp_path / name))


BROKEN_ROWS = [
    ("a.jsonl", b'{"a": 1}\n{"a"\n{"a": 3}\n', [2], "is no JSON: Expecting ':' delimiter"),
    ("a.jsonl", b'[1]\n{"a": 1}\n"x"\n', [1, 3], r"is no JSON object: '\[1\]'"),
    ("a.json", b'[{"a": 1}, 2]', [2], "is no JSON object: '2'"),
    (
        "a.csv",
        b"a,b\n1,2,3\n4,5\n",
        [2],
        r"has more fields than the header \(3, not 2\); quote values that hold commas",
    ),
    ("a.csv", b"a,b\n1,2\n3\n", [3], r"has fewer fields than the header \(1, not 2\)"),
    ("a.csv", b'a,b\n1,2\n"3,4\n', [3], "is no CSV: unexpected end of data; close the quotes"),
    ("a.tsv", b"source\ttarget\na\tb\nonly\n", [3], r"has fewer fields .*; write one tab between two columns"),
    ("a.conll", b"a O\nb O\n\nc X O\n", [4], "line 4 has 3 columns, the first line has 2"),
    ("a.conll", b"a\nb\n", [1], "line 1 has one column; a token and its tag are two"),
    ("a.conll.gz", gzip.compress(b"a O\nb O\n\nc X O\n", mtime=0), [4], "line 4 has 3 columns, the first line has 2"),
    ("a.txt", b"a O\nb O\n\nc X O\n\nd O\n", [4], "line 4 has 3 columns, the first line has 2"),
]


@pytest.mark.parametrize(("name", "content", "numbers", "message"), BROKEN_ROWS)
def test_a_broken_row_does_not_hide_the_others(tmp_path, name, content, numbers, message):
    """Rows that cannot be read are told by number, and the rest of the file is read on."""
    (tmp_path / name).write_bytes(content)
    task = Task.TOKEN_CLASSIFICATION if name.endswith(".txt") else None
    found = [row for row in read_rows(tmp_path / name, task=task) if row.problem]
    assert [row.origin.row for row in found] == numbers
    assert re.search(message, found[0].problem), found[0].problem


@pytest.mark.parametrize("content", [PARQUET, ARROW_FILE], ids=["Parquet", "Arrow"])
def test_what_was_unpacked_is_gone_when_it_was_read(tmp_path, content):
    """A file that is read from place to place is unpacked while its rows are read, whether all are or one."""
    (tmp_path / "rows.gz").write_bytes(gzip.compress(content))
    scratch = tmp_path / "workspace" / "unpacked"
    rows = read_rows(tmp_path / "rows.gz", scratch=scratch)
    next(rows)
    assert [file.read_bytes() for file in scratch.rglob("*") if file.is_file()] == [content]
    del rows
    assert list(scratch.iterdir()) == []
    assert len(list(read_rows(tmp_path / "rows.gz", scratch=scratch))) == len(ROWS)
    assert list(scratch.iterdir()) == []


def test_a_gzip_bomb_does_not_fill_the_disk(tmp_path, monkeypatch):
    """Unpacking ends where a file would be larger than it may be, and leaves nothing."""
    monkeypatch.setattr(unpacked, "_MOST_BYTES", len(PARQUET) - 1)
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress(PARQUET))
    scratch = tmp_path / "unpacked"
    with pytest.raises(BadDataError, match=r"a\.parquet\.gz unpacks to more than \d+ bytes; write it without gzip"):
        list(read_rows(tmp_path / "a.parquet.gz", scratch=scratch))
    assert list(scratch.iterdir()) == []


def test_a_mistake_early_in_a_large_document_is_not_searched_to_its_end(tmp_path, monkeypatch):
    """A missing colon ends the reading where it is, so that a document larger than memory cannot fill it."""
    (tmp_path / "a.json").write_bytes(b'[{"a" 1}, ' + b'{"a": 1}, ' * 400_000 + b"{}]")
    read = []
    monkeypatch.setattr(
        json_rows, "read_text", lambda *given: (read.append(len(chunk)) or chunk for chunk in text.read_text(*given))
    )
    with pytest.raises(BadDataError, match="is no JSON"):
        list(read_rows(tmp_path / "a.json"))
    assert sum(read) <= text.CHUNK_BYTES < 4_000_000


def test_every_kind_of_file_has_a_case():
    """The table of kinds and the cases of this module name the same suffixes."""
    assert {PurePath(name).suffix for name in FILES} - {""} == {
        suffix for kind in KINDS.values() for suffix in kind.suffixes
    }
