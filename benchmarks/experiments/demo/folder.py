"""The demo's folder: begun afresh every time, without ever deleting what the demo did not make."""

import json
import shutil
from pathlib import Path

from benchmarks.experiments.demo.plan import RECIPES
from seppo_core.io.atomic import save_json

MARKER = "demo.json"
MADE_BY = "python -m benchmarks demo"


class DemoFolder:
    """Opens `out` for a run with `settings`: afresh, or on from where an interrupted demo stopped.

    A marker file proves that the demo made a folder. Only entries that it makes are removed from one, so that a file
    put there by hand stays. Raises FileExistsError for a folder that is not the demo's, and ValueError where there is
    nothing to resume or it was begun with other settings.
    """

    def __init__(self, out: Path, settings: dict, resume: bool = False):
        self.out = out
        self.marker = out / MARKER
        state = self._read()
        if resume:
            if state is None:
                raise ValueError(f"{out} holds no demo to resume; run it without --resume")
            if state["settings"] != settings:
                raise ValueError(
                    f"{out} was begun with {_told(state['settings'])}, not {_told(settings)}; resume with the same, "
                    "or begin afresh without --resume"
                )
            self.done: dict[str, float] = state["done"]
        else:
            if state is None and out.exists() and (not out.is_dir() or any(out.iterdir())):
                raise FileExistsError(
                    f"{out} was not made by the demo (it has no {MARKER}) and is left as it is; "
                    "name another folder with --out, or move it away"
                )
            if state is not None:
                self._clear()
            self.done = {}
        self.settings = settings
        out.mkdir(parents=True, exist_ok=True)
        self._save()

    def finish(self, task: str, seconds: float) -> None:
        """Notes that `task` need not be run again."""
        self.done[task] = round(seconds, 1)
        self._save()

    def _save(self) -> None:
        save_json(self.marker, {"made_by": MADE_BY, "settings": self.settings, "done": self.done})

    def _read(self) -> dict | None:
        if not self.marker.is_file():
            return None
        try:
            state = json.loads(self.marker.read_text(encoding="utf-8"))
        except ValueError:
            return None
        return state if isinstance(state, dict) and state.get("made_by") == MADE_BY else None

    def _clear(self) -> None:
        """Removes what a demo makes, and the marker last: a kill in between leaves a folder still known as ours."""
        for name in entries():
            path = self.out / name
            # a link is removed, never what it points to
            if path.is_symlink() or path.is_file():
                path.unlink()
            elif path.is_dir():
                shutil.rmtree(path)
        for modality in ("image", "video"):
            folder = self.out / modality
            if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
                folder.rmdir()
        self.marker.unlink()


def entries() -> list[str]:
    """Everything that a demo makes under its folder, the marker aside."""
    per_modality = [f"{modality}/{name}" for modality in ("image", "video") for name in (*RECIPES.values(), "scores")]
    return ["report.json", "index.html", "data", "cache", "logs", *per_modality]


def _told(settings: dict) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())
