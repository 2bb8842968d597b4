"""The previews of a run, one round after the other: drawn, scored, written down."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from seppo_core.report.run_page import write_run_page
from seppo_core.report.wording import counted
from seppo_core.run.previews import Drawing, PreviewRecord, add_preview, read_previews
from seppo_core.run.recorder import RunRecorder
from seppo_core.run.status import PAGE
from seppo_core.run.stopping import StopCoordinator
from seppo_core.training.preview import Rendered
from seppo_core.training.setup import RunParts


class PreviewRounds:
    """Draws the previews of a run, has them scored if it has a judge, and keeps their index."""

    def __init__(self, parts: RunParts):
        self.preview, self.judge, self.folder = parts.preview, parts.judge, parts.folder
        self.drawing, self.is_main = Drawing.of(parts.config), parts.accelerator.is_main_process

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

    @property
    def extent(self) -> str:
        """How much a preview draws, in words."""
        rows = next(iter(self.preview.condition.values())).shape[0]
        each = max(self.preview.columns, self.preview.scored)
        return f"{counted(rows, 'prompt')} x {counted(each, 'sample')} of {counted(self.preview.steps, 'step')}"

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
        if (why := self._page_problem()) is not None:
            tqdm.write(why)

    def tell_start(self) -> None:
        """Has the page of a run that was stopped say that it goes on. The first start has nothing to show yet."""
        if (self.folder / PAGE).is_file():
            self._page_problem()

    @contextmanager
    def telling_the_end(self) -> Iterator[None]:
        """Context of the run, after which its page says how it ended."""
        try:
            yield
        except (Exception, KeyboardInterrupt):
            self._page_problem()
            raise
        self._page_problem()

    def _page_problem(self) -> str | None:
        """Writes the run's page anew, on the first process, if there are previews to show; says why it could not."""
        if self.preview is None or not self.is_main:
            return None
        try:
            write_run_page(self.folder)
        # a page is no reason for a run to end, whatever is wrong with it
        except Exception as error:
            return f"{self.folder / PAGE} is not written: {type(error).__name__}: {error}"
        return None

    def is_best(self, update: int) -> bool:
        """Whether the preview of `update` scores above all others whose checkpoints are kept; for the first process."""
        previews = read_previews(self.folder)
        best, this = previews.best(), previews.at(update)
        if not update or this not in previews.scored or not this.complete:
            return False
        return best is None or best is this or this.mean.value > best.mean.value
