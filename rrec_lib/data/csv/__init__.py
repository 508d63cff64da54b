"""Any log as two CSV files, whatever their delimiter, encoding and column names.

In: events and items as text. Out: a prepared folder.
Part of data.
"""
