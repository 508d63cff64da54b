"""From scores to ranks, metrics with intervals, reports and their comparison.

In: any recommender and next-item examples. Out: reports.
Floor 2: imports core and data.
"""
