"""Old names of config keys. They are still accepted, in files, on the command line and in folders of older runs."""

RENAMED = {
    "data.form": "data.supervision",
    "data.winner": "data.pick",
    "method.remember": "method.pool_window",
    "method.anchor_per": "method.anchor_scope",
    "loop.updates": "loop.updates_per_iteration",
    "health.sign": "health.constant_sign",
    "health.collapse": "health.sample_collapse",
    "health.collapse_share": "health.sample_collapse_share",
}
"""Old name of a key -> its name now."""
FIRST = {new: old for old, new in RENAMED.items()}
"""Name of a key now -> its first name, under which it stands in hashes of older versions."""
