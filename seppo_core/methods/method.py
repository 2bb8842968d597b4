"""The interface of a training method: its options with a loss."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from seppo_core.config.method import MethodConfig
from seppo_core.methods.reference import Reference
from seppo_core.methods.step import Batch
from seppo_core.models.adapter import Adapter

Scalars = dict[str, Tensor]
"""Scalar tensors by name."""


class Method(MethodConfig, ABC):
    """A loss over one micro-batch, and the scalars of the whole batch that it needs to know first.

    Every method derives from its options too, e.g. `class Kto(KtoConfig, Method)`, and is built from them by keyword:

        loss, metrics = Kto(beta=5000).loss(adapter, policy, reference, batch)
    """

    @property
    def observes(self) -> bool:
        """Whether `observe` has to run over the whole batch, on all processes, before `loss`."""
        return False

    def observe(self, adapter: Adapter, policy: nn.Module, reference: Reference | None, batch: Batch) -> Scalars:
        """Scalars of a micro-batch, without gradient; `loss` is given their mean over the global batch."""
        return {}

    def loss(
        self,
        adapter: Adapter,
        policy: nn.Module,
        reference: Reference | None,
        batch: Batch,
        observed: Scalars | None = None,
    ) -> tuple[Tensor, Scalars]:
        """The scalar loss, with gradient to the policy, and scalars to watch.

        A method that `observes` takes `batch` for the whole batch if `observed` is None. `reference` may be None if the
        method's `spec.uses_reference` is False. ValueError if `reference` or a field of `batch` that the method needs
        is missing.
        """
        self._check(reference, batch)
        if observed is None:
            observed = self.observe(adapter, policy, reference, batch) if self.observes else {}
        return self.compute(adapter, policy, reference, batch, observed)

    def _check(self, reference: Reference | None, batch: Batch) -> None:
        name, spec = type(self).__name__, self.spec
        if spec.uses_reference and not isinstance(reference, Reference):
            raise ValueError(
                f"reference={type(reference).__name__}, but {name} needs a Reference; use make_reference(denoiser)"
            )
        needed = {
            "counterpart": spec.contrastive,
            "desirable": spec.supervision == "labels",
            "reward": spec.supervision == "prompts",
            "anchor_t": self.anchor_draws > 0,
        }
        missing = [field for field, is_needed in needed.items() if is_needed and vars(batch)[field] is None]
        if missing:
            cure = {"counterpart": "counterpart=samples", "desirable": "desirable=labels", "reward": "reward=rewards"}
            given = [cure.get(field, f"anchor_draws={self.anchor_draws}") for field in missing]
            raise ValueError(f"{name} needs {', '.join(missing)} in the batch; give Batch.of {', '.join(given)}")
        sizes = {key: len(value) for key, value in batch.condition.items() if len(value) != len(batch.x0)}
        if sizes:
            raise ValueError(
                f"the batch has {len(batch.x0)} items, but its condition has {sizes}; give one row an item"
            )

    @abstractmethod
    def compute(
        self, adapter: Adapter, policy: nn.Module, reference: Reference | None, batch: Batch, observed: Scalars
    ) -> tuple[Tensor, Scalars]:
        """The loss and the scalars of `loss`, given all that the method has observed."""
