"""What can be done with a run that has been trained, in words to copy."""

import shlex
from pathlib import Path

from seppo_core.run.checkpoint_names import FOLDER, checkpoints_in
from seppo_core.run.previews import best_text, read_previews


def after_training(program: str, run: Path, config_file: str, has_options: bool) -> str:
    """The result of `train` and the commands that go on from it.

    They name the run's own config where options were given besides `config_file`, which they would need too.
    """
    newest = checkpoints_in(run / FOLDER)[-1]
    config = shlex.quote(str(run / "config.yaml") if has_options else config_file)
    previews = read_previews(run)
    best = previews.best()
    told = (
        ""
        if best is None
        else f"the best of its previews that is kept (--checkpoint best): {best_text(best, previews)}\n"
    )
    return (
        f"{run} is trained; its newest checkpoint is {newest}\n{told}"
        f'  look at it:   {program} sample {config} --prompts "..."\n'
        f"  put it out:   {program} export {config}"
    )
