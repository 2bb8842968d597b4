"""A run from Python: the commands as methods of one object."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from seppo_core.cli.checks import Request, check_cached, check_paths, check_request
from seppo_core.config.loader import load_config
from seppo_core.config.options import ExportRequest, PrepareRequest, SampleRequest, TrainRequest
from seppo_core.config.schema import Config

C = TypeVar("C", bound=Config)


class Commands(Protocol[C]):
    """A modality's module of commands."""

    def prepare(self, config: C, request: PrepareRequest) -> None: ...
    def train(self, config: C, request: TrainRequest) -> Path: ...
    def sample(self, config: C, request: SampleRequest) -> Path: ...
    def export(self, config: C, request: ExportRequest) -> Path: ...


class BaseRun(Generic[C]):
    """The run that a config describes.

    Every method does what the command of its name does, to the bit, and makes the same checks; each continues a folder
    that the other has left.

    All raise ValueError or FileNotFoundError in one line if config, options and paths do not fit together.
    """

    schema: ClassVar[type[Config]]
    commands: ClassVar[Commands]

    def __init__(self, config: C):
        """For a config that is read already; `from_config` reads a file."""
        if not isinstance(config, self.schema):
            raise TypeError(f"{config!r} is not a {self.schema.__name__}; use Run.from_config to read a file")
        self.config = config

    def __repr__(self) -> str:
        return f"Run({self.config.run!r}, method={self.config.method.name!r}, base={self.config.model.base!r})"

    @classmethod
    def from_config(cls, path: str | Path, overrides: Mapping[str, Any] | None = None) -> Self:
        """The run that the YAML file at `path` describes; `overrides` replace its values by dotted key, e.g.
        {"method.beta": 10}."""
        return cls(load_config(path, cls.schema, overrides))

    def prepare(self, request: PrepareRequest | None = None) -> Path:
        """Encodes the winners of data.source into data.cache, once; returns that folder."""
        self.commands.prepare(self.config, self._checked(request or PrepareRequest()))
        return Path(self.config.data.cache)

    def train(self, request: TrainRequest | None = None) -> Path:
        """Trains, or continues, the run; returns its folder.

        SIGTERM and SIGINT raise Stopped, a KeyboardInterrupt, after a checkpoint is saved. UnhealthyRun if a health
        gate stops the run.
        """
        return self.commands.train(self.config, self._checked(request or TrainRequest()))

    def sample(self, request: SampleRequest | None = None) -> Path:
        """Draws samples from a checkpoint or from the base; returns the folder that holds them."""
        return self.commands.sample(self.config, self._checked(request or SampleRequest()))

    def export(self, request: ExportRequest | None = None) -> Path:
        """Writes a LoRA or a pipeline that plain diffusers loads; returns its folder."""
        return self.commands.export(self.config, self._checked(request or ExportRequest()))

    def _checked(self, request: Request) -> Request:
        request = check_request(self.config, request)
        check_paths(self.config, request)
        check_cached(self.config, request)
        return request
