"""What only the book needs: the toy world, and what the official code computes where it differs.

In: nothing. Out: numbers that a reader can check by hand.
Floor 1: imports core alone.
"""
