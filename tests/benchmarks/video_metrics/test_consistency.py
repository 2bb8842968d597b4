"""VBench's weight-light dimensions beside loops over frames; DINO beside transformers, CLIP from both namings."""

from math import sqrt

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPVisionModelWithProjection, ViTConfig, ViTModel

from seppo_core.judging import vbench_consistency as consistency
from seppo_core.judging.preprocess import CLIP_MEAN, CLIP_STD
from seppo_core.judging.vbench_consistency import BackgroundConsistency, SubjectConsistency, TemporalFlickering
from seppo_core.judging.vit import DinoViT, dino_state
from tests.benchmarks.scorers.layouts_by_hand import Clip, clip_shapes
from tests.benchmarks.scorers.layouts_by_hand import random_state as random_clip
from tests.benchmarks.video_metrics.clips import clip, shapes_of


def test_flickering_beside_a_loop():
    frames = clip(5)
    changes = [
        np.abs(a.astype(np.float32) - b.astype(np.float32)).mean()
        for a, b in zip(frames.numpy()[:-1], frames.numpy()[1:], strict=True)
    ]
    value = TemporalFlickering().measure(frames)["temporal_flickering"]
    assert value == pytest.approx((255 - np.mean(changes)) / 255, abs=1e-6)
    assert consistency.flickering(frames[:1].expand(4, -1, -1, -1)) == 1
    black_and_white = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    assert consistency.flickering(black_and_white) == 0


def test_consistency_beside_a_loop():
    features = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    total, former, first = 0.0, None, None
    for feature in features:
        if first is None or former is None:
            first = feature
        else:
            previous = max(0.0, F.cosine_similarity(former, feature, dim=0).item())
            total += (previous + max(0.0, F.cosine_similarity(first, feature, dim=0).item())) / 2
        former = feature
    assert consistency.consistency(features) == pytest.approx(total / 6, abs=1e-6)
    assert consistency.consistency(torch.tensor([[1.0, 0], [1, 0], [-1, 0]])) == 0.5


def test_one_frame_is_no_clip():
    for call in (lambda: consistency.flickering(clip(1)), lambda: consistency.consistency(torch.ones(1, 4))):
        with pytest.raises(ValueError, match="at least 2"):
            call()


@pytest.mark.parametrize(
    ("height", "width", "wanted"), [(40, 61, (224, 341)), (61, 40, (341, 224)), (300, 300, (224, 224))]
)
def test_the_shortest_side_becomes_224(height, width, wanted):
    frames = clip(1, height, width)
    x = consistency.dino_input(frames)
    assert x.shape[-2:] == wanted
    # half-pixel centres of a middle pixel, by hand
    row, column = 100, 150
    y_at, x_at = (row + 0.5) * height / wanted[0] - 0.5, (column + 0.5) * width / wanted[1] - 0.5
    top, left = int(y_at), int(x_at)
    plane = frames[0, 1].double()
    down, right = y_at - top, x_at - left
    value = (
        plane[top, left] * (1 - down) * (1 - right)
        + plane[top, left + 1] * (1 - down) * right
        + plane[top + 1, left] * down * (1 - right)
        + plane[top + 1, left + 1] * down * right
    )
    assert x[0, 1, row, column].item() == pytest.approx(((value / 255 - 0.456) / 0.224).item(), abs=1e-4)


def test_clip_sees_the_middle_unclipped():
    frames = torch.zeros(1, 3, 20, 41, dtype=torch.uint8)
    frames[..., 18:23] = 255
    x = consistency.clip_input(frames)
    assert x.shape == (1, 3, 224, 224)
    values = x[0, 0] * CLIP_STD[0] + CLIP_MEAN[0]
    assert values.max() > 1.01 and values.min() < -0.01
    # 459 columns, cut from round(117.5) = 118 on: the middle of the white stripe stays in the middle
    bright = (values[100] > 0.5).nonzero().flatten().float()
    assert abs(bright.mean() - (20.5 * 459 / 41 - 0.5 - 118)) < 1


VIT = ViTConfig(
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=96,
    layer_norm_eps=1e-6,
    image_size=224,
)


@pytest.fixture(scope="module")
def vit() -> ViTModel:
    torch.manual_seed(0)
    model = ViTModel(VIT).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return model


@pytest.fixture(scope="module")
def vit_folder(vit, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dino")
    vit.save_pretrained(folder)
    return folder


def small_dino() -> DinoViT:
    return DinoViT(width=24, depth=2, heads=3)


def test_dino_beside_transformers(vit, vit_folder, monkeypatch):
    monkeypatch.setattr(consistency, "DinoViT", small_dino)
    metric = SubjectConsistency.load(vit_folder)
    frames = clip(3, 64, 64)
    x = consistency.dino_input(frames)
    with torch.no_grad():
        expected = vit(pixel_values=x).last_hidden_state[:, 0]
    torch.testing.assert_close(metric.look(frames), expected, rtol=1e-4, atol=1e-5)
    value = metric.measure(frames, "any prompt")["subject_consistency"]
    assert value == pytest.approx(consistency.consistency(expected), abs=1e-5)
    metric.batch_size = 2
    assert metric.measure(frames)["subject_consistency"] == pytest.approx(value, abs=1e-5)


def test_wide_frames_stretch_the_positions_as_dino_does(vit, vit_folder, monkeypatch):
    """DINO's stretch is by a slightly larger factor than transformers'; given its positions, the rest is the same."""
    monkeypatch.setattr(consistency, "DinoViT", small_dino)
    metric = SubjectConsistency.load(vit_folder)
    frames = clip(2, 40, 61)
    with torch.no_grad():
        seen = vit(pixel_values=consistency.dino_input(frames), interpolate_pos_encoding=True).last_hidden_state[:, 0]
    ours = metric.look(frames)
    assert 1e-5 < (ours - seen).abs().max() < 0.2 * seen.std()
    # along one axis bicubic weights by hand: sample at (i + ½)·14/(21 + 0.1) - ½ over the learned row
    positions = metric.model._positions(14, 21)
    assert positions.shape == (1, 1 + 14 * 21, 24)
    grid = metric.model.pos_embed[0, 1:].view(14, 14, 24)
    column, place = 7, (7 + 0.5) * 14 / 21.1 - 0.5
    whole, part = int(place), place - int(place)
    a = -0.75
    near = [((a + 2) * d - (a + 3)) * d * d + 1 for d in (part, 1 - part)]
    far = [((a * d - 5 * a) * d + 8 * a) * d - 4 * a for d in (part + 1, 2 - part)]
    row, height_place = 5, (5 + 0.5) * 14 / 14.1 - 0.5
    weights = torch.tensor([far[0], near[0], near[1], far[1]])
    top, down = int(height_place), height_place - int(height_place)
    near_h = [((a + 2) * d - (a + 3)) * d * d + 1 for d in (down, 1 - down)]
    far_h = [((a * d - 5 * a) * d + 8 * a) * d - 4 * a for d in (down + 1, 2 - down)]
    weights_h = torch.tensor([far_h[0], near_h[0], near_h[1], far_h[1]])
    patch = grid[top - 1 : top + 3, whole - 1 : whole + 3]
    expected = torch.einsum("hwd,h,w->d", patch, weights_h, weights)
    torch.testing.assert_close(positions[0, 1 + row * 21 + column], expected, rtol=1e-4, atol=1e-5)


def test_dino_published_names_and_shapes():
    with torch.device("meta"):
        model = DinoViT()
        transformers_model = ViTModel(ViTConfig(), add_pooling_layer=True)
    published = {"cls_token": (1, 1, 768), "pos_embed": (1, 197, 768), "norm.weight": (768,), "norm.bias": (768,)}
    published |= {"patch_embed.proj.weight": (768, 3, 16, 16), "patch_embed.proj.bias": (768,)}
    for n in range(12):
        for name, shape in {
            "norm1": (768,),
            "attn.qkv": (2304, 768),
            "attn.proj": (768, 768),
            "norm2": (768,),
            "mlp.fc1": (3072, 768),
            "mlp.fc2": (768, 3072),
        }.items():
            published |= {f"blocks.{n}.{name}.weight": shape, f"blocks.{n}.{name}.bias": shape[:1]}
    assert shapes_of(model) == published
    # 86 million, as published, and as transformers counts without its pooler
    count = sum(p.numel() for p in model.parameters())
    assert count == 85_798_656
    assert count == sum(p.numel() for n, p in transformers_model.named_parameters() if "pooler" not in n)


def test_an_unknown_key_is_named():
    state = {"embeddings.cls_token": torch.zeros(1), "encoder.layer.0.attention.gate.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"attention\.gate"):
        dino_state(state)
    with pytest.raises(ValueError, match=r"embeddings\.mask_token"):
        dino_state({"embeddings.cls_token": torch.zeros(1), "embeddings.mask_token": torch.zeros(1)})


TOWER = Clip(
    embed=12,
    width=24,
    layers=2,
    heads=3,
    patch=32,
    image=224,
    text_width=16,
    text_layers=1,
    text_heads=2,
    quick_gelu=True,
)


def tower_config() -> CLIPConfig:
    return CLIPConfig(
        vision_config={
            "hidden_size": 24,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "patch_size": 32,
            "hidden_act": "quick_gelu",
        },
        projection_dim=12,
    )


def test_background_beside_a_second_derivation(tmp_path):
    from tests.benchmarks.scorers.by_hand import clip_image

    state = random_clip(clip_shapes(TOWER))
    torch.save({key: value.float() for key, value in state.items()}, tmp_path / "model.pt")
    metric = BackgroundConsistency.load(tmp_path / "model.pt", config=tower_config())
    frames = clip(3, 50, 64)
    expected = clip_image(state, TOWER, consistency.clip_input(frames).double())
    torch.testing.assert_close(metric.look(frames).double(), expected, rtol=1e-3, atol=1e-4)
    value = metric.measure(frames, "")["background_consistency"]
    assert value == pytest.approx(consistency.consistency(expected), abs=1e-5)


def test_clip_published_size():
    config = consistency.clip_b_32()
    config.vision_config.projection_dim = 512
    with torch.device("meta"):
        tower = CLIPVisionModelWithProjection(config.vision_config)
    # OpenAI's ViT-B/32: 87,849,216 parameters in the tower with its projection
    assert sum(p.numel() for p in tower.parameters()) == 87_849_216
    assert config.vision_config.hidden_act == "quick_gelu" and sqrt(50 - 1) == 7
