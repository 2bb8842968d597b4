"""Public names of the package. `__init__.py` imports them when they are first used."""

from seppo_video.animatediff import AnimateDiff as AnimateDiff
from seppo_video.animatediff_sdxl import AnimateDiffXL as AnimateDiffXL
from seppo_video.cogvideox import CogVideoX as CogVideoX
from seppo_video.commands import export as export
from seppo_video.commands import load as load
from seppo_video.commands import prepare as prepare
from seppo_video.commands import sample as sample
from seppo_video.commands import train as train
from seppo_video.commands import verify as verify
from seppo_video.config import VideoConfig as VideoConfig
from seppo_video.config import VideoData as VideoData
from seppo_video.config import VideoModel as VideoModel
from seppo_video.data import ClipFolder as ClipFolder
from seppo_video.hunyuan import HunyuanVideo as HunyuanVideo
from seppo_video.ltx import LTX as LTX
from seppo_video.run import Run as Run
from seppo_video.wan import Wan as Wan
