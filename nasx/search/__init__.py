"""The search: proposals, rungs, the loop and its executors."""
