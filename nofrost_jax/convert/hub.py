"""The Hugging Face hub: repositories down and up, through huggingface_hub, which is optional."""

import contextlib
import os
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from nofrost_jax.errors import UserError
from nofrost_jax.weights.tensors import NAME

SCHEME = "hf://"
FILES = ("config.json", "README.md", NAME)
_CONNECTING = ("httpx", "httpx2", "httpcore", "requests", "urllib3")
_FORM = f"{SCHEME}OWNER/NAME or {SCHEME}OWNER/NAME@REVISION"


def is_address(text: str) -> bool:
    """Whether a text means a repository on the hub."""
    return text.startswith(SCHEME)


def download(address: str) -> tuple[str, dict[str, Any]]:
    """(folder of a snapshot, {"repository", "revision"}) of hf://OWNER/NAME[@REVISION]; the revision is the commit's.

    What is in the hub's cache is not downloaded again. Raises UserError if there is no such repository or revision, it
    is private, or the hub cannot be reached.
    """
    repository, _, revision = address.removeprefix(SCHEME).partition("@")
    library = _library()
    if repository.count("/") != 1 or address.endswith("@"):
        raise UserError(f"{address} is not an address on the hub; give {_FORM}")
    with _one_line(library, address):
        folder = library.snapshot_download(repository, revision=revision or None, allow_patterns=list(FILES))
    return folder, {"repository": repository, "revision": os.path.basename(folder)}


def push(folder: str, repository: str, private: bool) -> str:
    """Makes OWNER/NAME on the hub if it is not there, and uploads an export; returns its address with the revision."""
    library = _library()
    with _one_line(library, repository):
        interface = library.HfApi()
        interface.create_repo(repo_id=repository, private=private, exist_ok=True)
        done = interface.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=list(FILES),
            commit_message="Upload an export of nofrost_jax",
        )
    return f"{SCHEME}{repository}@{done.oid}"


def require(repository: str) -> None:
    """Raises UserError unless huggingface_hub is installed and OWNER/NAME can be a repository's name."""
    library = _library()
    if repository.count("/") != 1:
        raise UserError(f"--push={repository} is not the name of a repository; give OWNER/NAME")
    with _one_line(library, repository):
        library.utils.validate_repo_id(repository)


def _library() -> ModuleType:
    try:
        import huggingface_hub
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError as error:
        raise UserError("the hub needs the package huggingface_hub; pip install huggingface_hub") from error
    return huggingface_hub


@contextlib.contextmanager
def _one_line(library: ModuleType, what: str) -> Iterator[None]:
    """Turns the hub's errors into one line about `what`."""
    kinds = library.errors
    told = {  # the first that fits
        kinds.HFValidationError: "is not the name of a repository; give OWNER/NAME",
        kinds.GatedRepoError: "needs its owner's permission; ask for it there, then log in: hf auth login",
        kinds.RepositoryNotFoundError: "is not on the hub, or is private; check the name, or log in: hf auth login",
        kinds.RevisionNotFoundError: "has no such revision; check what follows the @",
        kinds.LocalTokenNotFoundError: "needs a login; run hf auth login, or set HF_TOKEN",
        kinds.OfflineModeIsEnabled: "is not in the hub's cache, and HF_HUB_OFFLINE forbids downloads; unset it",
        kinds.LocalEntryNotFoundError: "is not in the hub's cache, and the hub cannot be reached; check the network",
    }
    try:
        yield
    except tuple(told) as error:
        raise UserError(f"{what} {next(text for kind, text in told.items() if isinstance(error, kind))}") from error
    except kinds.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        mend = "log in with a token that may write there: hf auth login" if status in (401, 403) else "try again later"
        raise UserError(f"{what}: the hub refuses with status {status}; {mend}") from error
    except Exception as error:  # of whichever library this version of huggingface_hub connects with
        if type(error).__module__.partition(".")[0] not in _CONNECTING and not isinstance(error, ConnectionError):
            raise
        raise UserError(f"{what}: the hub cannot be reached; check the connection") from error
