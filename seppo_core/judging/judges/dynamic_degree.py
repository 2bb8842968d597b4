"""VBench's dynamic degree (Huang et al. 2024): whether enough of a clip moves far enough, by RAFT's optical flow.

    frames          every round(fps / 8)-th
    motion          of a pair of frames, the mean flow of its fastest twentieth of pixels
    threshold       6 · min(h, w) / 256, and 8 / fps times that for clips slower than 8 frames a second
    score           1 where round(4 · frames / 16) pairs or more move further, else 0

RAFT is torchvision's `raft_large`; its weights C_T_V1 are the original paper's raft-things. Recipe: docs/judges.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from seppo_core.judging.judges.serve import describe, parser, serve
from seppo_core.judging.judges.upstream import short_hash

UPDATES = 20
MULTIPLE = 8


def main() -> int:
    """The judge's command line."""
    options = parser(__doc__)
    options.add_argument("--weights", required=True, help="raft_large_C_T_V1-22a6c225.pth (torchvision) or safetensors")
    options.add_argument("--fps", type=float, help="frame rate of all clips; each file's own if it is not given")
    asked = options.parse_args()
    if asked.describe:
        columns = {
            "moves": {"what": "VBench's dynamic degree: 1 if the clip moves"},
            "flow": {"what": "mean over pairs of the flow of the fastest twentieth, in pixels", "digits": 2},
        }
        about = {"name": "dynamic degree, RAFT", "version": "1", "kinds": ["video"], "columns": columns,
                 "fps": asked.fps, "licence": "BSD-3"}  # fmt: skip
        weights = Path(asked.weights)
        return describe({**about, "weights": short_hash(weights)} if weights.is_file() else about, [asked.weights])
    return serve(load(asked.weights, asked.fps, asked.device))


def load(weights: str, fps: float | None, device: str):
    """The network, as a function of one line."""
    import torch
    from torchvision.models.optical_flow import raft_large

    if weights.endswith(".safetensors"):
        from safetensors.torch import load_file

        state = load_file(weights)
    else:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    net = raft_large(weights=None)
    net.load_state_dict(state)
    net = net.eval().to(device)

    def flow(first, second):
        with torch.no_grad():
            return net(first.to(device), second.to(device), num_flow_updates=UPDATES)[-1].cpu()

    def score(ask: dict) -> dict[str, float]:
        frames, own = read_clip(ask["file"])
        return dynamic_degree(frames, fps or own, flow)

    return score


def read_clip(path: str):
    """Frames (f, 3, h, w) uint8 and frames per second."""
    import av
    import numpy as np
    import torch

    with av.open(path) as container:
        rate = container.streams.video[0].average_rate
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    return torch.from_numpy(frames).permute(0, 3, 1, 2), float(rate)


def dynamic_degree(frames, fps: float, flow: Callable) -> dict[str, float]:
    """1 or 0, and the mean motion in pixels; `flow` gives (1, 2, h, w) for two frames (1, 3, h, w) in [-1, 1]."""
    import torch
    from torch.nn import functional as F

    taken = frames[:: max(1, round(fps / 8))].float() / 127.5 - 1
    height, width = taken.shape[-2:]
    down, right = -height % MULTIPLE, -width % MULTIPLE
    padding = (right // 2, right - right // 2, down // 2, down - down // 2)
    padded = F.pad(taken, padding, mode="replicate")
    motions = []
    for first, second in zip(padded, padded[1:]):  # noqa: B905, RUF007 - Python 3.8
        # the padded border counts, as it does in VBench
        lengths = flow(first[None], second[None])[0].float().norm(dim=0).flatten()
        fastest = torch.sort(lengths, descending=True).values[: int(lengths.numel() * 0.05)]
        motions.append(fastest.mean().item())
    threshold = max(1.0, 8 / fps) * 6 * min(height, width) / 256
    enough = round(4 * len(taken) / 16)
    moving = sum(motion > threshold for motion in motions)
    # VBench looks for the count after each pair, so that a clip without pairs never moves
    return {"moves": float(bool(motions) and moving >= enough), "flow": sum(motions) / max(1, len(motions))}


if __name__ == "__main__":
    sys.exit(main())
