"""Simple recommenders to be beaten: popularity, last-item co-occurrence, text similarity."""

from rrec_lib.baselines.simple import LastItemCooccurrence, Popularity, TextSimilarity, fitted_baselines

__all__ = ["LastItemCooccurrence", "Popularity", "TextSimilarity", "fitted_baselines"]
