"""The recorded experiments: what they run, and the tables that the book reads.

In: profiles and reports. Out: files in results/ and rows for pages.
Floor 6: imports every room but cli, exercises and book.
"""
