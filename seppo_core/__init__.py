"""SePPO: preference alignment of diffusion models, independent of model family and data set.

There are three ways in:

1. The losses are pure functions of denoising errors per sample, for a training loop of your own:

       from seppo_core import Errors, anchor_sign, seppo_loss
       loss, metrics = seppo_loss(errors, anchor_sign(errors), beta=2000)

2. A method is an object that turns a batch of latents into a loss, on any `Adapter`:

       from seppo_core import Batch, Seppo, make_reference
       batch = Batch.of(latents, condition, adapter.path, counterpart=samples)
       loss, metrics = Seppo(beta=2000).loss(adapter, policy, reference, batch)

3. A whole run is what a config file describes, as the commands `seppo-image` and `seppo-video` train it:

       from seppo_image import Run
       Run.from_config("x.yaml", {"method.beta": 10}).train()

Importing this package imports no torch: every name below is imported when it is first used.
"""

from seppo_core.io.lazy import lazy_exports
from seppo_core.io.quiet import quiet_lines_of_no_use

quiet_lines_of_no_use()
__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
