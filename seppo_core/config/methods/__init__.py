"""One file a training method: its constants and options. Found by `seppo_core.config.variants`. Imports no torch."""
