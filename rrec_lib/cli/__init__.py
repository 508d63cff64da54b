"""The command line, ``rrec COMMAND``: one file a command, and how mistakes are reported.

In: words. Out: what a command prints, and its exit status.
Top floor: imports what its commands need; nothing imports it.
"""
