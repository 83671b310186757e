"""Files of data sets on the Hugging Face hub: fetched by its own library, which goes on where it was stopped.

    https://huggingface.co/datasets/OWNER/NAME/resolve/REVISION/FILE    is what such an address looks like

The library also follows HF_ENDPOINT to a mirror of the hub. What it fetches lies in ``FILE.hub`` until it is whole.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from sam4mllm.data_prep.remote import Remote, free_space, is_whole, need_room, wrong
from sam4mllm.errors import UserError
from sam4mllm.runtime.files import one_line

_ADDRESS = re.compile(r"https://huggingface\.co/datasets/([^/]+/[^/]+)/resolve/([^/]+)/([^?#]+)")


def is_on_hub(url: str) -> bool:
    """Whether an address is that of a data set's file on the hub."""
    return _ADDRESS.fullmatch(url) is not None


def fetch_from_hub(remote: Remote, root: Path, *, free: Callable[[Path], int] = free_space) -> bool:
    """Put a file of the hub below the root, unless it is there already; as `fetch.fetch` does.

    Args:
        remote: of an address for which `is_on_hub` holds.
        root: made if need be.
        free: how many bytes are free on the disk of a folder.

    Returns:
        Whether anything was fetched.

    Raises:
        UserError: in one line, for what the library cannot fetch, wrong bytes, or what does not fit on the disk.
    """
    target = root / remote.path
    if is_whole(remote, target):
        return False
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    match = _ADDRESS.fullmatch(remote.url or "")
    if match is None:
        raise UserError(f"{remote.path}: {remote.url} is no address of a data set's file on the hub")
    repository, revision, file = match.groups()
    stage = target.with_name(f"{target.name}.hub")
    try:
        stated = get_hf_file_metadata(hf_hub_url(repository, file, repo_type="dataset", revision=revision))
        need_room(remote.path, stated.size or 0, target.parent, free)
        with one_line(target):
            stage.mkdir(parents=True, exist_ok=True)
        came = Path(hf_hub_download(repository, file, repo_type="dataset", revision=revision, local_dir=stage))
    except UserError:
        raise
    except Exception as error:  # the library lets those of its HTTP client through, whichever that is
        raise UserError(f"cannot fetch {remote.url}: {' '.join(str(error).split())}") from error
    if reason := wrong(remote, came):
        shutil.rmtree(stage)
        raise UserError(f"cannot fetch {remote.url}: {reason}")
    with one_line(target):
        with came.open("rb") as file:
            os.fsync(file.fileno())
        came.replace(target)
        shutil.rmtree(stage)
    return True
