"""Checks that cache, run and checkpoints belong to the base that is loaded."""

from pathlib import Path

from seppo_core.cache.reader import WinnerCache
from seppo_core.config.schema import Config
from seppo_core.models.adapter import Adapter
from seppo_core.models.fingerprint import denoiser_fingerprint, difference, frozen_fingerprint
from seppo_core.models.finite import first_not_finite
from seppo_core.run.folder import check_model, record_model, recorded_models


def check_base(config: Config, cache: WinnerCache, adapter: Adapter, accept: tuple[str, ...]) -> None:
    """ValueError unless the cache was made with this base's VAE, text encoder and tokenizer, and the run begun on its
    denoiser; notes in the run what base that is."""
    frozen, here = cache.manifest.model, config.data.cache
    if frozen != (model := frozen_fingerprint(adapter, config.model, like=frozen)):
        raise ValueError(
            f"{here} was prepared with another VAE, text encoder or tokenizer than this model has "
            f"({difference(frozen, model)}); bring the old files back, or prepare the data again, into another "
            "data.cache"
        )
    if (name := first_not_finite(dict(adapter.denoiser.named_parameters()))) is not None:
        raise ValueError(f"{name!r} of {config.model.base} is not finite; load it anew, or set another model.dtype")
    folder = Path(config.run)
    check_run_base(folder, config, adapter, accept)
    record_model(folder, denoiser_fingerprint(adapter, config.model), frozen_fingerprint(adapter, config.model))


def check_run_base(folder: Path, config: Config, adapter: Adapter, accept: tuple[str, ...] = ()) -> None:
    """ValueError unless the run in `folder` was begun on this base, by the kind of fingerprint that it has recorded."""
    recorded = recorded_models(folder)
    check_model(
        folder,
        denoiser_fingerprint(adapter, config.model, like=recorded.get("fingerprint")),
        frozen_fingerprint(adapter, config.model, like=recorded.get("frozen")),
        accept,
    )
