"""A run that nothing disturbed, to hold the others against; clips."""

from pathlib import Path

import numpy as np
import pytest

from seppo_image import commands
from seppo_video.frames import write_clip
from tests import tiny
from tests.training.forms import make_caches
from tests.training.judged_runs import WORDS, config_of, watched
from tests.workshop import Workshop


@pytest.fixture(scope="session")
def whole_run(workshop, tmp_path_factory):
    """Folder of a finished run of the workshop's config; not to be written to."""
    run = tmp_path_factory.mktemp("whole") / "run"
    commands.train(workshop.config(run))
    return run


@pytest.fixture(scope="session")
def caches(workshop, tmp_path_factory) -> dict[str, Path]:
    """Folders of caches by the form of the data; not to be written to."""
    return make_caches(workshop, tmp_path_factory.mktemp("forms"))


@pytest.fixture(scope="session")
def clips(tmp_path_factory) -> Path:
    """A tiny AnimateDiff base, its motion adapter, clips, and a config for them."""
    root = tmp_path_factory.mktemp("clips")
    tiny.stable_diffusion(root / "words").save_pretrained(root / "base")
    tiny.motion().save_pretrained(root / "motion")
    (root / "data").mkdir()
    lines = []
    for number in range(4):
        frames = np.zeros((9, 64, 64, 3), np.uint8)
        for index in range(9):
            frames[index, :, 4 * index : 4 * index + 8] = (40 * number + 60, 200, 90)
        write_clip(root / "data" / f"{number}.mkv", frames, 8)
        lines.append(f'{{"file_name": "{number}.mkv", "caption": "a bar moves {number}"}}\n')
    (root / "data" / "metadata.jsonl").write_text("".join(lines))
    (root / "config.yaml").write_text(f"""
run: {root}/run
model: {{base: {root}/base, motion_adapter: {root}/motion}}
data: {{source: {root}/data, cache: {root}/cache, height: 64, width: 64, frames: 4}}
method: {{beta: 50}}
reference_samples: {{steps: 2, batch_size: 2}}
loop: {{iterations: 2, updates_per_iteration: 2, batch_size: 2, micro_batch_size: 1}}
optimizer: {{lr: 1.0e-3}}
""")
    return root


@pytest.fixture(scope="session")
def prompts(workshop, tmp_path_factory) -> Workshop:
    """The workshop with a cache of prompts alone."""
    folder = tmp_path_factory.mktemp("prompts")
    (folder / "prompts.txt").write_text("\n".join(WORDS))
    made = Workshop(workshop.base, folder / "prompts.txt", folder / "cache")
    commands.prepare(config_of(made, folder / "unused"))
    return made


@pytest.fixture(scope="session")
def judged_whole(prompts, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        return watched(config_of(prompts, tmp_path_factory.mktemp("whole") / "run"), patch)


@pytest.fixture
def judged_run(judged_whole) -> Path:
    """Folder of a finished run with a judge; not to be written to."""
    return judged_whole.run
