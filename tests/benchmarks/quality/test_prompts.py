"""Prompt files of every form give the same prompts; names last; what is left out is said."""

import json
import random
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.evaluation import prompt_files as importers
from benchmarks.evaluation.prompt_files import import_prompts, texts_of
from benchmarks.evaluation.prompts import Prompt, RowReader, overlap, texts_sha256

TEXTS = ["a red circle", 'the word "OPEN" on a sign', "café, 5 € & <b>more</b>", "two, three\tfour"]


def write(folder, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_every_format_gives_the_same_prompts(tmp_path):
    plain = [text.replace("\t", " ") for text in TEXTS]
    quoted = ['"{}"'.format(text.replace('"', '""')) for text in plain]
    files = [
        write(tmp_path, "a.txt", "\n".join(plain) + "\n\n"),
        write(tmp_path, "a.tsv", "Prompt\tCategory\n" + "".join(f"{t}\tx\n" for t in plain)),
        write(tmp_path, "a.csv", "\ufeffid,caption\n" + "".join(f"n{i},{t}\n" for i, t in enumerate(quoted))),
        write(tmp_path, "a.jsonl", "".join(json.dumps({"text": t}) + "\n" for t in plain)),
        write(tmp_path, "b.jsonl", "".join(json.dumps(t, ensure_ascii=False) + "\n" for t in plain)),
        write(tmp_path, "a.json", json.dumps(plain)),
        write(tmp_path, "b.json", json.dumps([{"prompt": t, "style": "x"} for t in plain])),
        write(tmp_path, "c.json", json.dumps({"caption": plain, "id": [1, 2, 3, 4]})),
    ]
    sets = [import_prompts(file) for file in files]
    assert {found.sha256 for found in sets} == {texts_sha256(plain)}
    assert all(found.texts == plain and found.rows == 4 and not found.skipped for found in sets)
    assert [p.id for p in sets[2].prompts] == ["n0", "n1", "n2", "n3"]
    assert len({found.file_sha256 for found in sets}) == len(sets)


def test_a_tsv_has_no_quotes_that_mean_anything(tmp_path):
    # PartiPrompts has a prompt that begins with one; csv's own rules would eat it and join cells
    path = write(tmp_path, "a.tsv", 'Prompt\tCategory\n"G I G G L E" painted on a wall\tWords\n"open\tWords\n')
    assert import_prompts(path).texts == ['"G I G G L E" painted on a wall', '"open']


def test_a_folder_of_lists_is_a_set_with_styles(tmp_path):
    for style in ("anime", "photo"):
        write(tmp_path, f"benchmark_{style}.json", json.dumps([f"{style} {n}" for n in range(3)]))
    found = import_prompts(tmp_path)
    assert found.texts == ["anime 0", "anime 1", "anime 2", "photo 0", "photo 1", "photo 2"]
    assert [dict(p.categories)["style"] for p in found.prompts] == ["anime"] * 3 + ["photo"] * 3
    one = write(tmp_path, "styles.json", json.dumps({"anime": ["x"], "photo": ["y", "z"]}))
    assert [p.categories for p in import_prompts(one).prompts] == [(("style", s),) for s in ("anime", "photo", "photo")]


def test_columns_are_found_whatever_their_case_and_can_be_named(tmp_path):
    path = write(tmp_path, "a.csv", "videoid,name,sub_category,Main_Category,other\nv1,rain,weather,,x\n")
    prompt = import_prompts(path).prompts[0]
    assert (prompt.id, prompt.text) == ("v1", "rain")
    assert prompt.categories == (("sub_category", "weather"),)  # an empty value is left out
    named = import_prompts(path, text_column="OTHER", id_column="name", category_columns=["videoid"]).prompts[0]
    assert named == Prompt("rain", "x", (("videoid", "v1"),))
    with pytest.raises(ValueError, match=r"no column 'nope'; it has videoid"):
        import_prompts(path, text_column="nope")


def test_lists_of_categories_count_once_each(tmp_path):
    row = {"prompt_en": "a dog runs", "dimension": ["motion", "subject"]}
    found = import_prompts(write(tmp_path, "v.json", json.dumps([row])))
    assert found.prompts[0].categories == (("dimension", "motion"), ("dimension", "subject"))


def test_rows_without_a_prompt_are_said_and_left_out(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"prompt": "a"}\n{"prompt": " "}\n{"prompt": 5}\n{"prompt": null}\n')
    found = import_prompts(path)
    assert found.texts == ["a"] and found.rows == 4
    assert [line.split(": ", 1)[1] for line in found.skipped] == [
        "prompt ' ' is not text", "prompt '5' is not text", "empty prompt",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "{oops\n", "line 1: not JSON"),
        ("a.json", '{"a": 1}', "neither a list"),
        ("a.csv", "x,y\n1,2\n", "none of which is prompt"),
        ("a.csv", "prompt\na,b\n", "2 columns, the header has 1"),
        ("a.txt", "\n\n", "holds no prompt"),
        ("a.docx", "x", "is not a prompt file"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        import_prompts(write(tmp_path, name, content))


def test_lines_end_at_newlines_alone(tmp_path):
    """Form feeds, U+2028 and the like are part of a prompt, as they are in JSON, and are told of."""
    odd = ["red\u2028cat", "two\x0cpages", "next\x85line", "red cat"]
    text = tmp_path / "a.txt"
    text.write_bytes(("\ufeff" + "\r\n".join(odd) + "\r\n\r\n").encode())
    lines = write(tmp_path, "a.jsonl", "".join(json.dumps({"prompt": one}, ensure_ascii=False) + "\n" for one in odd))
    for file in (text, lines):
        found = import_prompts(file)
        assert found.texts == odd
        assert found.notes == (
            f"{file.name}, line 1 holds U+2028, and 2 others: only newlines end a prompt, so it is part of one.",
        )


def test_repeated_prompts_and_other_separators_are_named(tmp_path):
    found = import_prompts(write(tmp_path, "a.txt", "red cat\nblue dog\nred cat \n"))
    assert found.notes == ("Repeated: 1 prompt, e.g. “red cat” in a.txt, line 1 and a.txt, line 3.",)
    assert found.prompts[0].id + "-2" == found.prompts[2].id
    with pytest.raises(ValueError, match=r"b\.csv is separated by ';'; save it with commas, or with tabs as b\.tsv"):
        import_prompts(write(tmp_path, "b.csv", "prompt;category\nred cat;x\n"))


def test_missing_files_and_encodings(tmp_path):
    with pytest.raises(FileNotFoundError, match="no prompt file"):
        import_prompts(tmp_path / "nothing.txt")
    with pytest.raises(FileNotFoundError, match=r"has none of \.txt"):
        import_prompts(tmp_path)
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(ValueError, match="save it as UTF-8"):
        import_prompts(tmp_path / "latin.txt")


def test_parquet_gives_the_same_prompts(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"caption": [*TEXTS, None], "id": [7, 8, 9, 10, 11], "tag": [["x"], ["x", "y"], [], None, ["z"]]}
    parquet.write_table(pa.table(columns), tmp_path / "a.parquet", row_group_size=2)
    found = import_prompts(tmp_path / "a.parquet")
    assert found.sha256 == texts_sha256(TEXTS) and found.texts == TEXTS
    assert (found.rows, found.skipped) == (5, ("a.parquet, row 4: empty prompt",))
    assert [prompt.id for prompt in found.prompts] == ["7", "8", "9", "10"]
    assert found.prompts[1].categories == (("tag", "x"), ("tag", "y")) and found.prompts[3].categories == ()
    assert import_prompts(tmp_path).texts == TEXTS


def test_parquet_without_its_reader_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(importers, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install pyarrow"):
        import_prompts(write(tmp_path, "a.parquet", "PAR1"))


@given(st.lists(st.text(string.ascii_letters, min_size=1, max_size=6), min_size=1, max_size=12, unique=True))
@settings(deadline=None, max_examples=40)
def test_ids_do_not_depend_on_the_order(texts):
    def ids(items):
        reader = RowReader()
        for text in items:
            reader.add("here", text)
        return {prompt.text: prompt.id for prompt in reader.prompts}

    shuffled = list(texts)
    random.Random(0).shuffle(shuffled)
    assert ids(texts) == ids(shuffled)


@given(st.lists(st.tuples(st.text(max_size=30), st.text(min_size=1, max_size=5)), max_size=20))
@settings(deadline=None, max_examples=25)
def test_ids_are_plain_and_unique_whatever_the_file_says(rows):
    reader = RowReader()
    for given_id, text in rows:
        reader.add("here", text, given_id)
    ids = [prompt.id for prompt in reader.prompts]
    # file systems of some machines do not tell a from A
    assert len({name.casefold() for name in ids}) == len(ids)
    keys = [prompt.key for prompt in reader.prompts]
    assert all(key[0] not in ".-" and set(key) <= set(string.ascii_letters + string.digits + "-_.") for key in keys)


def test_a_name_that_looks_like_a_numbered_one_is_numbered_too():
    reader = RowReader()
    for given_id in ("a", "A", "a-2", "a"):
        reader.add("here", "text", given_id)
    assert [prompt.id for prompt in reader.prompts] == ["a", "A-2", "a-2-2", "a-3"]


def test_an_id_with_another_text_is_another_sample():
    assert Prompt("v1", "rain").key != Prompt("v1", "snow").key
    assert Prompt("v1", "rain").key == Prompt("v1", "rain", (("a", "b"),)).key


def test_first_takes_some_and_remembers_of_how_many(tmp_path):
    found = import_prompts(write(tmp_path, "a.txt", "a\nb\nc\n"))
    assert found.first(2).texts == ["a", "b"] and found.first(2).cut_from == 3
    assert found.first(3) is found
    with pytest.raises(ValueError, match="first 0 prompts"):
        found.first(0)


def test_overlap_ignores_case_spaces_and_punctuation(tmp_path):
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "caption": "A red  circle!"}\n', encoding="utf-8")
    prompts = [Prompt("1", "a red circle"), Prompt("2", "a blue circle")]
    assert overlap(prompts, texts_of(tmp_path)) == prompts[:1]
