"""Run `python -m nasx`."""

from nasx.cli import main

main()
