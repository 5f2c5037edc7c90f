"""Small pieces of HTML; every text from the record is escaped here."""

from __future__ import annotations

import html
import re


def esc(value: object) -> str:
    """Return a value as text for HTML, in elements and in attributes."""
    return html.escape(str(value), quote=True)


def bound(sentence: str) -> str:
    """Return a sentence as HTML whose numbers are not parted from their units."""
    return esc(re.sub(r"(?<=[\d±]) (?=[%±\dkMGT×µ]|ms|dB|points)", "\u00a0", sentence))


def section(title: str, body: str, why: str = "") -> str:
    below = f'<p class="why">{esc(why)}</p>' if why else ""
    return f'<section class="card"><h2>{esc(title)}</h2>{below}{body}</section>'


def table(heads: list[str], rows: str, kind: str = "") -> str:
    top = f"<thead><tr>{''.join(heads)}</tr></thead>" if heads else ""
    return f'<div class="scroll"><table class="{kind}">{top}<tbody>{rows}</tbody></table></div>'


def head(label: str, how: str, *, number: bool = False) -> str:
    small = f"<small>{esc(how)}</small>" if how else ""
    return f"<th scope=col{' class=num' if number else ''}>{esc(label)}{small}</th>"
