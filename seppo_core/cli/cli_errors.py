"""Which errors are the user's to mend, told in one line, and which need a traceback."""

import os
import traceback
from types import TracebackType

from seppo_core.io.disk_errors import explanation


def one_line(error: Exception) -> str | None:
    """What to tell the user; None where the traceback says more, or SEPPO_TRACEBACK=1 asks for it.

    Errors that this project raises are meant for people, and so are those of the disk, wherever they come up.
    """
    if os.environ.get("SEPPO_TRACEBACK") == "1":
        return None
    text = explanation(error)
    if text is None and raised_by_us(error.__traceback__):
        text = str(error)
    return None if text is None else " ".join(text.split())


def raised_by_us(trace: TracebackType | None, function: str | None = None) -> bool:
    """Whether the code that raised is this project's (in `function`), so that its message is meant for the user."""
    frames = [frame for frame, _ in traceback.walk_tb(trace)]
    return bool(frames) and (
        str(frames[-1].f_globals["__name__"]).startswith("seppo_")
        and (function is None or any(frame.f_code.co_name == function for frame in frames))
    )
