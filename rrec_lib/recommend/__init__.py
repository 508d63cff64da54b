"""A trained policy as a recommender: for evaluation, for its controls, and for people.

In: histories or film titles. Out: reasonings and ranked lists.
Floor 5: imports training and what lies below.
"""
