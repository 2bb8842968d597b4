"""The catalogue, and what `python -m seppo_core.judging doctor` says before anything is generated."""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from benchmarks.evaluation.columns import PUBLISHED_SCALE, columns_of
from seppo_core.judging.__main__ import main
from seppo_core.judging.base import Scorer
from seppo_core.judging.catalogue import SCORERS, Package, load_scorer, parse_locations
from seppo_core.judging.doctor import diagnose, table
from tests.benchmarks.scorers.fixtures import clip_config, clip_tokenizer_folder, pictures
from tests.benchmarks.scorers.layouts_by_hand import TINY, clip_shapes, random_state


@pytest.fixture(autouse=True)
def offered(tmp_path, monkeypatch) -> Path:
    """An empty offer and an empty hub cache."""
    monkeypatch.setenv("SEPPO_WEIGHTS_DIR", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def test_every_entry_has_size_licence_and_a_loader_that_names_what_is_missing():
    for column, entry in SCORERS.items():
        assert entry.what and entry.source
        for source in entry.sources:
            assert source.size > 0 and source.licence and source.published
        with pytest.raises(FileNotFoundError, match="not found"):
            load_scorer(column)


def test_missing_then_found(offered, capsys):
    needs = diagnose(["hps_v2.1"])
    assert [(need.part, need.missing) for need in needs] == [("weights", True), ("tokenizer", True), ("package", False)]
    assert "HPS_v2.1_compressed.pt" in table(needs) and "2 missing, 1.97 GB to fetch" in table(needs)
    assert main(["doctor", "hps_v2.1"]) == 1
    file = offered / "xswu" / "HPSv2" / "HPS_v2.1_compressed.pt"
    file.parent.mkdir(parents=True)
    file.touch()
    clip_tokenizer_folder(offered / "CLIP-ViT-H-14-laion2B-s32B-b79K")
    assert main(["doctor", "hps_v2.1"]) == 0
    assert "Nothing missing." in capsys.readouterr().out


def test_files_that_two_scorers_share_are_fetched_once():
    both = table(diagnose(["pickscore", "pickscore_cos"]))
    assert "2 missing, 3.95 GB to fetch" in both


def test_places_win(offered, capsys):
    file = offered / "mine.safetensors"
    file.touch()
    words = clip_tokenizer_folder(offered / "words")
    asked = [
        "doctor",
        "pickscore",
        "--json",
        f"--place=pickscore.weights={file}",
        f"--place=pickscore.tokenizer={words}",
    ]
    assert main(asked) == 0
    found = {need["part"]: need["found"] for need in json.loads(capsys.readouterr().out)}
    assert found == {"weights": str(file), "tokenizer": str(words / "vocab.json")}


@pytest.mark.parametrize(
    "place", ["weights=x", "pickscore.weights", "pickscore.weights=", "nothing.weights=x", "pickscore.head=x"]
)
def test_places_that_nobody_reads_are_refused(place):
    with pytest.raises(ValueError, match="--place"):
        parse_locations([place], "--place", SCORERS)
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", "--place", place])
    assert stopped.value.code == 2


def test_names_with_dots_are_places_too():
    assert parse_locations(["hps_v2.1.weights=a=b"], "--place", SCORERS) == {"hps_v2.1": {"weights": "a=b"}}


def test_wrong_names():
    with pytest.raises(ValueError, match="no scorer 'pikscore'; there are pickscore_cos"):
        diagnose(["pikscore"])
    with pytest.raises(ValueError, match="aesthetic has no part 'tokenizer'; it reads weights, backbone"):
        load_scorer("aesthetic", {"tokenizer": "x"})


def test_a_file_of_another_size_is_named_when_loaded(offered):
    save_file(random_state(clip_shapes(TINY)), offered / "small.safetensors")
    places = {"weights": str(offered / "small.safetensors"), "tokenizer": str(clip_tokenizer_folder(offered / "words"))}
    with pytest.raises(ValueError, match=r"small\.safetensors does not fit CLIPModel; keys \d+ missing"):
        load_scorer("pickscore", places)


def test_list_names_them_all(capsys):
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    assert all(f"| {column} |" in printed for column in SCORERS)


def test_pictures_are_scored_from_the_command_line(offered, capsys, monkeypatch):
    clip = replace(TINY, vocabulary=514)
    save_file(random_state(clip_shapes(clip)), offered / "small.safetensors")
    words = clip_tokenizer_folder(offered / "words")
    monkeypatch.setattr("seppo_core.judging.pickscore.clip_h_14", lambda: clip_config(clip))
    for index, picture in enumerate(pictures(2)):
        picture.save(offered / f"{index}.png")
    files = [str(offered / "0.png"), str(offered / "1.png")]
    places = [f"--place=pickscore.weights={offered / 'small.safetensors'}", f"--place=pickscore.tokenizer={words}"]
    assert main(["score", "pickscore", *files, "--prompt", "a" * 90, *places]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[:2]] == files
    expected = load_scorer("pickscore", {"weights": str(offered / "small.safetensors"), "tokenizer": str(words)})
    assert [float(line.split()[0]) for line in lines[:2]] == pytest.approx(
        expected.score(pictures(2), ["a" * 90] * 2).tolist(), abs=1e-3
    )
    assert lines[2] == "pickscore reads 77 of the prompt's tokens, not its end"
    for wrong, message in (("none.png", "none.png is not a file"), (files[0], "weights not found")):
        with pytest.raises(SystemExit):
            main(["score", "pickscore", wrong, "--prompt", "a"])
        assert message in capsys.readouterr().err


def test_any_open_clip_model_is_a_column(capsys):
    column = "open_clip_score[ViT-B-32:laion2b_s34b_b79k]"
    assert column in SCORERS and "open_clip_score[ViT-B-32]" in SCORERS and column not in list(SCORERS)
    for wrong in (
        "open_clip_score",
        "open_clip_score[]",
        "open_clip_score[a:b:c]",
        "open_clip_score[../a]",
        "x" + column,
    ):
        assert wrong not in SCORERS
    with pytest.raises(ValueError, match=r"no scorer 'open_clip_score'; there are .*, open_clip_score\[MODEL:TAG\]"):
        load_scorer("open_clip_score")
    assert parse_locations([f"{column}.weights=/x"], "--place", SCORERS) == {column: {"weights": "/x"}}
    (shown,) = columns_of(column, "image")
    assert shown.name == column and shown.digits == 2 and "laion2b_s34b_b79k" in shown.what
    assert main(["list"]) == 0 and "| open_clip_score[MODEL:TAG] |" in capsys.readouterr().out


@pytest.mark.skipif(find_spec("open_clip") is not None, reason="open-clip-torch is installed")
def test_without_the_package_an_open_clip_column_says_so(capsys):
    column = "open_clip_score[ViT-B-32]"
    (weights, package) = diagnose([column])
    assert weights.missing and package.missing and package.part == "package"
    assert package.line.startswith(f"{column}: pip install open-clip-torch")
    assert weights.line.endswith("of weights of open_clip's ViT-B-32 (licence as its page says)")
    assert main(["doctor", column]) == 1
    with pytest.raises(ModuleNotFoundError, match="open-clip-torch"):
        load_scorer(column)


def test_a_package_that_does_not_import_is_missing(monkeypatch, offered):
    """As open_clip is where torchvision is built for another torch."""
    (offered / "broken.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(str(offered))
    monkeypatch.setattr("seppo_core.judging.catalogue.OPEN_CLIP", Package("broken", "broken", "MIT", "for a test"))
    assert diagnose(["open_clip_score[ViT-B-32]"])[1].missing


def test_hps_of_the_papers_time_is_a_column_of_its_own(offered):
    clip = replace(TINY, vocabulary=514)
    save_file(random_state(clip_shapes(clip)), offered / "small.safetensors")
    places = {"weights": str(offered / "small.safetensors"), "tokenizer": str(clip_tokenizer_folder(offered / "words"))}
    for version in ("2.0", "2.1"):
        column = f"hps_v{version}_noantialias"
        entry = SCORERS[column]
        scorer = entry.load(config=clip_config(clip), **places)
        assert scorer.column == column and scorer.options == {"version": version, "antialias": False}
        assert not scorer.framing.antialias and column in PUBLISHED_SCALE
        assert SCORERS[f"hps_v{version}"].load(config=clip_config(clip), **places).framing.antialias


class Brightness(Scorer):
    """Mean level; pictures of one colour, by its level, have no score."""

    name = "brightness"

    def __init__(self, broken=-1):
        super().__init__(nn.Linear(1, 1), (), {}, batch_size=3)
        self.broken, self.batches = broken, []

    def score_batch(self, images, prompts):
        self.batches.append(len(images))
        levels = torch.tensor([np.asarray(image).mean() for image in images])
        return torch.where(levels == self.broken, torch.nan, levels)


def test_a_broken_picture_costs_its_own_score_alone(tmp_path, monkeypatch, capsys):
    """Pictures are opened a batch at a time; there were too many open files, and one broken one took all scores."""
    scorer = Brightness(broken=60)
    monkeypatch.setattr("seppo_core.judging.__main__.load_scorer", lambda *_: scorer)
    files = [tmp_path / f"{number}.png" for number in range(8)]
    for number, file in enumerate(files):
        Image.new("RGB", (4, 4), (10 * number,) * 3).save(file)
    files[1].write_text("no picture")
    files[2].write_bytes(files[2].read_bytes()[:40])
    # what training reads: 16 bits scaled down, hidden colours white
    Image.fromarray(np.full((4, 4), 30 * 257, np.uint16)).save(files[3])
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(files[4])
    files.append(tmp_path / "none.png")
    assert main(["score", "pickscore", *map(str, files), "--prompt", "x"]) == 1
    told = capsys.readouterr()
    scores = {line.split()[1]: float(line.split()[0]) for line in told.out.splitlines()}
    assert scores == {str(files[n]): level for n, level in ((0, 0), (3, 30), (4, 255), (5, 50), (7, 70))}
    *bad, last = told.err.splitlines()
    assert [line.partition(": ")[0] for line in bad] == [str(files[n]) for n in (1, 2, 6, 8)]
    assert "is not finite" in bad[2] and last == "no score: 4 of 9 pictures"
    assert max(scorer.batches) == 3
    with pytest.raises(SystemExit, match="2"):
        main(["score", "pickscore", str(tmp_path / "none.png"), "--prompt", "x"])
