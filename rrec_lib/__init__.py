"""Reasoning recommenders, rebuilt: R²ec's dual-head policy, RecPO and their evaluation."""

__version__ = "0.1.0"
