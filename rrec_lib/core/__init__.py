"""What every room stands on: paths, the machine, progress and errors, profiles, records, figures.

In: files, environment, devices. Out: validated settings, provenance-stamped JSON, styled figures.
Floor 0: imports no other room.
"""
