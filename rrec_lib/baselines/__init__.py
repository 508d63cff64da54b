"""Recommenders to be beaten: simple, item-to-item, text, sequence and language models, each with its search space.

In: the train and valid splits. Out: recommenders, tuned on valid.
Floor 3: imports core, data, evaluation and, where a language model writes, model; where one is trained, training too;
where it samples, RecPO's rollouts.
"""

from importlib import import_module
from pkgutil import iter_modules

from rrec_lib.baselines.registry import BASELINES, fitted_baselines

__all__ = ["BASELINES", "fitted_baselines", "import_baselines"]
_FIRST = ("simple", "item_item", "text", "sequence", "language")  # the order of tables


def import_baselines() -> None:
    """Import every module of this package, so that its baselines stand in :data:`BASELINES`."""
    for name in dict.fromkeys([*_FIRST, *(module.name for module in iter_modules(__path__))]):
        import_module(f"{__name__}.{name}")


import_baselines()
