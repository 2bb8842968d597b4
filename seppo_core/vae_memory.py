"""What an autoencoder of diffusers can do to need less memory."""

from seppo_core.adapter import Adapter


def tile_vae(adapter: Adapter) -> None:
    """Encodes in overlapping tiles, blended: memory stops growing with the picture, and latents change a little.

    ValueError where the autoencoder cannot.
    """
    vae = adapter.pipeline.vae
    # some inherit the method and raise, some lack it
    try:
        vae.enable_tiling()
    except (AttributeError, NotImplementedError) as error:
        raise ValueError(f"{type(vae).__name__} cannot encode in tiles; set data.vae_tiling: false") from error


def slice_vae(adapter: Adapter) -> bool:
    """Encodes the pictures of a batch one by one, a clip's frames among them; False where there is nothing to gain.

    Changes nothing but rounding.
    """
    vae = adapter.pipeline.vae
    if not hasattr(vae, "use_slicing") or vae.use_slicing:
        return False
    vae.enable_slicing()
    return True
