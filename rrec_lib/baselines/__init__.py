"""Recommenders to be beaten: simple ones, item-to-item ones and sequence models, each with its search space."""

from rrec_lib.baselines.item_item import EASE, ItemKNN
from rrec_lib.baselines.registry import BASELINES, fitted_baselines
from rrec_lib.baselines.sequence import SequenceRecommender, SequenceSettings
from rrec_lib.baselines.simple import Chance, Popularity, TextSimilarity, WindowCooccurrence

__all__ = [
    "BASELINES",
    "EASE",
    "Chance",
    "ItemKNN",
    "Popularity",
    "SequenceRecommender",
    "SequenceSettings",
    "TextSimilarity",
    "WindowCooccurrence",
    "fitted_baselines",
]
