"""Any prompts, any models: what a folder holds is told by its content, and pictures of others are measured too."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmarks.evaluation.cli import main
from benchmarks.evaluation.made_elsewhere import MadeElsewhere
from benchmarks.evaluation.models import ModelSpec, folder_kind, parse_model
from benchmarks.evaluation.native import native_side
from benchmarks.evaluation.prompts import Prompt
from benchmarks.evaluation.samplers import check_fits
from tests.benchmarks.quality.fake import protocol

JUDGE = Path(__file__).with_name("judge_script.py")


def fill(folder: Path, *names: str, config: dict | None = None) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    if config is not None:
        (folder / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_exports_and_runs_are_told_apart_by_what_they_hold(tmp_path):
    """An export keeps the config of its run, and was once taken for a run without checkpoints."""
    config = {
        "run": "runs/x",
        "model": {"base": "owner/base", "vae": "owner/vae"},
        "data": {"source": "x", "cache": "y"},
    }
    run = fill(tmp_path / "run", "winners.json", "checkpoints/update-000010/policy.safetensors", config=config)
    full = fill(tmp_path / "full", "model_index.json", "unet/x.safetensors", "README.md", config=config)
    lora = fill(tmp_path / "lora", "pytorch_lora_weights.safetensors", "README.md", config=config)
    base = fill(tmp_path / "base", "model_index.json", "assets/sample.png")
    pictures = fill(tmp_path / "pictures", "a/0.png")
    folders = (run, full, lora, base, pictures, tmp_path / "nothing")
    assert [folder_kind(folder) for folder in folders] == ["run", "pipeline", "part", "pipeline", "pictures", None]
    assert [parse_model(f"m={folder}").is_run for folder in folders] == [True, False, False, False, False, False]
    # an exported part knows the base that it belongs on
    assert parse_model(f"m={lora}") == ModelSpec("m", "owner/base", None, (("vae", "owner/vae"), ("lora", str(lora))))


def test_a_lora_alone_is_told_what_it_lacks(tmp_path):
    save_file(
        {"unet.to_q.lora_A.weight": torch.zeros(1), "unet.to_q.alpha": torch.zeros(1)}, tmp_path / "a.safetensors"
    )
    save_file({"weight": torch.zeros(1)}, tmp_path / "base.safetensors")
    with pytest.raises(ValueError, match=r"is a LoRA without its base; write m=BASE\+lora="):
        parse_model(f"m={tmp_path / 'a.safetensors'}")
    assert parse_model(f"m={tmp_path / 'base.safetensors'}").base == str(tmp_path / "base.safetensors")
    with pytest.raises(ValueError, match="without its base"):
        parse_model(f"m={fill(tmp_path / 'folder', 'pytorch_lora_weights.safetensors')}")


def test_sizes_are_told_before_weights_are_loaded(tmp_path):
    for part, config in (("vae", {"block_out_channels": [128, 256, 512, 512]}), ("unet", {"sample_size": 96})):
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text(json.dumps(config), encoding="utf-8")
    # as of Stable Diffusion 2.1
    assert native_side(str(tmp_path)) == 768
    with pytest.raises(ValueError, match=r"--height 60, --width 64: .* needs multiples of 8"):
        check_fits(ModelSpec("m", str(tmp_path)), protocol(height=60, width=64))


def test_a_base_in_one_file_is_told_what_it_lacks(tmp_path):
    names = ("cond_stage_model.transformer.text_model.final_layer_norm.weight", "model.diffusion_model.out.2.bias")
    save_file({name: torch.zeros(1) for name in names}, tmp_path / "one.safetensors")
    with pytest.raises(ValueError, match=r"it is a single file, which has no vocabularies; .* as \+config"):
        check_fits(parse_model(f"m={tmp_path / 'one.safetensors'}"), protocol())


def pictures_of(folder: Path, rows: dict[str, int]) -> Path:
    for name, level in rows.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 8), (level, level, level)).save(folder / name)
    return folder


@pytest.mark.parametrize(
    "names",
    [
        ["a-seed0.png", "a-seed3.png", "b-seed0.png"],
        ["a/s0.png", "a/3.png", "b/seed0.jpg"],
        ["anime/a_0.webp", "anime/a_3.png", "anime/b-0.png"],
    ],
)
def test_pictures_made_elsewhere_are_found_by_id_and_seed(tmp_path, names):
    folder = pictures_of(tmp_path / "made", {name: 10 + number for number, name in enumerate(names)} | {"x.png": 0})
    prompts = [Prompt("a", "first", (("style", "anime"),)), Prompt("b", "second", (("style", "anime"),))]
    made = MadeElsewhere(folder, protocol(seeds=(0, 3)), prompts)
    levels = {(key.partition(".")[0], seed): made.read(p, seed).float().mean().item()
              for p in prompts for seed in (0, 3) if (key := p.key, seed) in made.found}  # fmt: skip
    assert levels == pytest.approx({("a", 0): 10, ("a", 3): 11, ("b", 0): 12}, abs=1)
    assert made.remark() == f"3 of 4 samples in {folder}; 1 file of no prompt and seed: x.png"
    with pytest.raises(FileNotFoundError):
        made.read(prompts[1], 3)


def test_pictures_alone_make_a_page_without_any_weights(tmp_path, capsys):
    (tmp_path / "p.txt").write_text("red cat\nblue dog\n", encoding="utf-8")
    rows = [("0.png", "red cat", 90), ("1.png", "blue dog", 200)]
    ours = pictures_of(tmp_path / "ours", {name: level for name, _, level in rows})
    lines = [json.dumps({"file_name": name, "prompt": text}) for name, text, _ in rows]
    (ours / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    # as the command `sample` leaves them
    theirs = pictures_of(tmp_path / "theirs", {"00000-seed0.png": 30})
    line = {"file": "00000-seed0.png", "prompt": "red cat", "seed": 0}
    (theirs / "samples.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    command = ["own", "--prompts", str(tmp_path / "p.txt"), "--out", str(tmp_path / "out")]
    assert main([*command, "--models", f"ours={ours}", f"theirs={theirs}"]) == 0
    told = capsys.readouterr().out
    assert (
        "no metric is left: pictures alone" in told and "ours: 2 samples taken" in told and "| theirs | 1/2 |" in told
    )
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["label"] == "own (p.txt)" and report["scores"] == [] and not report["protocol"]["changed"]
    assert report["warnings"] == ["theirs: 1 of 2 samples failed: no file of this prompt and seed."]
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/png") == 3 and "no sample" in page and "the paper" not in page
    # another picture under the same name is another sample
    Image.new("RGB", (12, 8), "red").save(ours / "0.png")
    assert main([*command, "--models", f"ours={ours}"]) == 0
    assert "ours: 2 samples taken" in capsys.readouterr().out
    # and so is the same picture for another prompt
    (ours / "metadata.jsonl").write_text("\n".join(lines).replace("0.png", "2.png").replace("1.png", "0.png"))
    assert main([*command, "--models", f"ours={ours}"]) == 0
    assert "ours: 1 sample taken, 0 there before, 1 failed" in capsys.readouterr().out
    # nothing that fits is told of both sides
    assert main([*command, "--models", f"x={pictures_of(tmp_path / 'other', {'q.png': 1})}"]) == 1
    error = capsys.readouterr().err
    (tmp_path / "q.txt").write_text("green tree\nbrown bear\n", encoding="utf-8")
    assert main(["doctor", "own", "--prompts", str(tmp_path / "q.txt"), "--models", f"ours={ours}"]) == 1
    assert "lists “blue dog”, and none of the prompts (“green tree”, “brown bear”)" in capsys.readouterr().out
    assert "holds q.png, and no file of any prompt (ids " in error and "metadata.jsonl with file_name, prompt" in error


@pytest.mark.slow
def test_a_judge_that_fails_is_told_by_the_exit_status_and_leaves_the_report(tmp_path, capsys):
    """One judge dies at two of the samples, another at every one, and the third is well."""
    prompts = [f"red cat {number}" for number in range(10)] + ["blue dog", "brown dog"]
    (tmp_path / "p.txt").write_text("\n".join(prompts), encoding="utf-8")
    made = pictures_of(tmp_path / "a", {f"{number}.png": 20 * number for number in range(12)})
    lines = [json.dumps({"file_name": f"{number}.png", "prompt": one}) for number, one in enumerate(prompts)]
    (made / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    command = ["own", "--prompts", str(tmp_path / "p.txt"), "--models", f"a={made}", "--out", str(tmp_path / "out")]
    judges = {"some": "--die-at dog", "none": "--die-at d", "well": ""}
    for name, how in judges.items():
        command += ["--plugin", f"{name}={sys.executable} {JUDGE} {how}"]
    assert main(command) == 1
    assert "warning: plug-in none answers nothing: the judge ended with status 3" in capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    scored = {row["column"]: row["prompts"] for row in report["scores"]}
    assert scored["well_light"] == 12 and scored["some_light"] == 10 and scored["none_light"] == 0
    assert (tmp_path / "out" / "index.html").is_file()


def test_metrics_judge_pictures_made_elsewhere_too(tmp_path):
    (tmp_path / "p.txt").write_text("red cat\nblue dog\n", encoding="utf-8")
    names = {"red cat": "0.png", "blue dog": "1.png"}
    table = "".join(json.dumps({"file": name, "caption": text}) + "\n" for text, name in names.items())
    for folder, levels in (("a", (10, 20)), ("b", (30, 40))):
        made = pictures_of(tmp_path / folder, dict(zip(names.values(), levels, strict=True)))
        (made / "metadata.jsonl").write_text(table, encoding="utf-8")
    real = tmp_path / "real"
    real.mkdir()
    rows = "".join(f'{{"id": "{n}", "prompt": "{text}"}}\n' for n, text in enumerate(names))
    (tmp_path / "p.jsonl").write_text(rows, encoding="utf-8")
    pictures_of(real, {"0.png": 10, "1.png": 40})
    models = ["--models", f"a={tmp_path / 'a'}", f"b={tmp_path / 'b'}", "--metrics", "psnr", "--references", str(real)]
    size = ["--height", "8", "--width", "12", "--out", str(tmp_path / "out")]
    assert main(["own", "--prompts", str(tmp_path / "p.jsonl"), *models, *size]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    off_by_20 = -10 * np.log10((20 / 255) ** 2)
    assert [row["mean"] for row in report["scores"]] == pytest.approx([(100 + off_by_20) / 2] * 2)
