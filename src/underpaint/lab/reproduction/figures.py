"""Figs. 5 to 10 of Xu et al. 2022 on virtual paintings: pictures, and the numbers behind them.

The pictures' shapes and palettes follow the paper's two case studies; they are no copies of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import XU_NETWORK_AXIS, Scan
from underpaint.display.plot import save_png
from underpaint.display.plot.paper import CaseRow, Curves, Panel, case_study, line_ratios, panels
from underpaint.lab.reproduction.figure_answers import (
    AFTER,
    BEFORE,
    DEFAULT,
    Case,
    Map,
    Networks,
    ask,
    families_of,
    figures_of,
    map_scores,
    number,
    picture,
    place_of,
    share_over,
)
from underpaint.lab.reproduction.figure_panels import (
    ABOVE,
    ABSENT,
    BARE,
    GROUND_UM,
    LOWER_UM,
    N_THICKNESS,
    TOP_UM,
    Painting,
    Shares,
    crossed_strips,
    expected_spectra,
    scan_painting,
)
from underpaint.lab.reproduction.mockups import INSTRUMENT, perturbed_instrument
from underpaint.lab.reproduction.plan import Plan
from underpaint.physics.forward import ORDERS, Emission, count, emit
from underpaint.physics.instrument import Instrument, load_instrument
from underpaint.physics.materials import Layer, Paint, Stratigraphy, ground_layer, library
from underpaint.runtime.progress import Progress
from underpaint.simulate.recipes import figure7_recipe, paper_formulas

__all__ = ["Networks", "figure5", "figure6", "figure8", "figure9", "figure10"]

LAYERED_PIXELS, SINGLE_PIXELS = (72, 54), (56, 68)
CELL_PIXELS, GAP_PIXELS = 10, 3
QUICK_SHRINK = 4
FIGURE5 = ("cobalt_blue", "carmine_lake", "vermilion", "zinc_white", "emerald_green")
FIGURE6 = ("cobalt_blue", "vermilion", "emerald_green")
SINGLE_LIVE_TIME_S, MOCKUP_LIVE_TIME_S = 0.1, 10.0
WITHOUT_VERMILION = "Top 1"
IRON = "iron_pigment"


def figure5(plan: Plan, networks: Networks, progress: Progress) -> dict[str, Any]:
    """Map a layered virtual painting, after "Poemes barbares"; with a hidden portrait under the visible painting.

    Returns
    -------
    dict
        ``{pigment: {families, n_above, n_below, n_absent, networks: {network: {f1, auroc, spearman, ...}}}, "about"}``.
        Writes ``figure5.png`` and, for the default network, ``figure5_default.png``.
    """
    progress("Figure 5: scanning the layered painting", 0, 2)
    painting = layered_painting(*_shrunk(LAYERED_PIXELS, plan))
    instrument, rng = perturbed_instrument(np.random.default_rng(plan.mockup_seed)), _rng(plan, 5)
    scan = scan_painting(painting, instrument, plan.counts, rng, "layered_painting", MOCKUP_LIVE_TIME_S)
    progress("Figure 5: asking the networks", 1, 2)
    case = ask(plan, networks, painting, scan)
    title = f"A virtual painting with another under it, {_size(scan)}, 10 s a pixel ({plan.counts:,.0f} counts)"
    return _case_figures(plan, case, FIGURE5, "figure5", title)


def figure6(plan: Plan, networks: Networks, progress: Progress) -> dict[str, Any]:
    """Map a single-layered virtual painting at 100 ms per pixel on another instrument, after "The Bathers"."""
    progress("Figure 6: scanning the single-layered painting", 0, 2)
    painting = single_layered_painting(*_shrunk(SINGLE_PIXELS, plan))
    rng = _rng(plan, 6)
    counts = plan.counts * SINGLE_LIVE_TIME_S / MOCKUP_LIVE_TIME_S
    scan = scan_painting(
        painting, perturbed_instrument(rng), counts, rng, "single_layered_painting", SINGLE_LIVE_TIME_S
    )
    progress("Figure 6: asking the networks", 1, 2)
    case = ask(plan, networks, painting, scan)
    title = f"A virtual painting in one layer, {_size(scan)}, 100 ms a pixel ({counts:,.0f} counts)"
    return _case_figures(plan, case, FIGURE6, "figure6", title)


def figure8(plan: Plan, networks: Networks, progress: Progress) -> dict[str, Any]:
    """Map vermilion on the virtual panel of Fig. 7: truth, mercury, before and after fine-tuning, default network.

    Returns
    -------
    dict
        As for figure 5, for vermilion; and ``by_column``: for each bottom strip, and the ground between them, its share
        of vermilion and the mean probabilities under the one top that has none, and where no top lies.
    """
    progress("Figure 8: scanning the panel", 0, 1)
    case = _panel_case(plan, networks)
    parts = [
        Panel("truth of vermilion", place_of(case, "vermilion")),
        Panel("thickness of the top (µm)", case.painting.top_um, is_area=True),
        Panel("Hg L (counts)", case.elements["Hg_L"], is_area=True),
        *(Panel(f"probability, {name}", maps["vermilion"]) for name, maps in case.maps.items()),
    ]
    title = "The virtual panel of Fig. 7: vermilion; % of the dry bottom paint"
    figure = panels(parts, title, columns=3, **_strip_places(case, "vermilion"))
    save_png(figure, picture(plan, "figure8"))
    return {
        "vermilion": figures_of(case, "vermilion"),
        "by_column": _by_column(case, "vermilion"),
        "about": _about(plan, case),
    }


def figure9(plan: Plan, networks: Networks, progress: Progress) -> dict[str, Any]:
    """Map Prussian blue and iron oxide on the virtual panel of Fig. 7, with their false positives.

    Returns
    -------
    dict
        As for figure 5, for both pigments, and by network ``false_on``: the share of pixels over one half on bare
        ground, on bottoms without a top (no iron in either), and on the strip of the other pigment. ``iron_pigment`` is
        the default network's output for either of both.
    """
    pigments = ("prussian_blue", "iron_oxide_red")
    progress("Figure 9: scanning the panel", 0, 1)
    case = _panel_case(plan, networks)
    blue, red = (place_of(case, name) != ABSENT for name in pigments)
    parts = [
        Panel("truth", np.where(blue, 1, np.where(red, 2, 0))),
        Panel("Fe K (counts)", case.elements["Fe_K"], is_area=True),
        Panel(f"any iron pigment, {DEFAULT}", case.maps[DEFAULT][IRON]),
    ]
    for name in pigments:
        parts += [Panel(f"{_label(name)}, {network}", maps[name]) for network, maps in case.maps.items()]
    title = "The virtual panel of Fig. 7: Prussian blue and iron oxide, of which iron alone is seen"
    key = ("truth: neither", *map(_label, pigments))
    save_png(panels(parts, title, columns=3, place_labels=key, **_strip_places(case, None)), picture(plan, "figure9"))
    result: dict[str, Any] = {name: figures_of(case, name) for name in pigments}
    for name, second in (pigments, pigments[::-1]):
        for network, maps in case.maps.items():
            result[name]["networks"][network]["false_on"] = _false_on(case, maps[name], second)
    either = np.where(blue | red, ABOVE, ABSENT)
    iron = map_scores(case.maps[DEFAULT][IRON], either, case.elements["Fe_K"].astype(np.float64))
    return {**result, IRON: {"networks": {DEFAULT: iron}}, "about": _about(plan, case)}


def _case_figures(plan: Plan, case: Case, pigments: Sequence[str], name: str, title: str) -> dict[str, Any]:
    of_groups = f"{title}; groups asked for"
    for networks, suffix, above in (((BEFORE, AFTER), "", title), ((DEFAULT,), "_default", of_groups)):
        rows = [_case_row(case, pigment, networks) for pigment in pigments]
        save_png(case_study(rows, above), picture(plan, f"{name}{suffix}"))
    return {**{pigment: figures_of(case, pigment) for pigment in pigments}, "about": _about(plan, case)}


def _case_row(case: Case, pigment: str, networks: Sequence[str]) -> CaseRow:
    families = families_of(pigment)
    return CaseRow(
        label=_label(pigment),
        families=families,
        areas=tuple(case.elements[family] for family in families),
        place=place_of(case, pigment),
        probability={network: case.maps[network][pigment] for network in networks},
    )


def _panel_case(plan: Plan, networks: Networks) -> Case:
    """Paint the panel of Fig. 7 and scan it with the instrument that measured the mock-ups."""
    shrink = 1 if plan.grid_step == 1 else QUICK_SHRINK
    rng = _rng(plan, 7)
    painting = crossed_strips(CELL_PIXELS // shrink, max(GAP_PIXELS // shrink, 1), rng)
    instrument = perturbed_instrument(np.random.default_rng(plan.mockup_seed))
    scan = scan_painting(painting, instrument, plan.counts, rng, "figure_7_panel", MOCKUP_LIVE_TIME_S)
    return ask(plan, networks, painting, scan, members=("prussian_blue", "iron_oxide_red"))


def _strip_places(case: Case, pigment: str | None) -> dict[str, Any]:
    """Return the names of the strips with the pixels of their middles; of the bottoms with their share of a pigment."""
    painting = case.painting
    rows = {name: _middle(painting.top[:, 0] == name) for name in painting.tops}
    columns = {}
    for name, shares in painting.lowers.items():
        share = "" if pigment is None else f"\n{100 * shares.get(pigment, 0.0):.1f} %"
        columns[name.removeprefix("Bottom ") + share] = _middle(painting.lower[0] == name)
    return {"row_names": rows, "column_names": columns}


def _by_column(case: Case, pigment: str) -> dict[str, dict[str, Any]]:
    """Return mean probabilities by bottom, where no other layer contains the pigment."""
    painting, result = case.painting, {}
    for name in (*painting.lowers, BARE):
        column_mask = painting.lower == name
        result[name] = {
            "share": float(painting.lowers[name].get(pigment, 0.0)) if name != BARE else 0.0,
            "networks": {
                network: {
                    f"under {WITHOUT_VERMILION}": _mean(
                        maps[pigment], column_mask & (painting.top == WITHOUT_VERMILION)
                    ),
                    "without a top": _mean(maps[pigment], column_mask & (painting.top == BARE)),
                }
                for network, maps in case.maps.items()
            },
        }
    return result


def _false_on(case: Case, probability: Map, absent_pigment: str) -> dict[str, float | None]:
    painting = case.painting
    uncovered, ground = painting.top == BARE, painting.lower == BARE
    mask = {
        "bare_ground": uncovered & ground,
        "bottom_without_top": uncovered & ~ground,
        "strip_of_the_other": case.painting.places((absent_pigment,)) != 0,
    }
    return {name: number(share_over(probability, pixels)) for name, pixels in mask.items()}


def _about(plan: Plan, case: Case) -> dict[str, Any]:
    thickness = case.painting.top_um[case.painting.top != BARE]
    return {
        "virtual": True,
        "pixels": list(case.scan.shape[:2]),
        "mean_counts": float(np.asarray(case.scan.counts.sum(axis=2)).mean()),
        "thickness_above_um": [float(thickness.min()), float(thickness.max())],
        "ground_um": GROUND_UM,
        "seed": plan.mockup_seed,
    }


def _mean(probability: Map, mask: NDArray[np.bool_]) -> float | None:
    return number(probability[mask].mean()) if mask.any() else None


def _middle(mask: NDArray[np.bool_]) -> float:
    return float(np.flatnonzero(mask).mean())


def _label(pigment: str) -> str:
    return library()[pigment].label.partition(" (")[0]


def _size(scan: Scan) -> str:
    return f"{scan.shape[0]} x {scan.shape[1]} pixels"


def _shrunk(pixels: tuple[int, int], plan: Plan) -> tuple[int, int]:
    shrink = 1 if plan.grid_step == 1 else QUICK_SHRINK
    return pixels[0] // shrink, pixels[1] // shrink


def _rng(plan: Plan, figure: int) -> np.random.Generator:
    return np.random.default_rng((plan.mockup_seed, figure))


LINES_KEV = {"Hg": ((9.7, 10.1), (11.4, 12.3)), "Pb": ((10.3, 10.7), (12.1, 13.1))}
"""Energies of the L alpha and L beta lines, keV."""
PB_RATIO, HG_RATIO = "Pb L beta/alpha", "Hg L alpha/beta"
HG_ENHANCED = "Hg L alpha, share excited by fluorescence"
MIXTURE, MIXTURE_UM = "Bottom 1B", 125.0
COVER, CONTROL, MAX_COVER_UM, N_COVER, N_COVER_QUICK = "vermilion", "zinc_white", 200.0, 41, 9
OVER_M, CONTROL_OVER_M, OVER_CHALK = "vermilion over M", "zinc white over M", "vermilion over chalk"
SHOWN_COVER_UM = 30.0
SHOWN_KEV = (9.2, 13.4)
MARKS = {"Hg Lα": 9.99, "Pb Lα": 10.55, "Hg Lβ": 11.86, "Pb Lβ": 12.62}

Ratios = dict[str, NDArray[np.float64]]


def figure10(plan: Plan, networks: Networks, progress: Progress) -> dict[str, Any]:
    """Cover a paint with lead and mercury by vermilion, and compute the ratios of their L lines; without a network.

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
    thickness = np.linspace(0.0, MAX_COVER_UM, N_COVER if plan.grid_step == 1 else N_COVER_QUICK)
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
        name: {ratio: [number(value) for value in values] for ratio, values in by_case.items()}
        for name, by_case in ratios.items()
    }
    return {
        "thickness_um": thickness.tolist(),
        **listed,
        "about": {"mixture": MIXTURE, "mixture_um": MIXTURE_UM, "ground_um": GROUND_UM, "instrument": instrument.name},
    }


def _growing(ratio: str, ratios: Mapping[str, Ratios], thickness: NDArray[np.float64], *, logarithmic: bool) -> Curves:
    symbols = ratio.replace("alpha", "α").replace("beta", "β")
    curves = {name: (thickness, ratios_of_case[ratio]) for name, ratios_of_case in ratios.items()}
    return Curves(
        f"{symbols} under a growing cover", "thickness of the cover (µm)", "ratio of photons", curves, {}, logarithmic
    )


def ratios_of(stratigraphies: Sequence[Stratigraphy], instrument: Instrument) -> Ratios:
    """Return the (n,) ratios of photons at the detector's window; NaN without photons of the element."""
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
    """Return a cover over the mixture with lead (or over the ground at once); thickness 0 omits it."""
    layers: list[Layer] = [Paint({cover: 1.0}).layer(float(thickness_um))] if thickness_um > 0 else []
    if mixture:
        layers.append(figure7_recipe().bottom(MIXTURE, MIXTURE_UM))
    return Stratigraphy((*layers, ground_layer("chalk", GROUND_UM)))


def _photons(
    emission: Emission, element: str, window_kev: tuple[float, float], *, orders: Sequence[str] = ORDERS
) -> NDArray[np.float64]:
    """Return the (n,) photons of an element's L lines inside a window, from all layers."""
    energy = emission.lines.energy_kev
    in_family = np.asarray([family == f"{element}_L" for family in emission.lines.family])
    inside = in_family & (energy > window_kev[0]) & (energy < window_kev[1])
    photons = np.sum([getattr(emission, order) for order in orders], axis=0)
    return np.asarray(photons[:, :, inside].sum(axis=(1, 2)), dtype=np.float64)


def _ratio(part: NDArray[np.float64], total: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.divide(part, total, out=np.full(part.shape, np.nan), where=total > 0))


def _bare_and_covered(instrument: Instrument, plan: Plan) -> Curves:
    """Return M alone and under vermilion, for equal measuring time."""
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


Mask = NDArray[np.bool_]
Point = tuple[float, float]

VISIBLE: dict[str, Shares] = {
    "sky": {"lead_white": 88, "chrome_yellow": 12},
    "earth": {"iron_oxide_red": 70, "lead_white": 30},
    "wing": {"cobalt_blue": 45, "lead_white": 55},
    "hair": {"prussian_blue": 40, "iron_oxide_red": 60},
    "flesh": {"lead_white": 82, "vermilion": 8, "iron_oxide_red": 10},
    "cloth": {"vermilion": 60, "carmine_lake": 40},
    "idol": {"emerald_green": 75, "lead_white": 25},
    "flower": {"zinc_white": 80, "carmine_lake": 20},
}
HIDDEN: dict[str, Shares] = {
    "wall": {"lead_white": 80, "iron_oxide_red": 20},
    "curtain": {"carmine_lake": 50, "lead_white": 50},
    "hat": {"cobalt_blue": 70, "lead_white": 30},
    "face": {"zinc_white": 80, "vermilion": 20},
    "coat": {"emerald_green": 60, "lead_white": 40},
    "collar": {"zinc_white": 100},
}
BATHERS: dict[str, Shares] = {
    "sky": {"cobalt_blue": 25, "lead_white": 75},
    "cloud": {"lead_white": 100},
    "tree": {"emerald_green": 50, "chrome_oxide_green": 30, "chrome_yellow": 20},
    "water": {"cobalt_blue": 50, "emerald_green": 20, "lead_white": 30},
    "sand": {"lead_white": 70, "iron_oxide_red": 30},
    "flesh": {"lead_white": 75, "vermilion": 15, "chrome_yellow": 10},
    "hair": {"iron_oxide_red": 60, "prussian_blue": 40},
    "cloth": {"vermilion": 80, "lead_white": 20},
}
"""Mass shares of the dry pigments; the pigments are those of the paper's Table 1."""


@dataclass(frozen=True)
class Sheet:
    """Pixels in units of the height: ``across`` from the left, ``down`` from the top, (n_row, n_column) each."""

    down: NDArray[np.float64]
    across: NDArray[np.float64]

    def ellipse(self, centre: Point, radii: Point, tilt_deg: float = 0.0) -> Mask:
        """Return the pixels inside an ellipse; points are (across, down)."""
        cosine, sine = np.cos(np.radians(tilt_deg)), np.sin(np.radians(tilt_deg))
        right, low = self.across - centre[0], self.down - centre[1]
        along, across = cosine * right + sine * low, cosine * low - sine * right
        return np.asarray((along / radii[0]) ** 2 + (across / radii[1]) ** 2 <= 1.0)

    def polygon(self, *corners: Point) -> Mask:
        """Return the pixels inside a polygon (even-odd rule)."""
        inside = np.zeros(self.down.shape, dtype=bool)
        for (x_0, y_0), (x_1, y_1) in zip(corners, (*corners[1:], corners[0]), strict=True):
            if y_0 == y_1:
                continue
            between = (self.down < max(y_0, y_1)) & (self.down >= min(y_0, y_1))
            inside ^= between & (self.across < x_0 + (self.down - y_0) * (x_1 - x_0) / (y_1 - y_0))
        return inside


def layered_painting(n_row: int, n_column: int) -> Painting:
    """Return a winged woman with an idol over the bust of a man in a hat, after "Poemes barbares"; the edge is bare."""
    sheet = _sheet(n_row, n_column)
    visible = _painted(sheet, "sky", [*_landscape(sheet), *_winged_woman(sheet), *_idol_and_flowers(sheet)])
    hidden = _painted(sheet, "wall", _man_in_a_hat(sheet))
    visible[:, -_margin(n_column) :] = hidden[:, -_margin(n_column) :] = BARE
    return Painting(
        tops=VISIBLE,
        lowers=HIDDEN,
        top=visible,
        lower=hidden,
        top_um=_uneven(sheet, TOP_UM, N_THICKNESS, (5.0, 3.0)),
        lower_um=_uneven(sheet, LOWER_UM, N_THICKNESS // 2, (2.0, 4.0)),
        formulas=paper_formulas(),
    )


def single_layered_painting(n_row: int, n_column: int) -> Painting:
    """Return bathers under trees in one layer, after "The Bathers"; the edge is bare."""
    sheet = _sheet(n_row, n_column)
    visible = _painted(sheet, "sky", [*_shore(sheet), *_bathers(sheet)])
    visible[:, -_margin(n_column) :] = BARE
    bare = np.full(visible.shape, BARE)
    return Painting(
        tops=BATHERS,
        lowers={},
        top=visible,
        lower=bare,
        top_um=_uneven(sheet, TOP_UM, N_THICKNESS, (4.0, 5.0)),
        lower_um=np.zeros(bare.shape),
        formulas=paper_formulas(),
    )


def _landscape(sheet: Sheet) -> list[tuple[str, Mask]]:
    return [("earth", sheet.down > 0.74 + 0.03 * np.sin(9.0 * sheet.across))]


def _winged_woman(sheet: Sheet) -> list[tuple[str, Mask]]:
    return [
        ("wing", sheet.ellipse((0.28, 0.30), (0.17, 0.06), 35.0)),
        ("wing", sheet.ellipse((0.62, 0.30), (0.17, 0.06), -35.0)),
        ("hair", sheet.ellipse((0.45, 0.17), (0.085, 0.11))),
        ("flesh", sheet.polygon((0.36, 0.32), (0.54, 0.32), (0.51, 0.58), (0.39, 0.58))),
        ("flesh", sheet.ellipse((0.45, 0.19), (0.05, 0.075))),
        ("flesh", sheet.polygon((0.42, 0.25), (0.48, 0.25), (0.48, 0.33), (0.42, 0.33))),
        ("flesh", sheet.polygon((0.36, 0.32), (0.40, 0.34), (0.35, 0.50), (0.45, 0.56), (0.44, 0.60), (0.29, 0.52))),
        ("cloth", sheet.polygon((0.37, 0.58), (0.53, 0.58), (0.60, 0.94), (0.33, 0.94))),
    ]


def _idol_and_flowers(sheet: Sheet) -> list[tuple[str, Mask]]:
    flowers = [(0.64, 0.84), (0.68, 0.76), (0.66, 0.93)]
    return [
        ("idol", sheet.ellipse((0.15, 0.84), (0.09, 0.12))),
        ("idol", sheet.ellipse((0.15, 0.68), (0.06, 0.07))),
        ("idol", sheet.polygon((0.09, 0.66), (0.08, 0.56), (0.14, 0.63))),
        ("idol", sheet.polygon((0.21, 0.66), (0.22, 0.56), (0.16, 0.63))),
        *[("flower", sheet.ellipse(flower, (0.03, 0.03))) for flower in flowers],
    ]


def _man_in_a_hat(sheet: Sheet) -> list[tuple[str, Mask]]:
    return [
        ("curtain", sheet.across < 0.10 + 0.02 * np.sin(12.0 * sheet.down)),
        ("coat", sheet.polygon((0.30, 0.62), (0.54, 0.62), (0.68, 0.74), (0.70, 1.01), (0.14, 1.01), (0.16, 0.74))),
        ("face", sheet.polygon((0.36, 0.50), (0.48, 0.50), (0.48, 0.66), (0.36, 0.66))),
        ("collar", sheet.polygon((0.32, 0.60), (0.42, 0.74), (0.52, 0.60), (0.57, 0.66), (0.42, 0.84), (0.27, 0.66))),
        ("face", sheet.ellipse((0.42, 0.43), (0.13, 0.17))),
        ("hat", sheet.ellipse((0.42, 0.29), (0.25, 0.045), -6.0)),
        ("hat", sheet.polygon((0.29, 0.29), (0.31, 0.10), (0.53, 0.08), (0.55, 0.27))),
    ]


def _shore(sheet: Sheet) -> list[tuple[str, Mask]]:
    right = float(sheet.across.max())
    return [
        ("cloud", sheet.ellipse((0.55, 0.20), (0.22, 0.09))),
        ("cloud", sheet.ellipse((0.70, 0.27), (0.18, 0.07))),
        ("water", sheet.down > 0.58),
        ("sand", sheet.down > 0.72 + 0.04 * np.sin(6.0 * sheet.across)),
        ("tree", sheet.ellipse((0.08, 0.22), (0.26, 0.26))),
        ("tree", sheet.ellipse((right - 0.05, 0.26), (0.24, 0.28))),
        ("tree", sheet.polygon((0.02, 0.40), (0.09, 0.40), (0.16, 0.80), (0.06, 0.80))),
    ]


def _bathers(sheet: Sheet) -> list[tuple[str, Mask]]:
    shapes: list[tuple[str, Mask]] = []
    for across, foot, size in ((0.32, 0.90, 0.50), (0.56, 0.78, 0.40), (0.76, 0.94, 0.46), (0.97, 0.84, 0.44)):
        shapes += _bather(sheet, across, foot, size)
    return [*shapes, ("cloth", sheet.ellipse((0.50, 0.92), (0.11, 0.035))), ("cloth", _loin_cloth(sheet))]


def _bather(sheet: Sheet, across: float, foot: float, size: float) -> list[tuple[str, Mask]]:
    def at(right: float, up: float) -> Point:
        return across + size * right, foot - size * up

    return [
        ("hair", sheet.ellipse(at(0.0, 0.93), (0.10 * size, 0.09 * size))),
        ("flesh", sheet.ellipse(at(0.02, 0.88), (0.075 * size, 0.09 * size))),
        ("flesh", sheet.polygon(at(-0.15, 0.78), at(0.15, 0.78), at(0.10, 0.42), at(-0.10, 0.42))),
        ("flesh", sheet.polygon(at(0.13, 0.78), at(0.34, 0.98), at(0.28, 1.02), at(0.04, 0.78))),
        ("flesh", sheet.polygon(at(-0.11, 0.45), at(0.0, 0.45), at(-0.06, 0.0), at(-0.17, 0.0))),
        ("flesh", sheet.polygon(at(0.0, 0.45), at(0.11, 0.45), at(0.19, 0.0), at(0.08, 0.0))),
    ]


def _loin_cloth(sheet: Sheet) -> Mask:
    return sheet.polygon((0.90, 0.60), (1.04, 0.60), (1.06, 0.72), (0.88, 0.72))


def _painted(sheet: Sheet, ground: str, shapes: Sequence[tuple[str, Mask]]) -> NDArray[np.str_]:
    names = [ground, BARE, *(name for name, _ in shapes)]
    paint = np.full(sheet.down.shape, ground, dtype=f"<U{max(map(len, names))}")
    for name, mask in shapes:
        paint[mask] = name
    return paint


def _sheet(n_row: int, n_column: int) -> Sheet:
    down, across = np.mgrid[0:n_row, 0:n_column]
    return Sheet((down + 0.5) / n_row, (across + 0.5) / n_row)


def _margin(n_column: int) -> int:
    return max(1, n_column // 18)


def _uneven(sheet: Sheet, limits: Point, n_step: int, waves: Point) -> NDArray[np.float64]:
    """Return thickness in steps, um: strokes that cross the sheet as waves."""
    height = 0.5 + 0.5 * np.sin(2.0 * np.pi * (waves[0] * sheet.across + waves[1] * sheet.down + 0.4 * sheet.across**2))
    step = np.minimum((height * n_step).astype(int), n_step - 1)
    return np.asarray(np.linspace(*limits, n_step)[step])
