"""One file here is one figure: `figure(record, study) -> plotly Figure`."""
