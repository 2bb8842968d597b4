"""What a family's config checks of the shared sections; like `seppo_core.config.schema` without torch."""

from seppo_core.config.schema import Config, MethodConfig


def check_not_flow(method: MethodConfig, family: str) -> None:
    """ValueError where `method` sets what only flow-matching models have; `family` is none."""
    if method.timestep_density != "uniform" or method.timestep_shift != 1:
        raise ValueError(
            f"method.timestep_density={method.timestep_density} with method.timestep_shift={method.timestep_shift} is "
            f"for flow-matching models; {family} needs uniform and 1"
        )


def check_flow(method: MethodConfig, family: str) -> None:
    """ValueError where `method` sets what flow-matching models have not; `family` is one."""
    if method.min_snr_gamma is not None:
        raise ValueError(
            f"method.min_snr_gamma={method.min_snr_gamma} is for diffusion models; {family}, a flow-matching model, "
            "needs null"
        )


def check_form(config: Config) -> None:
    """ValueError where `prepare` would cache what the method does not learn from."""
    method, form = config.method, config.data.form
    if not method.recipe.learns_from(form):
        raise ValueError(
            f"method.name={method.name} learns from {method.recipe.form}, not from what data.form={form} caches; set "
            f"data.form={method.recipe.form}"
        )


def check_flow_solvers(config: Config, family: str) -> None:
    """ValueError where a solver of diffusions is named for `family`, a flow-matching one."""
    for section, name in [
        ("reference_samples", config.reference_samples.scheduler),
        ("preview", config.preview.scheduler),
    ]:
        if name != "default":
            raise ValueError(f"{section}.scheduler={name} solves diffusions; {family} is a flow and needs default")
