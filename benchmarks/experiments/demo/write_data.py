"""`python -m benchmarks.experiments.demo.write_data FOLDER SEED IMAGES CLIPS`:

Writes the toy sets as files, and what they score.
"""

import sys
from pathlib import Path

from benchmarks.experiments.toy.task.mixture import score_samples
from benchmarks.experiments.toy.task.sets import read_set, write_sets
from seppo_core.io.atomic import save_json


def main(arguments: list[str]) -> None:
    """Writes the sets and `scores.json`: the mean exact score of each, read back from its files."""
    folder, seed, images, clips = Path(arguments[0]), *map(int, arguments[1:])
    written = write_sets(folder, seed, images, clips)
    means: dict[str, float] = {}
    for name, path in written.items():
        if path.is_dir():
            pixels, captions = read_set(path)
            modality = "image" if name.startswith("image/") else "video"
            means[name] = round(score_samples(modality, pixels, captions).mean().item(), 4)
            print(f"{name}: {len(captions)} files, mean score {means[name]}")
    save_json(folder / "scores.json", means)


if __name__ == "__main__":
    main(sys.argv[1:])
