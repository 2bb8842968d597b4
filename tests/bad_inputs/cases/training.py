"""Options of training: what is held out, the guard, versions of draws."""

from tests.bad_inputs.workspace import Case, options

CASES = [
    Case("config", "all items held out", options("train", "--data.validation", "1"),
         says="none is left to train on"),
    Case("config", "a validation from two places",
         options("train", "--data.validation", "0.1", "--data.validation_cache", "other"), says="use one of them"),
    Case("config", "one scale of a guard for an anchor's signs",
         options("train", "--method.guard", "0.5", "--method.guard_scope", "batch"), says="guard_scope=sample"),
]  # fmt: skip
