"""A run on clips from Python."""

from seppo_core.cli.base_run import BaseRun
from seppo_video import commands
from seppo_video.config import VideoConfig


class Run(BaseRun[VideoConfig]):
    """A run on clips: `Run.from_config("x.yaml", {"method.beta": 10}).train()` is `seppo-video train x.yaml
    --method.beta 10`."""

    schema = VideoConfig
    commands = commands
