"""The tasks that nasx trains on: one file, one kind of problem."""
