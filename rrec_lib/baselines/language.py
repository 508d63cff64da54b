"""Baselines that train or read a language model, by name. Their modules are imported when one is fitted, not before."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from rrec_lib.baselines.registry import BASELINES, SEQUENCE_MODEL, Baseline, Splits
from rrec_lib.evaluation.evaluate import Recommender


def _generative(module: str, trains: bool = True, leans_on: str | None = None, **space: Sequence[Any]) -> Baseline:
    def fit(splits: Splits, seed: int, **parameters: Any) -> Recommender:
        return import_module(f"rrec_lib.baselines.generative.{module}").fit(splits, seed, **parameters)

    return Baseline(fit, space, trains_language_model=trains, reads_language_model=not trains, leans_on=leans_on)


# A point of the others' spaces costs hours, so they are small. First values are those of public scripts that name one.
BASELINES |= {
    "TIGER": _generative(
        "tiger",
        trains=False,
        size=(32, 64, 128),
        length=(10, 20),
        hidden=(64, 128),
        layers=(1, 2),
        dropout=(0.1, 0.3),
        learning_rate=(1e-3, 3e-3),
    ),
    "BigRec": _generative("bigrec"),
    "D3": _generative("d3", leans_on=SEQUENCE_MODEL, guidance=(1.0, 0.8, 0.5, 0.3, 0.1)),
    "S-DPO": _generative("sdpo", beta=(1.0, 0.1), negatives=(3, 8)),
    "SPRec": _generative("sprec", beta=(0.1,), rounds=(1, 3)),
    "LLaRA": _generative("llara", leans_on=SEQUENCE_MODEL, curriculum_steps=(50,)),
    "LangPTune": _generative("langptune", eta=(1.0,), rounds=(1, 3)),
}
