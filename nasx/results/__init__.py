"""Results, computed from the record alone."""
