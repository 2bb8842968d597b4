"""`make test` runs the contract on one family of each mechanism, `make test-all` on every one."""

import pytest

MECHANISMS = (
    "stable-diffusion",  # a UNet, noise prediction
    "sdxl",  # micro-conditioning, two text encoders
    "flux-dev",  # a flow on a transformer, packed tokens, embedded guidance
    "pixart-sigma",  # masked text, a learnt variance, LoRA by peft
    "animatediff",  # a UNet with motion modules
    "wan",  # a causal VAE of clips
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/contract/" not in item.path.as_posix() or not isinstance(item, pytest.Function):
            continue
        values = item.callspec.params.values() if hasattr(item, "callspec") else ()
        families = [str(value.name) for value in values if type(value).__name__ == "Family"]
        # each solver once: what it does with a family's latents does not depend on the solver
        another_solver = (
            hasattr(item, "callspec") and item.callspec.params.get("solver") and families != [MECHANISMS[0]]
        )
        if another_solver or any(name not in MECHANISMS for name in families):
            item.add_marker(pytest.mark.slow)
