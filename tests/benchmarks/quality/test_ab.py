"""Blind pairs give nothing away, and votes are counted as they should be, whatever the file says."""

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.evaluation.generate import generate
from benchmarks.evaluation.human.main import main, table
from benchmarks.evaluation.human.page import ab_page, script_json
from benchmarks.evaluation.human.pairs import Pair, Study, draw_pairs
from benchmarks.evaluation.human.votes import HEADER, Vote, count_votes, read_votes
from benchmarks.evaluation.results import model_samples
from seppo_core.report.statistics import share_interval, wilson_interval
from tests.benchmarks.quality.fake import FakeSampler, open_plan


def study(pairs=4, models=("base", "tuned")):
    made = [Pair(f"id{n}", f"p{n}", "prompt", 0, *(models if n % 2 else models[::-1])) for n in range(pairs)]
    return Study("s1", "label", tuple(models), tuple(made))


def choosing(made: Study, model: str, judge="ada", pairs=None):
    chosen = made.pairs if pairs is None else [made.pairs[n] for n in pairs]
    return [Vote(judge, pair.id, "left" if pair.left == model else "right") for pair in chosen]


def votes_file(path, rows):
    path.write_text("\r\n".join([",".join(HEADER), *rows]) + "\r\n", encoding="utf-8")
    return path


def test_one_vote_a_pair_gives_wilsons_interval():
    made = study(10)
    votes = (
        choosing(made, "tuned", pairs=range(7)) + choosing(made, "base", pairs=[7, 8]) + [Vote("ada", "id9", "same")]
    )
    (found,) = count_votes(made, votes).comparisons
    assert (found.first, found.second) == ("tuned", "base")
    assert (found.wins, found.ties, found.losses, found.pairs, found.judges) == (7, 1, 2, 10, 1)
    assert found.win_rate == wilson_interval(7.5, 10) and found.agreement is None
    assert found.p == pytest.approx(0.1797, abs=1e-3)  # sign test: 9 votes for a side, at most 2 against


def test_several_judges_of_a_pair_are_one_unit():
    made = study(4)
    votes = choosing(made, "tuned") + choosing(made, "tuned", "grace", [0, 1, 2]) + choosing(made, "base", "grace", [3])
    (found,) = count_votes(made, votes).comparisons
    assert found.votes == 8 and found.pairs == 4 and found.judges == 2
    assert found.win_rate == share_interval([1, 1, 1, 0.5], np.ones(4), trials=8)
    assert found.agreement == 0.75


def test_sides_do_not_matter_to_the_count_and_are_looked_at():
    made = study(6)
    always_left = [Vote("ada", pair.id, "left") for pair in made.pairs]
    count = count_votes(made, always_left)
    assert count.comparisons[0].win_rate.value == 0.5 and count.left.value == 1
    assert "The left side was chosen in 100 %" in table(count)


def test_files_of_judges_are_read_with_care(tmp_path):
    made = study(3)
    good = votes_file(
        tmp_path / "a.csv",
        ["s1,ada,id0,left,1.5,now", 's1,"ada",id1,same,2,now', "s1,ada,id0,right,3,later", "other,ada,id2,left,1,now",
         "s1,ada,id9,left,1,now", "s1,ada,id2,<b>,1,now", "s1,ada,id2", "s1, ,id2,left,1,now"],
    )  # fmt: skip
    votes, rejected = read_votes([good], made)
    assert votes == [Vote("ada", "id0", "right"), Vote("ada", "id1", "same")]
    assert [line.split(": ", 1)[1][:20] for line in rejected] == [
        "'ada' voted on id0 t",
        "of another study, 'o",
        "no pair 'id9' in thi",
        "choice '<b>' is not ",
        "3 columns, 6 expecte",
        "no judge",
    ]
    with pytest.raises(ValueError, match="first line should be study,judge"):
        read_votes(
            [votes_file(tmp_path / "b.csv", []).rename(tmp_path / "c.csv"), _write(tmp_path / "d.csv", "x,y\n")], made
        )


def test_the_later_vote_counts_whatever_the_browser_called_its_file(tmp_path):
    made = study(3)
    newer = votes_file(
        tmp_path / "votes-ann (1).csv", [f"s1,ann,id{n},right,1,2026-01-02T10:00:00.000Z" for n in (0, 1)]
    )
    rows = ["id0,left,1,2026-01-02T11:59:00+02:00", "id1,left,1,somewhen", "id2,left,1,2026-01-01"]
    older = votes_file(tmp_path / "votes-ann.csv", [f"s1,ann,{row}" for row in rows])
    for files in ([newer, older], [older, newer]):
        votes, told = read_votes(files, made)
        assert sorted((vote.pair, vote.choice) for vote in votes) == [
            ("id0", "right"),
            ("id1", "right"),
            ("id2", "left"),
        ]
        assert len(told) == 2 and all("twice; " in line and "later" in line for line in told)


def test_unanimous_votes_have_an_interval_with_a_width():
    made = study(6)
    (found,) = count_votes(made, choosing(made, "tuned") + choosing(made, "tuned", "grace")).comparisons
    assert found.win_rate == wilson_interval(6, 6) and found.win_rate.low < 0.65


def test_the_key_of_votes_that_may_have_been_cast_is_not_overwritten(drawn, capsys):
    folder, key = str(drawn[0].folder), drawn[0].folder / "ab" / "ab-key.json"
    assert main(["make", folder, "--pairs", "2", "--secret", "7"]) == 0
    held = key.read_bytes()
    for more in (["--secret", "8"], []):
        assert main(["make", folder, "--pairs", "2", *more]) == 1
        assert "the key of an earlier page" in capsys.readouterr().err
    # the very same page may be written again
    assert main(["make", folder, "--pairs", "2", "--secret", "7"]) == 0
    assert key.read_bytes() == held


def _write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def drawn(tmp_path):
    folder, plan = open_plan(tmp_path, ["base", "tuned", "twin"], 6)
    for model in plan.models:
        sampler = FakeSampler()
        if model.name == "base":
            draw = sampler._frames
            sampler._frames = lambda job, draw=draw: draw(job) // 2
        generate(folder.samples(model), plan.prompts.prompts, plan.protocol, lambda s=sampler: s, {})
    return folder, plan


def test_pairs_are_shuffled_secret_and_leave_out_equals(drawn):
    folder, plan = drawn
    models = [model_samples(folder, plan, entry) for entry in plan.models]
    made = [draw_pairs(models, plan.prompts.prompts, (0, 1), "label", 4, secret) for secret in range(30)]
    # twin drew what tuned drew
    assert all(len(one.pairs) == 8 and one.identical == 6 for one in made)
    assert draw_pairs(models, plan.prompts.prompts, (0, 1), "label", 4, 7) == made[7]
    left = [pair.left == "base" for one in made for pair in one.pairs]
    assert 0.4 < sum(left) / len(left) < 0.6
    assert len({pair.id for pair in made[0].pairs}) == 8 and made[0].id != made[1].id
    assert {pair.seed for one in made for pair in one.pairs} == {0, 1}
    with pytest.raises(ValueError, match="no two models"):
        draw_pairs(models[1:], plan.prompts.prompts, (0, 1), "label", 4, 0)


def test_the_page_does_not_say_which_model_is_which(drawn, tmp_path, capsys):
    folder, _ = drawn
    assert main(["make", str(folder.folder), "--pairs", "3", "--models", "base", "tuned"]) == 0
    document = (folder.folder / "ab" / "ab.html").read_text(encoding="utf-8")
    body = document[document.index("<body") :]
    assert "base" not in body.replace("base64", "") and "tuned" not in body
    made = Study.load(folder.folder / "ab" / "ab-key.json")
    rows = [f"{made.id},ada,{pair.id},{'left' if pair.left == 'tuned' else 'right'},1,now" for pair in made.pairs]
    file = votes_file(tmp_path / "votes.csv", rows)
    capsys.readouterr()
    assert main(["count", str(folder.folder / "ab" / "ab-key.json"), str(file)]) == 0
    told = capsys.readouterr().out
    row = next(line for line in told.splitlines() if line.startswith("| tuned over base |"))
    assert "3 votes of 1 judge on " in told
    assert "100" in row and "| 3 / 0 / 0 | 3 | 1 |" in row
    assert main(["count", str(folder.folder / "ab" / "ab-key.json"), str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["comparisons"][0]["wins"] == 3
    assert main(["count", str(file), str(file)]) == 1
    assert main(["make", str(folder.folder), "--models", "nobody"]) == 1


def test_json_in_the_page_cannot_end_its_element():
    content = {"prompt": "</script><!-- & \u2028"}
    text = script_json(content)
    assert "<" not in text and "&" not in text and "\u2028" not in text
    assert json.loads(text) == content


def test_a_clip_too_long_for_one_strip_is_a_sheet_of_rows():
    """129 frames of 512 pixels are 66048 in a row, more than a JPEG holds."""
    shades = torch.arange(129, dtype=torch.uint8)[:, None, None, None]
    document = ab_page(study(1), lambda model, pair: shades.expand(129, 3, 96, 512), "Clips")
    content = re.search(r'id="study">(.*?)</script>', document).group(1)
    media = json.loads(content)["pairs"][0]["left"]
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(media["uri"].partition(",")[2]))))
    columns, (high, wide) = media["columns"], sheet.shape[:2]
    assert (media["frames"], media["width"], media["height"]) == (129, 512, 96)
    assert wide == 512 * columns and high == 96 * -(-129 // columns) and max(high, wide) < 8192
    for frame in range(129):
        row, column = divmod(frame, columns)
        assert abs(int(sheet[96 * row + 48, 512 * column + 256, 0]) - frame) <= 1


def test_a_page_that_browsers_may_refuse_is_warned_of(drawn, monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.evaluation.human.main.LARGE", 1000)
    assert main(["make", str(drawn[0].folder), "--pairs", "1"]) == 0
    assert "which browsers may refuse; a smaller --largest" in capsys.readouterr().err
