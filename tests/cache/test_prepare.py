import json
import threading
from pathlib import Path

import pytest
import torch

from seppo_core.cache import writer as cache_folder
from seppo_core.cache.prepare import prepare
from seppo_core.cache.reader import WinnerCache
from seppo_core.data.source import Item
from seppo_core.io.locks import LOCK, READERS
from seppo_core.models.adapter import Posterior
from tests.cache.winners import ListSource, PixelAdapter

CAPTIONS = [f"caption {i % 7}" for i in range(20)]
# shards hold four; of one of them nothing can be used
BAD = dict.fromkeys([2, 4, 5, 6, 7, 14], "planted")
OPTIONS = {"model": "tiny", "batch_size": 3, "shard_size": 4, "flip": True, "progress": False}


class Killed(BaseException):
    """As abrupt as can be from inside."""


class StoppingAdapter(PixelAdapter):
    """Dies at its nth call."""

    def __init__(self, at: int):
        super().__init__()
        self.left = at

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed

    def encode(self, pixels):
        self._count()
        return super().encode(pixels)

    def encode_prompts(self, prompts):
        self._count()
        return super().encode_prompts(prompts)


def content(folder: Path) -> dict[str, bytes]:
    """All files of a cache; those of locks count as empty, since they name who held them last."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): b"" if path.name in (LOCK, READERS) else path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed") / "cache"
    prepare(PixelAdapter(), ListSource(CAPTIONS, BAD), folder, **OPTIONS)
    return content(folder)


def test_a_finished_cache_holds_nothing_but_itself(undisturbed):
    assert sorted(undisturbed) == [
        "index.safetensors",
        *(f"items-{number:05}.safetensors" for number in (0, 2, 3, 4)),
        "items.jsonl",
        "manifest.json",
        *(f"parts/items-{number:05}.json" for number in range(5)),
        "parts/lock",
        "parts/readers",
        *(f"parts/text-{number:05}.json" for number in range(2)),
        "rejected.jsonl",
        "text-00000.safetensors",
        "text-00001.safetensors",
    ]
    manifest = json.loads(undisturbed["manifest.json"])
    assert (manifest["items"], manifest["rejected"], manifest["captions"]) == (14, 6, 7)


@pytest.mark.parametrize("calls", range(15))
def test_killed_while_encoding_and_run_again_gives_the_same_bytes(tmp_path, undisturbed, calls):
    source = ListSource(CAPTIONS, BAD)
    stopping = StoppingAdapter(calls)
    with pytest.raises(Killed):
        prepare(stopping, source, tmp_path / "cache", **OPTIONS)
    with pytest.raises(FileNotFoundError, match="`prepare`"):
        WinnerCache(tmp_path / "cache")
    adapter = PixelAdapter()
    prepare(adapter, source, tmp_path / "cache", **OPTIONS)
    assert content(tmp_path / "cache") == undisturbed
    # two rows of 14 items; what was whole when it was killed was not encoded again
    assert len(stopping.calls) < 4 or sum(adapter.calls) < 28


@pytest.mark.parametrize("name", ["whole_file", "save_tensors", "save_json"])
@pytest.mark.parametrize("before", [True, False])
def test_killed_at_any_write_and_run_again_gives_the_same_bytes(tmp_path, monkeypatch, undisturbed, name, before):
    write, left = getattr(cache_folder, name), 0

    def dying(*arguments):
        nonlocal left
        left -= 1
        if left < 0 and before:
            raise Killed
        result = write(*arguments)
        if left < 0:
            raise Killed
        return result

    finished = False
    for stop in range(1, 40):
        left = stop
        with monkeypatch.context() as patch:
            patch.setattr(cache_folder, name, dying)
            try:
                prepare(PixelAdapter(), ListSource(CAPTIONS, BAD), tmp_path / "cache", **OPTIONS)
                finished = True
            except Killed:
                (tmp_path / "cache" / ".items-00000.safetensors.123.tmp").write_bytes(b"left by kill -9")
        if finished:
            break
    assert finished and content(tmp_path / "cache") == undisturbed


def test_run_again_when_all_is_done_encodes_nothing(tmp_path):
    first = prepare(PixelAdapter(), ListSource(CAPTIONS), tmp_path / "cache", **OPTIONS)
    adapter = PixelAdapter()
    assert prepare(adapter, ListSource(CAPTIONS), tmp_path / "cache", **OPTIONS) == first
    assert adapter.calls == [] and adapter.prompts == []


def test_batches_and_threads_change_nothing(tmp_path, undisturbed):
    options = OPTIONS | {"batch_size": 1, "workers": 3}
    prepare(PixelAdapter(), ListSource(CAPTIONS, BAD), tmp_path / "cache", **options)
    assert content(tmp_path / "cache") == undisturbed


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model": "other"}, "model tiny.*other"),
        ({"dtype": "float16"}, "dtype float32.*float16"),
        ({"flip": False}, "flip True.*False"),
        ({"shard_size": 5}, "shard_size 4.*5"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_another_cache_is_refused_and_replaced_only_when_told(tmp_path, change, told, finished):
    folder = tmp_path / "cache"
    if finished:
        prepare(PixelAdapter(), ListSource(CAPTIONS), folder, **OPTIONS)
    else:
        with pytest.raises(Killed):
            prepare(StoppingAdapter(7), ListSource(CAPTIONS), folder, **OPTIONS)
    (folder / "notes.txt").write_text("mine")
    before = content(folder)
    with pytest.raises(ValueError, match=told):
        prepare(PixelAdapter(), ListSource(CAPTIONS), folder, **OPTIONS | change)
    assert content(folder) == before
    prepare(PixelAdapter(), ListSource(CAPTIONS), folder, overwrite=True, **OPTIONS | change)
    prepare(PixelAdapter(), ListSource(CAPTIONS), tmp_path / "fresh", **OPTIONS | change)
    assert content(folder) == content(tmp_path / "fresh") | {"notes.txt": b"mine"}


def test_changed_data_are_another_cache(tmp_path):
    prepare(PixelAdapter(), ListSource(CAPTIONS), tmp_path / "cache", **OPTIONS)
    with pytest.raises(ValueError, match="source"):
        prepare(PixelAdapter(), ListSource(CAPTIONS[:-1]), tmp_path / "cache", **OPTIONS)


def test_a_damaged_finished_cache_is_not_taken_as_done(tmp_path):
    prepare(PixelAdapter(), ListSource(CAPTIONS), tmp_path / "cache", **OPTIONS)
    (tmp_path / "cache" / "items-00001.safetensors").unlink()
    with pytest.raises(ValueError, match=r"items-00001\.safetensors"):
        prepare(PixelAdapter(), ListSource(CAPTIONS), tmp_path / "cache", **OPTIONS)


def test_files_of_the_user_are_left_alone(tmp_path):
    (tmp_path / "metadata.jsonl").write_text("{}")
    with pytest.raises(FileExistsError, match=r"metadata\.jsonl"):
        prepare(PixelAdapter(), ListSource(CAPTIONS), tmp_path, overwrite=True, **OPTIONS)
    with pytest.raises(FileExistsError, match=r"metadata\.jsonl"):
        prepare(PixelAdapter(), ListSource(CAPTIONS), tmp_path / "metadata.jsonl", **OPTIONS)


def test_nothing_left_says_so_with_reasons_and_is_forgotten_once_mended(tmp_path):
    folder, captions = tmp_path / "cache", CAPTIONS[:5]
    bad = {position: f"reason {position}" for position in range(5)}
    with pytest.raises(ValueError, match=r"\b5 items.*0\.png: reason 0; 1\.png: reason 1") as told:
        prepare(PixelAdapter(), ListSource(captions, bad), folder, **OPTIONS)
    assert str(folder / "rejected.jsonl") in str(told.value)
    assert len((folder / "rejected.jsonl").read_text().splitlines()) == 5
    assert prepare(PixelAdapter(), ListSource(captions), folder, **OPTIONS).items == 5
    assert (folder / "rejected.jsonl").read_text() == ""


def test_too_many_rejected_stops_early_and_goes_on_with_a_larger_share(tmp_path):
    bad = dict.fromkeys(range(1, 20), "planted")
    adapter = PixelAdapter()
    with pytest.raises(ValueError, match=r"11 of 20.*max_rejected_share 0\.5"):
        prepare(adapter, ListSource(CAPTIONS, bad), tmp_path / "cache", **OPTIONS)
    assert len((tmp_path / "cache" / "rejected.jsonl").read_text().splitlines()) == 11
    manifest = prepare(adapter, ListSource(CAPTIONS, bad), tmp_path / "cache", max_rejected_share=1, **OPTIONS)
    assert (manifest.items, manifest.rejected) == (1, 19) and adapter.calls == [1, 1]


def test_empty_captions_and_latents_that_are_not_finite_are_rejected(tmp_path):
    source = ListSource(["a", "  ", "c", "d"])
    overflowing = source.pixels(2).float() / 127.5 - 1

    class Overflowing(PixelAdapter):
        def encode(self, pixels):
            mean, logvar = super().encode(pixels)
            hit = (pixels == overflowing).flatten(1).all(1)
            return Posterior(torch.where(hit[:, None, None, None], torch.nan, mean), logvar)

    manifest = prepare(Overflowing(), source, tmp_path / "cache", model="tiny", progress=False)
    lines = [json.loads(line) for line in (tmp_path / "cache" / "rejected.jsonl").read_text().splitlines()]
    assert manifest.items == 2 and WinnerCache(tmp_path / "cache").ids([0, 1]) == ["id 0", "id 3"]
    assert lines[0] == {"file": "1.png", "reason": "empty caption"}
    assert lines[1]["file"] == "2.png" and "not finite" in lines[1]["reason"]


def test_out_of_memory_halves_the_batch_and_changes_nothing(tmp_path, undisturbed, capsys):
    adapter = PixelAdapter(largest_batch=1)
    prepare(adapter, ListSource(CAPTIONS, BAD), tmp_path / "cache", **OPTIONS)
    assert content(tmp_path / "cache") == undisturbed
    assert adapter.calls.count(3) == 1 and "1 at a time" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"\(3, 8, 8\).*data\.vae_tiling"):
        prepare(PixelAdapter(largest_batch=0), ListSource(CAPTIONS), tmp_path / "other", **OPTIONS)


def test_progress_tells_rate_rejections_and_summary(tmp_path, capsys):
    prepare(PixelAdapter(), ListSource(CAPTIONS, BAD), tmp_path / "cache", **OPTIONS | {"progress": True})
    told = capsys.readouterr()
    assert "20/20" in told.err and "images/s" in told.err and "rejected=6" in told.err
    assert "14 items with 7 distinct captions; 6 rejected, see" in told.out


def test_items_are_read_ahead_and_errors_of_the_source_end_the_run(tmp_path):
    threads = set()

    class Vanishing(ListSource):
        def item(self, position: int) -> Item:
            threads.add(threading.current_thread().name)
            if position == 9:
                raise FileNotFoundError("the folder vanished")
            return super().item(position)

    with pytest.raises(FileNotFoundError, match="vanished"):
        prepare(PixelAdapter(), Vanishing(CAPTIONS), tmp_path / "cache", **OPTIONS)
    assert threads == {"read_0"}
    assert not any(thread.name.startswith("read") for thread in threading.enumerate())


def test_prompts_of_several_lengths_are_refused(tmp_path):
    class Ragged(PixelAdapter):
        def encode_prompts(self, prompts):
            return {"text": torch.zeros(len(prompts), 1 + max(len(prompt) for prompt in prompts), 4)}

    with pytest.raises(ValueError, match="text"):
        prepare(Ragged(), ListSource(CAPTIONS), tmp_path / "cache", **OPTIONS)


def test_bad_arguments_and_small_disks_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"dtype 'half'.*float32"):
        prepare(PixelAdapter(), ListSource(CAPTIONS), tmp_path / "cache", **OPTIONS | {"dtype": "half"})
    with pytest.raises(ValueError, match="batch_size 0"):
        prepare(PixelAdapter(), ListSource(CAPTIONS), tmp_path / "cache", **OPTIONS | {"batch_size": 0})
    monkeypatch.setattr("seppo_core.io.space.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(OSError, match="GB free"):
        prepare(PixelAdapter(), ListSource(CAPTIONS), tmp_path / "cache", **OPTIONS)
