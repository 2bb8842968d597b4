"""Quietens what libraries say at every start and nobody can act on. Without torch."""

import logging
import sys


def quiet_missing_torchvision() -> None:
    """Leaves out transformers' lines about torchvision, which nothing here needs. To be called before transformers is
    imported, or after."""
    logging.getLogger("transformers.utils.import_utils").addFilter(_is_of_use)


def quiet_loading_bars() -> None:
    """Hides the bars that diffusers and transformers show while they load or save, where they are imported."""
    for library in ("diffusers", "transformers"):
        if library in sys.modules:
            sys.modules[library].utils.logging.disable_progress_bar()


def _is_of_use(record: logging.LogRecord) -> bool:
    return "requires torchvision (not installed)" not in record.getMessage()
