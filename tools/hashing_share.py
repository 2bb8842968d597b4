"""`python -m tools.hashing_share COMMAND CONFIG [OPTION …]`: how much of a command's time goes into hashing files.

It runs a command of `seppo-image` in this process. Seconds are of the processor, those of all threads together.
"""

import sys
import time
from pathlib import Path
from threading import Lock

from seppo_core.io import remembered
from seppo_image.__main__ import main as run


def main(argv: list[str]) -> int:
    hash_file, lock, sizes, taken = remembered.sha256_file, Lock(), [], []

    def timed(path: Path) -> str:
        began = time.thread_time()
        digest = hash_file(path)
        with lock:
            taken.append(time.thread_time() - began)
            sizes.append(path.stat().st_size)
        return digest

    remembered.sha256_file = timed
    status = run(argv)
    whole, hashing, size = time.process_time(), sum(taken), sum(sizes)
    print(
        f"hashing: {hashing:.2f} of {whole:.1f} s, {hashing / whole:.2%}; {len(sizes)} files of {size / 1e9:.3f} GB, "
        f"{hashing / max(size, 1) * 1e9:.2f} s a GB"
    )
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
