"""Self-checks for the exercises of each notebook."""
