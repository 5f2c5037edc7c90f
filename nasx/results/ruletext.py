"""A scaling rule in words, for the terminal."""

from __future__ import annotations

from nasx.results.crest import RESAMPLES
from nasx.results.fitted import TAKEN, Fitted
from nasx.results.rule import BEYOND, Rule, null_errors


def sentences(rule: Rule) -> str:
    """Return a rule as a few plain lines: what it stands on, each axis, each form's error."""
    n = len(rule.points)
    lines = [
        f"{rule.name}: {', '.join(rule.spans)} against MACs (1 = {rule.setting.base_macs:,}), "
        f"from {n} trials within one standard error of the front of ({rule.score}, macs)"
    ]
    if rule.refused:
        lines.append(f"no rule: {rule.refused}")
    elif rule.points:
        low, high = rule.points[0].macs, rule.points[-1].macs
        lines.append(f"fitted from {low:,} to {high:,} MACs, reaches {BEYOND:g} x beyond")
    errors = null_errors(rule.null, rule.points)
    for axis, forms in rule.fits.items():
        low, high = rule.points[0].macs, rule.points[-1].macs
        budgets = (low, round((low * high) ** 0.5), high)
        parts = [f"{_value(rule, axis, macs)} at {macs:,}" for macs in budgets]
        told = [f"{name} {f.left_out:.3g}" for name, f in forms.items()]
        if axis in errors:
            told.append(f"null {errors[axis]:.3g}")
        parts.append(f"leave-one-out error {', '.join(told)}")
        lines.append(f"  {axis}: " + "; ".join(parts))
        if not rule.refused:
            lines += [f"    {told}" for told in _held_out(forms[TAKEN])]
    for name, r in rule.correlations.items():
        lines.append(
            f"  Spearman of {name} with MACs {r['rho']:+.2f} [{r['low']:+.2f}, {r['high']:+.2f}], "
            f"p = {r['p']:.2g}"
        )
    if rule.form:
        lines.append(
            f"form taken: {rule.form} of the scores of {rule.trials} trials at full fidelity, "
            f"intervals from {RESAMPLES} resamples of architectures"
        )
    if rule.fits and rule.null.reason:
        lines.append(f"no null: {rule.null.reason}")
    return "\n".join(lines)


def _held_out(taken: Fitted) -> list[str]:
    """Say how budgets that were left out whole are predicted from the others."""
    lines = []
    for end, found in taken.held_out.items():
        words = f"held out, {end} of the points: error {found['error']:.3g}"
        if "null" in found:
            words += f" (null {found['null']:.3g})"
        lines.append(
            f"{words}, {found['inside']:.0%} of them inside the interval, "
            f"the rule at {found['rule_inside']:.0%} of the budgets"
        )
    return lines


def _value(rule: Rule, axis: str, macs: int) -> str:
    at = rule.each(macs).get(axis)
    return "not determined" if at is None else f"{at[0]:.3g} [{at[1]:.3g}, {at[2]:.3g}]"
