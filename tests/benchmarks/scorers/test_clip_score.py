"""CLIPScore on saved CLIP and SigLIP folders, against a hand-derived network and against SigLIP's own processor."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

from seppo_core.judging.checkpoint_keys import clip_state
from seppo_core.judging.clip_score import CLIPScore
from tests import tiny
from tests.benchmarks.scorers import by_hand
from tests.benchmarks.scorers.fixtures import PROMPTS, ClipProcessor, SiglipProcessor, clip_config, pictures
from tests.benchmarks.scorers.layouts_by_hand import TINY, clip_shapes, random_state
from tests.benchmarks.scorers.test_clip_scorers import ids_by_hand

CLIP = replace(TINY, vocabulary=514, quick_gelu=True)
SEED = 1
"""One that gives cosines of both signs."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved CLIP model with everything beside it."""
    state = clip_state(random_state(clip_shapes(CLIP), SEED))
    # as from_pretrained reads it, the configuration says the rest
    config: CLIPConfig = clip_config(CLIP)
    config.architectures = ["CLIPModel"]
    config.save_pretrained(tmp_path)
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    tiny.tokenizer(tmp_path).save_pretrained(tmp_path)
    ClipProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    return tmp_path


def expected_cosines(scorer: CLIPScore, prompts: list[str]) -> torch.Tensor:
    pixels = scorer.framing.batch(pictures()).double()
    return by_hand.clip_cosine(random_state(clip_shapes(CLIP), SEED), CLIP, pixels, ids_by_hand(prompts)).float()


def test_the_three_conventions(folder):
    load = lambda **options: CLIPScore.load(folder, dtype=torch.float64, **options)  # noqa: E731
    default, signed = load(), load(scale=1.0, clamp=False)
    hessel = load(scale=2.5, prefix="A photo depicts ")
    cosines = expected_cosines(signed, PROMPTS)
    assert (cosines < 0).any() and (cosines > 0).any()
    images = pictures()
    torch.testing.assert_close(signed.score(images, PROMPTS), cosines, rtol=0, atol=1e-6)
    torch.testing.assert_close(default.score(images, PROMPTS), 100 * cosines.clamp(min=0), rtol=0, atol=1e-4)
    prefixed = expected_cosines(hessel, [f"A photo depicts {prompt}" for prompt in PROMPTS])
    torch.testing.assert_close(hessel.score(images, PROMPTS), 2.5 * prefixed.clamp(min=0), rtol=0, atol=1e-5)
    columns = [scorer.column for scorer in (default, signed, hessel)]
    assert columns == ["clip_score", "clip_score_x1_signed", "clip_score_x2.5_prefixed"]
    assert len({scorer.fingerprint() for scorer in (default, signed, hessel)}) == 3
    assert hessel.count_tokens(["a"]) == [3 + len("Aphotodepicts")]
    assert default.truncated(PROMPTS) == [2]


def test_files_that_are_missing_are_named(folder):
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no preprocessor_config\.json"):
        CLIPScore.load(folder)


def test_siglip_reads_its_padding(tmp_path):
    torch.manual_seed(0)
    tokenizer = tiny.tokenizer(tmp_path)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = SiglipConfig(
        text_config={
            **sizes,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 12,
            "bos_token_id": 512,
            "eos_token_id": 513,
            "pad_token_id": 513,
        },
        vision_config={**sizes, "image_size": 24, "patch_size": 8},
    )
    model = tiny.shake(SiglipModel(config)).eval()
    processor = SiglipProcessor(size={"height": 24, "width": 24})
    for part in (model, tokenizer, processor):
        part.save_pretrained(tmp_path)
    scorer = CLIPScore.load(tmp_path, scale=1.0, clamp=False)
    prompts = ["a cat", "dog", "a longer prompt than twelve"]
    with torch.no_grad():
        rows = tokenizer(prompts, padding="max_length", truncation=True, max_length=12, return_tensors="pt")
        output = model(
            input_ids=rows["input_ids"], pixel_values=processor(pictures(), return_tensors="pt")["pixel_values"]
        )
    expected = (output.image_embeds * output.text_embeds).sum(-1)
    torch.testing.assert_close(scorer.score(pictures(), prompts), expected, rtol=0, atol=1e-6)
    assert scorer.token_limit == 12 and scorer.truncated(prompts) == [2]
    assert isinstance(model, SiglipModel) and not isinstance(model, CLIPModel)
