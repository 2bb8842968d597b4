"""The command of `seppo_image` with little patience for processes that are lost."""

import sys

from seppo_core.distributed import watch
from seppo_image.__main__ import main

watch.INTERVAL, watch.SILENCE, watch.ASKED_TO_STOP = 0.2, 6.0, 2.0

if __name__ == "__main__":
    sys.exit(main())
