"""`seppo-image`, also `python -m seppo_image`: prepare, train, sample, export."""

import sys

from seppo_core.cli.main import run
from seppo_image.config import ImageConfig


def main(argv: list[str] | None = None) -> int:
    return run(sys.argv[1:] if argv is None else argv, "seppo-image", ImageConfig, "seppo_image.commands")


if __name__ == "__main__":
    sys.exit(main())
