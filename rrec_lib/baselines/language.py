"""Baselines that train a language model, by name. Their modules are imported when one is fitted, not before."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from rrec_lib.baselines.registry import BASELINES, Baseline, Splits
from rrec_lib.evaluation.evaluate import Recommender


def _generative(module: str, **space: Sequence[Any]) -> Baseline:
    def fit(splits: Splits, seed: int, **parameters: Any) -> Recommender:
        return import_module(f"rrec_lib.baselines.generative.{module}").fit(splits, seed, **parameters)

    return Baseline(fit, space, trains_language_model=True)


# A point of these spaces costs hours, so they are small. First values are those of public scripts that name one.
BASELINES |= {
    "BigRec": _generative("bigrec"),
    "D3": _generative("d3", guidance=(1.0, 0.8, 0.5)),
    "S-DPO": _generative("sdpo", beta=(1.0, 0.1), negatives=(3, 8)),
    "SPRec": _generative("sprec", beta=(0.1,), rounds=(1, 3)),
    "LangPTune": _generative("langptune", eta=(1.0,), rounds=(1, 3)),
}
