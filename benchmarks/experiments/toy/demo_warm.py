"""Imported by the server that the demo's processes are forked from: loads a base once, so that what loading imports and
works out is there in all of them."""

import os

import torch

from benchmarks.experiments.toy.demo_arms import load_configs
from benchmarks.experiments.toy.judge import load_adapter
from seppo_core.toy.captions import held_out
from seppo_core.toy.render import FRAMES, SIZE
from seppo_core.toy.score import score_videos


def warm() -> None:
    """Loads both bases, and draws what clips are held against.

    Without a word: what is wrong with a base, the command that needs it says.
    """
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        for modality in ("image", "video"):
            load_adapter(modality, load_configs(modality, ("sft",))["sft"])
        score_videos(torch.zeros(1, 3, FRAMES, SIZE, SIZE), held_out("video")[:1])
    except (OSError, ValueError):
        pass
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


warm()
