"""Train the lab's arm full and write its weights, in half precision, into the script file that its page reads.

python scripts/lab_weights.py                                    # the recorded settings, seed 0; some minutes
python scripts/lab_weights.py --set steps=60 --out /tmp/other.js
"""

import argparse
import base64
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rrec_lib.cli.checks import threads
from rrec_lib.core.console import say, script
from rrec_lib.core.profiles import parse_overrides
from rrec_lib.core.results import provenance
from rrec_lib.evaluation.metrics import hit_rate_at_k
from rrec_lib.evaluation.scoring import score_items
from rrec_lib.lab import LabConfig, LabRun, World, make_world, run_arm
from rrec_lib.lab.model import LabModel, read_out, sample

PAGE = Path(__file__).resolve().parents[1] / "book/_static/explore/lab-data.js"
USERS = 200  # test users that the page has; the test compares all of them with PyTorch
OPENING = """// Written by scripts/lab_weights.py: the lab's arm full, its weights in half precision, and users to try.
explore.data.lab = """


def write_weights(run: LabRun, path: Path) -> None:
    """Round a run's weights to half precision, measure what they are worth, and write them with users to try.

    Args:
        run: of arm full.
        path: of the script file.
    """
    config = run.config
    world = make_world(config.world_seed, config.train_users, config.valid_users, config.test_users)
    weights = {name: weight.half() for name, weight in run.model.state_dict().items()}
    model = LabModel(config.width, config.layers, config.heads)
    model.load_state_dict(weights)  # in single precision again, the values rounded
    content: dict[str, Any] = {
        "about": {
            **provenance(run.seed), "arm": run.arm, "config": asdict(config), "test_users": len(world.test.targets),
            "hit@1": round(float(run.final["own"].metric("hit@1").mean()), 4),
            "hit@1, rounded weights": {who: round(hit, 4) for who, hit in hits(model, world, run.seed).items()},
        },
        "heads": config.heads,
        "classes": world.classes.tolist(),
        "slots": world.slots.tolist(),
        "users": world.test.histories[:USERS].tolist(),
        "shapes": {name: list(weight.shape) for name, weight in weights.items()},
        "weights": base64.b85encode(b"".join(w.numpy().astype("<f2").tobytes() for w in weights.values())).decode(),
    }  # fmt: skip
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in content.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(OPENING + "{\n" + ",\n".join(lines) + "\n};\n", encoding="utf-8")


@torch.no_grad()
def hits(model: LabModel, world: World, seed: int) -> dict[str, float]:
    """Hit@1 on the test users behind their own reasoning, drawn at temperature 1, another user's, and none."""
    test, draws = world.test, torch.Generator().manual_seed(seed + 3)
    own, _ = sample(model, test.histories, 1, draws)
    behind: dict[str, Tensor | None] = {"own": own, "another user's": own.roll(1, 0), "nothing": None}
    scores = {
        who: score_items(read_out(model, test.histories, reasoning)[0], model.item_states())
        for who, reasoning in behind.items()
    }
    return {who: float(hit_rate_at_k(table, test.targets, 1).mean()) for who, table in scores.items()}


def read_weights(path: Path = PAGE) -> tuple[LabModel, dict[str, Any]]:
    """The model that the page runs, and the rest of the script file.

    Raises:
        ValueError: if the file is not one of :func:`write_weights`.
    """
    text = path.read_text(encoding="utf-8")
    if not text.startswith(OPENING):
        raise ValueError(f"{path} was not written by lab_weights.py")
    content: dict[str, Any] = json.loads(text.removeprefix(OPENING).rstrip().rstrip(";"))
    values, start, weights = np.frombuffer(base64.b85decode(content.pop("weights")), "<f2"), 0, {}
    for name, shape in content["shapes"].items():
        end = start + int(np.prod(shape))
        weights[name] = torch.from_numpy(values[start:end].astype(np.float32).reshape(shape))
        start = end
    config = LabConfig(**content["about"]["config"])
    model = LabModel(config.width, config.layers, config.heads)
    model.load_state_dict(weights)
    return model, content


@script
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    parser.add_argument("--out", type=Path, default=PAGE, help="(default: book/_static/explore/lab-data.js)")
    parser.add_argument("--set", nargs="*", default=[], metavar="KNOB=VALUE", help="knobs of LabConfig")
    parser.add_argument("--threads", type=threads, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    try:
        config = LabConfig(**parse_overrides(chosen.set))
    except (TypeError, ValueError) as problem:
        parser.error(f"--set: {problem}")
    write_weights(run_arm(config, "full", chosen.seed), chosen.out)
    say(f"weights are in {chosen.out}")


if __name__ == "__main__":
    main()
