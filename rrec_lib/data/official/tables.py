"""The official splits: in, a plan of rows and the items on disk; out, Arrow files, written batch by batch."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from rrec_lib.data.arrow import Stream, record_batch, stored_batches, write_stream
from rrec_lib.data.histories import spans
from rrec_lib.data.official.items import ITEM_SCHEMA, PAD_ITEM, LoadedItems

BATCH = 16_384  # rows; with 20 titles each some 30 MB
ITEM_INFO_SCHEMA = ITEM_SCHEMA.append(pa.field("item_id", pa.int64()))
ROW_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_asins", pa.list_(pa.string())),
        ("item_asin", pa.string()),
        ("history_item_id", pa.list_(pa.int64())),
        ("item_id", pa.int64()),
        ("history_item_title", pa.list_(pa.string())),
        ("item_title", pa.string()),
        ("history_rating", pa.list_(pa.float64())),
        ("rating", pa.float64()),
        ("history_timestamp", pa.list_(pa.int64())),
        ("timestamp", pa.int64()),
        ("interaction_id", pa.int64()),
    ]
)


@dataclass(frozen=True)
class RowPlan:
    """Events of all users one after the other, oldest first, and which of them are targets.

    ``user`` (index into ``user_ids``), ``item_id``, ``rating``, ``timestamp`` and ``start`` (place of the user's
    first event) are (E,); ``rows`` (R,) are the targets' places, in the order in which they are to be stored.
    """

    user: np.ndarray
    item_id: np.ndarray
    rating: np.ndarray
    timestamp: np.ndarray
    start: np.ndarray
    rows: np.ndarray
    window: int
    user_ids: pa.Array


@dataclass(frozen=True)
class ItemTexts:
    """Text of item ids 0 to N; 0 is the pad item."""

    asins: pa.Array
    titles: pa.Array


def write_item_info(items: LoadedItems, ids: np.ndarray, first_rows: np.ndarray, path: Path) -> ItemTexts:
    """Write ``item_info``: the items that occur, in file order, then the pad item.

    Args:
        items: what :func:`rrec_lib.data.official.items.load_items` returned.
        ids: item id by review item, 0 for one that does not occur; longer codes do not occur either.
        first_rows: (N,) where on disk each id stands first: an item described twice is stored twice, and the first
            title is the one that histories show.
        path: the Arrow file to write.

    Returns:
        ASIN and title by item id.
    """
    by_row = np.zeros(len(items.review_item), dtype=np.int64)
    known = items.review_item < len(ids)
    by_row[known] = ids[items.review_item[known]]
    is_first = np.zeros(len(by_row), dtype=bool)
    is_first[first_rows] = True
    pad = record_batch([PAD_ITEM], ITEM_SCHEMA)
    texts = {"parent_asin": [pad.column("parent_asin")], "title": [pad.column("title")]}
    done = 0
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, ITEM_INFO_SCHEMA) as writer:
        for batch in stored_batches(items.path):
            here = slice(done, done + batch.num_rows)
            done += batch.num_rows
            rows = np.flatnonzero(by_row[here])
            writer.write_batch(_with_ids(batch.take(pa.array(rows)), by_row[here][rows]))
            firsts = pa.array(np.flatnonzero(is_first[here]))
            for name, parts in texts.items():
                parts.append(batch.column(name).take(firsts))
        writer.write_batch(_with_ids(pad, np.zeros(1, dtype=np.int64)))
    return ItemTexts(*(pa.concat_arrays(parts) for parts in texts.values()))


def write_rows(plan: RowPlan, texts: ItemTexts, span: tuple[int, int], path: Path) -> None:
    """Write one split of next-item rows.

    Args:
        plan: all rows.
        texts: ASIN and title by item id.
        span: first row and the one after the last.
        path: the Arrow file to write, with the columns of ``ROW_SCHEMA``.
    """
    batches = (_rows(plan, texts, begin, min(begin + BATCH, span[1])) for begin in range(*span, BATCH))
    write_stream(Stream(ROW_SCHEMA, batches), path)


def _rows(plan: RowPlan, texts: ItemTexts, begin: int, end: int) -> pa.RecordBatch:
    place = plan.rows[begin:end]
    length = np.minimum(place - plan.start[place], plan.window)
    offsets, past = spans(place, length)
    past_item, item = pa.array(plan.item_id[past]), pa.array(plan.item_id[place])

    def lists(values: pa.Array) -> pa.Array:
        return pa.ListArray.from_arrays(pa.array(offsets), values)

    columns = [
        plan.user_ids.take(pa.array(plan.user[place])),
        lists(texts.asins.take(past_item)),
        texts.asins.take(item),
        lists(past_item.cast(pa.int64())),
        item.cast(pa.int64()),
        lists(texts.titles.take(past_item)),
        texts.titles.take(item),
        lists(pa.array(plan.rating[past])),
        pa.array(plan.rating[place]),
        lists(pa.array(plan.timestamp[past])),
        pa.array(plan.timestamp[place]),
        pa.array(np.arange(begin, end)),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=ROW_SCHEMA)


def _with_ids(batch: pa.RecordBatch, ids: np.ndarray) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([*batch.columns, pa.array(ids)], schema=ITEM_INFO_SCHEMA)
