"""What the frozen layers make of ragged rows: computed once, kept on disk, shared by arms, seeds and epochs."""

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rrec_lib.core import hardware
from rrec_lib.core.console import progress
from rrec_lib.core.paths import in_use, replacing
from rrec_lib.core.reading import read_tensors
from rrec_lib.model.encode import common_prefix, of_like_lengths
from rrec_lib.model.layers import frozen_layers
from rrec_lib.model.policy import Policy
from rrec_lib.model.precision import check_finite
from rrec_lib.model.ragged import Row, ragged_forward, ragged_hidden, ragged_row, ragged_rows

LIMIT_GB = 8.0  # some 7 million tokens of SmolLM2-135M in bfloat16


@contextmanager
def kept_frozen(runs: Path) -> Iterator[Path]:
    """The folder of what runs share, below theirs; deleted once all have ended well, so that a killed one goes on.

    Of several processes with the same ``runs`` the last one deletes it.
    """
    folder = runs / "frozen"
    with in_use(folder) as alone:
        yield folder
        if alone():
            shutil.rmtree(folder, ignore_errors=True)


class FrozenStates:
    """Hidden states (L, d) of rows behind the layers below the first trained one, in the policy's compute type.

    A row is computed by itself, so that what is read back and what is computed are the same bits. Files are named by
    all they depend on: base weights, type, number of layers, the row's tokens and who sees whom.
    """

    def __init__(self, policy: Policy, folder: Path | None = None) -> None:
        """Args:
        policy: its frozen layers must stay frozen.
        folder: of the files, :data:`LIMIT_GB` at most, rows beyond which are computed each time; None keeps nothing.
        """
        self.depth, self.dtype, self.folder = frozen_layers(policy.model), policy.compute_dtype, folder
        self.key = f"{policy.base_hash} {policy.compute_dtype} {self.depth}"
        used = sum(path.stat().st_size for path in folder.rglob("*.safetensors")) if folder else 0
        self.room = LIMIT_GB * 1e9 - used
        self.saved = 0.0  # CPU seconds that rows which were read back took when they were computed

    def __call__(self, model: nn.Module, rows: Sequence[Row]) -> Tensor | None:
        """(1, ΣL, d) what the frozen layers make of rows, in float32; None if no layer is frozen.

        Raises:
            ValueError: if a layer that was frozen has become trainable, so that what is kept of it may be old.
        """
        if not self.depth:
            return None
        if frozen_layers(model) < self.depth:
            raise ValueError(f"one of the {self.depth} layers whose states are kept has become trainable")
        return torch.cat([self._of(model, row) for row in rows]).float()[None]

    def _of(self, model: nn.Module, row: Row) -> Tensor:
        if self.folder is None:
            return ragged_hidden(model, [row], self.depth)[0].to(self.dtype)
        digest = hashlib.sha256(self.key.encode())
        for part in (row.ids, row.positions, row.visible):
            digest.update(part.cpu().numpy().tobytes() + b"|")
        name = digest.hexdigest()[:32]
        path = self.folder / name[:2] / f"{name}.safetensors"
        if path.is_file():
            found = read_tensors(path, "hidden")
            self.saved += float(found.get("cpu_seconds", 0.0))
            return found["hidden"].to(row.ids.device)
        started = hardware.spent()
        hidden = ragged_hidden(model, [row], self.depth)[0].to(self.dtype)
        if hidden.nbytes <= self.room:
            with replacing(path) as temporary:
                took = torch.tensor(hardware.spent() - started, dtype=torch.float64)
                save_file({"hidden": hidden.cpu().contiguous(), "cpu_seconds": took}, temporary)
            self.room -= path.stat().st_size
        return hidden

    def encode(
        self, policy: Policy, sequences: Sequence[Sequence[int]], per_row: int = 16, description: str = "encoding items"
    ) -> Tensor:
        """(n, d) float32 states at the end of sequences, without gradients, in the order they have.

        Args:
            policy: that of the constructor.
            sequences: n lists of token ids; rows of like lengths share what all of them begin with.
            per_row: how many sequences share a row.
            description: of the progress bar.
        """
        prefix, states = common_prefix(sequences), torch.empty(len(sequences), policy.hidden_size, device=policy.device)
        for chosen in progress(of_like_lengths(sequences, per_row), description):
            row = ragged_row(sequences[0][:prefix], [sequences[i][prefix:] for i in chosen])
            states[chosen] = self.states(policy, row)
        return check_finite(states, policy.compute_dtype)

    def states(self, policy: Policy, row: Row) -> Tensor:
        """(G, d) float32 states at the ends of a row's completions, without gradients."""
        row = row.to(policy.device)
        with torch.no_grad(), ragged_rows(policy.model), hardware.autocast(policy.compute_dtype, policy.device):
            return ragged_forward(policy.model, [row], self(policy.model, [row]), self.depth).states
