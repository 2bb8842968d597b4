"""Prompts that are files, and files that are prompts."""

from tests.bad_inputs.workspace import Case, options

CASES = [
    Case("run", "a file of prompts given as a prompt", options("sample", "--prompts", "pictures/metadata.jsonl"),
         says="--prompt_file pictures/metadata", needs="run"),
    Case("run", "a prompt given as a file of prompts", options("sample", "--prompt_file", "a red wall"), needs="run",
         says="use --prompts"),
    Case("run", "a change that sample does not know",
         options("sample", "--prompts", "a wall", "--accept_changes", "modl"), says="among model", needs="run"),
]  # fmt: skip
