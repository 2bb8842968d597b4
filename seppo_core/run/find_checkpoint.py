"""Finds the checkpoint or snapshot that a user names. Without torch."""

from pathlib import Path

from seppo_core.run.checkpoint_names import FOLDER as CHECKPOINTS
from seppo_core.run.checkpoint_names import POLICY_FILE, POOL, checkpoint_name, checkpoints_in
from seppo_core.run.previews import best_checkpoint


def checkpoint_label(path: Path | None) -> str:
    """What a checkpoint or snapshot that `find_checkpoint` found is called."""
    return "base" if path is None else path.stem if path.is_file() else path.name


def find_checkpoint(folder: Path, wanted: str) -> Path | None:
    """The checkpoint or snapshot `wanted` of the run in `folder`: "latest", "best" (of those kept, by the scores of
    previews), a number of updates, a name such as update-000030 or snapshot-0002, a path to either, or "base" (None).

    Raises FileNotFoundError, with those that exist, if there is none.
    """
    if wanted == "base":
        return None
    there = checkpoints_in(folder / CHECKPOINTS)
    if wanted == "latest" and there:
        return there[-1]
    if wanted == "best" and there:
        if (best := best_checkpoint(folder)) is not None:
            return best
        raise FileNotFoundError(
            f"{folder} has no best checkpoint: of those that are kept ({', '.join(path.name for path in there)}) none "
            "has a preview with a score of every sample; train with preview.judge and loop.keep_best, or name one"
        )
    snapshots = sorted((folder / POOL).glob("snapshot-*.safetensors"))
    named = {path.name: path for path in there} | {path.stem: path for path in snapshots}
    name = checkpoint_name(int(wanted)) if wanted.isdecimal() else wanted
    if name in named:
        return named[name]
    path = Path(wanted)
    if (path / POLICY_FILE).is_file() or (path.is_file() and path.suffix == ".safetensors"):
        return path
    if wanted in ("latest", "best") and snapshots:
        raise FileNotFoundError(
            f"{folder} has no checkpoint, so nothing is trained yet; go on with train, or take the weights before it "
            f"by naming {snapshots[0].stem} as the checkpoint"
        )
    if not named:
        raise FileNotFoundError(f"{folder} holds no checkpoint yet; run train first")
    raise FileNotFoundError(f"{folder} holds no checkpoint {wanted!r}; it holds {', '.join(named)}")
