"""Models on the hub: it is asked once before anything is loaded, so that a refusal is named and not retried.

Transformers asks for every file of a model by itself and repeats what fails; its errors look alike.
"""

from collections.abc import Callable
from typing import TypeVar

from huggingface_hub import constants, get_hf_file_metadata, get_token, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError

T = TypeVar("T")
UNUSABLE = (OSError, ValueError, KeyError, SafetensorError)  # what files that lack or are cut off end in
LOG_IN = "log in with `hf auth login`, or put a token into the environment variable HF_TOKEN"


def from_hub(load: Callable[[bool], T], hub_id: str, revision: str | None) -> T:
    """Load from the hub, or from what was downloaded before if the hub can't be had.

    Args:
        load: takes whether to read the downloaded files alone.
        hub_id: such as ``"owner/model"``.
        revision: commit, tag or branch; the newest, if not given.

    Raises:
        FileNotFoundError: naming the one cause.
    """
    refusal = refused(hub_id, revision)
    try:
        return load(refusal is not None)
    except UNUSABLE as problem:
        config = try_to_load_from_cache(hub_id, "config.json", revision=revision)
        if not isinstance(config, str):
            raise FileNotFoundError(refusal or first_line(problem)) from problem
        folder = config.partition("snapshots")[0]
        way_out = refusal or "run it again; if that does not help, delete the folder first"
        raise FileNotFoundError(
            f"what was downloaded of {hub_id!r} to {folder} can't be loaded ({first_line(problem)}): {way_out}"
        ) from problem


def refused(hub_id: str, revision: str | None) -> str | None:
    """Why the hub does not give a model, in one sentence; None if it does. One request, not repeated."""
    page = f"{constants.ENDPOINT}/{hub_id}"
    try:
        url = hf_hub_url(hub_id, "config.json", revision=revision)
        answer = get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except OfflineModeIsEnabled:
        return f"HF_HUB_OFFLINE is set: unset it once, where there is a network, to download {hub_id!r}"
    except GatedRepoError:  # before the class above it
        if get_token() is None:
            return f"{hub_id!r} is gated, and there is no token: accept its licence at {page}, then {LOG_IN}"
        return (
            f"{hub_id!r} is gated, and your token gives no access: accept its licence at {page} with the token's"
            " account, and let the token read gated repositories"
        )
    except (RepositoryNotFoundError, HFValidationError):
        return f"the hub has no {hub_id!r}, or only a private one: check its spelling; for a private one {LOG_IN}"
    except RevisionNotFoundError:
        return (
            f"{hub_id!r} has no revision {revision!r}: set model.revision to one of {page}/commits, or to null for the"
            " newest"
        )
    except EntryNotFoundError:
        return f"{hub_id!r} has no config.json, so Transformers can't load it"
    except HfHubHTTPError as problem:
        status = problem.response.status_code if problem.response is not None else "an error"
        if status == 401:
            return f"the hub does not accept your token: {LOG_IN}"
        return f"the hub answers {status} for {hub_id!r}: try again later"
    except Exception as problem:  # of an HTTP library that differs between versions
        return (
            f"{constants.ENDPOINT} can't be reached ({type(problem).__name__}: {first_line(problem)}): check the"
            f" network, or download {hub_id!r} elsewhere and give its folder"
        )
    if answer.commit_hash is None:
        return (
            f"{constants.ENDPOINT} does not answer as the hub does: perhaps a proxy or a log-in page stands before it"
        )
    return None


def first_line(problem: BaseException) -> str:
    """The beginning of an error's text."""
    return next(iter(str(problem).splitlines()), "") or type(problem).__name__
