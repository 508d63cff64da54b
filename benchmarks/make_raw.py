"""Write a made-up category in the layout of Amazon Reviews 2023: ``make_raw.py FOLDER REVIEWS ITEMS [SEED]``.

Ids have the real length, users and items are unequally active, a tenth of the reviews is older than the window
2022-10 to 2023-10, and some 6 % of the items have no usable title or price. The same arguments give the same content.
"""

import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

CATEGORY = "Generated"
OLD, START, END = 1_633_046_400_000, 1_664_582_400_000, 1_696_118_400_000  # October 2021, 2022 and 2023, UTC
REVIEWS_PER_USER = 8
LETTERS = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", dtype=np.uint8)
DIGITS = np.frombuffer(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", dtype=np.uint8)
SENTENCES = 20_000
PLAIN = csv.WriteOptions(include_header=False, quoting_style="none")
CHUNK = 1_000_000  # reviews written at a time


def make_raw(folder: Path, reviews: int, items: int, seed: int = 0) -> None:
    """Write ``Generated.csv.gz`` and ``meta_Generated.jsonl.gz``.

    Args:
        folder: where to; made if it is not there.
        reviews: rows of the first file, at least 1.
        items: rows of the second, at least 1.
        seed: of NumPy's generator.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    asins = _asins(rng, items)
    with gzip.GzipFile(folder / f"meta_{CATEGORY}.jsonl.gz", "wb", compresslevel=1, mtime=0) as file:
        for line in _items(rng, asins.to_pylist()):
            file.write(line.encode())
    users = _user_ids(rng, max(1, reviews // REVIEWS_PER_USER))
    with (
        gzip.GzipFile(folder / f"{CATEGORY}.csv.gz", "wb", compresslevel=1, mtime=0) as file,
        csv.CSVWriter(file, _schema(), write_options=PLAIN) as writer,
    ):
        file.write((",".join(_schema().names) + "\n").encode())
        activity, popularity = _shares(rng, len(users), 1.0), _shares(rng, items, 1.5)
        for begin in range(0, reviews, CHUNK):
            writer.write(_reviews(rng, min(CHUNK, reviews - begin), users, activity, asins, popularity))


def _schema() -> pa.Schema:
    return pa.schema([("user_id", "string"), ("parent_asin", "string"), ("rating", "string"), ("timestamp", "int64")])


def _reviews(
    rng: np.random.Generator, count: int, users: pa.Array, activity: np.ndarray, asins: pa.Array, popularity: np.ndarray
) -> pa.Table:
    old = rng.random(count) < 0.1
    time = np.where(old, rng.integers(OLD, START, count), rng.integers(START, END, count))
    stars = pa.array(["1.0", "2.0", "3.0", "4.0", "5.0"])
    rating = rng.choice(5, count, p=[0.06, 0.04, 0.08, 0.17, 0.65])
    columns = [
        users.take(pa.array(np.searchsorted(activity, rng.random(count)))),
        asins.take(pa.array(np.searchsorted(popularity, rng.random(count)))),
        stars.take(pa.array(rating)),
        pa.array(time),
    ]
    return pa.Table.from_arrays(columns, schema=_schema())


def _items(rng: np.random.Generator, asins: list[str]) -> Iterator[str]:
    sentences, titles = _texts(rng, SENTENCES, 5, 30), _texts(rng, SENTENCES, 4, 14)
    long_titles = _texts(rng, 100, 22, 30)
    fault = rng.random(len(asins))
    price = np.round(1 + 200 * rng.random(len(asins)) ** 2, 2)
    stars, buyers = np.round(1 + 4 * rng.random(len(asins)), 1), (5000 * rng.random(len(asins)) ** 3).astype(int) + 1
    picks = rng.integers(0, SENTENCES, (len(asins), 8))
    entries = rng.integers(0, 4, (len(asins), 2))
    for row, asin in enumerate(asins):
        a, b, c, d, e, f, g, h = picks[row].tolist()
        title = f"{titles[a]} {asin[-4:]}"
        if fault[row] < 0.02:
            title = long_titles[a % 100] if fault[row] < 0.01 else ""
        shown = "null" if 0.02 <= fault[row] < 0.05 else '"from 9.99"' if 0.05 <= fault[row] < 0.06 else price[row]
        features = json.dumps([sentences[b], sentences[c], sentences[d]][: entries[row, 0]])
        description = json.dumps([sentences[e], sentences[f], sentences[g]][: entries[row, 1]])
        yield (
            f'{{"main_category": "{CATEGORY}", "title": "{title}", "average_rating": {stars[row]}, '
            f'"rating_number": {buyers[row]}, "features": {features}, "description": {description}, '
            f'"price": {shown}, "images": [], "videos": [], "store": "{titles[h][:12].strip()}", '
            f'"categories": ["{CATEGORY}"], "details": {{"Color": "{titles[g][:5].strip()}", "Item Weight": '
            f'"{h % 90} ounces"}}, "parent_asin": "{asin}", "bought_together": null, "subtitle": null, '
            f'"author": null}}\n'
        )


def _texts(rng: np.random.Generator, count: int, low: int, high: int) -> list[str]:
    letters = rng.integers(97, 123, (4000, 10), dtype=np.uint8)
    words = [letters[row, : 3 + row % 8].tobytes().decode() for row in range(4000)]
    lengths = rng.integers(low, high + 1, count)
    picks = rng.integers(0, 4000, (count, high))
    return [" ".join(words[i] for i in pick[:length]) for pick, length in zip(picks.tolist(), lengths, strict=True)]


def _asins(rng: np.random.Generator, count: int) -> pa.Array:
    numbers = rng.permutation(count).astype(np.int64) + 36**5
    digits = numbers[:, None] // 36 ** np.arange(7, -1, -1) % 36
    return _strings(np.concatenate([np.tile(np.frombuffer(b"B0", np.uint8), (count, 1)), DIGITS[digits]], axis=1))


def _user_ids(rng: np.random.Generator, count: int) -> pa.Array:
    return _strings(LETTERS[rng.integers(0, len(LETTERS), (count, 28), dtype=np.uint8)])


def _strings(letters: np.ndarray) -> pa.Array:
    return pa.array(np.ascontiguousarray(letters).view(f"S{letters.shape[1]}").ravel()).cast(pa.string())


def _shares(rng: np.random.Generator, count: int, spread: float) -> np.ndarray:
    weights = rng.lognormal(0, spread, count)
    return np.minimum(np.cumsum(weights / weights.sum()), 1)[:-1]  # the last one's share ends at 1


if __name__ == "__main__":
    make_raw(Path(sys.argv[1]), *map(int, sys.argv[2:]))
