"""What keeps less in a GPU's memory, and where it cannot work: refused by the config alone."""

import pytest

from seppo_core.config.loader import load_config
from seppo_image.config import ImageConfig
from seppo_video.config import VideoConfig

FLUX = "run: r\ndata: {source: s, cache: c}\n"


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("model: {family: flux, base: a/b, quantize: nf4}\n", r"quantize=nf4.*tune\.mode=full.*set tune\.mode=lora"),
        (
            "model: {family: flux, base: a/b, quantize: nf4}\ntune: {mode: lora}\nloop: {sharded: true}\n",
            r"quantize=nf4.*loop\.sharded=true",
        ),
        ("model: {family: sdxl, base: a/b, quantize_text: nf4}\n", r"quantize_text=nf4 has no effect for sdxl"),
        ("model: {family: flux, base: a/b, offload: true}\n", r"tune\.mode=full trains the base; set tune\.mode=lora"),
        ("model: {family: sdxl, base: a/b, offload: true}\ntune: {mode: lora}\n", r"UNet of sdxl.*use model\.quantize"),
        (
            "model: {family: flux, base: a/b, offload: true}\ntune: {mode: lora}\n",
            r"weights of all blocks; set loop\.gradient_checkpointing=true",
        ),
        (
            "model: {family: flux, base: a/b, offload: true, quantize: int8}\ntune: {mode: lora}\n"
            "loop: {gradient_checkpointing: true}\n",
            r"model\.quantize=int8",
        ),
        ("model: {base: a/b}\nloop: {offload_activations: true}\n", r"without loop\.gradient_checkpointing=true"),
        ("model: {base: a/b}\nloop: {checkpointing_share: 0.5}\n", r"share=0\.5.*nothing is recomputed; set loop"),
        (
            "model: {base: a/b}\nloop: {gradient_checkpointing: true, checkpointing_share: 0.5, "
            "offload_activations: true}\n",
            r"share=0\.5.*loop\.offload_activations=true would move",
        ),
        ("model: {base: a/b}\nloop: {gradient_checkpointing: true, checkpointing_share: 0}\n", r"must lie in \(0, 1\]"),
        (
            "model: {family: flux, base: a/b, offload: true}\ntune: {mode: lora}\n"
            "loop: {gradient_checkpointing: true, checkpointing_share: 0.5}\n",
            r"share=0\.5 keeps the weights of the other blocks; recompute all",
        ),
        ("model: {base: a/b}\noptimizer: {name: adafactor, fused: true}\n", r"fused=true is of adamw, not.*adafactor"),
        ("model: {base: a/b}\noptimizer: {fused: true}\nloop: {mixed_precision: fp16}\n", r"leave it out, or use bf16"),
        ("model: {base: a/b}\nloop: {compile: tvm}\n", r"loop\.compile"),
        (
            "model: {family: flux, base: a/b}\nloop: {compile: inductor, context_parallel: 2}\n",
            r"compile=inductor is not tested with loop\.context_parallel=2",
        ),
        ("model: {base: a/b}\noptimizer: {name: adafactor, eps: 0.1}\n", r"eps=0\.1 are not adafactor's"),
        (
            "model: {family: flux, base: a/b}\nreference_samples: {guidance_interval: [0.2, 0.7]}\n",
            r"guidance_interval=\[0\.2, 0\.7\] leaves out the second pass .* and flux has none; leave it out",
        ),
        (
            "model: {base: a/b}\nreference_samples: {guidance_interval: [0.1, 0.12], steps: 5}\n",
            r"guidance_interval=\S+ 0\.12\) holds none of the 5 steps .*; widen it, or set guidance_scale=1",
        ),
        (
            "model: {base: a/b}\nloop: {deterministic: true, attention: xformers}\n",
            r"deterministic=true cannot be kept with loop\.attention=xformers.*; use sdpa",
        ),
        (
            "model: {base: a/b}\nloop: {sharded: true, mixed_precision: fp16}\n",
            r"sharded=true does not go with loop\.mixed_precision=fp16; use bf16",
        ),
        ("model: {base: a/b}\noptimizer: {name: adafactor}\nloop: {sharded: true}\n", r"adafactor does not support"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(tmp_path, text, refusal):
    path = tmp_path / "x.yaml"
    path.write_text(FLUX + text)
    with pytest.raises(ValueError, match=refusal) as error:
        load_config(path, ImageConfig)
    assert "\n" not in str(error.value)


def test_what_works_is_taken(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(
        FLUX + "model: {family: wan, base: a/b, offload: true, quantize_text: nf4}\ntune: {mode: lora}\n"
        "loop: {gradient_checkpointing: true, offload_activations: true}\noptimizer: {name: adafactor}\n"
    )
    assert load_config(path, VideoConfig).model.offload
