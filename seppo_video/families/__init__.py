"""One record a video family: its name, config keys and constants. Found by `seppo_core.config.variants`; no torch."""
