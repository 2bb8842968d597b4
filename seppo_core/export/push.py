"""Puts an export on the Hugging Face Hub. The token is read where huggingface_hub reads it, and goes nowhere else."""

import os
import re
from pathlib import Path

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def check_push(repository: str) -> None:
    """ValueError, before any work, if `repository` is no owner/name, or if nothing can be pushed from here."""
    if not _REPOSITORY.fullmatch(repository):
        raise ValueError(f"--push {repository} should be owner/name, as the Hub calls a model")
    from huggingface_hub import get_token
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if HF_HUB_OFFLINE:
        raise ValueError("--push needs the network, and HF_HUB_OFFLINE is set; unset it, or leave --push out")
    if get_token() is None:
        raise ValueError(
            "--push needs a token that may write: set HF_TOKEN in the environment, or run `hf auth login`; "
            "huggingface.co/settings/tokens makes one"
        )


def push(folder: Path, repository: str, message: str) -> str:
    """Commits the files of `folder` to the model `repository`, which is made, private, if it is not there.

    Returns its address. OSError, saying that the export is kept, if the Hub refuses or cannot be reached.
    """
    # no other command needs these
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        address = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message)
    except (HfHubHTTPError, OSError) as error:
        why = " ".join(str(error).split())[:300]
        raise OSError(
            f"{repository} was not pushed ({why}); the export is in {folder}, and `hf upload {repository} {folder}` "
            "tries again"
        ) from error
    return str(address)
