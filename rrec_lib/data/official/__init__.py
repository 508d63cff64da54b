"""The official preprocessing of Amazon Reviews 2023, row for row, odd rules included.

In: the raw files of a category. Out: the folder that the official trainer loads.
Part of data.
"""
