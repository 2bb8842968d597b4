"""What is right in samples, each thing by itself, of drawings whose faults are known; the command's grid and table."""

import json

import pytest
import torch
from PIL import Image

from benchmarks.experiments.toy import show_bases
from benchmarks.experiments.toy.task.right import middle, shares
from seppo_core.io.atomic import save_tensors
from seppo_core.toy import render
from seppo_core.toy.captions import ATTRIBUTES, held_out


def drawn(prompt: str, centre: tuple[float, float] = (16, 16)) -> torch.Tensor:
    colour, shape, background, size = render.caption_indices("image", [prompt]).unbind(1)
    grounds = ATTRIBUTES["image"]["background"]
    return render.draw(colour, shape, background, torch.tensor([centre]), render.RADII[size], grounds)


def test_each_fault_of_pictures_costs_its_own_share():
    asked = "a large red circle on black"
    shown = [
        drawn(asked), drawn("a large blue circle on black"), drawn("a large red square on black"),
        drawn("a small red circle on white"), drawn(asked, (19, 16)),
    ]  # fmt: skip
    found = shares("image", torch.cat(shown), [asked] * 5)
    named = {name: found[name] for name in ATTRIBUTES["image"]}
    assert named == pytest.approx({"colour": 0.8, "shape": 0.8, "background": 0.8, "size": 0.8})
    assert found["all four"] == pytest.approx(0.4)
    # shape and size are right in three, one of which stands three pixels to the right
    assert found["place within 2 pixels, where shape and size are right"] == pytest.approx(2 / 3)
    assert found["shape, where a large one is asked for"] == pytest.approx(0.8)


def test_the_middle_is_where_the_thing_stands():
    at = middle(torch.cat([drawn("a small yellow square on white", place) for place in ((16, 16), (12, 19))]))
    torch.testing.assert_close(at[1] - at[0], torch.tensor([-4.0, 3.0]))


def test_each_fault_of_clips_costs_its_own_share():
    asked = "a red circle moving left on black"
    others = ("a red circle moving right on black", "a red square moving left on black")
    clips = render.clean_clips(render.caption_indices("video", [asked, *others, asked]))
    clips[3, :, 4:] = clips[2, :, 4:]
    found = shares("video", clips, [asked] * 4)
    expected = {"colour": 1, "shape": (1 + 1 + 0 + 0.5) / 4, "background": 1, "shape in every frame": 0.5}
    expected |= {"direction": 0.75, "motion, a part of R": 0.75}
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("modality", ["image", pytest.param("video", marks=pytest.mark.slow)])
def test_the_command_draws_the_grid_and_writes_the_table(tmp_path, monkeypatch, modality):
    prompts = held_out(modality)

    class Judge:
        base = None

        def __init__(self, modality, config, asked, *rest):
            assert asked == prompts and config.preview.guidance_scale == 1

        def score(self, state, path, seeds, progress):
            clean = render.clean_images if modality == "image" else render.clean_clips
            pixels = clean(render.caption_indices(modality, prompts)).movedim(1, -1)
            frames = ((pixels + 1) * 127.5).round().byte()
            samples = torch.stack([frames] * len(seeds), 1)
            scores = torch.rand(len(prompts), len(seeds))
            save_tensors(path, {"scores": scores, "samples": samples}, {"seeds": json.dumps(seeds)})

    monkeypatch.setattr(show_bases, "Judge", Judge)
    page = tmp_path / "which_method.md"
    page.write_text(f"before\n<!-- base-{modality}:begin -->\n<!-- base-{modality}:end -->\nafter\n")
    show_bases.main([modality, "--docs", str(tmp_path)])
    text = page.read_text()
    assert "| colour | 1.00 |" in text and "| R | 1.00 |" in text and text.endswith("after\n")
    image = Image.open(tmp_path / "figures" / f"base_{modality}.png").convert("RGB")
    # the second picture of the first row, or the second frame of the first clip: a pixel of it is three of the grid's
    left = show_bases.LEFT + show_bases.SIDE + (show_bases.GAP if modality == "image" else 1)
    block = image.crop((left, show_bases.GAP, left + 96, show_bases.GAP + 96))
    small = block.resize((32, 32), Image.Resampling.NEAREST)
    assert small.resize((96, 96), Image.Resampling.NEAREST).tobytes() == block.tobytes()
    clean = render.clean_images if modality == "image" else render.clean_clips
    pixels = clean(render.caption_indices(modality, prompts[:1]))[0]
    wanted = pixels if modality == "image" else pixels[:, 1]
    assert small.tobytes() == ((wanted.movedim(0, -1) + 1) * 127.5).round().byte().numpy().tobytes()
