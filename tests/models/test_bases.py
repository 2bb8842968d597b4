"""Bases as they are found: what is missing or belongs to another model is named before anything is trained on it."""

import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTokenizer, T5Tokenizer

from seppo_core.config.base_files import base_problems
from seppo_core.config.loader import read_draft
from seppo_core.models.components import check_loaded
from seppo_core.models.tokenizers import match_tokenizers
from seppo_image.config import ImageConfig
from seppo_image.families.stable_diffusion import StableDiffusionModel
from seppo_image.stable_diffusion import StableDiffusion
from seppo_video.config import VideoConfig
from tests import tiny

UNET = "unet/diffusion_pytorch_model.safetensors"


def pipeline(tokenizer, encoder) -> SimpleNamespace:
    return SimpleNamespace(components={"text_encoder": encoder, "tokenizer": tokenizer})


def clip_words(folder: Path, merges: list[str]) -> CLIPTokenizer:
    """Letters, and what `merges` make of them."""
    tiny.tokenizer(folder)
    made = ["".join(merge.split()) for merge in merges]
    vocabulary = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate([*vocabulary, *made])}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{merge}\n" for merge in merges))
    return CLIPTokenizer.from_pretrained(folder, model_max_length=tiny.TOKENS)


def test_a_tokenizer_without_its_words_is_refused(tmp_path):
    words = tiny.tokenizer(tmp_path / "words")
    encoder = tiny.text_encoder(words)
    match_tokenizers(pipeline(words, encoder), "b")
    (tmp_path / "empty").mkdir()
    shutil.copy(tmp_path / "words" / "vocab.json", tmp_path / "empty")
    words.save_pretrained(tmp_path / "empty")
    for name in ("vocab.json", "merges.txt", "tokenizer.json"):
        (tmp_path / "empty" / name).unlink(missing_ok=True)
    empty = CLIPTokenizer.from_pretrained(tmp_path / "empty")
    # what makes it dangerous: all captions of one length are one
    assert empty("red box").input_ids == empty("a dress").input_ids
    with pytest.raises(ValueError, match=r"the tokenizer of base='b' knows 2 tokens, its text encoder 514: .*copy"):
        match_tokenizers(pipeline(empty, encoder), "b")
    with pytest.raises(ValueError, match="a text_encoder and no tokenizer"):
        match_tokenizers(pipeline(None, encoder), "b")


def test_a_tokenizer_of_another_encoder_is_refused():
    pieces = tiny.t5_tokenizer()
    encoder = tiny.t5(pieces)
    match_tokenizers(pipeline(pieces, encoder), "b")
    longer = T5Tokenizer(
        vocab=[*((piece, 0.0) for piece in ("<pad>", "</s>", "<unk>")), *((chr(97 + n), -1.0) for n in range(40))],
        extra_ids=0,
    )
    with pytest.raises(ValueError, match=r"gives token numbers up to \d+, its text encoder knows 31 tokens"):
        match_tokenizers(pipeline(longer, encoder), "b")
    fewer = T5Tokenizer(vocab=[(piece, 0.0) for piece in ("<pad>", "</s>", "<unk>", "▁", "a")], extra_ids=0)
    with pytest.raises(ValueError, match=r"knows 5 tokens, its text encoder 31"):
        match_tokenizers(pipeline(fewer, encoder), "b")


def test_a_tokenizer_that_lost_its_merges_is_refused(tmp_path):
    merges = ["h o", "ho u", "s e</w>", "hou se</w>"]
    whole = clip_words(tmp_path / "whole", merges)
    assert len(whole("house", add_special_tokens=False).input_ids) == 1
    encoder = tiny.text_encoder(whole)
    match_tokenizers(pipeline(whole, encoder), "b")
    (tmp_path / "whole" / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(ValueError, match=r"takes every word apart, even 'house'.*merges"):
        match_tokenizers(pipeline(CLIPTokenizer.from_pretrained(tmp_path / "whole"), encoder), "b")


def test_a_tokenizer_without_a_limit_takes_the_encoder_s(tmp_path):
    words = tiny.tokenizer(tmp_path)
    encoder = tiny.text_encoder(words)
    for said in (int(1e30), tiny.TOKENS + 1, 7):
        words.model_max_length = said
        match_tokenizers(pipeline(words, encoder), "b")
        assert words.model_max_length == min(said, tiny.TOKENS)


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("missing_keys", "bias", r"lacks 1 tensor \(bias\)"),
        ("unexpected_keys", "gate.weight", r"has 1 tensor that a Linear does not know \(gate\.weight\)"),
        ("mismatched_keys", ("weight", (1, 2), (2, 2)), r"of other shapes than its config\.json says \(weight\)"),
    ],
)
def test_tensors_that_model_and_file_do_not_share(kind, name, said):
    info = {"missing_keys": [], "unexpected_keys": ["text_model.embeddings.position_ids"], "mismatched_keys": []}
    check_loaded(nn.Linear(2, 2), info, "the unet")
    with pytest.raises(ValueError, match=rf"the unet .*{said}"):
        check_loaded(nn.Linear(2, 2), info | {kind: [*info[kind], name]}, "the unet")


def test_a_tied_tensor_may_be_missing():
    model = nn.ModuleDict({"shared": nn.Embedding(3, 2), "embed_tokens": nn.Embedding(3, 2)})
    info = {"missing_keys": {"embed_tokens.weight"}, "unexpected_keys": set(), "mismatched_keys": set()}
    with pytest.raises(ValueError, match=r"lacks 1 tensor \(embed_tokens\.weight\)"):
        check_loaded(model, info, "the text_encoder")
    model["embed_tokens"].weight = model["shared"].weight
    check_loaded(model, info, "the text_encoder")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_no_part_is_filled_with_random_numbers(workshop, tmp_path, part):
    base = copied(workshop.base, tmp_path)
    (file,) = (base / part).glob("*.safetensors")
    tensors = load_file(file)
    gone = sorted(name for name in tensors if name.endswith("weight"))[3]
    save_file({name: tensor for name, tensor in tensors.items() if name != gone}, file, {"format": "pt"})
    with pytest.raises(ValueError, match=rf"the {part} of base=.* lacks 1 tensor \({gone}\)"):
        StableDiffusion.load(StableDiffusionModel(base=str(base)), torch.float32)


def copied(base: Path, folder: Path) -> Path:
    return Path(shutil.copytree(base, folder / "base"))


def rename(base: Path) -> None:
    for path in base.rglob("*.safetensors"):
        path.rename(path.with_name(path.name.replace(".safetensors", ".fp16.safetensors")))


def pickle(base: Path) -> None:
    (base / UNET).rename((base / UNET).with_suffix(".bin"))


def own_code(base: Path) -> None:
    index = json.loads((base / "model_index.json").read_text())
    (base / "model_index.json").write_text(json.dumps(index | {"unet": ["mine", "Net"]}))
    (base / "unet" / "mine.py").write_text("raise SystemExit('run')")


SPOILT = {
    "no folder": (lambda base: shutil.rmtree(base / "vae"), None, "vae: there is no such folder; copy"),
    "no weights": (lambda base: (base / UNET).unlink(), None, "unet: holds no weights"),
    "pickled": (pickle, None, "unet: holds weights as bin files alone, .*convert"),
    "fp16 alone": (rename, None, r"text_encoder, unet and vae: .*set model\.variant=fp16"),
    "fp16 asked for": (rename, "fp16", None),
    "another variant": (rename, "bf16", "no weights of the variant bf16, but of fp16"),
    "no variants": (lambda base: None, "fp16", r"leave model\.variant out"),
    "cut off": (lambda base: os.truncate(base / UNET, 60_000), None, r"has 60000 of \d+ bytes"),
    "cut off early": (lambda base: os.truncate(base / UNET, 100), None, "is cut off"),
    "a pointer": (
        lambda base: (base / UNET).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"),
        None,
        "git lfs pull",
    ),
    "no vocabulary": (lambda base: (base / "tokenizer/tokenizer.json").unlink(), None, "tokenizer: holds no vocab"),
    "no config": (lambda base: (base / "vae/config.json").unlink(), None, r"vae: holds no config\.json"),
    "a broken config": (lambda base: (base / "vae/config.json").write_text("{"), None, "is not a JSON file"),
    "a dangling link": (
        lambda base: ((base / UNET).unlink(), (base / UNET).symlink_to("nowhere")),
        None,
        "link to a file that is not there",
    ),
    "a shard is lost": (
        lambda base: (base / UNET).rename(base / "unet/diffusion_pytorch_model-00001-of-00003.safetensors"),
        None,
        "1 of the 3 files",
    ),
    "code of its own": (own_code, None, r"mine\.py\), which is never run"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_what_the_files_of_a_base_show(workshop, tmp_path, case):
    spoil, variant, said = SPOILT[case]
    base = copied(workshop.base, tmp_path)
    spoil(base)
    problems = "; ".join(base_problems(base, variant, ["safety_checker", "feature_extractor"]))
    assert bool(problems) == (said is not None)
    assert said is None or re.search(said, problems)


@pytest.mark.parametrize(
    ("schema", "pipeline", "family"),
    [
        (ImageConfig, "StableDiffusionXLPipeline", "sdxl"),
        (ImageConfig, "FluxPipeline", "flux"),
        (ImageConfig, "NobodysPipeline", "stable-diffusion"),
        (VideoConfig, "WanPipeline", "wan"),
        (VideoConfig, "StableDiffusionXLPipeline", "animatediff-sdxl"),
    ],
)
def test_the_family_is_the_base_s_unless_it_is_given(tmp_path, schema, pipeline, family):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    told = {"model.base": str(tmp_path)}
    assert read_draft(None, schema, told).values["model"]["family"] == family
    given = next(iter(schema.__annotations__["model"].variants()))
    assert read_draft(None, schema, told | {"model.family": given}).values["model"]["family"] == given
    hub = "black-forest-labs/FLUX.1-dev" if schema is ImageConfig else "Lightricks/LTX-Video"
    known = read_draft(None, schema, {"model.base": hub}).values["model"]["family"]
    assert known == ("flux" if schema is ImageConfig else "ltx")
