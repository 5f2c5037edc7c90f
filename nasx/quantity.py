"""Numbers as people read them: `12.3 M`, `0.42 ms`, `88.1 %`, `1:20`."""

from __future__ import annotations

import math

from nasx.axes import AXES

PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
SYMBOLS = {"uJ": "µJ", "byte": "B"}  # how a unit of `nasx.axes` is written
FIXED = ("%", "dB", "ms", "uJ")  # units that take no prefix
BARS = "▁▂▃▄▅▆▇█"


def digits(value: float, significant: int = 3) -> str:
    """Return `value` with this many significant digits and no exponent."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    exponent = int(f"{value:.{significant - 1}e}".partition("e")[2])  # of the rounded value
    decimals = significant - 1 - exponent
    return f"{round(value, decimals):.{max(0, decimals)}f}"


def count(value: float) -> str:
    """Return a count with a decimal prefix: 12.3 M, 640, 1.20 k."""
    for size, prefix in PREFIXES:
        if abs(value) >= 0.9995 * size:
            return f"{digits(value / size)} {prefix}"
    return digits(value) if value != int(value) else str(int(value))


def brief(value: float) -> str:
    """Return a round number, such as a budget, without zeros that say nothing: 12 k."""
    number, _, prefix = count(value).partition(" ")
    if "." in number:
        number = number.rstrip("0").rstrip(".")
    return f"{number} {prefix}".rstrip()


def amount(axis: str, value: float | None) -> str:
    """Return the value of an axis with its unit; a dash where it is not known."""
    if value is None or not math.isfinite(value):
        return "–"
    unit = AXES[axis].unit if axis in AXES else ""
    shown = SYMBOLS.get(unit, unit)
    if unit == "%":
        return f"{value:.1f} {shown}"
    if unit == "dB":  # papers compare hundredths
        return f"{value:.2f} {shown}"
    if unit in FIXED:
        return f"{digits(value)} {shown}"
    if axis in AXES and AXES[axis].kind == "score":
        return f"{value:.4f}" if axis == "ssim" else f"{value:.3f}"
    text = count(value)
    if unit == "byte":
        return text + ("B" if text[-1].isalpha() else " B")
    return text


def heading(axis: str) -> str:
    """Return the label of an axis with its unit: 'latency, ms'."""
    if axis not in AXES:
        return axis
    found = AXES[axis]
    if found.unit in ("", "MAC", "FLOP"):
        return found.label
    return f"{found.label}, {SYMBOLS.get(found.unit, found.unit)}"


def duration(seconds: float) -> str:
    """Return a time span: 0:42, 12:05, 3:20:00."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def sparkline(values: list[float], width: int = 12) -> str:
    """Return `values` as a row of bars, thinned to `width`."""
    if not values:
        return ""
    if len(values) > width:
        values = [values[round(i * (len(values) - 1) / (width - 1))] for i in range(width)]
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(BARS[min(7, int((v - low) / span * 7.999))] for v in values)
