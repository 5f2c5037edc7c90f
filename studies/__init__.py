"""One file here is one question."""
