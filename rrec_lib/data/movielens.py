"""MovieLens latest-small of October 2016, as the project ships it: checked files in, two tables out."""

import gzip
import hashlib
import io
import re
from pathlib import Path

import pandas as pd

from rrec_lib.core.paths import resource

FOLDER = "data/movielens-latest-small"
FILES = ("movies.csv.gz", "ratings.csv.gz")
FILM = "film"  # what prompts call an item
NO_GENRES = "(no genres listed)"
_REMEDY = f"restore it with `git checkout -- {FOLDER}`"
_ARTICLES = r"The|A|An|La|Le|Les|L'|Las|Los|El|Il|Lo|Das|Der|Die|Den|Det|De|En|Un|Una|Une|O"
_TRAILING_ARTICLE = re.compile(rf"(?P<alias>a\.k\.a\. )?(?P<rest>[^()]+), (?P<article>{_ARTICLES})(?=\s*(?:\(|\)|$))")


def load_movielens(folder: Path | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Load the ratings and the films, after checking each file's sha256.

    Args:
        folder: where ``ratings.csv.gz``, ``movies.csv.gz`` and ``SHA256SUMS`` lie; the shipped copy if None.

    Returns:
        The event log, sorted by user, time and film, with columns ``user_id``, ``item_id`` (MovieLens' movieId),
        ``rating`` (0.5 to 5) and ``timestamp`` (seconds since 1970, UTC); and the item table with ``item_id``,
        ``title`` (see :func:`natural_title`), ``year`` (0 if unknown) and ``genres`` (a list, empty if unknown).

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file's checksum differs.
    """
    contents = _verified(folder)
    ratings = _read_csv(contents["ratings.csv.gz"])
    events = pd.DataFrame(
        {
            "user_id": ratings["userId"].astype("int64"),
            "item_id": ratings["movieId"].astype("int64"),
            "rating": ratings["rating"].astype("float64"),
            "timestamp": ratings["timestamp"].astype("int64"),
        }
    ).sort_values(["user_id", "timestamp", "item_id"], ignore_index=True)
    movies = _read_csv(contents["movies.csv.gz"])
    items = pd.DataFrame(
        {
            "item_id": movies["movieId"].astype("int64"),
            "title": [_title(raw, number) for raw, number in zip(movies["title"], movies["movieId"], strict=True)],
            "year": movies["year"].fillna(0).astype("Int64"),
            "genres": [_genres(text) for text in movies["genres"]],
        }
    )
    return events, items


def source_checksum(folder: Path | None = None) -> str:
    """One sha256 (hex) over the two files' checksums, after verifying them."""
    contents = _verified(folder)
    digests = "".join(f"{hashlib.sha256(contents[name]).hexdigest()}  {name}\n" for name in FILES)
    return hashlib.sha256(digests.encode()).hexdigest()


def natural_title(title: str) -> str:
    """Move a trailing article to the front, as people write it: ``Matrix, The`` becomes ``The Matrix``.

    A second title in brackets is treated alike. Everything else is left as it is.
    """

    def move(match: re.Match[str]) -> str:
        space = "" if match["article"].endswith("'") else " "
        return f"{match['alias'] or ''}{match['article']}{space}{match['rest']}"

    return _TRAILING_ARTICLE.sub(move, title.strip())


def _title(raw: object, number: int) -> str:
    # Five films have no title in the source; the movieId keeps them apart and invents nothing.
    return natural_title(raw) if isinstance(raw, str) else f"Untitled (MovieLens {number})"


def _genres(text: object) -> list[str]:
    return text.split("|") if isinstance(text, str) and text != NO_GENRES else []


def _verified(folder: Path | None) -> dict[str, bytes]:
    folder = resource(FOLDER) if folder is None else Path(folder)
    contents = {name: _read(folder / name) for name in (*FILES, "SHA256SUMS")}
    expected = {name: digest for digest, name in _pairs(folder, contents["SHA256SUMS"])}
    for name in FILES:
        found = hashlib.sha256(contents[name]).hexdigest()
        if name not in expected:
            raise ValueError(f"{folder / 'SHA256SUMS'} has no line for {name}; {_REMEDY}")
        if found != expected[name]:
            raise ValueError(f"{folder / name} is corrupted (sha256 {found} instead of {expected[name]}); {_REMEDY}")
    return contents


def _pairs(folder: Path, sums: bytes) -> list[list[str]]:
    pairs = [line.split() for line in sums.decode("utf-8", errors="replace").splitlines() if line.strip()]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"{folder / 'SHA256SUMS'} is corrupted (a line is not 'sha256  file'); {_REMEDY}")
    return pairs


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; {_REMEDY}")
    return path.read_bytes()


def _read_csv(content: bytes) -> pd.DataFrame:
    # Empty fields alone are missing: "Null" or "NA" could be a film's title.
    return pd.read_csv(io.BytesIO(gzip.decompress(content)), keep_default_na=False, na_values=[""])
