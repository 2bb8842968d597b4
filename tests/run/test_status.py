"""`status` tells from files alone, and imports no torch."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import yaml

from seppo_core.cache.cut_captions import CutCaptions, as_json
from seppo_core.config.loader import load_config, resolved_yaml
from seppo_core.io.locks import FolderLock
from seppo_core.run.previews import Drawing, PreviewRecord, add_preview
from seppo_core.run.status import read_status, status_text
from seppo_image.config import ImageConfig, ImageData
from seppo_image.families.stable_diffusion import StableDiffusionModel

NOW = 1_800_000_000.0


@pytest.fixture
def run(tmp_path):
    """A run of three iterations of four updates of eight pairs, half done: two iterations' samples were drawn."""
    folder = tmp_path / "run"
    folder.mkdir()
    config = ImageConfig(
        run=str(folder), model=StableDiffusionModel(base="a/base"), data=ImageData(source="s", cache="c")
    )
    values = yaml.safe_load(resolved_yaml(config))
    values["loop"] |= {"iterations": 3, "updates_per_iteration": 4, "batch_size": 8}
    values["reference_samples"] |= {"batch_size": 8}
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    write_metrics(folder, 6)
    write_events(
        folder,
        ("started", {}),
        ("samples", {"iteration": 0, "count": 32, "seconds": 64.0}),
        ("samples", {"iteration": 1, "count": 32, "seconds": 64.0}),
        ("checkpoint", {"update": 4}),
    )
    (folder / "checkpoints" / "update-000004").mkdir(parents=True)
    return folder


def write_metrics(folder, count, **changes):
    lines = [
        {"update": n, "loss": 0.69, "winner_error": 0.2, "share_s_plus": 0.5, "seconds": 3.0} | changes
        for n in range(1, count + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_events(folder, *events):
    lines = [json.dumps({"time": NOW, "event": name, **details}) + "\n" for name, details in events]
    (folder / "events.jsonl").write_text("".join(lines))


def told(run) -> str:
    for path in run.rglob("*"):
        os.utime(path, (NOW - 60, NOW - 60))
    return status_text(read_status(run), NOW)


def test_while_it_runs(run):
    with FolderLock(run):
        status = read_status(run)
        text = told(run)
    assert (status.update, status.total, status.iteration, status.iterations) == (6, 12, 2, 3)
    # six updates of 3 s, and 32 samples of 2 s
    assert status.left == 6 * 3 + 32 * 2
    assert "seppo on a/base, full" in text
    assert f"running: process {os.getpid()} on " in text
    assert "update 6 of 12 (50%), iteration 2 of 3" in text
    assert "last sign   1:00 ago" in text
    assert "3 s an update, 2.67 pairs a second" in text
    assert "ends        in 1:22, about 20" in text
    assert "checkpoint  update-000004 (1 kept)" in text
    assert "health      no health warnings" in text
    assert text.splitlines()[-1].split() == ["6", "0.69", "0.2", "0.5", "3"]


def test_waiting_for_data_is_told_and_what_helps(run):
    write_metrics(run, 6, data_seconds=0.03)
    assert "data        1.0% of it is waiting for batches\n" in told(run)
    write_metrics(run, 6, data_seconds=0.6)
    assert "data        20.0% of it is waiting for batches; raise data.prefetch, or put" in told(run)
    write_metrics(run, 6)
    assert "waiting for batches" not in told(run), "runs of before say nothing of it"


def test_captions_that_were_cut_are_told_by_what_the_cache_says(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "lose their ends" not in told(run)
    first = CutCaptions("tokenizer", 77, 800, 12, 3402, "7.png")
    counts = [first, replace(first, tokenizer="tokenizer_2"), CutCaptions("tokenizer_3", 256, 800, 0)]
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "manifest.json").write_text(json.dumps({"cut_captions": as_json(counts)}))
    line = "12 of 800 captions lose their ends after 77 tokens (tokenizer and tokenizer_2); the longest, of 7.png, has"
    assert f"captions    {line} 3,402" in told(run) and told(run).count("lose their ends") == 1


def test_before_the_first_update_it_says_what_it_does(run):
    write_metrics(run, 0)
    write_events(run, ("started", {}), ("stopped", {}))
    values = yaml.safe_load((run / "config.yaml").read_text())
    values["preview"]["prompts"] = ["a house", "a tree"]
    (run / "config.yaml").write_text(yaml.safe_dump(values))
    with FolderLock(run):
        doing = [read_status(run).doing]
        write_events(run, ("stopped", {}), ("started", {}))
        doing.append(read_status(run).doing)
        assert f"doing       {doing[1]}" in told(run)
        drawing = Drawing.of(load_config(run / "config.yaml", ImageConfig))
        add_preview(run, PreviewRecord(0, "update-000000.png", False, drawing))
        doing.append(read_status(run).doing)
        write_events(run, ("started", {}), ("samples", {"count": 32, "seconds": 64.0}))
        doing.append(read_status(run).doing)
        write_metrics(run, 1)
        doing.append(read_status(run).doing)
    assert [words and words.split()[0] for words in doing] == ["loading", "drawing", "drawing", "computing", None]
    assert "preview" in doing[1] and doing[2] == "drawing the 32 samples of the first iteration"
    write_metrics(run, 0)
    assert read_status(run).doing is None, "nothing is being done"


def test_while_samples_are_drawn(run):
    write_metrics(run, 4)
    buffer = run / "buffer" / "iteration-0001-by-8"
    buffer.mkdir(parents=True)
    (buffer / "samples-000000032.safetensors").touch()
    status = read_status(run)
    assert (status.missing, status.left) == (24, 8 * 3 + 24 * 2 + 32 * 2)
    assert "sampling    8 of 32 reference samples" in status_text(status, NOW)


@pytest.mark.parametrize(
    ("events", "updates", "state"),
    [
        ([("started", {})], 6, "killed: the process is gone and said nothing"),
        ([("started", {}), ("stopped", {"why": "stopped by SIGTERM"})], 6, "stopped: stopped by SIGTERM"),
        ([("started", {}), ("failed", {"why": "the disk is full"})], 6, "failed: the disk is full"),
        ([("started", {}), ("finished", {})], 12, "finished"),
        ([("failed", {"why": "x"}), ("started", {}), ("finished", {})], 12, "finished"),
        ([], 6, "stopped"),
        ([], 0, "not begun"),
    ],
)
def test_how_it_ended(run, events, updates, state):
    write_metrics(run, updates)
    write_events(run, *events)
    text = told(run)
    assert f"state       {state}" in text
    assert ("ends" in text) is False
    assert ("once it runs again" in text) is (0 < updates < 12)


def test_health_is_told_from_the_metrics(run):
    values = yaml.safe_load((run / "config.yaml").read_text())
    values["loop"] |= {"updates_per_iteration": 20, "batch_size": 64}
    (run / "config.yaml").write_text(yaml.safe_dump(values))
    write_metrics(run, 40, share_s_plus=1.0)
    text = told(run)
    assert "health      constant_sign out of bounds:" in text
    assert "  constant_sign at update 20: s was +1 for every pair of 20 updates" in text
    assert "method.reference: latest" in text
    values["health"] = {"constant_sign": "off"}
    (run / "config.yaml").write_text(yaml.safe_dump(values))
    assert "no health warnings" in told(run)


def test_a_config_of_another_version_is_read(run):
    values = yaml.safe_load((run / "config.yaml").read_text())
    del values["health"], values["log"]
    values["method"]["forgotten"] = 3
    (run / "config.yaml").write_text(yaml.safe_dump(values))
    assert read_status(run).update == 6


def test_folders_that_are_no_run(tmp_path, run):
    with pytest.raises(FileNotFoundError, match=r"config\.yaml"):
        read_status(tmp_path)
    (run / "config.yaml").write_text("a: [")
    with pytest.raises(ValueError, match=r"config\.yaml, line 2"):
        read_status(run)


def test_from_the_command_line_without_torch(run):
    program = (
        "import sys, time; begin = time.perf_counter()\n"
        "from seppo_image.__main__ import main\n"
        f"assert main(['status', {str(run)!r}]) == 0\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert time.perf_counter() - begin < 5\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "update 6 of 12" in done.stdout
