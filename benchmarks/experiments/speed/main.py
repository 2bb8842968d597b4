"""`python -m benchmarks speed` measures what training costs, part by part, as ratios within one run."""

import argparse
import sys
from pathlib import Path

from benchmarks.experiments.speed.published import PUBLISHED

NAMES = {
    "methods": "an update by method, against supervised fine-tuning",
    "parts": "parts of a SePPO update, and drawing the reference's samples",
    "anchor": "the anchor's sign from 4 further draws, against the loss's own",
    "accumulation": "micro-batches of other sizes at one batch size",
    "checkpointing": "gradient checkpointing on and off",
    "reference": "under a LoRA: the reference as a second LoRA, or a frozen copy",
    "offload": "the reference's weights waiting on the CPU (CUDA)",
    "attention": "attention kernels: SDPA's own choice, each of them, xformers (CUDA)",
    "precision": "float32, TF32 (CUDA), and autocast to bf16 and fp16 (CUDA)",
    "layout": "convolutions' weights contiguous or channels-last, of a UNet (on a CPU only by --only)",
    "compile": "torch.compile of policy and reference (on a CPU only by --only)",
    "optimizer": "AdamW with moments of 8 bits (CUDA, bitsandbytes)",
    "cache": "cached latents against encoding pictures and captions in every step",
    "loader": "batches made ahead or when asked for, and how long a step waits for them",
}


DEFAULT = Path("runs/speed")
DESCRIPTION = """\
Times variants of training in turn (A B A B …) in one process and reports each as a ratio to its baseline, with an
interval, beside milliseconds and peak memory. What this machine cannot measure is listed with the reason. Without
--base, on a CPU the two small bases of the embedded task, on CUDA Stable Diffusion 1.5 at 512 x 512 and AnimateDiff at
16 x 256 x 256. Any base is built of its architecture's numbers with random weights: nothing is downloaded.
"""
EPILOG = """\
comparisons:
{comparisons}

  python -m benchmarks speed                                    about three minutes of one core
  python -m benchmarks speed --only methods parts
  python -m benchmarks speed --plain --base stable-diffusion-v1-5 --height 256 --tune lora
  python -m benchmarks speed --plain --published --dtype bf16
  python -m benchmarks speed --plain --base stable-diffusion-v1-5 --frames 16 --dtype bf16 --gradient-checkpointing
  python -m benchmarks speed --base stable-diffusion-v1-5 --height 64 --only methods
  python -m benchmarks speed --base stable-diffusion-xl-base-1.0 --tune lora --height 1024 --device cuda
  python -m benchmarks speed --base stable-diffusion-v1-5 --frames 16 --height 256 --device cuda --dtype bf16
"""


def main(argv: list[str] | None = None) -> int:
    """Exit status 0; 1 if a comparison failed or nothing could be written, 2 for a mistake, 130 for Ctrl-C."""
    parser = _parser()
    asked = parser.parse_args(sys.argv[1:] if argv is None else argv)
    if asked.plain and asked.only:
        parser.error("--plain is a comparison of its own; leave out --only")
    if asked.gradient_checkpointing and not asked.plain:
        parser.error("--gradient-checkpointing goes with --plain; without it, --only checkpointing compares both")
    if asked.published is not None:
        _check_published(parser, asked)
    elif not asked.base:
        for name in ("height", "width", "frames", "motion"):
            if getattr(asked, name) is not None:
                parser.error(f"--{name} goes with --base; the default bases have sizes of their own")
    # imported late: a mistake in the call should be told before torch loads
    from benchmarks.experiments.speed.session import Mistake, measure

    try:
        return measure(asked)
    except Mistake as error:
        print(f"speed: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"speed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("speed: stopped", file=sys.stderr)
        return 130


def _check_published(parser: argparse.ArgumentParser, asked: argparse.Namespace) -> None:
    if not asked.plain:
        parser.error("--published goes with --plain")
    for name in ("base", "height", "width", "frames", "motion"):
        if getattr(asked, name) is not None:
            parser.error(f"--{name} does not go with --published, whose bases have sizes of their own; leave it out")
    if asked.tune == "full":
        parser.error("--published trains a LoRA of each base; leave out --tune full, or name a base with --base")
    unknown = [name for name in asked.published if name not in PUBLISHED]
    if unknown:
        parser.error(f"--published has no {unknown[0]}; it takes {', '.join(PUBLISHED)}")


def _parser() -> argparse.ArgumentParser:
    comparisons = "\n".join(f"  {name:15}{text}" for name, text in NAMES.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks speed", description=DESCRIPTION, epilog=EPILOG.format(comparisons=comparisons),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--only", nargs="+", metavar="NAME", choices=list(NAMES), help="run these comparisons alone (named below)")
    add("--plain", action="store_true", help="hold an update and its samples against a published script's way alone")
    add(
        "--published", nargs="*", metavar="NAME",
        help="with --plain: a LoRA of every published base at its own size, or of those named, if it fits the memory",
    )  # fmt: skip
    add(
        "--gradient-checkpointing", action="store_true",
        help="with --plain: all ways recompute activations in the backward pass, where they would not fit",
    )  # fmt: skip
    add("--base", nargs="+", metavar="ID", help="hub ids (the last part is enough) or folders; random weights")
    add("--motion", metavar="ID", help="motion modules for an image base with --frames (default: the usual ones)")
    add("--height", type=_positive, metavar="PIXELS", help="of --base (default: 512, clips 256)")
    add("--width", type=_positive, metavar="PIXELS", help="of --base (default: its height)")
    add("--frames", type=_positive, metavar="N", help="of clips (default: 16 or 17); makes an image base AnimateDiff")
    add("--tune", choices=["full", "lora"], help="default: all weights of images if they fit, a LoRA of clips")
    add("--rank", type=_positive, default=16, metavar="N", help="of a LoRA (default: %(default)s)")
    add("--batch", type=_positive, metavar="N", help="pairs in an update (default: 4, clips 2; small bases 8 and 2)")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto", help="default: CUDA if there is any")
    add("--dtype", choices=["fp32", "bf16", "fp16"], help="of autocast (default: bf16 on CUDA, fp32 on a CPU)")
    add("--rounds", type=_positive, metavar="N", help="that count (default: 9 on a CPU, 20 on CUDA)")
    add("--warmup", type=_positive, default=2, metavar="N", help="rounds before them (default: %(default)s)")
    add("--sampling-steps", type=_positive, metavar="N", help="of reference samples (default: 10, 50 on CUDA)")
    add("--out", type=Path, default=DEFAULT, help="folder to write (default: %(default)s)")
    return parser


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} must be at least 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
