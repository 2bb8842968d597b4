"""method.noise=tracked: from the noise that a batch has for a half, the model draws that half again."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from seppo_core.config.method import MethodConfig
from seppo_core.config.options import RankRequest
from seppo_core.models.sampling import make_scheduler, sample
from seppo_core.training.batches import WinnerOrder
from seppo_image import commands
from tests.judges import PROMPTS
from tests.training.judged_runs import config_of, watched


@pytest.fixture(scope="module")
def ranked(workshop, tmp_path_factory):
    """Folder of pairs that `rank` drew of the base, guided and in two steps."""
    out = tmp_path_factory.mktemp("ranked") / "pairs"
    request = RankRequest(
        judge="tests.judges:redness", prompts=PROMPTS, samples=2, steps=2, guidance_scale=2.0, scheduler="ddim",
        supervision="pairs", out=str(out),
    )  # fmt: skip
    commands.rank(workshop.config(out / "unused"), request)
    return out


def trained_on(workshop, tmp_path, source, method: MethodConfig, supervision: str, flip: bool = True):
    config = workshop.config(tmp_path / "run")
    data = replace(
        config.data, source=str(source), cache=str(tmp_path / "cache"), supervision=supervision, flip=flip,
        caption_dropout=0.0, posterior="mode",
    )  # fmt: skip
    loop = replace(config.loop, iterations=1, updates_per_iteration=2, batch_size=4, micro_batch_size=4)
    optimizer = replace(config.optimizer, warmup_updates=0)
    return replace(config, data=data, method=method, loop=loop, optimizer=optimizer)


def drawn(parts, noise: torch.Tensor, condition: dict, guidance: float = 2.0) -> torch.Tensor:
    """Latents by the base of what was trained on."""
    adapter = commands.load(parts.config)
    with torch.no_grad():
        return sample(
            adapter, adapter.denoiser, condition, noise=noise, steps=2, guidance_scale=guidance,
            unconditional=parts.cache.unconditional(), scheduler=make_scheduler("ddim", adapter.scheduler),
        )  # fmt: skip


def pixels_of(parts, latents: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return commands.load(parts.config).decode(latents).clamp(-1, 1)


def shown(path) -> torch.Tensor:
    return torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1) / 127.5 - 1


def rows_of(made, folder) -> list[dict]:
    """The table's row of each training position."""
    config, cache = made.parts.config, made.parts.cache
    order = WinnerOrder(len(cache), config.seed, config.draws)
    table = {row["file_name"]: row for row in map(json.loads, (folder / "metadata.jsonl").read_text().splitlines())}
    files = [cache.ids([order.item(position)])[0].split()[0] for position in range(8)]
    return [table[file] for file in files]


@pytest.mark.slow
def test_both_halves_of_a_pair_that_rank_drew(workshop, tmp_path, monkeypatch, ranked):
    config = trained_on(workshop, tmp_path, ranked, MethodConfig.variants()["dpo"](beta=5, noise="tracked"), "pairs")
    commands.prepare(config)
    made = watched(config, monkeypatch)
    rows, turned = rows_of(made, ranked), set()
    for position in range(8):
        batch, place = made.places[position]
        condition = {name: value[place : place + 1] for name, value in batch.condition.items()}
        for noise, key in ((batch.noise, "file_name"), (batch.counterpart_noise, "loser_file_name")):
            want = shown(ranked / rows[position][key])
            found = [pixels_of(made.parts, drawn(made.parts, one, condition))[0] for one in
                     (noise[place : place + 1], noise[place : place + 1].flip(-1))]  # fmt: skip
            off = [float((one - want).abs().max()) for one in found]
            # eight bits; mirrored pictures have their noise mirrored
            assert min(off) < 0.01 < 0.05 < max(off)
            turned.add(off.index(min(off)))
    assert turned == {0, 1}


@pytest.mark.slow
def test_winners_of_rank_and_from_elsewhere_beside_the_own_sample(workshop, tmp_path, monkeypatch, ranked):
    source = tmp_path / "source"
    shutil.copytree(ranked, source)
    (row,) = [json.loads(line) for line in (ranked / "metadata.jsonl").read_text().splitlines()][:1]
    own = {key: value for key, value in row.items() if not key.startswith("loser")}
    shutil.copy(workshop.source / "0.png", source / "other.png")
    lines = [own, {"file_name": "other.png", "caption": "a red wall"}]
    (source / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    method = MethodConfig.variants()["seppo"](beta=5, noise="tracked")
    config = trained_on(workshop, tmp_path, source, method, "winners", flip=False)
    commands.prepare(config)
    made = watched(config, monkeypatch)
    kinds = set()
    for position, row in enumerate(rows_of(made, source)):
        batch, place = made.places[position]
        one = slice(place, place + 1)
        condition = {name: value[one] for name, value in batch.condition.items()}
        again = drawn(made.parts, batch.counterpart_noise[one], condition)
        torch.testing.assert_close(again, batch.counterpart[one], atol=1e-4, rtol=1e-3)
        kinds.add(row["file_name"])
        if row["file_name"] == "other.png":
            assert torch.equal(batch.noise[place], batch.counterpart_noise[place])
        else:
            found = pixels_of(made.parts, drawn(made.parts, batch.noise[one], condition))[0]
            assert (found - shown(source / row["file_name"])).abs().max() < 0.01
    assert len(kinds) == 2


@pytest.mark.slow
def test_halves_that_a_judge_chose(prompts, tmp_path, monkeypatch):
    method = MethodConfig.variants()["dpo"](beta=5, noise="tracked")
    config = replace(config_of(prompts, tmp_path / "run", updates_per_iteration=3), method=method)
    config = replace(
        config, data=replace(config.data, caption_dropout=0.0), optimizer=replace(config.optimizer, warmup_updates=0)
    )
    made = watched(config, monkeypatch)
    # in the second iteration another policy has drawn them
    for batch, place in [made.places[position] for position in range(6)]:
        one = slice(place, place + 1)
        condition = {name: value[one] for name, value in batch.condition.items()}
        for noise, latents in ((batch.noise, batch.x0), (batch.counterpart_noise, batch.counterpart)):
            again = drawn(made.parts, noise[one], condition, guidance=1.0)
            torch.testing.assert_close(again, latents[one], atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_what_cannot_be_known_is_refused(workshop, tmp_path, ranked, monkeypatch):
    dpo = MethodConfig.variants()["dpo"](beta=5, noise="tracked")
    config = trained_on(workshop, tmp_path, ranked, dpo, "pairs", flip=False)
    rows = [json.loads(line) for line in (ranked / "metadata.jsonl").read_text().splitlines()]
    source = tmp_path / "source"
    shutil.copytree(ranked, source)

    def refused(lines: list[dict], message: str, **changes) -> None:
        (source / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        cache = tmp_path / f"cache-{len(list(tmp_path.iterdir()))}"
        own = replace(config, data=replace(config.data, source=str(source), cache=str(cache)), **changes)
        commands.prepare(own)
        with monkeypatch.context() as patch:
            patch.setattr(commands, "load", lambda *_: pytest.fail("the base was loaded"))
            with pytest.raises(ValueError, match=message):
                commands.train(own)
        assert not (tmp_path / "run").exists()

    without = [{key: value for key, value in row.items() if key != "loser_noise_key"} for row in rows]
    refused(
        without, r"does not tell that of samples/.*\(loser\); prepare pairs that `rank` drew, or set method.noise=sha"
    )
    other = [row | {"noise_key": row["noise_key"] | {"size": [32, 64, 1]}} for row in rows]
    refused(other, r"was drawn as 32 x 64 x 1 \(height x width x frames\) and is prepared as 64 x 64 x 1")
    with pytest.raises(ValueError, match=r"method.noise=tracked needs samples that one noise gives.*=ddpm draws more"):
        samples = replace(config.reference_samples, scheduler="ddpm")
        replace(config, method=MethodConfig.variants()["seppo"](noise="tracked"), reference_samples=samples)
