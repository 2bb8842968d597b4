"""Quietens what libraries say at every start and nobody can act on. Without torch."""

import logging
import sys


def quiet_lines_of_no_use() -> None:
    """Leaves out transformers' lines about torchvision, which nothing here needs, and diffusers' about modules to be
    kept in float32 where it then names none. To be called before they are imported, or after."""
    for name in ("transformers.utils.import_utils", "diffusers.models.modeling_utils"):
        logging.getLogger(name).addFilter(_is_of_use)


def quiet_loading_bars() -> None:
    """Hides the bars that diffusers and transformers show while they load or save, where they are imported."""
    for library in ("diffusers", "transformers"):
        if library in sys.modules:
            sys.modules[library].utils.logging.disable_progress_bar()


def _is_of_use(record: logging.LogRecord) -> bool:
    told = record.getMessage()
    return "requires torchvision (not installed)" not in told and "kept in float32: []" not in told
