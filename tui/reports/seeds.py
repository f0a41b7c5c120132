"""What the number of seeds of an experiment can't tell, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobs.sweeps.plan import Plan


def caveat(plan: Plan) -> str:
    """Return what a plan with so few seeds can't tell; empty when there is nothing to add.

    A plan of one variant compares nothing.
    """
    if len({run.variant for run in plan.runs}) < 2:
        return ""
    match len({run.seed for run in plan.runs}):
        case 1:
            return (
                "one seed per variant compares these trained models, not the recipes: another seed may "
                "reverse the order; use seeds = [0, 1, 2] to compare recipes"
            )
        case 2:
            return (
                "two seeds per variant detect only large differences between recipes; use "
                "seeds = [0, 1, 2] or more"
            )
    return ""
