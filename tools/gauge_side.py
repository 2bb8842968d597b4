"""One side of the gauge: a tree whose commands are run, and the folder they work in."""

import json
import os
import runpy
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

# The imports of what commands need are most of their seconds; forked processes find them done. None of it is ours.
import accelerate  # noqa: F401
import av
import numpy as np
import peft  # noqa: F401
import torch  # noqa: F401
from diffusers import AnimateDiffPipeline, StableDiffusionPipeline, UNetMotionModel  # noqa: F401
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer  # noqa: F401

BASES = ("benchmarks/experiments/toy/task/bases", "benchmarks/toy/bases")
"""Where a tree keeps the toy bases, newest place first."""
ITEMS = 12
CAPTIONS = ("a small red circle on black", "a large green square on grey", "a small blue ring on white")


class CommandFailed(Exception):
    """A command ended with another exit status than the case expects."""


class Side:
    """A tree, and `here`: the folder that both sides use in turn, so that absolute paths are the same for both."""

    def __init__(self, label: str, tree: Path, work: Path):
        self.label, self.tree, self.work = label, tree, work
        self.here, self.data, self.logs = work / "here", work / "data", work / f"{label}.log"
        self.old = work / "old"
        self.is_old = label == "old"
        self._done: dict[tuple, Any] = {}
        base = next(tree / place for place in BASES if (tree / place / "image").is_dir())
        self.here.mkdir()
        shutil.copytree(base, self.here / "base")

    def config(self, name: str) -> Path:
        """Where the config of run `name` lies."""
        return self.here / "configs" / f"{name}.yaml"

    def put_away(self) -> None:
        """Moves what this side left to a folder of its name."""
        self.here.rename(self.work / self.label)

    def once(self, key: tuple, make: Callable[[], Any]) -> Any:
        """Calls `make` if nothing was made under `key` yet; several cases share runs and caches."""
        if key not in self._done:
            self._done[key] = make()
        return self._done[key]

    def command(self, package: str, words: list[str], *, processes: int = 1, stop_at: Path | None = None) -> None:
        """Runs `python -m PACKAGE WORDS` in the tree, as `processes` that a launcher would start.

        With `stop_at`, a run's metrics.jsonl, sends SIGTERM after its second line and expects status 143.
        CommandFailed with the log's last line if a status is not the expected one.
        """
        port = _free_port()
        ranks = [_rank_variables(rank, processes, port) for rank in range(processes)] if processes > 1 else [{}]
        children = [self._fork(package, words, variables) for variables in ranks]
        if stop_at is not None:
            _stop_after_two_updates(children[0], stop_at)
        statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        expected = 143 if stop_at is not None else 0
        if statuses != [expected] * processes:
            lines = self.logs.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise CommandFailed(f"{package} {words[0]} ended with {statuses}: {lines[-1] if lines else 'no output'}")

    def _fork(self, package: str, words: list[str], variables: dict[str, str]) -> int:
        sys.stdout.flush()
        child = os.fork()
        if child:
            return child
        status = 1
        try:
            log = os.open(self.logs, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.chdir(self.tree)
            os.environ |= variables | {"PYTHONPATH": str(self.tree)}
            ours = {Path(__file__).parent, Path(__file__).parent.parent}
            sys.path = [str(self.tree), *(entry for entry in sys.path if Path(entry).resolve() not in ours)]
            sys.argv = [package, *words]
            print(f"\n$ python -m {package} {' '.join(words)}", flush=True)
            try:
                runpy.run_module(package, run_name="__main__", alter_sys=True)
                status = 0
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
            where = Path(sys.modules["seppo_core"].__file__ or "")
            if not where.is_relative_to(self.tree):
                raise ImportError(f"seppo_core came from {where}, not from {self.tree}")
        except BaseException:
            traceback.print_exc()
            status = 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)


def write_config(path: Path, values: dict) -> Path:
    """JSON is YAML, so that the standard library suffices."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=1), encoding="utf-8")
    return path


def write_data(folder: Path) -> None:
    """Winners and losers, pictures and clips of 16 x 16 pixels, with tables of pairs and of labelled items."""
    generator = np.random.default_rng(0)
    for kind, suffix in (("image", "png"), ("video", "mp4")):
        for name in ("winners", "losers"):
            (folder / kind / name).mkdir(parents=True)
            rows = []
            for number in range(ITEMS):
                path = folder / kind / name / f"{number:04}.{suffix}"
                frames = _pictures(generator, 1 if kind == "image" else 8)
                if kind == "image":
                    Image.fromarray(frames[0]).save(path)
                else:
                    _write_clip(path, frames)
                rows.append({"file_name": path.name, "caption": CAPTIONS[number % len(CAPTIONS)]})
            _write_table(folder / kind / name / "metadata.jsonl", rows)
        files = [f"{number:04}.{suffix}" for number in range(ITEMS)]
        captioned = [(file, CAPTIONS[number % len(CAPTIONS)]) for number, file in enumerate(files)]
        pairs = [
            {"file_name": f"winners/{file}", "loser_file_name": f"losers/{file}", "caption": caption}
            for file, caption in captioned
        ]
        labels = [
            {"file_name": f"{name}/{file}", "label": name == "winners", "caption": caption}
            for file, caption in captioned
            for name in ("winners", "losers")
        ]
        _write_table(folder / kind / "pairs.jsonl", pairs)
        _write_table(folder / kind / "labels.jsonl", labels)


def _pictures(generator: np.random.Generator, count: int) -> np.ndarray:
    """A noisy square on a flat ground, one place further in every frame, (count, 16, 16, 3) uint8."""
    ground, colour = generator.integers(0, 256, (2, 3))
    frames = np.broadcast_to(ground, (count, 16, 16, 3)).copy()
    top, left = generator.integers(0, 5, 2)
    for number in range(count):
        frames[number, top : top + 5, left + number % 6 : left + number % 6 + 5] = colour
    noise = generator.integers(-8, 9, frames.shape)
    return (frames + noise).clip(0, 255).astype(np.uint8)


def _write_clip(path: Path, frames: np.ndarray) -> None:
    """Lossless H.264, so that every byte comes back."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264rgb", rate=Fraction(8), options={"qp": "0", "x264-params": "log-level=error"}
        )
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "rgb24"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())


def _write_table(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _rank_variables(rank: int, world: int, port: int) -> dict[str, str]:
    """What torchrun sets for a process."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _stop_after_two_updates(child: int, metrics: Path, timeout: float = 120) -> None:
    """Sends SIGTERM; the command saves after the update it is in."""
    deadline = time.monotonic() + timeout
    while not (metrics.is_file() and metrics.read_text(encoding="utf-8").count("\n") >= 2):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            return
        time.sleep(0.002)
    os.kill(child, signal.SIGTERM)
