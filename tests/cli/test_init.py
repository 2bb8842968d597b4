"""`init`: the list of recipes, a config for one's own data, and what `init toy` would write."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from seppo_core.cli.main import run
from seppo_core.cli.own_config import fitting_size
from seppo_core.cli.recipes import planned, recipes, shipped
from seppo_core.cli.toy import SIZES, _config
from seppo_core.cli.yaml_text import commented, scalar
from seppo_core.config.cpu import is_small, slow_on_cpu
from seppo_core.config.loader import load_config
from seppo_core.toy.captions import held_out
from seppo_image.config import ImageConfig
from seppo_video.config import VideoConfig
from tests.video.clips import encode, moving

SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
SCHEMAS = {"image": ImageConfig, "video": VideoConfig}


def init(*words: str, modality: str = "image") -> int:
    return run(["init", *words], f"seppo-{modality}", SCHEMAS[modality], f"seppo_{modality}.commands")


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A current folder with pictures of three sizes, one file that is none, and one without a caption."""
    monkeypatch.chdir(tmp_path)
    Path("own").mkdir()
    for number, size in enumerate([(640, 480), (800, 600), (1200, 900), (400, 300)]):
        Image.new("RGB", size, (50 * number, 90, 30)).save(f"own/{number}.png")
        Path(f"own/{number}.txt").write_text(f"lighthouse: number {number // 2} #1\n")
    Path("own/4.png").write_bytes(b"no picture")
    Path("own/4.txt").write_text("broken")
    Image.new("RGB", (60, 60)).save("own/5.png")
    return tmp_path


def test_the_list_has_every_recipe_with_the_figures_of_its_header_and_needs_no_torch():
    code = (
        "import sys; from seppo_image.__main__ import main; main(['init', '--list']); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line and not line.startswith(" ")}
    assert len(recipes("image")) > 20
    for name, path in recipes("image").items():
        cost = planned(path)
        assert rows[name].split()[1:] == [
            *cost.hardware.split(), f"{max(cost.prepare, cost.train):g}", "GiB", f"{cost.hours:g}", "h",
        ]  # fmt: skip


def test_captions_with_a_dollar_and_a_brace_become_prompts(here, capsys):
    told = ["a poster that reads ${title}", "it costs ${5", "plain"]
    for number, caption in enumerate(told):
        Path(f"own/{number}.txt").write_text(caption)
    assert init("mine", "--data", "own", "--out", "mine.yaml") == 0, capsys.readouterr().err
    assert load_config("mine.yaml", ImageConfig).preview.prompts[:3] == tuple(told)


def test_a_config_for_own_data_says_what_it_counted_and_loads(here, capsys):
    assert init("mine", "--data", "own") == 0
    told = capsys.readouterr().out
    assert "own: 6 pictures with 3 different captions\n" in told
    assert "300 x 400 to 900 x 1200, the middle one 600 x 800" in told
    assert "not usable: 2 pictures: 1 cannot be read (4.png: cannot identify " in told
    assert "; 1 no caption (5.png: no 5.txt or .caption beside it)\n" in told
    assert "smaller than 448 x 576, so that they are enlarged: 1 of 4" in told
    assert told.endswith("next: seppo-image plan mine.yaml --gpu rtx4090, then prepare and train with the same file\n")
    config = load_config("mine.yaml", ImageConfig)
    assert (config.data.source, config.data.height, config.data.width) == ("own", 448, 576)
    assert (config.model.base, config.tune.mode) == ("stable-diffusion-v1-5/stable-diffusion-v1-5", "lora")
    assert config.preview.prompts == ("lighthouse: number 0 #1", "lighthouse: number 1 #1", "broken")
    assert Path("mine.yaml").read_text().count("# ") > 20

    before = Path("mine.yaml").read_text()
    assert init("mine", "--data", "own") == 2
    assert "mine.yaml exists already and is not overwritten" in capsys.readouterr().err
    assert Path("mine.yaml").read_text() == before


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--base", "stabilityai/stable-diffusion-3.5-medium"], ("sd3", 896, 1152, "seppo", "winners")),
        (["--base", SDXL, "--method", "sft"], ("sdxl", 896, 1152, "sft", "winners")),
        (["--recipe", "sana_1600m_lora_seppo"], ("sana", 896, 1152, "seppo", "winners")),
    ],
)  # fmt: skip
def test_the_family_is_that_of_the_base(here, words, found):
    for number in range(4):
        Image.new("RGB", (2000, 1500)).save(f"own/{number}.png")
    assert init("it", "--data", "own", *words) == 0
    config = load_config("it.yaml", ImageConfig)
    d = config.data
    assert (config.model.family, d.height, d.width, config.method.name, d.supervision) == found


@pytest.mark.parametrize(("size", "halves"), [(10**9, False), (1000, True)])
def test_a_base_small_enough_for_a_cpu_is_trained_in_float32(here, capsys, monkeypatch, size, halves):
    base = str(shipped("benchmarks/experiments/toy/task/bases/image").resolve())
    monkeypatch.setattr("seppo_core.config.cpu.SMALL", size)
    assert init("tiny", "--data", "own", "--base", base) == 0
    config = load_config("tiny.yaml", ImageConfig)
    assert (slow_on_cpu(config) is not None) == halves
    assert (config.loop.iterations * config.loop.updates_per_iteration * config.loop.batch_size > 640) == halves
    told = capsys.readouterr().out
    assert ("small enough for a CPU" in told) != halves and ("--gpu" in told) == halves
    assert ("for a CPU." in Path("tiny.yaml").read_text()) != halves


def test_a_base_of_more_weights_is_none_for_a_cpu(tmp_path):
    folder = tmp_path / "transformer"
    folder.mkdir()
    one = torch.zeros(5000, 5001, dtype=torch.int8)
    for number in (1, 2):
        save_file({f"w{number}": one}, folder / f"diffusion_pytorch_model-0000{number}-of-00002.safetensors")
        assert is_small(str(tmp_path)) == (number == 1)
    assert not is_small("owner/name")


def test_clips_get_the_size_that_their_model_knows_and_short_ones_are_told(here, capsys):
    Path("clips").mkdir()
    for name, frames in (("a", 80), ("b", 80), ("c", 20)):
        encode(Path(f"clips/{name}.mp4"), moving(frames), "libx264", "yuv420p")
        Path(f"clips/{name}.txt").write_text(f"clip {name}")
    assert init("mine", "--data", "clips", modality="video") == 0
    told = capsys.readouterr().out
    assert "clips: 3 clips with 3 different captions\n  height x width: 32 x 48 to 32 x 48" in told
    assert re.search(r"not usable: 1 clip: 1 too short \(c\.mp4: .*\b20\b", told) and "at 480 x 832, 33 frames" in told
    config = load_config("mine.yaml", VideoConfig)
    assert (config.model.family, config.data.frames, config.data.stride) == ("wan", 33, 2)


def test_what_is_unwise_is_said_and_stands_in_the_file(here, capsys):
    for number in range(4):
        Image.new("RGB", (64, 64)).save(f"own/{number}.png")
    assert init("mine", "--data", "own") == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("careful: ")]
    assert [re.search(r"is trained on 3,200 times|64 x 64 is 1.6% of the pixels of 512 x 512", line) for line in told]
    assert len(told) == 2 and all(f"# {line}\n" in Path("mine.yaml").read_text() for line in told)


def test_pictures_without_any_caption_are_told_before_torch_is_imported(here):
    for path in Path("own").glob("*.txt"):
        path.unlink()
    code = (
        "import sys; from seppo_image.__main__ import main; status = main(['init', 'mine', '--data', 'own']); "
        "assert status == 2 and 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "none of its 6 pictures or clips has a text beside it; write a metadata.jsonl" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mine"], "init mine needs --data FOLDER, or --recipe NAME alone for a copy"),
        ([], "init needs a name: seppo-image init toy, or seppo-image init mine --data FOLDER"),
        (["mine", "--data", "nowhere"], "data.source=nowhere is not a folder"),
        (["mine", "--data", "own", "--method", "seppoo"], "--method seppoo is not a method; did you mean seppo?"),
        (["mine", "--data", "own", "--method", "dpo"], "the data hold winners, which cannot be read as pairs"),
        (["mine", "--data", "own", "--base", "some/where"], "--base some/where: its family is not known"),
        (["mine", "--data", "own", "--base", "./where"], "--base ./where: its family is not known"),
        (["mine", "--recipe", "sdxl_lora_sepo"], "did you mean sdxl_lora_seppo?"),
        (["mine", "--date", "own"], "--date is not an option of init; did you mean --data?"),
        (["toy", "--data", "own"], "--data is not for `init toy`"),
        (["--list", "--data", "own"], "init --list stands alone"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(here, capsys, words, message):
    assert init(*words) == 2
    told = capsys.readouterr()
    assert message in told.err and told.err.count("\n") == 1 and told.out == ""
    assert [path.name for path in Path().iterdir()] == ["own"]


def test_a_copy_of_a_recipe_is_that_recipe(here):
    assert init("copy", "--recipe", "sdxl_lora_seppo") == 0
    recipe = shipped("configs/image/sdxl_lora_seppo.yaml")
    assert load_config("copy.yaml", ImageConfig) == load_config(recipe, ImageConfig)
    assert "prepare copy.yaml" in Path("copy.yaml").read_text()


@pytest.mark.parametrize("modality", SIZES)
def test_the_toy_config_names_its_own_folder_alone(modality, tmp_path):
    out = Path("my toys: one/toy")
    text = _config(shipped(f"configs/toy/{modality}_init.yaml"), modality, out)
    path = tmp_path / "toy.yaml"
    path.write_text(text)
    config = load_config(path, SCHEMAS[modality])
    assert [config.run, config.model.base, config.data.source, config.data.cache] == [
        f"{out}/{name}" for name in ("run", "base", "winners", "cache")
    ]
    assert "benchmarks/" not in text and "runs/" not in text and "configs/" not in text
    assert list(config.preview.prompts) == held_out(modality)[:: 3 if modality == "image" else 1]


@pytest.mark.parametrize(
    ("sizes", "native", "wanted"),
    [
        ([(600, 600)], (512, 512), (512, 512)),
        # nearly square
        ([(1000, 900)], (1024, 1024), (896, 896)),
        ([(1080, 1920)], (512, 512), (384, 640)),
        # no panorama is wider than two to one
        ([(500, 5000)], (1024, 1024), (704, 1408)),
        # smaller than the model's own
        ([(300, 300)], (512, 512), (256, 256)),
        ([(32, 32)], (32, 32), (32, 32)),
        ([(20, 20)], (512, 512), (64, 64)),
    ],
)
def test_sizes(sizes, native, wanted):
    assert fitting_size(sizes, native) == wanted


def test_written_values_come_back():
    values = {
        "run": "runs/a b", "data": {"source": "~/x: #1", "flip": True, "lr": 1e-05, "none": None, "word": "off"},
        "preview": {"prompts": ["a: b", "yes", "- c"], "pair": [0.9, 1], "nested": {"a": "b c"}},
    }  # fmt: skip
    assert yaml.safe_load(commented(values, ["header"])) == json.loads(json.dumps(values))
    for text in ("it\x92s a lake", "a\x7f", "one\x85two", "~", ".5", ".nan", "a \u2013 b", "\U0001f300", 'a "b": #c'):
        assert yaml.safe_load(f"key: {scalar(text)}") == {"key": text}
    assert scalar("toy/base") == "toy/base" and scalar("12") == '"12"' and scalar("-x") == '"-x"'
