"""VideoMAE's ViT-g beside transformers' own at reduced width, its published names and shapes, and the squash."""

import math

import pytest
import torch
from torch.nn import functional as F
from transformers import VideoMAEConfig, VideoMAEModel

from benchmarks.evaluation.metrics.catalogue import METRICS
from benchmarks.evaluation.metrics.networks.videomae import VideoMAE, positions
from benchmarks.evaluation.metrics.set_metrics import set_column
from benchmarks.evaluation.metrics.videomae_features import VideoMAEFeatures, videomae_input
from tests.benchmarks.video_metrics.clips import clip, random_state, shapes_of

TINY = {"width": 24, "depth": 2, "heads": 4, "inner": 40, "side": 42, "frames": 4}


def published_shapes(width: int = 1408, depth: int = 40, inner: int = 6144, classes: int = 174) -> dict[str, tuple]:
    """Of vit_g_hybrid_pt_1200e_ssv2_ft.pth, as VideoMAE V2's own model names them."""
    shapes = {"patch_embed.proj.weight": (width, 3, 2, 14, 14), "patch_embed.proj.bias": (width,)}
    for number in range(depth):
        inside = {
            "norm1.weight": (width,), "norm1.bias": (width,), "attn.q_bias": (width,), "attn.v_bias": (width,),
            "attn.qkv.weight": (3 * width, width), "attn.proj.weight": (width, width), "attn.proj.bias": (width,),
            "norm2.weight": (width,), "norm2.bias": (width,), "mlp.fc1.weight": (inner, width),
            "mlp.fc1.bias": (inner,), "mlp.fc2.weight": (width, inner), "mlp.fc2.bias": (width,),
        }  # fmt: skip
        shapes |= {f"blocks.{number}.{name}": shape for name, shape in inside.items()}
    shapes |= {"fc_norm.weight": (width,), "fc_norm.bias": (width,)}
    return shapes | {"head.weight": (classes, width), "head.bias": (classes,)}


def their_names(state):
    """The same weights under transformers' names."""
    found = {}
    for key, value in state.items():
        key = key.replace("patch_embed.proj", "embeddings.patch_embeddings.projection")
        key = key.replace("blocks.", "encoder.layer.").replace("norm1", "layernorm_before")
        key = key.replace("norm2", "layernorm_after").replace("attn.proj", "attention.output.dense")
        key = key.replace("mlp.fc1", "intermediate.dense").replace("mlp.fc2", "output.dense")
        if key.endswith("attn.qkv.weight"):
            stem = key.replace("attn.qkv.weight", "attention.attention.")
            found |= dict(zip([f"{stem}{n}.weight" for n in ("query", "key", "value")], value.chunk(3), strict=True))
        elif "attn." in key:
            found[key.replace("attn.", "attention.attention.")] = value
        elif not key.startswith(("fc_norm", "head")):
            found[key] = value
    return found


def test_beside_transformers():
    shapes = published_shapes(24, 2, 40)
    state = random_state({key: shape for key, shape in shapes.items() if not key.startswith("head")})
    ours = VideoMAE(**TINY).double()
    ours.load_state_dict(state)
    config = VideoMAEConfig(
        image_size=42, patch_size=14, num_frames=4, tubelet_size=2, hidden_size=24, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=40, layer_norm_eps=1e-6, use_mean_pooling=True, qkv_bias=True,
    )  # fmt: skip
    theirs = VideoMAEModel(config).double().eval()
    renamed = their_names(state)
    if "encoder.layer.0.attention.attention.query.bias" in theirs.state_dict():
        # releases of transformers differ in whether the biases are the projections' own
        for number in range(2):
            stem = f"encoder.layer.{number}.attention.attention."
            query, value = renamed.pop(f"{stem}q_bias"), renamed.pop(f"{stem}v_bias")
            renamed |= {f"{stem}query.bias": query, f"{stem}value.bias": value}
    missing = theirs.load_state_dict(renamed, strict=False)
    assert not missing.unexpected_keys and all("key.bias" in key for key in missing.missing_keys)
    x = torch.rand(2, 3, 4, 42, 42, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        tokens = theirs(x.transpose(1, 2)).last_hidden_state
        expected = F.layer_norm(tokens.mean(1), (24,), state["fc_norm.weight"], state["fc_norm.bias"], 1e-6)
        found = ours(x)
    assert expected.std() > 1e-2
    # transformers keeps its positions in float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_published_names_and_shapes():
    with torch.device("meta"):
        model = VideoMAE()
    expected = {key: shape for key, shape in published_shapes().items() if not key.startswith("head")}
    assert shapes_of(model) == expected
    # published as 1.01 billion; the parity tests compare with VideoMAE V2's own model
    assert sum(value.numel() for value in model.parameters()) / 1e9 == pytest.approx(1.01, abs=0.005)


def test_loads_from_a_published_file_and_names_its_variant(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.evaluation.metrics.videomae_features.VideoMAE", lambda: VideoMAE(**TINY))
    state = {key: value.float() for key, value in random_state(published_shapes(24, 2, 40)).items()}
    path = tmp_path / "vit_g_hybrid_pt_1200e_ssv2_ft.pth"
    torch.save({"module": state, "epoch": 3}, path)
    loaded = VideoMAEFeatures.load(tmp_path)
    features = VideoMAEFeatures(loaded.model, (path,), side=42, frames=4)
    assert set_column(loaded.column, "frechet") == "fvd[videomae,16f]" and "kvd[videomae,16f]" in METRICS
    frames = clip(4, 30, 50)
    direct = VideoMAE(**TINY)
    direct.load_state_dict({key: value for key, value in state.items() if not key.startswith("head")})
    with torch.no_grad():
        torch.testing.assert_close(features.features(frames), direct(videomae_input(frames, 42)))
    with pytest.raises(ValueError, match="5 frames where 4 are expected"):
        features.features(clip(5))
    with pytest.raises(ValueError, match="VideoMAE takes"):
        direct(torch.zeros(1, 3, 6, 42, 42))


def test_squash_and_positions():
    frames = clip(16, 60, 90)
    squashed = videomae_input(frames)
    assert squashed.shape == (1, 3, 16, 224, 224) and squashed.min() >= 0 and squashed.max() <= 1
    expected = F.interpolate(frames[5].float()[None] / 255, (224, 224), mode="bilinear", align_corners=False)[0]
    assert torch.equal(squashed[0, :, 5], expected)
    found = positions(7, 6)[0, 3].tolist()
    wave = (math.sin, math.cos)
    assert found == pytest.approx([wave[j % 2](3 / 10000 ** (2 * (j // 2) / 6)) for j in range(6)])
