"""From raw logs of any source to next-item examples, split by time.

In: MovieLens, Amazon Reviews 2023 or two CSV files. Out: a prepared folder (Arrow tables and a manifest).
Floor 1: imports core.
"""
