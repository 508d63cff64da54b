"""Simple recommenders to be beaten: chance, popularity, last-item co-occurrence, text similarity."""

from rrec_lib.baselines.simple import Chance, LastItemCooccurrence, Popularity, TextSimilarity, fitted_baselines

__all__ = ["Chance", "LastItemCooccurrence", "Popularity", "TextSimilarity", "fitted_baselines"]
