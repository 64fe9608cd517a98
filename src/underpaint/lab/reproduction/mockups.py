"""Virtual mock-ups of a plan, which replace the paper's mock-ups because those are not public."""

from underpaint.data import XU_NETWORK_AXIS, EnergyAxis
from underpaint.lab.reproduction.plan import Plan
from underpaint.simulate.mockups import INSTRUMENT, Mockups, paint_mockups, perturbed_instrument

__all__ = ["INSTRUMENT", "Mockups", "make_mockups", "perturbed_instrument"]


def make_mockups(plan: Plan, axis: EnergyAxis = XU_NETWORK_AXIS) -> Mockups:
    """Simulate the virtual mock-ups of a plan, with ``plan.mockup_seed`` as the random seed."""
    return paint_mockups(plan.mockup_spectra, plan.counts, plan.mockup_seed, axis)
