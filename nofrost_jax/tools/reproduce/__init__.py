"""Studies: every row of a table on several seeds, each run a process of its own, resumable at any point."""
