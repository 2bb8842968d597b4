"""Public names of the package. `__init__.py` imports them when they are first used."""

from seppo_core.judging.aesthetic import Aesthetic as Aesthetic
from seppo_core.judging.base import Scorer as Scorer
from seppo_core.judging.catalogue import SCORERS as SCORERS
from seppo_core.judging.catalogue import load_scorer as load_scorer
from seppo_core.judging.clip_score import CLIPScore as CLIPScore
from seppo_core.judging.doctor import Need as Need
from seppo_core.judging.doctor import diagnose as diagnose
from seppo_core.judging.hpsv2 import HPSv2 as HPSv2
from seppo_core.judging.image_reward import ImageReward as ImageReward
from seppo_core.judging.open_clip_score import OpenCLIPScore as OpenCLIPScore
from seppo_core.judging.pickscore import PickScore as PickScore
