"""What the card of an export says of the check of its files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def checked(parity: Mapping[str, Any]) -> str:
    """Return the result of the check (parity.json) as Markdown."""
    rows = [
        "| file | largest difference | of the largest output | same top-1 |",
        "|---|---|---|---|",
    ]
    for name, row in parity["files"].items():
        rows.append(
            f"| {name} | {row['max_abs']:.1e} | {row['max_relative']:.1e} | "
            f"{_share(row['top1_agreement'])} |"
        )
    one = next(iter(parity["heads"].values())) if "heads" in parity else parity
    each = " of each head" if "heads" in parity else ""
    count = one["inputs"] - one.get("ways", {}).get("made", 0)
    said = (
        f"Against the trained network, on {count} real validation samples{each} in batches "
        f"of {one['batches'][0]} and {one['batches'][-1]}{_also(parity)}, in a fresh process "
        f"without nasx. "
        f"Allowed: {parity['tolerance']:g} of the largest output."
    )
    parts = [said, "\n".join(rows)]
    for head, found in (parity.get("heads") or {"": parity}).items():
        if "ways" in found:
            parts.append(_ways(found["ways"], found["alone"], head))
    for name, row in parity["files"].items():
        if "tiled" in row:
            size = " x ".join(map(str, row["tiled"]["size"]))
            far = row["tiled"]["max_relative"]
            parts.append(f"`restore` of {name}, on an image of {size}: {far:.1e} off.")
    if "decisions" in one:
        parts.append(_decided(parity, one["decisions"]))
    return "\n\n".join([*parts, "`sha256sum -c SHA256SUMS` verifies the files."])


def _ways(ways: Mapping[str, Any], alone: int, head: str) -> str:
    """Say which ways the inputs of the check take, where the work depends on the input."""
    rows = [f"| gate{f' of {head}' if head else ''} | inputs that take each way |", "|---|---|"]
    rows += [f"| {r['gate']} | {', '.join(map(str, r['samples']))} |" for r in ways["gates"]]
    said = [
        f"The work depends on the input, so {alone} inputs were also run alone, and ways that few "
        "samples take were looked for in the whole validation split."
    ]
    if ways["made"]:
        few = (
            "1 input is no sample" if ways["made"] == 1 else f"{ways['made']} inputs are no samples"
        )
        said.append(f"{few} but made of some, to take a way that none takes.")
    if ways["edge"]:
        said.append(f"{ways['edge']} samples were left out, which rounding may send another way.")
    text = " ".join(said) + "\n\n" + "\n".join(rows)
    return f"**Not checked:** {unseen(ways, head)}.\n\n{text}" if ways["never"] else text


def unseen(ways: Mapping[str, Any], head: str = "") -> str:
    """Say which gates no input of the check opens, or closes: there the files were not tried."""
    never = [f"{one['gate']} {one['way']}" for one in ways["never"]]
    of = f" of head {head}" if head else ""
    return (
        f"no sample and no made-up image was found that takes {', '.join(never)}{of}; what the "
        "files do there was not held against the network"
    )


def _decided(parity: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Say how far files take the decisions of a network that rounds, and which rule they pass."""
    rows = [
        "| file | passes by its | codes equal | after equal ones, least layer "
        "| inputs with every code equal | these differ by |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in parity["files"].items():
        if "codes" not in row:
            continue  # of a head that no deciding layer is a part of
        rows.append(
            f"| {name} | {row['rule']} | {100 * row['codes_equal']:.4f} % of {row['codes']:,} | "
            f"{100 * row['least_fresh']:.4f} % | "
            f"{row['intact']} | {row['intact_max_relative']:.1e} |"
        )
    return (
        f"{len(wanted['layers'])} layers round their input, where a difference in the last bit can "
        "become one of a whole step. A file that differs by more than is allowed passes by its "
        f"decisions: {100 * wanted['share']:g} % of the codes, and of the answers, must be those "
        "of the network, and where all codes are, the outputs within what is allowed. Where one "
        "flip brings others behind it, the codes count that follow equal ones, in every layer (0 % "
        "where a layer has none), if the outputs stay within 1 % (root mean square).\n\n"
        + "\n".join(rows)
    )


def _share(share: float | None) -> str:
    """Return a share in percent; 100 only where it is all."""
    if share is None:
        return ""
    return f"{100 * share:.0f} %" if share in (0.0, 1.0) else f"{100 * share:.2f} %"


def other_size(parity: Mapping[str, Any]) -> list[int] | None:
    """Return the other size of images that was tried, with several heads that of the first."""
    one = next(iter(parity["heads"].values())) if "heads" in parity else parity
    other: list[int] | None = one.get("other_size")
    return other


def _also(parity: Mapping[str, Any]) -> str:
    """Say that images of another size were tried, too."""
    other = other_size(parity)
    return f", and on one of {' x '.join(map(str, other))}" if other else ""
