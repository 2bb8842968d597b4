"""AnimateDiff in the contract."""

from diffusers import AnimateDiffPipeline
from einops import rearrange

from seppo_video.animatediff import AnimateDiff
from tests.contract.family import Family
from tests.contract.mistakes import change
from tests.tiny import animatediff

ROWS = [
    Family(
        "animatediff",
        latent_shape=(4, 4, 8, 8),
        pipeline=animatediff,
        wrap=AnimateDiff,
        load_plain=AnimateDiffPipeline.from_pretrained,
        frames=4,
        mistakes={
            "text of the wrong frames": change(
                "encoder_hidden_states", lambda text: rearrange(text, "(b f) n d -> (f b) n d", f=4)
            )
        },
    )
]
