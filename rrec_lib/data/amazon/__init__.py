"""Amazon Reviews 2023: the raw files of a category, read once, and the recipe ``clean``.

In: a review file and an item file. Out: checked rows, and a prepared folder.
Part of data.
"""
