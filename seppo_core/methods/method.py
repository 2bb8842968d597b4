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
        method's `spec.uses_reference` is False.
        """
        if observed is None:
            observed = self.observe(adapter, policy, reference, batch) if self.observes else {}
        return self.compute(adapter, policy, reference, batch, observed)

    @abstractmethod
    def compute(
        self, adapter: Adapter, policy: nn.Module, reference: Reference | None, batch: Batch, observed: Scalars
    ) -> tuple[Tensor, Scalars]:
        """The loss and the scalars of `loss`, given all that the method has observed."""
