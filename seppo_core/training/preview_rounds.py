"""The previews of a run, one round after the other: drawn, scored, written down."""

from collections.abc import Iterator

from torch import nn
from torch.utils.tensorboard import SummaryWriter

from seppo_core.run.previews import Drawing, PreviewRecord, add_preview, read_previews
from seppo_core.run.recorder import RunRecorder
from seppo_core.run.stopping import StopCoordinator
from seppo_core.training.preview import Rendered
from seppo_core.training.setup import RunParts


class PreviewRounds:
    """Draws the previews of a run, has them scored if it has a judge, and keeps their index."""

    def __init__(self, parts: RunParts):
        self.preview, self.judge, self.folder = parts.preview, parts.judge, parts.folder
        self.drawing = Drawing.of(parts.config)

    def due(self, update: int, total: int) -> bool:
        """Whether one belongs after `update` of `total` updates: at the start, at the end, and every so often."""
        return self.preview is not None and (update in (0, total) or self.preview.due(update))

    def lacks(self, update: int) -> bool:
        """Whether the preview of `update` is not there, is damaged, or lacks its scores; for the first process."""
        if self.preview is None:
            return False
        record = read_previews(self.folder).at(update)
        unscored = record is None or (self.judge is not None and not self.judge.has_scored(record))
        return not self.preview.drawn(update) or unscored

    def render(
        self, denoiser: nn.Module, update: int, writer: SummaryWriter | None, save: bool
    ) -> Iterator[Rendered | None]:
        """See `Preview.render`."""
        return self.preview.render(denoiser, update, writer, save)

    def finish(self, update: int, drawn: Rendered, stop: StopCoordinator, recorder: RunRecorder) -> None:
        """Has scored what was drawn, and writes it down; on the first process. A signal to any breaks it off, and a
        start then does it again."""
        record = PreviewRecord(update, drawn.path.name, drawn.beside, self.drawing)
        if self.judge is not None:
            with stop.at_once():
                record = self.judge.scored(record, drawn, stop.check_alone)
        # last, so that a kill before it has all of this done again
        recorder.previewed(read_previews(self.folder).plus(record), update)
        add_preview(self.folder, record)

    def is_best(self, update: int) -> bool:
        """Whether the preview of `update` scores above all others whose checkpoints are kept; for the first process."""
        previews = read_previews(self.folder)
        best, this = previews.best(), previews.at(update)
        if not update or this not in previews.scored or not this.complete:
            return False
        return best is None or best is this or this.mean.value > best.mean.value
