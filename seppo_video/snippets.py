"""The code that a model card shows for families with motion modules, which are loaded beside an image base."""

from seppo_core.export import snippets
from seppo_core.export.snippets import FOLDER, Sources, pipeline_code, quoted, sampler_code
from seppo_core.models.loading import pipeline_class
from seppo_video.motion import MotionFamily


def usage(adapter: MotionFamily, kind: str, sources: Sources) -> list[str]:
    """As for other families (`seppo_core.export.snippets.usage`), and for "motion" a MotionAdapter in `FOLDER`."""
    if kind == "full":
        return snippets.usage(adapter, kind, sources)
    if kind == "motion":
        return _base(adapter, sources | {"motion_adapter": FOLDER})
    return [*_base(adapter, sources), *snippets.lora_code(adapter)]


def _base(adapter: MotionFamily, sources: Sources) -> list[str]:
    """Lines that make `pipe` of what the run began with, with its motion and its sampler."""
    base = {name: source for name, source in sources.items() if name != "motion_adapter"}
    lines = []
    if "motion_adapter" in sources:
        lines = [
            "from diffusers import MotionAdapter",
            f"motion_adapter = MotionAdapter.from_pretrained({quoted(sources['motion_adapter'])})",
        ]
    if pipeline_class(base["base"], base.get("revision")) != type(adapter.pipeline).__name__:
        lines += _joined(adapter, base)
    else:
        lines += pipeline_code(adapter.pipeline, base)
        # one that a saved pipeline is handed does not reach its UNet
        lines += ["pipe.unet.load_motion_modules(motion_adapter)"] if "motion_adapter" in sources else []
    return [*lines, *sampler_code(adapter)]


def _joined(adapter: MotionFamily, base: Sources) -> list[str]:
    """Lines that make `pipe` of an image base and `motion_adapter`."""
    if adapter.denoiser.config.addition_embed_type is None:
        return pipeline_code(adapter.pipeline, base, motion_adapter="motion_adapter")
    where = "".join(f", {key}={quoted(base[key])}" for key in ("revision", "variant") if key in base)
    return [
        "from diffusers import UNet2DConditionModel",
        f'unet = UNet2DConditionModel.from_pretrained({quoted(base["base"])}, subfolder="unet"{where})',
        *pipeline_code(adapter.pipeline, base, unet="unet", motion_adapter="motion_adapter"),
        "# diffusers leaves this one at random, and with it what the UNet is told of size and caption",
        "pipe.unet.add_embedding.load_state_dict(unet.add_embedding.state_dict())",
    ]
