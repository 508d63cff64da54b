"""The recorded experiments: what they run, and the tables that the book reads.

In: profiles, options of a run, reports. Out: checkpoints in runs/, reports in results/, tables for pages.
Floor 6: imports every room but cli, exercises and book.
"""
