"""Our SASRec beside RecTools', trained and ranked on the same rows.

RecTools wants NumPy 1, so it gets an environment of its own:

    python -m venv rectools-env
    rectools-env/bin/pip install "rectools[torch]==0.19.0"
    python scripts/reference_sasrec.py --python rectools-env/bin/python --seeds 3

This script writes the training windows and the histories to be scored as plain files, starts itself in the other
environment, and reads back a score per history and item. Both sides learn the same windows of the same sizes, liked
films alone as targets, for as many epochs, and keep the epoch that was best on the same rows of valid (RecTools is
looked at after every second epoch, ours after every one). Ours is trained twice. Once as RecTools builds it, which asks
whether the two are the same model: Xavier's first weights for every matrix, places counted from the end, embeddings as
they are. And once as the baseline is used: places counted from the beginning, embeddings times the square root of their
width, which is how SASRec's authors scale them.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

SIZES = {"hidden": 64, "layers": 2, "heads": 2, "dropout": 0.2, "learning_rate": 1e-3, "batch_size": 16}
LENGTH = 50
EPOCHS, EVERY = 24, 2  # RecTools is trained a few epochs at a time and asked for scores in between
SAME, OWN = "ours, built as RecTools", "ours"


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
    from rrec_lib.baselines.sequence import stopping_rows
    from rrec_lib.core.profiles import load_profile
    from rrec_lib.core.results import provenance, write_json
    from rrec_lib.data.examples import prepare_profile
    from rrec_lib.evaluation.compare import compare_arms
    from rrec_lib.evaluation.evaluate import evaluate_scores

    dataset = prepare_profile(load_profile(profile_name))
    train, valid, test = (list(dataset[name]) for name in ("train", "valid", "test"))
    n_items, asked = len(dataset["items"]), stopping_rows(valid)
    arms: dict[str, list] = {"RecTools": [], SAME: [], OWN: []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export(folder, train, n_items, {"valid": asked, "test": test})
        for seed in range(seeds):
            subprocess.run([python, __file__, "--worker", str(folder), str(seed)], check=True)
            scores = {"RecTools": best_of_rectools(folder, seed, asked)}
            for arm in (SAME, OWN):
                scores[arm] = train_ours(train, valid, n_items, seed, like_rectools=arm == SAME).scores(test)
            for arm, found in scores.items():
                arms[arm].append(evaluate_scores(found, test, arm, 10_000, seed))
                print(f"seed {seed}, {arm}: {arms[arm][-1].values['ndcg@20'].mean():.4f} on test", flush=True)
    figures: dict = {"seeds": seeds, "settings": {**SIZES, "length": LENGTH, "epochs": EPOCHS}, "ndcg@20": {}}
    for arm, (i, comparison) in compare_arms(arms, "ndcg@20").items():
        figures["ndcg@20"][arm] = {"mean": i.mean, "low": i.low, "high": i.high}
        figures["ndcg@20"][arm]["seeds"] = [float(report.values["ndcg@20"].mean()) for report in arms[arm]]
        if comparison is not None:
            d, base = comparison.interval, figures["ndcg@20"]["RecTools"]["mean"]
            figures["ndcg@20"][arm] |= {"difference": [d.mean, d.low, d.high], "relative": d.mean / base,
                                        "sentence": comparison.sentence}  # fmt: skip
    versions = subprocess.run([python, "-c", VERSIONS], check=True, capture_output=True, text=True).stdout
    figures["versions"] = json.loads(versions)
    path = Path(__file__).resolve().parents[1] / "results" / "reference-sasrec.json"
    write_json(path, {"profile": profile_name, **provenance(0), "figures": figures})
    print(json.dumps(figures, indent=1))


def best_of_rectools(folder: Path, seed: int, asked: list):  # type: ignore[no-untyped-def]
    """(E, N) scores of test at the epoch that was best on the rows of valid."""
    import numpy as np
    import torch

    from rrec_lib.evaluation.evaluate import evaluate_scores

    found = {}
    for path in folder.glob(f"valid-{seed}-*.npy"):
        report = evaluate_scores(torch.from_numpy(np.load(path)), asked, "valid", 10)
        found[path.stem.split("-")[2]] = float(report.values["ndcg@20"].mean())
    epoch = max(sorted(found), key=lambda name: found[name])
    print(f"seed {seed}: RecTools' best epoch {epoch}, valid NDCG@20 {found[epoch]:.4f}", flush=True)
    return torch.from_numpy(np.load(folder / f"test-{seed}-{epoch}.npy"))


def train_ours(train: list, valid: list, n_items: int, seed: int, like_rectools: bool):  # type: ignore[no-untyped-def]
    """Our SASRec for the same epochs; looked at after each, since that is how it is built."""
    from rrec_lib.baselines.encoders import SequenceSettings
    from rrec_lib.baselines.sequence import SequenceRecommender

    settings = SequenceSettings(length=LENGTH, epochs=EPOCHS, patience=EPOCHS, **SIZES)  # type: ignore[arg-type]
    model = SequenceRecommender("sasrec", n_items, settings, seed)
    if like_rectools:
        build_as_rectools(model)
    model.fit(train, valid)
    best = max(model.history, key=lambda row: row["valid_ndcg@20"])
    print(f"seed {seed}: our best epoch {best['epoch'] + 1}, valid NDCG@20 {best['valid_ndcg@20']:.4f}", flush=True)
    return model


def build_as_rectools(model) -> None:  # type: ignore[no-untyped-def]
    """Give our SASRec RecTools' first weights, its way of counting places, and embeddings that are not scaled."""
    import torch
    from torch import nn

    for name, weight in model.named_parameters():
        if weight.dim() > 1:  # RecTools holds the three projections in one matrix of 3d rows, which narrows them
            joint = any(part in name for part in ("query", "key", "value"))
            nn.init.xavier_normal_(weight, 0.5**0.5 if joint else 1.0)

    def forward(histories: torch.Tensor) -> torch.Tensor:
        encoder, lengths = model.encoder, (histories != model.n_items).sum(1, keepdim=True)
        places = (torch.arange(histories.shape[1]) + LENGTH - lengths).clamp(max=LENGTH - 1)
        return encoder.norm(encoder.blocks(model.items(histories) + encoder.positions.weight[places]))

    model.forward = forward


VERSIONS = (
    "import json, numpy, rectools, torch; "
    "print(json.dumps({'rectools': rectools.__version__, 'torch': torch.__version__, 'numpy': numpy.__version__}))"
)


def export(folder: Path, train: list, n_items: int, splits: dict[str, list]) -> None:
    """Training windows as users of their own (user, item, place, whether a target), and the histories to be scored."""
    from rrec_lib.baselines.sequence import IGNORED, training_windows
    from rrec_lib.baselines.user_logs import recent

    events = []
    inputs, labels = training_windows(train, LENGTH, n_items)
    for user, (row, wanted) in enumerate(zip(inputs.tolist(), labels.tolist(), strict=True)):
        items = [item for item in row if item != n_items]
        last = wanted[len(items) - 1]
        items.append(items[-1] if last == IGNORED else last)  # weighs nothing there, and is never an input
        weights = [0, *(int(label != IGNORED) for label in wanted[: len(items) - 1])]
        events += [(user, item, place, w) for place, (item, w) in enumerate(zip(items, weights, strict=True))]
    (folder / "train.json").write_text(json.dumps(events))
    (folder / "n_items.json").write_text(json.dumps(n_items))
    for name, examples in splits.items():
        (folder / f"{name}.json").write_text(json.dumps([recent(example, LENGTH) for example in examples]))


def train_rectools(folder: Path, seed: int) -> None:
    """Runs in the other environment: train, and save scores of valid and test every few epochs."""
    import numpy as np
    import pandas as pd
    import torch
    from pytorch_lightning import seed_everything
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    torch.set_num_threads(1)
    seed_everything(seed)
    events = json.loads((folder / "train.json").read_text())
    log = pd.DataFrame(events, columns=[Columns.User, Columns.Item, "place", Columns.Weight])
    log[Columns.Datetime] = pd.Timestamp("2000-01-01") + pd.to_timedelta(log.pop("place"), unit="min")
    n_items = json.loads((folder / "n_items.json").read_text())
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
    main()
