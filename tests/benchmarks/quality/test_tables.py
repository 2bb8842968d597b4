"""The published tables are whole, and what is measured here stands beside them with its interval and its marks."""

import json
import re
from pathlib import Path

import pytest

from benchmarks.evaluation.columns import columns_of
from benchmarks.evaluation.paper.published import TABLES, published_beside
from benchmarks.evaluation.paper.tables import main
from benchmarks.evaluation.protocols import PROTOCOLS, SETS
from benchmarks.evaluation.report.text import FORMAT, KIND, latex
from benchmarks.evaluation.report.text import markdown as markdown_report
from seppo_core.config.keys import key_types
from seppo_image.config import ImageConfig
from seppo_video.config import VideoConfig

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda t: str(t.number))
def test_tables_are_whole_and_name_columns_that_exist(table):
    keys = [row.key for row in table.rows]
    assert len(set(keys)) == len(keys) and all(len(row.values) == len(table.headings) for row in table.rows)
    for heading in table.headings:
        kind = "video" if heading.prompts == "chronomagic-150" else "image"
        (column,) = columns_of(heading.column, kind)
        assert (column.better, column.scale) == (heading.better, heading.scale)
        assert heading.prompts in SETS
    for protocol in table.protocols:
        assert {heading.prompts for heading in table.headings} & set(PROTOCOLS[protocol].sets)
        assert {heading.column for heading in table.headings} <= set(PROTOCOLS[protocol].metrics)


def test_a_method_that_two_tables_name_has_one_recipe():
    first, second = ({row.key: row.recipe for row in TABLES[number].rows} for number in (1, 2))
    shared = first.keys() & second.keys()
    assert {"sft", "dpo", "spin", "seppo"} <= shared
    assert {key: first[key] for key in shared} == {key: second[key] for key in shared}


def test_recipes_are_configs_that_exist_with_keys_that_exist():
    recipes = {row.recipe for table in TABLES.values() for row in table.rows if row.recipe}
    for recipe in recipes:
        config, *options = recipe.split()
        assert (ROOT / config).is_file(), recipe
        schema = VideoConfig if config.startswith("configs/video") else ImageConfig
        for option in options[::2]:
            assert option.removeprefix("--") in key_types(schema), recipe


def test_the_same_row_says_the_same_in_two_tables():
    rows = {(table.number, row.key): row for table in TABLES.values() for row in table.rows}
    assert rows[1, "seppo"].values == rows[4, "seppo"].values
    # Table 1's base has an HPSv2 below Table 2's by what v2.1 is below v2.0: hence the mark
    assert rows[1, "base"].daggers == (1,) and rows[2, "base"].daggers == ()


def report(protocol="seppo-t2i-sd15", prompts="pickapic-validation", changed=(), names=("base", "seppo"), **more):
    columns = {"pickscore_cos": 0.21, "hps_v2.0": 0.27, "hps_v2.1": 0.25, "image_reward": 0.5, "aesthetic": 5.5}
    scores = [
        {"model": name, "column": column, "mean": value, "low": value * 0.99, "high": value * 1.01, "prompts": 500}
        for name in names
        for column, value in columns.items()
    ]
    return {
        "format": FORMAT, "kind": KIND, "label": f"{protocol} ({prompts})",
        "protocol": {"name": protocol, "changed": dict.fromkeys(changed, 1)},
        "prompts": {"name": prompts, "as_published": more.get("as_published"), "cut_from": None},
        "models": [{"name": name} for name in names], "scores": scores,
    }  # fmt: skip


def written(tmp_path, content, name="r"):
    path = tmp_path / name
    path.mkdir()
    (path / "report.json").write_text(json.dumps(content), encoding="utf-8")
    return str(path)


def test_measured_rows_stand_below_their_published_ones(tmp_path, capsys):
    assert main(["1", "--reports", written(tmp_path, report())]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("| SePPO^w "))
    assert lines[at + 1].startswith(
        "| *measured: seppo, seppo-t2i-sd15 (pickapic-validation)* | 21.00 [20.79, 21.21] |"
    )
    assert "| SD-1.5 | 20.53 | 23.79† | -0.163 | 5.365 |" in lines
    text = "\n".join(lines)
    assert "HPS v2.1 25.00 [24.75, 25.25], for the values marked †" in text and "very likely HPS v2.1" in text
    assert "‡" not in text
    assert "SFT^w is not measured here; trained by configs/image/sd15_pickapic_sft.yaml" in text


@pytest.mark.parametrize(
    "content",
    [report("pickapic-validation"), report(changed=["steps"]), report(as_published=False)],
    ids=["other protocol", "changed", "other prompts"],
)
def test_what_was_measured_otherwise_is_marked(content, tmp_path, capsys):
    main(["1", "--reports", written(tmp_path, content)])
    text = capsys.readouterr().out
    assert re.search(r"\*measured: seppo, .*‡\*", text) and "not comparable" in text


def test_rows_are_named_and_models_without_a_row_come_last(tmp_path, capsys):
    path = written(tmp_path, report(names=("mine", "ours|x")))
    main(["1", "--reports", path, "--rows", "dpo=mine"])
    lines = capsys.readouterr().out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("| Diffusion-DPO"))
    assert lines[at + 1].startswith("| *measured: mine")
    assert [line for line in lines if line.startswith("| ")][-1].startswith(r"| *measured: ours\|x")
    with pytest.raises(SystemExit):
        main(["1", "--reports", path, "--rows", "nope=mine"])
    assert "should be KEY=MODEL" in capsys.readouterr().err


def test_half_a_table_is_measured_by_half_its_prompts(tmp_path, capsys):
    main(["2", "--reports", written(tmp_path, report(prompts="partiprompts"))])
    line = next(line for line in capsys.readouterr().out.splitlines() if "measured: seppo" in line)
    cells = [cell.strip() for cell in line.strip("|").split("|")][1:]
    assert [cell == "–" for cell in cells] == [True, False] * 4
    main(["3", "--reports", str(tmp_path / "r")])
    assert "Nothing is measured here yet" in capsys.readouterr().out


def test_latex_and_json_say_the_same(tmp_path, capsys):
    path = written(tmp_path, report())
    main(["4", "--reports", path, "--format", "json"])
    content = json.loads(capsys.readouterr().out)
    assert content["measured"][1]["row"] == "seppo" and content["measured"][1]["comparable"]
    assert content["measured"][1]["values"][0] == pytest.approx([21.0, 20.79, 21.21])
    main(["1", "--reports", path, "--format", "latex"])
    text = capsys.readouterr().out
    assert text.startswith(r"\begin{tabular}{lcccc}") and r"23.79$\dagger$" in text
    body = text[: text.index(r"\end{tabular}")]
    assert body.count(r"\\") == 1 + 9 + 2 and "21.00 [20.79, 21.21]" in body


def whole_report(protocol="seppo-t2i-sd15", **more):
    """As `analyse` makes it, in what the tables of a report read."""
    content = report(protocol, **more)
    columns = [
        {
            "name": name,
            "metric": name,
            "title": name,
            "mode": "image",
            "scale": 100 if "hps" in name else 1,
            "digits": 2,
        }
        for name in ("hps_v2.0", "hps_v2.1", "image_reward")
    ]
    rest = {"differences": [], "groups": [], "warnings": ["less than <3> & 50 % scored"], "fingerprint": "f" * 16}
    content["protocol"] |= {
        "seeds": [0], "width": 8, "height": 8, "frames": 1, "steps": 2, "guidance_scale": 1, "seed_mode": "per_prompt",
        "assumed": [], "differs": [],
    }  # fmt: skip
    content["prompts"] |= {"used": 500, "texts_sha256": "0" * 64}
    for model in content["models"]:
        model |= {"samples": 1, "wanted": 1, "sampler": {}}
    return content | rest | {"columns": columns, "fitted": {"seppo": {"hps_v2.0": "hps_v2.0"}}}


def test_a_reports_latex_says_what_its_marks_mean():
    text = latex(whole_report())
    body, notes = text.split(r"\end{tabular}")
    assert r"SD-1.5 & 23.79$^\dagger$ & -- & -0.163 \\" in body and r"\ddagger" not in text
    assert all(line.startswith(r"\par\noindent{\footnotesize ") for line in notes.strip().splitlines())
    assert r"$\dagger$ HPSv2 values of rows taken over from another paper are very likely HPS v2.1" in notes
    assert r"\S{} the model was trained or selected by this metric" in notes and r"27.00 {" in body
    assert r"less than \textless{}3\textgreater{} \& 50 \% scored" in notes


def test_published_rows_beside_another_protocol_are_marked_in_a_report():
    for name in ("pickapic-validation", "seppo-t2i-sd15"):
        content = whole_report(name, changed=["steps"] if name == "seppo-t2i-sd15" else [])
        assert r"SePPO\textasciicircum{}w$\ddagger$ & 27.20" in latex(content)
        assert "$\\ddagger$ published under another protocol than that of this report" in latex(content)
        text = markdown_report(content)
        assert "| SePPO^w‡ | 21.57 |" in text and "‡ published under another protocol" in text
    assert "‡" not in markdown_report(whole_report())


def test_no_published_rows_without_a_column_in_common():
    content = whole_report() | {"columns": [{**whole_report()["columns"][1]}]}
    assert "As published" not in latex(content) and "The paper's own rows" not in markdown_report(content)


def test_published_rows_stand_beside_the_protocols_that_repeat_them():
    assert published_beside("seppo-t2i-sd15", "pickapic-validation", ["aesthetic"])[0].number == 1
    table, columns = published_beside("hpsv2-benchmark", "hpsv2-benchmark", ["pickscore_cos", "hps_v2.1"])
    assert table.number == 2 and columns == (0, 2, 4, 6)
    assert published_beside("seppo-t2v-512", "chronomagic-150", ["psnr"])[0].number == 3
    assert published_beside("smoke-image", "smoke-image", ["psnr"]) is None
    # judged without reference clips: none of Table 3's columns
    assert published_beside("chronomagic-150", "chronomagic-150", PROTOCOLS["chronomagic-150"].metrics) is None
