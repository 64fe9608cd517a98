"""Fig. 10 of Xu et al. 2022 from the forward model: what vermilion does to the L lines of lead and of mercury."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import XU_NETWORK_AXIS
from underpaint.lab.reproduction.arms import Progress
from underpaint.lab.reproduction.figure_answers import Networks, number, picture
from underpaint.lab.reproduction.figure_panels import GROUND_UM, expected_spectra
from underpaint.lab.reproduction.mockups import INSTRUMENT
from underpaint.lab.reproduction.plan import Plan
from underpaint.physics.forward import ORDERS, Emission, count, emit
from underpaint.physics.instrument import Instrument, load_instrument
from underpaint.physics.materials import Layer, Paint, Stratigraphy, ground_layer
from underpaint.simulate.recipes import figure7_recipe
from underpaint.view.plot import save_png
from underpaint.view.plot.paper import Curves, line_ratios

LINES_KEV = {"Hg": ((9.7, 10.1), (11.4, 12.3)), "Pb": ((10.3, 10.7), (12.1, 13.1))}
"""Where the L alpha and L beta lines lie, keV."""
PB_RATIO, HG_RATIO = "Pb L beta/alpha", "Hg L alpha/beta"
HG_ENHANCED = "Hg L alpha, share excited by fluorescence"
MIXTURE, MIXTURE_UM = "Bottom 1B", 125.0
COVER, CONTROL, LARGEST_COVER_UM, N_COVER, N_COVER_QUICK = "vermilion", "zinc_white", 200.0, 41, 9
OVER_M, CONTROL_OVER_M, OVER_CHALK = "vermilion over M", "zinc white over M", "vermilion over chalk"
SHOWN_COVER_UM = 30.0
SHOWN_KEV = (9.2, 13.4)
MARKS = {"Hg Lα": 9.99, "Pb Lα": 10.55, "Hg Lβ": 11.86, "Pb Lβ": 12.62}

Ratios = dict[str, NDArray[np.float64]]


def figure10(plan: Plan, networks: Networks, progress: Progress) -> dict[str, Any]:
    """Lay vermilion over a paint with lead and mercury, and follow the ratios of their L lines; no network is asked.

    Returns
    -------
    dict
        ``thickness_um`` and by cover ``{"Pb L beta/alpha": [...], "Hg L alpha/beta": [...], ...}``, photons at the
        detector's window, and the share of Hg L alpha that other lines' photons have excited. Covers are vermilion,
        zinc white (whose edge lies under all four lines), and vermilion over bare ground.
    """
    del networks
    progress("Figure 10: vermilion over lead", 0, 1)
    instrument = load_instrument(INSTRUMENT)
    thickness = np.linspace(0.0, LARGEST_COVER_UM, N_COVER if plan.grid_step == 1 else N_COVER_QUICK)
    stacks = {
        OVER_M: [covered(COVER, each) for each in thickness],
        CONTROL_OVER_M: [covered(CONTROL, each) for each in thickness],
        OVER_CHALK: [covered(COVER, each, mixture=False) for each in thickness],
    }
    ratios = {name: ratios_of(each, instrument) for name, each in stacks.items()}
    spectra = _bare_and_covered(instrument, plan)
    curves = [
        _growing(PB_RATIO, {name: ratios[name] for name in (OVER_M, CONTROL_OVER_M)}, thickness, logarithmic=True),
        _growing(HG_RATIO, {name: ratios[name] for name in (OVER_M, OVER_CHALK)}, thickness, logarithmic=False),
    ]
    figure = line_ratios(spectra, curves, "Vermilion over a paint with lead, M: from the forward model (virtual)")
    save_png(figure, picture(plan, "figure10"))
    listed = {
        name: {ratio: [number(value) for value in values] for ratio, values in own.items()}
        for name, own in ratios.items()
    }
    return {
        "thickness_um": thickness.tolist(),
        **listed,
        "about": {"mixture": MIXTURE, "mixture_um": MIXTURE_UM, "ground_um": GROUND_UM, "instrument": instrument.name},
    }


def _growing(ratio: str, found: Mapping[str, Ratios], thickness: NDArray[np.float64], *, logarithmic: bool) -> Curves:
    symbols = ratio.replace("alpha", "α").replace("beta", "β")
    curves = {name: (thickness, own[ratio]) for name, own in found.items()}
    return Curves(
        f"{symbols} under a growing cover", "thickness of the cover (µm)", "ratio of photons", curves, {}, logarithmic
    )


def ratios_of(stratigraphies: Sequence[Stratigraphy], instrument: Instrument) -> Ratios:
    """Return the (n,) ratios of photons at the detector's window; NaN where the element does not shine."""
    emission = emit(stratigraphies, instrument)
    alpha, beta = ({name: _photons(emission, name, windows[which]) for name, windows in LINES_KEV.items()}
                   for which in (0, 1))  # fmt: skip
    enhanced = _photons(emission, "Hg", LINES_KEV["Hg"][0], orders=("secondary", "tertiary"))
    return {
        PB_RATIO: _ratio(beta["Pb"], alpha["Pb"]),
        HG_RATIO: _ratio(alpha["Hg"], beta["Hg"]),
        HG_ENHANCED: _ratio(enhanced, alpha["Hg"]),
    }


def covered(cover: str, thickness_um: float, *, mixture: bool = True) -> Stratigraphy:
    """Return a cover over the mixture with lead (or over the ground at once); thickness 0 leaves it out."""
    layers: list[Layer] = [Paint({cover: 1.0}).layer(float(thickness_um))] if thickness_um > 0 else []
    if mixture:
        layers.append(figure7_recipe().bottom(MIXTURE, MIXTURE_UM))
    return Stratigraphy((*layers, ground_layer("chalk", GROUND_UM)))


def _photons(
    emission: Emission, element: str, window_kev: tuple[float, float], *, orders: Sequence[str] = ORDERS
) -> NDArray[np.float64]:
    """Return the (n,) photons of an element's L lines inside a window, from all layers."""
    energy = emission.lines.energy_kev
    own = np.asarray([family == f"{element}_L" for family in emission.lines.family])
    inside = own & (energy > window_kev[0]) & (energy < window_kev[1])
    photons = np.sum([getattr(emission, order) for order in orders], axis=0)
    return np.asarray(photons[:, :, inside].sum(axis=(1, 2)), dtype=np.float64)


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0))


def _bare_and_covered(instrument: Instrument, plan: Plan) -> Curves:
    """Return M alone and under vermilion, both counted for the same time."""
    expected = expected_spectra([covered(COVER, 0.0), covered(COVER, SHOWN_COVER_UM)], instrument)
    counts = count(expected * plan.counts / expected[0].sum(), rng=np.random.default_rng((plan.mockup_seed, 10)))
    energy = XU_NETWORK_AXIS.energy_kev
    shown = (energy > SHOWN_KEV[0]) & (energy < SHOWN_KEV[1])
    names = ("M alone", f"M under {SHOWN_COVER_UM:.0f} µm of vermilion")
    return Curves(
        f"M is {_mixture_label()}, {MIXTURE_UM:.0f} µm over chalk; {plan.counts:,.0f} counts of M alone",
        "energy (keV)",
        "counts in 10 eV",
        {name: (energy[shown], row[shown].astype(np.float64)) for name, row in zip(names, counts, strict=True)},
        MARKS,
    )


def _mixture_label() -> str:
    shares: Mapping[str, float] = figure7_recipe().bottoms[MIXTURE]
    return ", ".join(f"{100 * share:.0f} % {name.replace('_', ' ')}" for name, share in shares.items())
