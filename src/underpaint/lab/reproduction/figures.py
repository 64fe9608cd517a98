"""Figs. 5 to 10 of Xu et al. 2022 on virtual paintings: pictures, and the numbers behind them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.display.plot import save_png
from underpaint.display.plot.paper import CaseRow, Panel, case_study, panels
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
from underpaint.lab.reproduction.figure_drawings import figure10, layered_painting, single_layered_painting
from underpaint.lab.reproduction.figure_panels import ABOVE, ABSENT, BARE, GROUND_UM, crossed_strips, scan_painting
from underpaint.lab.reproduction.mockups import machine
from underpaint.lab.reproduction.plan import Plan
from underpaint.physics.materials import library
from underpaint.runtime.progress import Progress

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
    """Map a layered virtual painting, after "Poemes barbares"; a hidden portrait lies under what is seen.

    Returns
    -------
    dict
        ``{pigment: {families, n_above, n_below, n_absent, networks: {network: {f1, auroc, spearman, ...}}}, "about"}``.
        Writes ``figure5.png`` and, for the default network, ``figure5_default.png``.
    """
    progress("Figure 5: scanning the layered painting", 0, 2)
    painting = layered_painting(*_shrunk(LAYERED_PIXELS, plan))
    instrument, rng = machine(np.random.default_rng(plan.mockup_seed)), _rng(plan, 5)
    scan = scan_painting(painting, instrument, plan.counts, rng, "layered_painting", MOCKUP_LIVE_TIME_S)
    progress("Figure 5: asking the networks", 1, 2)
    case = ask(plan, networks, painting, scan)
    title = f"A virtual painting with another under it, {_size(scan)}, 10 s a pixel ({plan.counts:,.0f} counts)"
    return _case_figures(plan, case, FIGURE5, "figure5", title)


def figure6(plan: Plan, networks: Networks, progress: Progress) -> dict[str, Any]:
    """Map a single-layered virtual painting at 100 ms a pixel on another machine, after "The Bathers"; as figure 5."""
    progress("Figure 6: scanning the single-layered painting", 0, 2)
    painting = single_layered_painting(*_shrunk(SINGLE_PIXELS, plan))
    rng = _rng(plan, 6)
    counts = plan.counts * SINGLE_LIVE_TIME_S / MOCKUP_LIVE_TIME_S
    scan = scan_painting(painting, machine(rng), counts, rng, "single_layered_painting", SINGLE_LIVE_TIME_S)
    progress("Figure 6: asking the networks", 1, 2)
    case = ask(plan, networks, painting, scan)
    title = f"A virtual painting in one layer, {_size(scan)}, 100 ms a pixel ({counts:,.0f} counts)"
    return _case_figures(plan, case, FIGURE6, "figure6", title)


def figure8(plan: Plan, networks: Networks, progress: Progress) -> dict[str, Any]:
    """Map vermilion on the virtual panel of Fig. 7: truth, mercury, before and after fine-tuning, default network.

    Returns
    -------
    dict
        As figure 5 for vermilion; and ``by_column``: for each bottom strip, and the ground between them, its share of
        vermilion and the mean probabilities under the one top that has none, and where no top lies.
    """
    progress("Figure 8: scanning the panel", 0, 1)
    case = _panel_case(plan, networks)
    parts = [
        Panel("truth of vermilion", place_of(case, "vermilion")),
        Panel("thickness of the top (µm)", case.painting.top_um, is_area=True),
        Panel("Hg L (counts)", case.elements["Hg_L"], is_area=True),
        *(Panel(f"probability, {name}", maps["vermilion"]) for name, maps in case.found.items()),
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
    """Map Prussian blue and iron oxide on the virtual panel of Fig. 7, and show where they are seen in vain.

    Returns
    -------
    dict
        As figure 5 for both pigments, and by network ``false_on``: the share of pixels over one half on bare ground,
        on bottoms without a top (no iron in either), and on the strip of the other pigment. ``iron_pigment`` is what
        the default network answers in place of both: either.
    """
    pigments = ("prussian_blue", "iron_oxide_red")
    progress("Figure 9: scanning the panel", 0, 1)
    case = _panel_case(plan, networks)
    blue, red = (place_of(case, name) != ABSENT for name in pigments)
    parts = [
        Panel("truth", np.where(blue, 1, np.where(red, 2, 0))),
        Panel("Fe K (counts)", case.elements["Fe_K"], is_area=True),
        Panel(f"any iron pigment, {DEFAULT}", case.found[DEFAULT][IRON]),
    ]
    for name in pigments:
        parts += [Panel(f"{_label(name)}, {network}", maps[name]) for network, maps in case.found.items()]
    title = "The virtual panel of Fig. 7: Prussian blue and iron oxide, of which iron alone is seen"
    key = ("truth: neither", *map(_label, pigments))
    save_png(panels(parts, title, columns=3, key=key, **_strip_places(case, None)), picture(plan, "figure9"))
    result: dict[str, Any] = {name: figures_of(case, name) for name in pigments}
    for name, other in (pigments, pigments[::-1]):
        for network, maps in case.found.items():
            result[name]["networks"][network]["false_on"] = _false_on(case, maps[name], other)
    either = np.where(blue | red, ABOVE, ABSENT)
    iron = map_scores(case.found[DEFAULT][IRON], either, case.elements["Fe_K"].astype(np.float64))
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
        probability={network: case.found[network][pigment] for network in networks},
    )


def _panel_case(plan: Plan, networks: Networks) -> Case:
    """Paint the panel of Fig. 7 and scan it with the machine that measured the mock-ups."""
    shrink = 1 if plan.grid_step == 1 else QUICK_SHRINK
    rng = _rng(plan, 7)
    painting = crossed_strips(CELL_PIXELS // shrink, max(GAP_PIXELS // shrink, 1), rng)
    instrument = machine(np.random.default_rng(plan.mockup_seed))
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
    """Return mean probabilities by bottom, where no other layer brings the pigment."""
    painting, result = case.painting, {}
    for name in (*painting.lowers, BARE):
        own = painting.lower == name
        result[name] = {
            "share": float(painting.lowers[name].get(pigment, 0.0)) if name != BARE else 0.0,
            "networks": {
                network: {
                    f"under {WITHOUT_VERMILION}": _mean(maps[pigment], own & (painting.top == WITHOUT_VERMILION)),
                    "without a top": _mean(maps[pigment], own & (painting.top == BARE)),
                }
                for network, maps in case.found.items()
            },
        }
    return result


def _false_on(case: Case, probability: Map, other: str) -> dict[str, float | None]:
    painting = case.painting
    uncovered, ground = painting.top == BARE, painting.lower == BARE
    where = {
        "bare_ground": uncovered & ground,
        "bottom_without_top": uncovered & ~ground,
        "strip_of_the_other": case.painting.places((other,)) != 0,
    }
    return {name: number(share_over(probability, pixels)) for name, pixels in where.items()}


def _about(plan: Plan, case: Case) -> dict[str, Any]:
    laid = case.painting.top_um[case.painting.top != BARE]
    return {
        "virtual": True,
        "pixels": list(case.scan.shape[:2]),
        "mean_counts": float(np.asarray(case.scan.counts.sum(axis=2)).mean()),
        "thickness_above_um": [float(laid.min()), float(laid.max())],
        "ground_um": GROUND_UM,
        "seed": plan.mockup_seed,
    }


def _mean(probability: Map, where: NDArray[np.bool_]) -> float | None:
    return number(probability[where].mean()) if where.any() else None


def _middle(where: NDArray[np.bool_]) -> float:
    return float(np.flatnonzero(where).mean())


def _label(pigment: str) -> str:
    return library()[pigment].label.partition(" (")[0]


def _size(scan: Scan) -> str:
    return f"{scan.shape[0]} x {scan.shape[1]} pixels"


def _shrunk(pixels: tuple[int, int], plan: Plan) -> tuple[int, int]:
    shrink = 1 if plan.grid_step == 1 else QUICK_SHRINK
    return pixels[0] // shrink, pixels[1] // shrink


def _rng(plan: Plan, figure: int) -> np.random.Generator:
    return np.random.default_rng((plan.mockup_seed, figure))
