"""A space whose default lies outside its domain: no study may start with it."""

from nasx.space import Space, integer


class Outside(Space):
    name = "outside"
    width: int = integer(8, 48, step=8, default=5)
