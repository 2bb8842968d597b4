"""The linear autoencoder of small models, against numpy's singular values."""

import numpy as np
import pytest
import torch

from seppo_core.models.patch_vae import PatchVAE


def pictures() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    smooth = torch.rand((40, 3, 4, 4), generator=generator).repeat_interleave(2, 2).repeat_interleave(2, 3)
    return smooth * 2 - 1 + 0.05 * torch.randn((40, 3, 8, 8), generator=generator)


def test_all_channels_of_a_patch_are_its_pixels():
    pixels = pictures()
    vae = PatchVAE()
    latents = vae.encode(pixels).latent_dist.mode()
    assert latents.shape == (40, 12, 4, 4)
    assert latents[3, :, 1, 2].tolist() == pixels[3, :, 2:4, 4:6].flatten().tolist()
    assert torch.equal(vae.decode(latents).sample, pixels)


@pytest.mark.parametrize("whitening", [0.0, 0.75, 1.0])
def test_fitted_latents_are_principal_components(whitening):
    pixels = pictures()
    vae = PatchVAE(latent_channels=5)
    remains = vae.fit(pixels, whitening)
    patches = pixels.double().numpy().reshape(40, 3, 4, 2, 4, 2).transpose(0, 2, 4, 1, 3, 5).reshape(-1, 12)
    values = np.linalg.svd(patches - patches.mean(0), compute_uv=False) ** 2 / len(patches)
    assert remains == pytest.approx(values[5:].sum() / 12)
    latents = vae.encode(pixels).latent_dist.mean
    variances = latents.movedim(1, 0).flatten(1).double().var(1, correction=0)
    np.testing.assert_allclose(variances, values[:5] ** (1 - whitening), rtol=1e-4)
    assert (vae.decode(latents).sample - pixels).square().mean().item() == pytest.approx(remains, rel=1e-4)


def test_more_channels_than_pixels_are_refused():
    with pytest.raises(ValueError, match="latent_channels=13 is more than 2x2 patches of 3 channels have"):
        PatchVAE(latent_channels=13)
