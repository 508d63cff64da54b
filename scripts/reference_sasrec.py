"""Our SASRec beside RecTools', trained and ranked on the same rows.

RecTools wants NumPy 1, so it gets an environment of its own:

    python -m venv rectools-env
    rectools-env/bin/pip install "rectools[torch]==0.19.0"
    python scripts/reference_sasrec.py --python rectools-env/bin/python --seeds 3

This script writes the training events and the histories to be scored as plain files, starts itself in the other
environment, and reads back a score per history and item. Both sides look at the last 200 items of a user, learn from
liked films alone, and keep the epoch that was best on valid.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

SIZES = {"hidden": 64, "layers": 2, "heads": 2, "dropout": 0.2, "learning_rate": 1e-3, "batch_size": 16}
LENGTH = 200
EPOCHS, EVERY = 40, 4  # RecTools is trained a few epochs at a time and asked for scores in between


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", help="that of the environment with RecTools")
    parser.add_argument("--profile", default="cpu")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each side (default: 3)")
    parser.add_argument("--worker", nargs=2, metavar=("FOLDER", "SEED"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        train_rectools(Path(arguments.worker[0]), int(arguments.worker[1]))
    elif not arguments.python:
        parser.error("name the Python of the environment with RecTools: --python")
    else:
        compare(arguments.python, arguments.profile, arguments.seeds)


def compare(python: str, profile_name: str, seeds: int) -> None:
    """Train both sides and write the comparison to ``results/reference-sasrec.json``."""
    import numpy as np
    import torch

    from rrec_lib.baselines import SequenceRecommender, SequenceSettings
    from rrec_lib.comparison import compare_arms
    from rrec_lib.data.examples import prepare_profile
    from rrec_lib.evaluation import evaluate_scores
    from rrec_lib.profiles import load_profile
    from rrec_lib.results import provenance, write_json

    dataset = prepare_profile(load_profile(profile_name))
    train, valid, test = (list(dataset[name]) for name in ("train", "valid", "test"))
    n_items = len(dataset["items"])
    arms: dict[str, list] = {"RecTools": [], "ours": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export(folder, train, {"valid": valid, "test": test})
        for seed in range(seeds):
            subprocess.run([python, __file__, "--worker", str(folder), str(seed)], check=True)
            best, epoch = -1.0, 0
            for path in sorted(folder.glob(f"valid-{seed}-*.npy")):
                scores = torch.from_numpy(np.load(path))
                ndcg = evaluate_scores(scores, valid, "valid", 10).values["ndcg@20"].mean()
                if ndcg > best:
                    best, epoch = float(ndcg), int(path.stem.split("-")[2])
            scores = torch.from_numpy(np.load(folder / f"test-{seed}-{epoch:03}.npy"))
            arms["RecTools"].append(evaluate_scores(scores, test, "RecTools", 10_000, seed))
            print(f"seed {seed}: RecTools' best epoch {epoch}, valid NDCG@20 {best:.4f}", flush=True)
            settings = SequenceSettings(length=LENGTH, **SIZES)  # type: ignore[arg-type]
            model = SequenceRecommender("sasrec", n_items, settings, seed).fit(train, valid)
            arms["ours"].append(evaluate_scores(model.scores(test), test, "ours", 10_000, seed))
    table = compare_arms(arms, "ndcg@20")
    (theirs, _), (ours, comparison) = table["RecTools"], table["ours"]
    difference = comparison.interval
    figures = {
        "ndcg@20": {"RecTools": [theirs.mean, theirs.low, theirs.high], "ours": [ours.mean, ours.low, ours.high]},
        "difference": [difference.mean, difference.low, difference.high],
        "relative": difference.mean / theirs.mean,
        "seeds": seeds,
        "sentence": comparison.sentence,
        "versions": json.loads(
            subprocess.run([python, "-c", VERSIONS], check=True, capture_output=True, text=True).stdout
        ),
        "settings": {**SIZES, "length": LENGTH},
    }
    path = Path(__file__).resolve().parents[1] / "results" / "reference-sasrec.json"
    write_json(path, {"profile": profile_name, **provenance(0), "figures": figures})
    print(json.dumps(figures, indent=1))


VERSIONS = (
    "import json, numpy, rectools, torch; "
    "print(json.dumps({'rectools': rectools.__version__, 'torch': torch.__version__, 'numpy': numpy.__version__}))"
)


def export(folder: Path, train: list, splits: dict[str, list]) -> None:
    """Training events (user, item, order, whether it was a target) and the histories to be scored."""
    from rrec_lib.baselines.histories import recent, user_logs

    events = [
        (user, item, place, int(target))
        for user, log in enumerate(user_logs(train))
        for place, (item, target) in enumerate(zip(log.items, log.is_target, strict=True))
    ]
    (folder / "train.json").write_text(json.dumps(events))
    for name, examples in splits.items():
        (folder / f"{name}.json").write_text(json.dumps([recent(example, LENGTH) for example in examples]))


def train_rectools(folder: Path, seed: int) -> None:
    """Runs in the other environment: train, and save scores of valid and test every few epochs."""
    import numpy as np
    import pandas as pd
    from pytorch_lightning import seed_everything
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    seed_everything(seed)
    events = json.loads((folder / "train.json").read_text())
    log = pd.DataFrame(events, columns=[Columns.User, Columns.Item, "place", Columns.Weight])
    log[Columns.Datetime] = pd.Timestamp("2000-01-01") + pd.to_timedelta(log.pop("place"), unit="min")
    n_items = int(log[Columns.Item].max()) + 1
    model = SASRecModel(
        n_factors=SIZES["hidden"],
        n_blocks=SIZES["layers"],
        n_heads=SIZES["heads"],
        dropout_rate=SIZES["dropout"],
        lr=SIZES["learning_rate"],
        batch_size=SIZES["batch_size"],
        session_max_len=LENGTH,
        loss="softmax",
        epochs=EVERY,
        deterministic=True,
        verbose=0,
    )
    dataset = Dataset.construct(log)
    for epoch in range(EVERY, EPOCHS + 1, EVERY):
        model.fit_partial(dataset, EVERY, EVERY)
        for name in ("valid", "test"):
            np.save(folder / f"{name}-{seed}-{epoch:03}.npy", rectools_scores(model, folder / f"{name}.json", n_items))


def rectools_scores(model, path: Path, n_items: int):  # type: ignore[no-untyped-def]
    """(E, N) scores; every history is a user of its own, and an item that training never met comes last."""
    import numpy as np
    import pandas as pd
    from rectools import Columns
    from rectools.dataset import Dataset

    histories = json.loads(path.read_text())
    rows = [(user, item, place) for user, items in enumerate(histories) for place, item in enumerate(items)]
    log = pd.DataFrame(rows, columns=[Columns.User, Columns.Item, "place"])
    log[Columns.Datetime] = pd.Timestamp("2000-01-01") + pd.to_timedelta(log.pop("place"), unit="min")
    log[Columns.Weight] = 1
    found = model.recommend(
        users=np.arange(len(histories)), dataset=Dataset.construct(log), k=n_items, filter_viewed=False
    )
    scores = np.full((len(histories), n_items), np.float32(found[Columns.Score].min() - 1))
    scores[found[Columns.User].to_numpy(), found[Columns.Item].to_numpy()] = found[Columns.Score]
    return scores


if __name__ == "__main__":
    sys.exit(main())
