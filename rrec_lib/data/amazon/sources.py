"""Where Amazon Reviews 2023 is published, and how a category's two files get here."""

from pathlib import Path

from rrec_lib.core.paths import cache_dir
from rrec_lib.data.amazon.categories import NOUNS
from rrec_lib.data.amazon.raw import RawFiles, raw_files
from rrec_lib.data.download import DownloadError, download

AMAZON_2023 = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023"
PLACES = {"{}.csv.gz": "benchmark/5core/rating_only", "meta_{}.jsonl.gz": "raw/meta_categories"}


def category_files(category: str, folder: Path | str | None = None, base: str = AMAZON_2023) -> RawFiles:
    """Have a category's two files, downloading what is missing; a broken download is resumed by the next call.

    No checksum is published, so sizes are checked against what the server says.

    Args:
        category: one of :data:`rrec_lib.data.amazon.categories.NOUNS`.
        folder: where the files are kept; ``amazon-2023`` in the cache folder if not given.
        base: the address under which they are published.

    Raises:
        ValueError: for an unknown category.
        DownloadError: if a file can't be had, saying what to do without a network.
    """
    if category not in NOUNS:
        raise ValueError(f"Amazon Reviews 2023 has no category {category!r}; choose one of {', '.join(NOUNS)}, "
                         "or pass the folder of your own files with --raw-dir")  # fmt: skip
    folder = cache_dir() / "amazon-2023" if folder is None else Path(folder)
    addresses = {name.format(category): f"{base}/{place}/{name.format(category)}" for name, place in PLACES.items()}
    for name, address in addresses.items():
        if (folder / name).is_file():  # it got its name only when it was whole
            continue
        try:
            download(address, folder / name)
        except DownloadError as error:
            missing = [there for file, there in addresses.items() if not (folder / file).is_file()]
            reason_and_remedy = str(error).partition(", or download ")[0]
            raise DownloadError(
                f"{reason_and_remedy}; or without a network: fetch "
                f"{' and '.join(missing)} elsewhere and put them into {folder}, or into a folder of your own that you "
                "name with --raw-dir"
            ) from error
    return raw_files(folder, category)
