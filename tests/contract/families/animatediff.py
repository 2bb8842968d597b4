"""AnimateDiff in the contract."""

from einops import rearrange

from seppo_video.families.animatediff import AnimateDiffModel
from tests.contract.family import Family
from tests.contract.mistakes import change
from tests.tiny import animatediff

ROWS = [
    Family(
        "animatediff",
        latent_shape=(4, 4, 8, 8),
        pipeline=animatediff,
        model=AnimateDiffModel(base="tiny"),
        frames=4,
        mistakes={
            "text of the wrong frames": change(
                "encoder_hidden_states", lambda text: rearrange(text, "(b f) n d -> (f b) n d", f=4)
            )
        },
    )
]
