"""`prepare` and `verify` from the command line: on several processes, replaced, damaged, mended."""

from dataclasses import replace
from pathlib import Path

import pytest

from seppo_core.cache.reader import WinnerCache
from seppo_core.config.loader import resolved_yaml
from seppo_image.__main__ import main as seppo_image
from tests.cache.test_prepare import content
from tests.training.together import start


@pytest.fixture
def config(workshop, tmp_path) -> Path:
    whole = workshop.config(tmp_path / "run")
    path = tmp_path / "config.yaml"
    path.write_text(resolved_yaml(replace(whole, data=replace(whole.data, cache=str(tmp_path / "cache")))))
    return path


def test_under_a_launcher_the_cache_is_the_one_of_a_single_process(workshop, config, tmp_path):
    launch = start(2, "seppo_image", "prepare", config, log=tmp_path / "log")
    assert launch.finish() == 0, launch.output[-3000:]
    told = launch.output
    assert told.count("10 items with 4 distinct captions") == 1 and "10/10" in told
    assert content(tmp_path / "cache") == content(workshop.cache)


def test_a_refusal_under_a_launcher_is_told_once(workshop, config, tmp_path):
    text = config.read_text()
    config.write_text(text.replace(str(config.parent / "cache"), str(workshop.source)))
    launch = start(2, "seppo_image", "prepare", config, log=tmp_path / "log")
    assert launch.finish() != 0
    assert launch.output.count("holds other files") == 1, launch.output[-3000:]


def test_sigterm_and_the_same_command_goes_on(workshop, config, tmp_path):
    launch = start(2, "seppo_image", "prepare", config, log=tmp_path / "log")
    launch.until((tmp_path / "cache" / "prepare.json").exists)
    launch.terminate()
    launch.finish()
    assert seppo_image(["prepare", str(config)]) == 0
    assert content(tmp_path / "cache") == content(workshop.cache)


def test_damage_is_told_and_mended(workshop, config, tmp_path, capsys):
    folder = tmp_path / "cache"
    assert seppo_image(["prepare", str(config)]) == 0
    assert seppo_image(["verify", str(config)]) == 0
    assert "files are as they were written" in capsys.readouterr().out
    shard = folder / "items-00000.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-4] + b"abcd")
    assert seppo_image(["verify", str(config)]) == 2
    told = capsys.readouterr()
    assert f"{shard} has another content than was written" in told.out
    assert "1 of 5 files" in told.err and "--mend true" in told.err
    shard.unlink()
    assert seppo_image(["prepare", str(config)]) == 2
    assert "items-00000.safetensors is missing; copy it anew" in capsys.readouterr().err
    assert seppo_image(["verify", str(config), "--mend", "true"]) == 0
    assert "`prepare` will encode 1 shards again" in capsys.readouterr().out
    assert seppo_image(["train", str(config)]) == 2
    assert "not finished; run the same `prepare` command again" in capsys.readouterr().err
    assert seppo_image(["prepare", str(config)]) == 0
    assert content(folder) == content(workshop.cache)


def test_another_cache_is_replaced_on_a_word(config, tmp_path, capsys):
    folder = tmp_path / "cache"
    assert seppo_image(["prepare", str(config)]) == 0
    changed = ["--data.height", "32", "--data.width", "32", "--data.vae_tiling", "true"]
    assert seppo_image(["prepare", str(config), *changed]) == 2
    told = capsys.readouterr().err
    assert "tiled False there, True now" in told and "or replace it with --overwrite true" in told
    assert WinnerCache(folder).latent_shape == (4, 8, 8)
    assert seppo_image(["prepare", str(config), *changed, "--overwrite", "true"]) == 0
    assert WinnerCache(folder).latent_shape == (4, 4, 4)
