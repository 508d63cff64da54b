"""Long work on many rows, chunk by chunk: a finished chunk is kept, and read back when the work goes on."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from rrec_lib.core.paths import replacing
from rrec_lib.core.reading import read_tensors
from rrec_lib.data.examples import Example
from rrec_lib.evaluation.evaluate import Recommender

CHUNK = 64  # rows whose results are kept together
_SPENT = [0.0]  # CPU seconds of all chunks of this process
Compute = Callable[[list[Example]], dict[str, Tensor]]


def in_chunks(
    examples: Sequence[Example], compute: Compute, made_by: str, folder: Path, size: int, name: str
) -> dict[str, Tensor]:
    """Compute something for each example, or read it back.

    A chunk's file is named by what its results depend on and by its rows. Rows are drawn from all examples, so that a
    chunk has several users and another's reasoning is at hand.

    Args:
        examples: E rows.
        compute: from rows to tensors with as many rows.
        made_by: all that the results depend on beside the rows: weights, prompts, settings.
        folder: of the chunks' files.
        size: rows of a chunk at most.
        name: for the line that is printed after each chunk.

    Returns:
        What ``compute`` gives, for all E rows in their order, and ``seconds``: (E,) of the CPU, a chunk's spread evenly
        over its rows.
    """
    order = np.random.default_rng(0).permutation(len(examples))
    parts: list[dict[str, Tensor]] = []
    for numbers in np.array_split(order, -(-len(order) // size)):
        chunk = [examples[number] for number in numbers]
        key = hashlib.sha256(f"chunk {made_by} {json.dumps(chunk)}".encode()).hexdigest()[:16]
        path = folder / f"{key}.safetensors"
        if not path.is_file():
            start, within = time.process_time(), _SPENT[0]
            found = {of: value.cpu().contiguous() for of, value in compute(chunk).items()}
            spent = time.process_time() - start - (_SPENT[0] - within)  # what chunks within took is theirs
            _SPENT[0] += spent
            found["seconds"] = torch.full((len(chunk),), spent / len(chunk), dtype=torch.float64)
            with replacing(path) as temporary:
                save_file(found, temporary)
            done = sum(len(part["seconds"]) for part in parts) + len(chunk)
            print(f"{name} {done}/{len(examples)}, {spent:.0f} s", flush=True)
        parts.append(read_tensors(path, "seconds"))
    places = torch.from_numpy(np.argsort(order))
    return {of: torch.cat([part[of] for part in parts])[places] for of in parts[0]}


@dataclass(frozen=True)
class KeptScores:
    """A slow recommender whose scores are kept chunk by chunk, so that an evaluation goes on where it was stopped.

    Attributes:
        recommender: gives (E, N) scores.
        made_by: all that they depend on beside the rows, see :func:`in_chunks`.
        folder: of the chunks' files.
        name: for the lines that are printed.
    """

    recommender: Recommender
    made_by: str
    folder: Path
    name: str

    def scores(self, examples: Sequence[Example]) -> Tensor:
        """(E, N) scores, on the CPU."""

        def compute(rows: list[Example]) -> dict[str, Tensor]:
            return {"scores": self.recommender.scores(rows)}

        return in_chunks(examples, compute, self.made_by, self.folder, CHUNK, self.name)["scores"]
