"""Plots and data of Figures 5 to 10 of Xu et al., 2022, with virtual paintings.

Shapes and palettes of the virtual paintings are similar to those in the paper's two case studies.
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
    AFTER_FINETUNING,
    BEFORE_FINETUNING,
    DEFAULT_NETWORK,
    Networks,
    PaintingMaps,
    ProbabilityMap,
    figure_path,
    fraction_above,
    json_number,
    map_painting,
    map_scores,
    pigment_families,
    pigment_place_codes,
    pigment_scores,
)
from underpaint.lab.reproduction.figure_panels import (
    ABOVE,
    ABSENT,
    BARE,
    GROUND_UM,
    LOWER_UM,
    N_THICKNESS,
    TOP_UM,
    MassFractions,
    Painting,
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
QUICK_SHRINK_FACTOR = 4
FIGURE5_PIGMENTS = ("cobalt_blue", "carmine_lake", "vermilion", "zinc_white", "emerald_green")
FIGURE6_PIGMENTS = ("cobalt_blue", "vermilion", "emerald_green")
SINGLE_LIVE_TIME_S, MOCKUP_LIVE_TIME_S = 0.1, 10.0
TOP_WITHOUT_VERMILION = "Top 1"
IRON_GROUP = "iron_pigment"


def figure5(plan: Plan, networks: Networks, progress: Progress) -> dict[str, Any]:
    """Map a layered virtual painting with a hidden portrait, modelled on "Poemes barbares".

    Returns
    -------
    dict
        ``{pigment: {families, n_above, n_below, n_absent, networks: {network: {f1, auroc, spearman, ...}}}, "about"}``.
        The plots are ``figure5.png`` and, for the default network, ``figure5_default.png``.
    """
    progress("Figure 5: scanning the layered painting", 0, 2)
    painting = layered_painting(*_canvas_size(LAYERED_PIXELS, plan))
    instrument, rng = perturbed_instrument(np.random.default_rng(plan.mockup_seed)), _figure_rng(plan, 5)
    scan = scan_painting(painting, instrument, plan.counts, rng, "layered_painting", MOCKUP_LIVE_TIME_S)
    progress("Figure 5: running the networks", 1, 2)
    painting_maps = map_painting(plan, networks, painting, scan)
    title = f"A virtual painting with another under it, {_scan_size(scan)}, 10 s a pixel ({plan.counts:,.0f} counts)"
    return _painting_figures(plan, painting_maps, FIGURE5_PIGMENTS, "figure5", title)


def figure6(plan: Plan, networks: Networks, progress: Progress) -> dict[str, Any]:
    """Map a single-layer virtual painting, modelled on "The Bathers", from a scan of 100 ms per pixel.

    The instrument differs from that of the mock-ups.
    """
    progress("Figure 6: scanning the single-layered painting", 0, 2)
    painting = single_layered_painting(*_canvas_size(SINGLE_PIXELS, plan))
    rng = _figure_rng(plan, 6)
    counts = plan.counts * SINGLE_LIVE_TIME_S / MOCKUP_LIVE_TIME_S
    scan = scan_painting(
        painting, perturbed_instrument(rng), counts, rng, "single_layered_painting", SINGLE_LIVE_TIME_S
    )
    progress("Figure 6: running the networks", 1, 2)
    painting_maps = map_painting(plan, networks, painting, scan)
    title = f"A virtual painting in one layer, {_scan_size(scan)}, 100 ms a pixel ({counts:,.0f} counts)"
    return _painting_figures(plan, painting_maps, FIGURE6_PIGMENTS, "figure6", title)


def figure8(plan: Plan, networks: Networks, progress: Progress) -> dict[str, Any]:
    """Map vermilion on the virtual panel of Figure 7 with the paper's network and the default network.

    Returns
    -------
    dict
        Scores for vermilion, as in figure 5, and ``by_column`` with values for each bottom strip and bare ground.
        The values in ``by_column`` are the mass fraction of vermilion and two mean probabilities.
        One mean is over pixels under the only top without vermilion, and the other is over pixels without a top.
    """
    progress("Figure 8: scanning the panel", 0, 1)
    painting_maps = _panel_maps(plan, networks)
    map_panels = [
        Panel("truth of vermilion", pigment_place_codes(painting_maps, "vermilion")),
        Panel("thickness of the top (µm)", painting_maps.painting.upper_um, is_area=True),
        Panel("Hg L (counts)", painting_maps.elements["Hg_L"], is_area=True),
        *(
            Panel(f"probability, {name}", pigment_maps["vermilion"])
            for name, pigment_maps in painting_maps.maps.items()
        ),
    ]
    title = "The virtual panel of Fig. 7: vermilion; % of the dry bottom paint"
    figure = panels(map_panels, title, columns=3, **_strip_positions(painting_maps, "vermilion"))
    save_png(figure, figure_path(plan, "figure8"))
    return {
        "vermilion": pigment_scores(painting_maps, "vermilion"),
        "by_column": _scores_by_column(painting_maps, "vermilion"),
        "about": _provenance(plan, painting_maps),
    }


def figure9(plan: Plan, networks: Networks, progress: Progress) -> dict[str, Any]:
    """Map Prussian blue and iron oxide on the virtual panel of Figure 7, and compute their false-positive rates.

    Returns
    -------
    dict
        Scores for both pigments, as in figure 5, with false-positive rates ``false_on`` by network.
        The rates are for bare ground, for bottom paints without a top paint, and for the strip of the other pigment.
        Bare ground and bottom paints contain no iron.
        ``iron_pigment`` has the scores of the default network's output for the group of both pigments.
    """
    pigments = ("prussian_blue", "iron_oxide_red")
    progress("Figure 9: scanning the panel", 0, 1)
    painting_maps = _panel_maps(plan, networks)
    is_blue, is_red = (pigment_place_codes(painting_maps, name) != ABSENT for name in pigments)
    map_panels = [
        Panel("truth", np.where(is_blue, 1, np.where(is_red, 2, 0))),
        Panel("Fe K (counts)", painting_maps.elements["Fe_K"], is_area=True),
        Panel(f"any iron pigment, {DEFAULT_NETWORK}", painting_maps.maps[DEFAULT_NETWORK][IRON_GROUP]),
    ]
    for name in pigments:
        map_panels += [
            Panel(f"{_pigment_label(name)}, {network}", pigment_maps[name])
            for network, pigment_maps in painting_maps.maps.items()
        ]
    title = "The virtual panel of Fig. 7: Prussian blue and iron oxide; XRF detects only their iron"
    place_labels = ("truth: neither", *map(_pigment_label, pigments))
    save_png(
        panels(map_panels, title, columns=3, place_labels=place_labels, **_strip_positions(painting_maps, None)),
        figure_path(plan, "figure9"),
    )
    scores_by_pigment: dict[str, Any] = {name: pigment_scores(painting_maps, name) for name in pigments}
    for name, other_pigment in (pigments, pigments[::-1]):
        for network, pigment_maps in painting_maps.maps.items():
            scores_by_pigment[name]["networks"][network]["false_on"] = _false_positive_rates(
                painting_maps, pigment_maps[name], other_pigment
            )
    iron_code = np.where(is_blue | is_red, ABOVE, ABSENT)
    iron_scores = map_scores(
        painting_maps.maps[DEFAULT_NETWORK][IRON_GROUP], iron_code, painting_maps.elements["Fe_K"].astype(np.float64)
    )
    return {
        **scores_by_pigment,
        IRON_GROUP: {"networks": {DEFAULT_NETWORK: iron_scores}},
        "about": _provenance(plan, painting_maps),
    }


def _painting_figures(
    plan: Plan, painting_maps: PaintingMaps, pigments: Sequence[str], name: str, title: str
) -> dict[str, Any]:
    default_title = f"{title}; outputs for groups"
    for networks, name_suffix, figure_title in (
        ((BEFORE_FINETUNING, AFTER_FINETUNING), "", title),
        ((DEFAULT_NETWORK,), "_default", default_title),
    ):
        case_rows = [_painting_row(painting_maps, pigment, networks) for pigment in pigments]
        save_png(case_study(case_rows, figure_title), figure_path(plan, f"{name}{name_suffix}"))
    return {
        **{pigment: pigment_scores(painting_maps, pigment) for pigment in pigments},
        "about": _provenance(plan, painting_maps),
    }


def _painting_row(painting_maps: PaintingMaps, pigment: str, networks: Sequence[str]) -> CaseRow:
    families = pigment_families(pigment)
    return CaseRow(
        label=_pigment_label(pigment),
        families=families,
        areas=tuple(painting_maps.elements[family] for family in families),
        place=pigment_place_codes(painting_maps, pigment),
        probability={network: painting_maps.maps[network][pigment] for network in networks},
    )


def _panel_maps(plan: Plan, networks: Networks) -> PaintingMaps:
    """Return maps of the virtual panel of Figure 7, scanned with the instrument of the mock-ups."""
    shrink_factor = 1 if plan.grid_step == 1 else QUICK_SHRINK_FACTOR
    rng = _figure_rng(plan, 7)
    painting = crossed_strips(CELL_PIXELS // shrink_factor, max(GAP_PIXELS // shrink_factor, 1), rng)
    instrument = perturbed_instrument(np.random.default_rng(plan.mockup_seed))
    scan = scan_painting(painting, instrument, plan.counts, rng, "figure_7_panel", MOCKUP_LIVE_TIME_S)
    return map_painting(plan, networks, painting, scan, members=("prussian_blue", "iron_oxide_red"))


def _strip_positions(painting_maps: PaintingMaps, pigment: str | None) -> dict[str, Any]:
    """Return the central pixel of each strip by name. Names of bottom paints contain the pigment's mass fraction."""
    painting = painting_maps.painting
    row_positions = {name: _middle_pixel(painting.upper_paint[:, 0] == name) for name in painting.upper_paints}
    column_positions = {}
    for name, mass_fractions in painting.lower_paints.items():
        fraction_text = "" if pigment is None else f"\n{100 * mass_fractions.get(pigment, 0.0):.1f} %"
        column_positions[name.removeprefix("Bottom ") + fraction_text] = _middle_pixel(painting.lower_paint[0] == name)
    return {"row_names": row_positions, "column_names": column_positions}


def _scores_by_column(painting_maps: PaintingMaps, pigment: str) -> dict[str, dict[str, Any]]:
    """Return mean probabilities of a pigment for each bottom, in pixels without this pigment in the top."""
    painting, scores_by_bottom = painting_maps.painting, {}
    for name in (*painting.lower_paints, BARE):
        in_column = painting.lower_paint == name
        scores_by_bottom[name] = {
            "share": float(painting.lower_paints[name].get(pigment, 0.0)) if name != BARE else 0.0,
            "networks": {
                network: {
                    f"under {TOP_WITHOUT_VERMILION}": _mean_probability(
                        pigment_maps[pigment], in_column & (painting.upper_paint == TOP_WITHOUT_VERMILION)
                    ),
                    "without a top": _mean_probability(
                        pigment_maps[pigment], in_column & (painting.upper_paint == BARE)
                    ),
                }
                for network, pigment_maps in painting_maps.maps.items()
            },
        }
    return scores_by_bottom


def _false_positive_rates(
    painting_maps: PaintingMaps, probability: ProbabilityMap, absent_pigment: str
) -> dict[str, float | None]:
    painting = painting_maps.painting
    is_uncovered, is_ground = painting.upper_paint == BARE, painting.lower_paint == BARE
    mask_by_case = {
        "bare_ground": is_uncovered & is_ground,
        "bottom_without_top": is_uncovered & ~is_ground,
        "strip_of_the_other": painting_maps.painting.places((absent_pigment,)) != 0,
    }
    return {name: json_number(fraction_above(probability, pixel_mask)) for name, pixel_mask in mask_by_case.items()}


def _provenance(plan: Plan, painting_maps: PaintingMaps) -> dict[str, Any]:
    thickness_um = painting_maps.painting.upper_um[painting_maps.painting.upper_paint != BARE]
    return {
        "virtual": True,
        "pixels": list(painting_maps.scan.shape[:2]),
        "mean_counts": float(np.asarray(painting_maps.scan.counts.sum(axis=2)).mean()),
        "thickness_above_um": [float(thickness_um.min()), float(thickness_um.max())],
        "ground_um": GROUND_UM,
        "seed": plan.mockup_seed,
    }


def _mean_probability(probability: ProbabilityMap, pixel_mask: NDArray[np.bool_]) -> float | None:
    return json_number(probability[pixel_mask].mean()) if pixel_mask.any() else None


def _middle_pixel(strip_mask: NDArray[np.bool_]) -> float:
    return float(np.flatnonzero(strip_mask).mean())


def _pigment_label(pigment: str) -> str:
    return library()[pigment].label.partition(" (")[0]


def _scan_size(scan: Scan) -> str:
    return f"{scan.shape[0]} x {scan.shape[1]} pixels"


def _canvas_size(canvas_pixels: tuple[int, int], plan: Plan) -> tuple[int, int]:
    shrink_factor = 1 if plan.grid_step == 1 else QUICK_SHRINK_FACTOR
    return canvas_pixels[0] // shrink_factor, canvas_pixels[1] // shrink_factor


def _figure_rng(plan: Plan, figure: int) -> np.random.Generator:
    return np.random.default_rng((plan.mockup_seed, figure))


LINES_KEV = {"Hg": ((9.7, 10.1), (11.4, 12.3)), "Pb": ((10.3, 10.7), (12.1, 13.1))}
"""Energy windows of the L alpha and L beta lines, in keV."""
PB_RATIO, HG_RATIO = "Pb L beta/alpha", "Hg L alpha/beta"
HG_ENHANCED_FRACTION = "Hg L alpha, share excited by fluorescence"
MIXTURE_PAINT, MIXTURE_UM = "Bottom 1B", 125.0
COVER_PIGMENT, CONTROL_PIGMENT, MAX_COVER_UM, N_COVER_THICKNESS, N_QUICK_COVER_THICKNESS = (
    "vermilion",
    "zinc_white",
    200.0,
    41,
    9,
)
VERMILION_OVER_MIXTURE, CONTROL_OVER_MIXTURE, VERMILION_OVER_CHALK = (
    "vermilion over M",
    "zinc white over M",
    "vermilion over chalk",
)
SPECTRUM_COVER_UM = 30.0
SPECTRUM_RANGE_KEV = (9.2, 13.4)
LINE_MARKS_KEV = {"Hg Lα": 9.99, "Pb Lα": 10.55, "Hg Lβ": 11.86, "Pb Lβ": 12.62}

Ratios = dict[str, NDArray[np.float64]]


def figure10(plan: Plan, networks: Networks, progress: Progress) -> dict[str, Any]:
    """Compute ratios of the L lines of a paint with lead and mercury under a cover of vermilion.

    Returns
    -------
    dict
        ``thickness_um``, and for each cover ``{"Pb L beta/alpha": [...], "Hg L alpha/beta": [...], ...}``.
        The values are photon ratios at the detector window, and the fraction of Hg L alpha photons that fluorescence
        excites. The covers are vermilion, zinc white, and vermilion over bare ground. The absorption edge of zinc is
        below all four lines.
    """
    del networks
    progress("Figure 10: vermilion over lead", 0, 1)
    instrument = load_instrument(INSTRUMENT)
    cover_um = np.linspace(0.0, MAX_COVER_UM, N_COVER_THICKNESS if plan.grid_step == 1 else N_QUICK_COVER_THICKNESS)
    stacks_by_case = {
        VERMILION_OVER_MIXTURE: [covered_mixture(COVER_PIGMENT, thickness_um) for thickness_um in cover_um],
        CONTROL_OVER_MIXTURE: [covered_mixture(CONTROL_PIGMENT, thickness_um) for thickness_um in cover_um],
        VERMILION_OVER_CHALK: [
            covered_mixture(COVER_PIGMENT, thickness_um, with_mixture=False) for thickness_um in cover_um
        ],
    }
    ratios = {name: photon_ratios(stratigraphies, instrument) for name, stratigraphies in stacks_by_case.items()}
    spectra = _mixture_spectra(instrument, plan)
    curves = [
        _ratio_curves(
            PB_RATIO,
            {name: ratios[name] for name in (VERMILION_OVER_MIXTURE, CONTROL_OVER_MIXTURE)},
            cover_um,
            is_logarithmic=True,
        ),
        _ratio_curves(
            HG_RATIO,
            {name: ratios[name] for name in (VERMILION_OVER_MIXTURE, VERMILION_OVER_CHALK)},
            cover_um,
            is_logarithmic=False,
        ),
    ]
    figure = line_ratios(spectra, curves, "Vermilion over a paint with lead, M: from the forward model (virtual)")
    save_png(figure, figure_path(plan, "figure10"))
    ratios_for_json = {
        name: {
            ratio_name: [json_number(ratio_value) for ratio_value in ratio_values]
            for ratio_name, ratio_values in ratios_by_name.items()
        }
        for name, ratios_by_name in ratios.items()
    }
    return {
        "thickness_um": cover_um.tolist(),
        **ratios_for_json,
        "about": {
            "mixture": MIXTURE_PAINT,
            "mixture_um": MIXTURE_UM,
            "ground_um": GROUND_UM,
            "instrument": instrument.name,
        },
    }


def _ratio_curves(
    ratio_name: str, ratios_by_case: Mapping[str, Ratios], cover_um: NDArray[np.float64], *, is_logarithmic: bool
) -> Curves:
    curve_symbols = ratio_name.replace("alpha", "α").replace("beta", "β")
    curves = {name: (cover_um, ratios_of_case[ratio_name]) for name, ratios_of_case in ratios_by_case.items()}
    return Curves(
        f"{curve_symbols} under a growing cover",
        "thickness of the cover (µm)",
        "ratio of photons",
        curves,
        {},
        is_logarithmic,
    )


def photon_ratios(stratigraphies: Sequence[Stratigraphy], instrument: Instrument) -> Ratios:
    """Return the (n,) photon ratios of L lines at the detector window, or NaN without photons of the element."""
    emission = emit(stratigraphies, instrument)
    alpha_photons, beta_photons = (
        {name: _line_photons(emission, name, energy_windows[line_index]) for name, energy_windows in LINES_KEV.items()}
        for line_index in (0, 1)
    )
    enhanced_photons = _line_photons(emission, "Hg", LINES_KEV["Hg"][0], fluorescence_orders=("secondary", "tertiary"))
    return {
        PB_RATIO: _ratio(beta_photons["Pb"], alpha_photons["Pb"]),
        HG_RATIO: _ratio(alpha_photons["Hg"], beta_photons["Hg"]),
        HG_ENHANCED_FRACTION: _ratio(enhanced_photons, alpha_photons["Hg"]),
    }


def covered_mixture(cover_pigment: str, thickness_um: float, *, with_mixture: bool = True) -> Stratigraphy:
    """Return the mixture with lead, or bare ground, under a cover. A thickness of 0 omits the cover."""
    layers: list[Layer] = [Paint({cover_pigment: 1.0}).layer(float(thickness_um))] if thickness_um > 0 else []
    if with_mixture:
        layers.append(figure7_recipe().bottom(MIXTURE_PAINT, MIXTURE_UM))
    return Stratigraphy((*layers, ground_layer("chalk", GROUND_UM)))


def _line_photons(
    emission: Emission, element: str, window_kev: tuple[float, float], *, fluorescence_orders: Sequence[str] = ORDERS
) -> NDArray[np.float64]:
    """Return the (n,) photons of an element's L lines within an energy window, from all layers."""
    energy_kev = emission.lines.energy_kev
    in_family = np.asarray([family == f"{element}_L" for family in emission.lines.family])
    in_window = in_family & (energy_kev > window_kev[0]) & (energy_kev < window_kev[1])
    photons = np.sum([getattr(emission, fluorescence_order) for fluorescence_order in fluorescence_orders], axis=0)
    return np.asarray(photons[:, :, in_window].sum(axis=(1, 2)), dtype=np.float64)


def _ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0))


def _mixture_spectra(instrument: Instrument, plan: Plan) -> Curves:
    """Return spectra of the mixture M alone and under vermilion. Both spectra have the same live time."""
    expected_counts = expected_spectra(
        [covered_mixture(COVER_PIGMENT, 0.0), covered_mixture(COVER_PIGMENT, SPECTRUM_COVER_UM)], instrument
    )
    counts = count(
        expected_counts * plan.counts / expected_counts[0].sum(), rng=np.random.default_rng((plan.mockup_seed, 10))
    )
    energy_kev = XU_NETWORK_AXIS.energy_kev
    in_range = (energy_kev > SPECTRUM_RANGE_KEV[0]) & (energy_kev < SPECTRUM_RANGE_KEV[1])
    names = ("M alone", f"M under {SPECTRUM_COVER_UM:.0f} µm of vermilion")
    return Curves(
        f"M is {_mixture_label()}, {MIXTURE_UM:.0f} µm over chalk; {plan.counts:,.0f} counts of M alone",
        "energy (keV)",
        "counts in 10 eV",
        {
            name: (energy_kev[in_range], spectrum[in_range].astype(np.float64))
            for name, spectrum in zip(names, counts, strict=True)
        },
        LINE_MARKS_KEV,
    )


def _mixture_label() -> str:
    mass_fractions: Mapping[str, float] = figure7_recipe().bottom_paints[MIXTURE_PAINT]
    return ", ".join(
        f"{100 * mass_fraction:.0f} % {name.replace('_', ' ')}" for name, mass_fraction in mass_fractions.items()
    )


Mask = NDArray[np.bool_]
Point = tuple[float, float]

VISIBLE_PAINTS: dict[str, MassFractions] = {
    "sky": {"lead_white": 88, "chrome_yellow": 12},
    "earth": {"iron_oxide_red": 70, "lead_white": 30},
    "wing": {"cobalt_blue": 45, "lead_white": 55},
    "hair": {"prussian_blue": 40, "iron_oxide_red": 60},
    "flesh": {"lead_white": 82, "vermilion": 8, "iron_oxide_red": 10},
    "cloth": {"vermilion": 60, "carmine_lake": 40},
    "idol": {"emerald_green": 75, "lead_white": 25},
    "flower": {"zinc_white": 80, "carmine_lake": 20},
}
HIDDEN_PAINTS: dict[str, MassFractions] = {
    "wall": {"lead_white": 80, "iron_oxide_red": 20},
    "curtain": {"carmine_lake": 50, "lead_white": 50},
    "hat": {"cobalt_blue": 70, "lead_white": 30},
    "face": {"zinc_white": 80, "vermilion": 20},
    "coat": {"emerald_green": 60, "lead_white": 40},
    "collar": {"zinc_white": 100},
}
BATHERS_PAINTS: dict[str, MassFractions] = {
    "sky": {"cobalt_blue": 25, "lead_white": 75},
    "cloud": {"lead_white": 100},
    "tree": {"emerald_green": 50, "chrome_oxide_green": 30, "chrome_yellow": 20},
    "water": {"cobalt_blue": 50, "emerald_green": 20, "lead_white": 30},
    "sand": {"lead_white": 70, "iron_oxide_red": 30},
    "flesh": {"lead_white": 75, "vermilion": 15, "chrome_yellow": 10},
    "hair": {"iron_oxide_red": 60, "prussian_blue": 40},
    "cloth": {"vermilion": 80, "lead_white": 20},
}
"""Mass fractions, in %, of the dry pigments in each paint. The pigments are from the paper's Table 1."""


@dataclass(frozen=True)
class PixelGrid:
    """Coordinates of pixels, ``x`` from the left and ``y`` from the top, in units of the painting's height."""

    y: NDArray[np.float64]
    x: NDArray[np.float64]

    def ellipse(self, centre: Point, radii: Point, tilt_deg: float = 0.0) -> Mask:
        """Return a mask of the pixels inside an ellipse, with centre and radii as (x, y)."""
        cosine, sine = np.cos(np.radians(tilt_deg)), np.sin(np.radians(tilt_deg))
        x_offset, y_offset = self.x - centre[0], self.y - centre[1]
        major_offset, minor_offset = cosine * x_offset + sine * y_offset, cosine * y_offset - sine * x_offset
        return np.asarray((major_offset / radii[0]) ** 2 + (minor_offset / radii[1]) ** 2 <= 1.0)

    def polygon(self, *corners: Point) -> Mask:
        """Return a mask of the pixels inside a polygon by the even-odd rule."""
        is_inside = np.zeros(self.y.shape, dtype=bool)
        for (x_0, y_0), (x_1, y_1) in zip(corners, (*corners[1:], corners[0]), strict=True):
            if y_0 == y_1:
                continue
            is_between = (self.y < max(y_0, y_1)) & (self.y >= min(y_0, y_1))
            is_inside ^= is_between & (self.x < x_0 + (self.y - y_0) * (x_1 - x_0) / (y_1 - y_0))
        return is_inside


def layered_painting(n_row: int, n_column: int) -> Painting:
    """Return a virtual painting of a winged woman over a hidden man in a hat, modelled on "Poemes barbares"."""
    pixel_grid = _pixel_grid(n_row, n_column)
    upper_paint = _paint_shapes(
        pixel_grid,
        "sky",
        [*_landscape_shapes(pixel_grid), *_winged_woman_shapes(pixel_grid), *_idol_and_flower_shapes(pixel_grid)],
    )
    lower_paint = _paint_shapes(pixel_grid, "wall", _man_in_hat_shapes(pixel_grid))
    upper_paint[:, -_margin_pixels(n_column) :] = lower_paint[:, -_margin_pixels(n_column) :] = BARE
    return Painting(
        upper_paints=VISIBLE_PAINTS,
        lower_paints=HIDDEN_PAINTS,
        upper_paint=upper_paint,
        lower_paint=lower_paint,
        upper_um=_stepped_thickness(pixel_grid, TOP_UM, N_THICKNESS, (5.0, 3.0)),
        lower_um=_stepped_thickness(pixel_grid, LOWER_UM, N_THICKNESS // 2, (2.0, 4.0)),
        formulas=paper_formulas(),
    )


def single_layered_painting(n_row: int, n_column: int) -> Painting:
    """Return a virtual painting of bathers under trees in one layer, modelled on "The Bathers"."""
    pixel_grid = _pixel_grid(n_row, n_column)
    upper_paint = _paint_shapes(pixel_grid, "sky", [*_shore_shapes(pixel_grid), *_bathers_shapes(pixel_grid)])
    upper_paint[:, -_margin_pixels(n_column) :] = BARE
    lower_paint = np.full(upper_paint.shape, BARE)
    return Painting(
        upper_paints=BATHERS_PAINTS,
        lower_paints={},
        upper_paint=upper_paint,
        lower_paint=lower_paint,
        upper_um=_stepped_thickness(pixel_grid, TOP_UM, N_THICKNESS, (4.0, 5.0)),
        lower_um=np.zeros(lower_paint.shape),
        formulas=paper_formulas(),
    )


def _landscape_shapes(pixel_grid: PixelGrid) -> list[tuple[str, Mask]]:
    return [("earth", pixel_grid.y > 0.74 + 0.03 * np.sin(9.0 * pixel_grid.x))]


def _winged_woman_shapes(pixel_grid: PixelGrid) -> list[tuple[str, Mask]]:
    return [
        ("wing", pixel_grid.ellipse((0.28, 0.30), (0.17, 0.06), 35.0)),
        ("wing", pixel_grid.ellipse((0.62, 0.30), (0.17, 0.06), -35.0)),
        ("hair", pixel_grid.ellipse((0.45, 0.17), (0.085, 0.11))),
        ("flesh", pixel_grid.polygon((0.36, 0.32), (0.54, 0.32), (0.51, 0.58), (0.39, 0.58))),
        ("flesh", pixel_grid.ellipse((0.45, 0.19), (0.05, 0.075))),
        ("flesh", pixel_grid.polygon((0.42, 0.25), (0.48, 0.25), (0.48, 0.33), (0.42, 0.33))),
        (
            "flesh",
            pixel_grid.polygon((0.36, 0.32), (0.40, 0.34), (0.35, 0.50), (0.45, 0.56), (0.44, 0.60), (0.29, 0.52)),
        ),
        ("cloth", pixel_grid.polygon((0.37, 0.58), (0.53, 0.58), (0.60, 0.94), (0.33, 0.94))),
    ]


def _idol_and_flower_shapes(pixel_grid: PixelGrid) -> list[tuple[str, Mask]]:
    flowers = [(0.64, 0.84), (0.68, 0.76), (0.66, 0.93)]
    return [
        ("idol", pixel_grid.ellipse((0.15, 0.84), (0.09, 0.12))),
        ("idol", pixel_grid.ellipse((0.15, 0.68), (0.06, 0.07))),
        ("idol", pixel_grid.polygon((0.09, 0.66), (0.08, 0.56), (0.14, 0.63))),
        ("idol", pixel_grid.polygon((0.21, 0.66), (0.22, 0.56), (0.16, 0.63))),
        *[("flower", pixel_grid.ellipse(flower, (0.03, 0.03))) for flower in flowers],
    ]


def _man_in_hat_shapes(pixel_grid: PixelGrid) -> list[tuple[str, Mask]]:
    return [
        ("curtain", pixel_grid.x < 0.10 + 0.02 * np.sin(12.0 * pixel_grid.y)),
        (
            "coat",
            pixel_grid.polygon((0.30, 0.62), (0.54, 0.62), (0.68, 0.74), (0.70, 1.01), (0.14, 1.01), (0.16, 0.74)),
        ),
        ("face", pixel_grid.polygon((0.36, 0.50), (0.48, 0.50), (0.48, 0.66), (0.36, 0.66))),
        (
            "collar",
            pixel_grid.polygon((0.32, 0.60), (0.42, 0.74), (0.52, 0.60), (0.57, 0.66), (0.42, 0.84), (0.27, 0.66)),
        ),
        ("face", pixel_grid.ellipse((0.42, 0.43), (0.13, 0.17))),
        ("hat", pixel_grid.ellipse((0.42, 0.29), (0.25, 0.045), -6.0)),
        ("hat", pixel_grid.polygon((0.29, 0.29), (0.31, 0.10), (0.53, 0.08), (0.55, 0.27))),
    ]


def _shore_shapes(pixel_grid: PixelGrid) -> list[tuple[str, Mask]]:
    right_edge = float(pixel_grid.x.max())
    return [
        ("cloud", pixel_grid.ellipse((0.55, 0.20), (0.22, 0.09))),
        ("cloud", pixel_grid.ellipse((0.70, 0.27), (0.18, 0.07))),
        ("water", pixel_grid.y > 0.58),
        ("sand", pixel_grid.y > 0.72 + 0.04 * np.sin(6.0 * pixel_grid.x)),
        ("tree", pixel_grid.ellipse((0.08, 0.22), (0.26, 0.26))),
        ("tree", pixel_grid.ellipse((right_edge - 0.05, 0.26), (0.24, 0.28))),
        ("tree", pixel_grid.polygon((0.02, 0.40), (0.09, 0.40), (0.16, 0.80), (0.06, 0.80))),
    ]


def _bathers_shapes(pixel_grid: PixelGrid) -> list[tuple[str, Mask]]:
    shapes: list[tuple[str, Mask]] = []
    for x, y, body_height in ((0.32, 0.90, 0.50), (0.56, 0.78, 0.40), (0.76, 0.94, 0.46), (0.97, 0.84, 0.44)):
        shapes += _bather_shapes(pixel_grid, x, y, body_height)
    return [
        *shapes,
        ("cloth", pixel_grid.ellipse((0.50, 0.92), (0.11, 0.035))),
        ("cloth", _loin_cloth_mask(pixel_grid)),
    ]


def _bather_shapes(pixel_grid: PixelGrid, x: float, y: float, body_height: float) -> list[tuple[str, Mask]]:
    def point(right_offset: float, up_offset: float) -> Point:
        return x + body_height * right_offset, y - body_height * up_offset

    return [
        ("hair", pixel_grid.ellipse(point(0.0, 0.93), (0.10 * body_height, 0.09 * body_height))),
        ("flesh", pixel_grid.ellipse(point(0.02, 0.88), (0.075 * body_height, 0.09 * body_height))),
        ("flesh", pixel_grid.polygon(point(-0.15, 0.78), point(0.15, 0.78), point(0.10, 0.42), point(-0.10, 0.42))),
        ("flesh", pixel_grid.polygon(point(0.13, 0.78), point(0.34, 0.98), point(0.28, 1.02), point(0.04, 0.78))),
        ("flesh", pixel_grid.polygon(point(-0.11, 0.45), point(0.0, 0.45), point(-0.06, 0.0), point(-0.17, 0.0))),
        ("flesh", pixel_grid.polygon(point(0.0, 0.45), point(0.11, 0.45), point(0.19, 0.0), point(0.08, 0.0))),
    ]


def _loin_cloth_mask(pixel_grid: PixelGrid) -> Mask:
    return pixel_grid.polygon((0.90, 0.60), (1.04, 0.60), (1.06, 0.72), (0.88, 0.72))


def _paint_shapes(pixel_grid: PixelGrid, ground_paint: str, shapes: Sequence[tuple[str, Mask]]) -> NDArray[np.str_]:
    names = [ground_paint, BARE, *(name for name, _ in shapes)]
    paint_of_pixel = np.full(pixel_grid.y.shape, ground_paint, dtype=f"<U{max(map(len, names))}")
    for name, shape_mask in shapes:
        paint_of_pixel[shape_mask] = name
    return paint_of_pixel


def _pixel_grid(n_row: int, n_column: int) -> PixelGrid:
    row_number, column_number = np.mgrid[0:n_row, 0:n_column]
    return PixelGrid((row_number + 0.5) / n_row, (column_number + 0.5) / n_row)


def _margin_pixels(n_column: int) -> int:
    return max(1, n_column // 18)


def _stepped_thickness(
    pixel_grid: PixelGrid, thickness_limits_um: Point, n_step: int, n_wave: Point
) -> NDArray[np.float64]:
    """Return the (n_row, n_column) thickness, in um, which changes in wave-shaped steps across the painting."""
    wave_height = 0.5 + 0.5 * np.sin(
        2.0 * np.pi * (n_wave[0] * pixel_grid.x + n_wave[1] * pixel_grid.y + 0.4 * pixel_grid.x**2)
    )
    thickness_step = np.minimum((wave_height * n_step).astype(int), n_step - 1)
    return np.asarray(np.linspace(*thickness_limits_um, n_step)[thickness_step])
