"""`seppo-video`, also `python -m seppo_video`: prepare, train, sample, export."""

import sys

from seppo_core.cli.main import run
from seppo_video.config import VideoConfig


def main(argv: list[str] | None = None) -> int:
    return run(sys.argv[1:] if argv is None else argv, "seppo-video", VideoConfig, "seppo_video.commands")


if __name__ == "__main__":
    sys.exit(main())
