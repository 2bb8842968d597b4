"""Models of a real base's architecture with random weights: no hub, no download, the same work for the processor."""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from diffusers.models import ModelMixin
from torch import Tensor, nn

from benchmarks.experiments.speed.subjects import Subject
from seppo_core.config.schema import Config
from seppo_core.io.rng import keyed_generator
from seppo_core.models.adapter import Adapter, Condition, CropInfo
from seppo_core.models.vae import cast


def random_adapter(subject: Subject, config: Config, dtype: torch.dtype, device: torch.device) -> Adapter:
    """The subject's adapter with a denoiser of random weights on `device`; VAE and text encoders stay without memory.

    ValueError where the family builds another denoiser of its numbers than `plan` does.
    """
    adapter = subject.build(config, dtype)
    denoiser = with_weights(adapter.denoiser, device)
    adapter.pipeline.register_modules(**{adapter.component: denoiser})
    adapter.denoiser = denoiser
    return adapter


def encoding_adapter(subject: Subject, config: Config, dtype: torch.dtype, device: torch.device) -> Adapter:
    """The subject's adapter with VAE and text encoders of random weights in `dtype`, and tokenizers that make up
    tokens; its denoiser has no memory."""
    bare = subject.build(config, dtype)
    p = bare.pipeline
    encoders = {name: with_weights(module, device) for name, module in p.components.items() if _encodes(name, module)}
    for name, encoder in encoders.items():
        cast(encoder, dtype)
        setattr(p, name, encoder)
        tokenizer = name.replace("text_encoder", "tokenizer")
        if tokenizer != name:
            made_up = MadeUpTokens(p.components[tokenizer].model_max_length, encoder.config.vocab_size)
            setattr(p, tokenizer, made_up)
    # once more, for some families read the scale of their latents from the VAE's weights
    adapter = type(bare)(p, **adapter_keys(config))
    # some take their VAE to float32 whatever was asked for
    cast(p.vae, dtype)
    return adapter


def adapter_keys(config: Config) -> dict[str, object]:
    """What the family's class is told beside its pipeline; t5 and motion modules are parts of that."""
    parts = ("t5", "motion_adapter")
    return {name: value for name, value in config.model.family_keys().items() if name not in parts}


def _encodes(name: str, module: object) -> bool:
    return module is not None and (name == "vae" or name.startswith("text_encoder"))


def with_weights(model: nn.Module, device: torch.device, seed: int = 0) -> nn.Module:
    """A model on `device` of the config, names, shapes and dtypes of `model`, which is on the meta device.

    Weights are those that the class itself begins with: outputs are finite, as with a trained model.
    """
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(seed)
        made = type(model).from_config(model.config) if isinstance(model, ModelMixin) else type(model)(model.config)
    wanted = dict(_tensors(model))
    found = dict(_tensors(made))
    differing = sorted(name for name in wanted.keys() | found.keys() if _shape(wanted, name) != _shape(found, name))
    if differing:
        raise ValueError(f"{type(model).__name__} built of its config differs in {', '.join(differing[:3])}")
    for name, tensor in found.items():
        # the meta model's dtypes are those that loading gives, parts that stay in float32 among them
        tensor.data = tensor.data.to(wanted[name].dtype)
    return made.eval().requires_grad_(False)


@dataclass(frozen=True)
class Conditions:
    """Random conditions of the shapes that the family's text encoders and framing give."""

    text: Condition
    """Of one caption, on the meta device."""
    framing: Condition
    """Of one item."""

    @classmethod
    def of(cls, subject: Subject, adapter: Adapter) -> "Conditions":
        whole = CropInfo(subject.height, subject.width, 0, 0, subject.height, subject.width)
        return cls(subject.condition(adapter), adapter.size_condition([whole]))

    def draw(self, count: int, device: torch.device) -> Condition:
        """Of `count` items, (count, …) each, float32 as the cache gives them."""
        framing = {name: value.expand(count, *value.shape[1:]).to(device) for name, value in self.framing.items()}
        return self.draw_text(count, device) | framing

    def draw_text(self, count: int, device: torch.device) -> Condition:
        """Of `count` captions. Masks leave out nothing: the work of a full caption."""
        return {name: self._values(name, meta, count).to(device) for name, meta in self.text.items()}

    def _values(self, name: str, meta: Tensor, count: int) -> Tensor:
        shape = (count, *meta.shape[1:])
        if not meta.is_floating_point():
            return torch.ones(shape, dtype=meta.dtype)
        return torch.randn(shape, generator=keyed_generator("condition", name))


@dataclass(frozen=True)
class Encoded:
    """What a tokenizer's call gives: lists, or tensors (b, tokens) where they are asked for."""

    input_ids: Tensor | list
    attention_mask: Tensor | list


@dataclass
class MadeUpTokens:
    """Stands for a tokenizer: as many tokens as it is asked for, made up of the caption. Splitting words costs nothing
    beside the model that reads them."""

    model_max_length: int
    vocabulary: int
    padding_side: str = "right"

    def __call__(self, text: str | list[str], *, max_length: int | None = None, return_tensors=None, **_) -> Encoded:
        if isinstance(text, str):
            ids = self._ids(text, len(text.split()))
            return Encoded(ids, [1] * len(ids))
        length = max_length or self.model_max_length
        ids = [self._ids(one, length) for one in text]
        mask = [[1] * length for _ in text]
        if return_tensors is None:
            return Encoded(ids, mask)
        return Encoded(torch.tensor(ids), torch.tensor(mask))

    def _ids(self, text: str, length: int) -> list[int]:
        generator = keyed_generator("tokens", zlib.crc32(text.encode()))
        return torch.randint(self.vocabulary, (length,), generator=generator).tolist()


def _tensors(module: nn.Module) -> Iterable[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _shape(tensors: dict[str, Tensor], name: str) -> torch.Size | None:
    return tensors[name].shape if name in tensors else None
