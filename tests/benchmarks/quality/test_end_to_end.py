"""The whole command on tiny models made in place: pictures and clips, stopped and gone on with, offline."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import chain, repeat
from pathlib import Path

import pytest
import torch

from benchmarks.evaluation import run as runner
from benchmarks.evaluation import smoke as smoke_parts
from benchmarks.evaluation.cli import main


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """A first run of pictures with one metric."""
    root = tmp_path_factory.mktemp("smoke")
    run_smoke(root, "image")
    return root


def run_smoke(root: Path, kind: str) -> None:
    out = ["--out", str(root / kind), "--cache", str(root / "cache"), "--metrics", "psnr"]
    assert main(["run", f"smoke-{kind}", *out]) == 0


@pytest.mark.slow
def test_adding_metrics_draws_nothing_again(smoke, monkeypatch, capsys):
    def never(*_):
        raise AssertionError("no model is to be loaded")

    run_smoke(smoke, "video")
    monkeypatch.setattr(runner, "load_sampler", never)
    capsys.readouterr()
    assert main(["--protocol", "smoke", "--out", str(smoke)]) == 0
    told = capsys.readouterr().out
    assert told.count("0 samples drawn") == 6 and "psnr: 0 samples judged" in told
    for kind, columns in (
        ("image", ["clip_score_x1_signed", "psnr", "ssim"]),
        (
            "video",
            [
                "temporal_flickering",
                "psnr",
                "ssim",
                *(f"clip_score_x1_signed_frame_{p}" for p in ("mean", "min", "sd")),
            ],
        ),
    ):
        report = json.loads((smoke / kind / "report.json").read_text(encoding="utf-8"))
        assert [column["name"] for column in report["columns"]] == columns
        assert [model["name"] for model in report["models"]] == ["base", "moved", "lora"]
        assert all(model["samples"] == model["wanted"] and not model["failed"] for model in report["models"])
        assert all(row["prompts"] == 16 and row["low"] <= row["mean"] <= row["high"] for row in report["scores"])
        # three models, three sets of samples: noise is shared, weights are not
        assert len({model["fingerprint"] for model in report["models"]}) == 3
        assert len({row["mean"] for row in report["scores"] if row["column"] == "psnr"}) == 3
        assert report["prompts"]["as_published"] is True and not report["protocol"]["changed"]
        assert all((smoke / kind / name).is_file() for name in ("index.html", "table.md", "table.tex", "scores.csv"))


def test_what_was_learnt_of_a_model_stays_beside_its_samples(smoke, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runner, "load_sampler", lambda *_: pytest.fail("no model is to be loaded"))
    out = ["--out", str(tmp_path / "other"), "--cache", str(smoke / "cache"), "--metrics", "psnr"]
    assert main(["run", "smoke-image", *out]) == 0
    told = capsys.readouterr().out
    assert told.count("0 samples drawn, 32 there before") == 3 and "lora: the text encoder cuts 11 of 16" in told
    places = (smoke / "image", tmp_path / "other")
    first, other = (json.loads((place / "report.json").read_text(encoding="utf-8")) for place in places)
    for mine, theirs in zip(other["models"], first["models"], strict=True):
        assert mine["truncated"] == theirs["truncated"] == 11
        assert mine["sampler"] == theirs["sampler"] and mine["sampler"]["dtype"] == "float32"
    table = (tmp_path / "other" / "table.md").read_text(encoding="utf-8")
    assert (
        "base, moved, lora: the text encoder cuts 11 of 16 prompts." in table
        and "Models ran in float32 on cpu" in table
    )


def test_the_report_alone_needs_no_models(smoke, monkeypatch, capsys):
    monkeypatch.setattr(runner, "run", lambda *_: pytest.fail("nothing is to be run"))
    before = json.loads((smoke / "image" / "report.json").read_text(encoding="utf-8"))
    out = ["--out", str(smoke / "image"), "--cache", str(smoke / "cache")]
    assert main(["report", "smoke-image", *out, "--baseline", "moved"]) == 0
    after = json.loads((smoke / "image" / "report.json").read_text(encoding="utf-8"))
    assert after["scores"] == before["scores"] and after["baseline"] == "moved"
    assert "Differences to moved" in capsys.readouterr().out


def test_doctor_says_what_is_missing_before_anything_is_drawn(tmp_path, capsys):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red circle\n", encoding="utf-8")
    assert main(["doctor", "partiprompts", "--prompts", str(prompts), "--models", "a=/nowhere"]) == 1
    told = capsys.readouterr().out
    for expected in ("pickscore_cos", "xswu/HPSv2", "Missing:", "model a:", "1 for partiprompts from prompts.txt"):
        assert expected in told
    clip = tmp_path / "clips.txt"
    clip.write_text("a red circle moving\n", encoding="utf-8")
    on_hub = ["doctor", "chronomagic-150", "--prompts", str(clip), "--metrics", "pickscore_cos", "subject_consistency"]
    assert main(on_hub) == 1
    assert main([*on_hub, "--download"]) == 0
    assert "Nothing is missing." in capsys.readouterr().out
    assert main(["doctor", "seppo-t2v", "--prompts", str(clip), "--skip-missing"]) == 0
    assert "need no weights" in capsys.readouterr().out
    assert main(["doctor", "partiprompts", "--prompts", str(prompts), "--skip-missing"]) == 2
    assert "leaves no metric" in capsys.readouterr().err
    made = ["--out", str(tmp_path / "smoke"), "--models", "a=/nowhere"]
    assert main(["run", "smoke-image", *made]) == 1
    error = capsys.readouterr().err
    assert "missing before anything is drawn" in error and "/nowhere" in error
    assert not (tmp_path / "smoke" / "cache" / "samples").exists()


def test_doctor_misses_parts_checkpoints_and_models_of_the_other_kind(smoke, tmp_path, capsys):
    image, video = (smoke / "cache" / "smoke" / kind / "base" for kind in ("image", "video"))
    smoke_parts.make_models(smoke / "cache" / "smoke", "video")
    for name, base, checkpoint in (("empty", image, None), ("homeless", "/nowhere", 10), ("whole", image, 10)):
        run = tmp_path / name
        run.mkdir()
        config = {"run": str(run), "model": {"base": str(base)}, "data": {"source": "x", "cache": "y"}}
        (run / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
        if checkpoint:
            (run / "checkpoints" / f"update-{checkpoint:06d}").mkdir(parents=True)
            (run / "checkpoints" / f"update-{checkpoint:06d}" / "policy.safetensors").write_bytes(b"")
    (tmp_path / "hollow").mkdir()
    models = [
        f"a={image}+lora=/nowhere", f"b={tmp_path / 'empty'}", f"c={tmp_path / 'homeless'}",
        f"d={tmp_path / 'whole'}@20", f"e={image}+lora={tmp_path / 'hollow'}", f"f={video}", f"g={tmp_path / 'whole'}",
    ]  # fmt: skip
    out = ["smoke-image", "--out", str(tmp_path / "out"), "--metrics", "psnr", "--models", *models]
    assert main(["doctor", *out]) == 1
    told = capsys.readouterr().out
    found, missing = told.split("Missing:")
    for expected in (
        "model a: lora: /nowhere is neither a file or folder here",
        "holds no checkpoint yet; run train first",
        "model c: base: /nowhere is neither a file or folder here",
        "holds no checkpoint '20'; it holds update-000010",
        "hollow holds no weights",
        "is a video model (AnimateDiffPipeline), smoke-image measures pictures",
    ):
        assert expected in missing, expected
    assert missing.count("\n  model ") == 6 and found.count(" is there.") == 1 and "Model g" in found
    assert not (tmp_path / "out" / "cache" / "samples").exists()
    # nothing is drawn from the first models either
    assert main(["run", *out]) == 1 and "missing before anything is drawn" in capsys.readouterr().err
    assert not (tmp_path / "out" / "cache" / "samples").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "no-such"], "no protocol 'no-such'; there are smoke, seppo-t2i-sd15"),
        (["run", "partiprompts"], "--models is missing"),
        (["run", "partiprompts", "--models", "a=b/c"], "--prompts is missing: give the file of partiprompts (1632"),
        (["run", "partiprompts", "--set", "x"], "--set 'x' is not for partiprompts"),
        (["run", "smoke-image", "--metrics", "fvd"], "no metric 'fvd'"),
        (["run", "smoke-image", "--metrics", "temporal_flickering"], "pictures have none"),
        (["run", "smoke-image", "--weights", "psnr.weights=x"], "psnr reads no files"),
        (["run", "smoke-image", "--seed-mode", "sequential"], "one process and one sample per prompt"),
        (["run", "smoke-image", "--set-resamples", "1"], "--set-resamples 1 makes no interval"),
        (["run", "smoke-image", "--shard", "3/2"], "--shard 3/2"),
        (["report", "partiprompts"], "holds no plan.json"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments, message, tmp_path, capsys):
    # a folder without a plan is no mistake of the call
    assert main([*arguments, "--out", str(tmp_path)]) == (1 if arguments[0] == "report" else 2)
    error = capsys.readouterr().err
    assert message in error and error.splitlines()[-1].startswith("quality: ")


def test_values_are_checked_before_torch_is_loaded(tmp_path):
    (tmp_path / "p.txt").write_text("one prompt\n", encoding="utf-8")
    code = (
        "import sys; from benchmarks.evaluation.cli import main\n"
        "assert main(['run', 'smoke-image', '--seeds', '1', '1']) == 2\n"
        "assert main(['run', 'smoke-image', '--prompts', 'p.txt']) == 2\n"
        "assert 'torch' not in sys.modules and 'diffusers' not in sys.modules"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment, timeout=120)
    assert [path.name for path in tmp_path.iterdir()] == ["p.txt"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told_before_anything_is_made(tmp_path, capsys):
    assert main(["run", "smoke-image", "--device", "cuda", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        "quality: --device cuda: torch sees no CUDA here; leave it out, or use --device cpu\n"
    )
    assert not any(tmp_path.iterdir())


JUDGE = Path(__file__).with_name("judge_script.py")


@pytest.mark.slow
def test_a_process_judges_beside_the_metrics_and_rewards_are_marked(smoke, capsys):
    out = ["--out", str(smoke / "image"), "--cache", str(smoke / "cache"), "--metrics", "psnr"]
    plugin = ["--plugin", f"light={sys.executable} {JUDGE}", "--rewards", "moved=light,pickapic", "lora=psnr"]
    assert main(["run", "smoke-image", *out, *plugin]) == 0
    told = capsys.readouterr().out
    assert "light: 96 samples judged" in told
    report = json.loads((smoke / "image" / "report.json").read_text(encoding="utf-8"))
    rows = {(row["model"], row["column"]): row for row in report["scores"]}
    assert rows["base", "light_light"]["prompts"] == 16 and "seed_sd" in rows["base", "light_light"]
    assert report["fitted"] == {"moved": {"light": "light"}, "lora": {"psnr": "psnr"}}
    table = (smoke / "image" / "table.md").read_text(encoding="utf-8")
    marked = {line.split("|")[1].strip(): line.count("§") for line in table.splitlines() if "/32 |" in line}
    assert marked == {"base": 0, "moved": 2, "lora": 1} and "deviation over seeds" in table
    assert any("moved was trained or selected by it: its light (§)" in line for line in report["warnings"])
    page = (smoke / "image" / "index.html").read_text(encoding="utf-8")
    assert "§" in page and "Over seeds" in page
    # a later run without the options keeps what is known
    assert main(["run", "smoke-image", *out]) == 0
    again = json.loads((smoke / "image" / "report.json").read_text(encoding="utf-8"))
    assert again["fitted"] == report["fitted"] and again["scores"] == report["scores"]
    assert main(["run", "smoke-image", *out, "--rewards", "nobody=psnr"]) == 2
    assert main(["run", "smoke-image", *out, "--rewards", "base=nothing"]) == 2
    assert "base=nothing" in capsys.readouterr().err


def test_doctor_asks_the_processes_and_says_which_prompts_to_get(tmp_path, capsys):
    fine, missing = f"light={sys.executable} {JUDGE}", f"gone={sys.executable} {JUDGE} --missing"
    out = ["--out", str(tmp_path), "--metrics", "psnr", "lpips_alex", "pickscore_cos", "fvd[videomae,16f]"]
    assert main(["doctor", "seppo-t2v", *out, "--plugin", fine, "--plugin", missing]) == 1
    told = capsys.readouterr().out
    for expected in (
        "Plug-in light: Light answers, columns light, length",
        "plug-in gone cannot run: weights are not there",
        "--prompts is missing: give the file of chronomagic-150 (150 prompts",
        "lpips_alex.backbone",
        "pickscore_cos.weights",
        "vit_g_hybrid_pt_1200e_ssv2_ft",
        "real samples",
    ):
        assert expected in told, expected
    assert not any(tmp_path.iterdir())
    # a run is refused before anything is drawn
    assert main(["run", "smoke-image", "--out", str(tmp_path / "out"), "--metrics", "psnr", "--plugin", missing]) == 1
    assert "weights are not there" in capsys.readouterr().err
    assert not (tmp_path / "out" / "cache" / "samples").exists()


def test_help_says_what_another_batch_size_does(capsys):
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    assert "another number rounds otherwise" in " ".join(capsys.readouterr().out.split())


def test_what_another_process_made_meanwhile_is_taken(tmp_path):
    def slower(folder):
        smoke_parts._make(tmp_path / "part", lambda other: (other / "first").write_text("x", encoding="utf-8"))
        (folder / "second").write_text("y", encoding="utf-8")

    # the inner call stands for a process that is done sooner; its temporary folder has the same name here
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seppo_core.io.atomic.os.getpid", chain([1], repeat(2)).__next__)
        smoke_parts._make(tmp_path / "part", slower)
    assert [file.name for file in (tmp_path / "part").iterdir()] == ["first"]
    assert [file.name for file in tmp_path.iterdir()] == ["part"]
    with pytest.raises(OSError, match="on purpose"):
        smoke_parts._make(tmp_path / "other", fail)


def fail(_):
    raise OSError("on purpose")


@pytest.mark.slow
def test_shards_that_start_together_give_the_whole(smoke, tmp_path):
    shards = [start(tmp_path, "--shard", f"{number}/2") for number in (1, 2)]
    assert [process.wait(timeout=600) for process in shards] == [0, 0]
    assert main(["report", "smoke-image", "--out", str(tmp_path)]) == 0
    whole, found = (
        json.loads((place / "report.json").read_text(encoding="utf-8")) for place in (smoke / "image", tmp_path)
    )
    assert all(model["samples"] == 32 and model["truncated"] == 11 for model in found["models"])
    expected, means = (
        {row["model"]: row["mean"] for row in one["scores"] if row["column"] == "psnr"} for one in (whole, found)
    )
    # batches are cut otherwise, which moves a few pixels by one level of 255
    assert means == pytest.approx(expected, abs=1e-3)


def start(out: Path, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "benchmarks", "quality", "run", "smoke-image", "--out", str(out), "--metrics",
               "psnr", "ssim", *options]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def lines(out: Path, pattern: str) -> int:
    return sum(len(file.read_bytes().splitlines()) for file in out.glob(pattern))


@pytest.mark.slow
def test_killed_anywhere_it_goes_on_to_the_same_report(smoke, tmp_path):
    for pattern, count in (
        ("cache/smoke/*", 1),
        ("cache/samples/*/manifest.jsonl", 9),
        ("cache/samples/*/manifest.jsonl", 70),
        ("cache/scores/*/scores.jsonl", 20),
    ):
        process = start(tmp_path)
        while process.poll() is None:
            there = len(list(tmp_path.glob(pattern))) if pattern.endswith("*") else lines(tmp_path, pattern)
            if there >= count:
                break
            time.sleep(0.02)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert start(tmp_path).wait(timeout=600) == 0
    found = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert all(model["samples"] == model["wanted"] == 32 and not model["failed"] for model in found["models"])
    whole = json.loads((smoke / "image" / "report.json").read_text(encoding="utf-8"))
    expected = {row["model"]: row["mean"] for row in whole["scores"] if row["column"] == "psnr"}
    means = {row["model"]: row["mean"] for row in found["scores"] if row["column"] == "psnr"}
    # after a stop batches are cut otherwise, which moves a few pixels by one level of 255
    assert means == pytest.approx(expected, abs=1e-3) and len(set(means.values())) == 3
    assert {model["fingerprint"] for model in found["models"]} == {model["fingerprint"] for model in whole["models"]}
