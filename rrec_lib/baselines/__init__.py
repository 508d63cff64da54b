"""Recommenders to be beaten: simple, item-to-item, text and sequence models, each with its search space."""

from rrec_lib.baselines.encoders import SequenceSettings
from rrec_lib.baselines.item_item import EASE, ItemKNN
from rrec_lib.baselines.registry import BASELINES, fitted_baselines
from rrec_lib.baselines.sequence import SequenceRecommender
from rrec_lib.baselines.simple import Chance, Popularity, WindowCooccurrence
from rrec_lib.baselines.text import BM25, TextSimilarity

__all__ = [
    "BASELINES",
    "BM25",
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
