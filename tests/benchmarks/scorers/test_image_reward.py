"""ImageReward against the same network derived by hand, in float64, from a checkpoint under the published names."""

from pathlib import Path

import pytest
import torch
from transformers import BlipTextConfig, BlipVisionConfig

from seppo_core.judging.image_reward import REWARD_MEAN, REWARD_SD, ImageReward
from tests.benchmarks.scorers import by_hand
from tests.benchmarks.scorers.fixtures import BERT_WORDS, TINY_BLIP, bert_vocabulary, pictures, save
from tests.benchmarks.scorers.layouts_by_hand import blip_shapes, random_state


def vision() -> BlipVisionConfig:
    return BlipVisionConfig(
        hidden_size=TINY_BLIP.width,
        intermediate_size=4 * TINY_BLIP.width,
        num_hidden_layers=TINY_BLIP.layers,
        num_attention_heads=TINY_BLIP.heads,
        image_size=TINY_BLIP.image,
        patch_size=TINY_BLIP.patch,
        layer_norm_eps=1e-6,
        hidden_act="gelu",
    )


def text() -> BlipTextConfig:
    return BlipTextConfig(
        vocab_size=TINY_BLIP.vocabulary,
        hidden_size=TINY_BLIP.text_width,
        encoder_hidden_size=TINY_BLIP.width,
        intermediate_size=TINY_BLIP.text_hidden,
        num_hidden_layers=TINY_BLIP.text_layers,
        num_attention_heads=TINY_BLIP.text_heads,
        max_position_embeddings=TINY_BLIP.context,
        layer_norm_eps=1e-12,
        is_decoder=True,
        bos_token_id=0,
        eos_token_id=3,
        sep_token_id=3,
        pad_token_id=0,
    )


def load(tmp_path: Path, state: dict[str, torch.Tensor], dtype: torch.dtype = torch.float64) -> ImageReward:
    file = save(state, tmp_path / "ImageReward.pt")
    return ImageReward.load(file, bert_vocabulary(tmp_path / "bert"), dtype=dtype, vision=vision(), text=text())


def rows(*prompts: str) -> tuple[torch.Tensor, torch.Tensor]:
    """[CLS] words [SEP] and padding to 35, with the mask over the words."""
    ids = [[2, *(BERT_WORDS.index(word) for word in prompt.split()), 3] for prompt in prompts]
    ids = [row if len(row) <= 35 else [*row[:34], 3] for row in ids]
    padded = torch.tensor([row + [0] * (35 - len(row)) for row in ids])
    return padded, torch.tensor([[1] * len(row) + [0] * (35 - len(row)) for row in ids])


def test_rewards(tmp_path):
    state = random_state(blip_shapes(TINY_BLIP))
    scorer = load(tmp_path, state)
    images = pictures()
    # the tokenizer splits the comma and the plural off; the last prompt is cut after 35
    scores = scorer.score(images, ["A red CAT", "the dogs, the moon", "cat " * 50])
    ids, mask = rows("a red cat", "the dog ##s , the moon", "cat " * 50)
    pixels = scorer.framing.batch(images).double()
    raw = by_hand.image_reward(state, TINY_BLIP, pixels, ids, mask)
    expected = (raw - 0.16717362830052426) / 1.0333394966054072
    torch.testing.assert_close(scores, expected.float(), rtol=1e-6, atol=1e-6)
    assert expected.std() > 0.01


def test_the_authors_mean_scores_zero(tmp_path):
    state = random_state(blip_shapes(TINY_BLIP))
    state["mlp.layers.7.weight"].zero_()
    state["mlp.layers.7.bias"].fill_(REWARD_MEAN)
    assert load(tmp_path, state).score(pictures(1), ["a cat"]).abs().item() < 1e-6
    state["mlp.layers.7.bias"].fill_(REWARD_MEAN + REWARD_SD)
    assert load(tmp_path, state).score(pictures(1), ["a cat"]).item() == pytest.approx(1, abs=1e-6)


def test_prompts_that_lose_their_end_are_told(tmp_path):
    scorer = load(tmp_path, random_state(blip_shapes(TINY_BLIP)), torch.float32)
    prompts = ["cat " * 33, "cat " * 34, "cat"]
    assert scorer.count_tokens(prompts) == [35, 36, 3]
    assert scorer.truncated(prompts) == [1]


def test_a_checkpoint_with_a_missing_part_is_named(tmp_path):
    state = random_state(blip_shapes(TINY_BLIP))
    del state["blip.text_encoder.encoder.layer.1.crossattention.self.key.bias"]
    with pytest.raises(ValueError, match=r"1 missing: text\.encoder\.layer\.1\.crossattention\.self\.key\.bias"):
        load(tmp_path, state)
