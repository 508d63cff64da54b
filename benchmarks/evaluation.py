"""Evaluating 5,000 examples on 10,000 items from given states, and 10,000 resamples of 50,000 users."""

import numpy as np
import torch
from common import finish, in_turn, options, spread

from rrec_lib.evaluation.evaluate import evaluate_scores
from rrec_lib.evaluation.intervals import bootstrap_mean_interval
from rrec_lib.evaluation.scoring import score_items

LIMITS = {"evaluation": 3.0, "bootstrap": 5.0}  # seconds on two cores
WIDTH = 576  # of SmolLM2-135M's states


def main() -> None:
    chosen = options(__doc__)
    rows, items, users, samples = (50, 200, 500, 50) if chosen.quick else (5_000, 10_000, 50_000, 10_000)
    states, table = torch.randn(rows, WIDTH), torch.randn(items, WIDTH)
    rng = np.random.default_rng(0)
    examples = [
        {"user_id": i // 2, "seen": rng.integers(0, items, 30).tolist(), "target": int(rng.integers(items))}
        for i in range(rows)
    ]
    counts, values = torch.from_numpy(rng.integers(0, 50, items)), rng.random(users)

    def evaluation() -> None:
        evaluate_scores(lambda part: score_items(states[part], table, 0.02), examples, "states", train_counts=counts)

    def bootstrap() -> None:
        bootstrap_mean_interval(values, np.arange(users), samples, seed=0)

    seconds = in_turn({"evaluation": evaluation, "bootstrap": bootstrap}, chosen.rounds)
    figures = {
        "rows": rows,
        "items": items,
        "users": users,
        "resamples": samples,
        "seconds": {name: spread(measured) for name, measured in seconds.items()},
        "limits_seconds": LIMITS,
    }
    # Of what each may take, the larger share.
    shares = [[second / LIMITS[name] for second in measured] for name, measured in seconds.items()]
    finish("evaluation", [max(pair) for pair in zip(*shares, strict=True)], figures, chosen)


if __name__ == "__main__":
    main()
