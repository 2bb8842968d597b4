"""A run on pictures from Python."""

from seppo_core.cli.base_run import BaseRun
from seppo_image import commands
from seppo_image.config import ImageConfig


class Run(BaseRun[ImageConfig]):
    """A run on pictures: `Run.from_config("x.yaml", {"method.beta": 10}).train()` is `seppo-image train x.yaml
    --method.beta 10`."""

    schema = ImageConfig
    commands = commands
