"""A small result with known shares, as a pipeline would leave it."""

from typing import Any

import numpy as np

from result_parts import joined
from underpaint.data.maps import Results
from underpaint.display.report import render_report

SHAPE = (24, 40)
AXIS_KEV = 0.02 * np.arange(1500)
LINES = {"Ca_K": 3.69, "Fe_K": 6.40, "Cu_K": 8.05, "Hg_L": 9.99, "Pb_L": 10.55}
NOTE = "The file's energy axis reads 65 eV low at Fe K; the axis found in the lines is used."


def full_report(shown: Results, **given: Any) -> str:
    """Return the full report with plain spaces, so that words are found as people read them."""
    return render_report(shown, full=True, **given).replace("\N{NO-BREAK SPACE}", " ")


def pigment_maps(labels: dict[str, str] | None = None) -> Results:
    """Mercury red in the left quarter, lead everywhere, copper nowhere; the last row has no answer."""
    names = ("mercury_red", "lead_pigment", "copper_green_blue", "vermilion", "chrome_yellow")
    probability = np.full((*SHAPE, len(names)), 0.02, dtype=np.float32)
    probability[:, :10, 0] = 0.97
    probability[:, :, 1] = 0.9
    probability[:, :10, 3] = 0.95
    probability[:, 30:, 4] = 0.7
    probability[-1] = np.nan
    class_labels = labels or {}
    return Results.of_pigments(
        names=names,
        probability=probability,
        kinds=("group", "group", "group", "member", "member"),
        groups=(
            ("mercury_red",),
            ("lead_pigment",),
            ("copper_green_blue",),
            ("mercury_red",),
            ("lead_pigment", "chromium_pigment"),
        ),
        labels=tuple(class_labels.get(name, name.replace("_", " ")) for name in names),
        elements=(("Hg_L",), ("Pb_L",), ("Cu_K",), ("Hg_L",), ("Pb_L", "Fe_K")),
        step_mm=(1.0, 1.0),
        notes=("40 of 960 pixels have no answer: no spectrum, or no counts in it.",),
        settings={"model": {"name": "default", "version": "1", "limits": ["Knows no lakes."], "figures": {"f1": 0.9}}},
    )


def element_maps() -> Results:
    """Mercury in the left quarter, lead and calcium everywhere, iron in a stripe, copper at noise."""
    rng = np.random.default_rng(5)
    names = tuple(LINES)
    area = np.abs(rng.normal(2.0, 2.0, (*SHAPE, len(names))))
    area[:, :, names.index("Ca_K")] += 300
    area[:, :, names.index("Pb_L")] += 4000 + rng.normal(0, 500, SHAPE)
    area[:, :10, names.index("Hg_L")] += 900 + rng.normal(0, 100, (SHAPE[0], 10))
    area[8:12, :, names.index("Fe_K")] += 200
    return Results.of_lines(names, area.astype(np.float32), np.sqrt(area + 20).astype(np.float32), step_mm=(1.0, 1.0))


def summary(name: str = "fake") -> dict[str, Any]:
    """Facts as results hold them."""
    counts = 50.0 * np.exp(-AXIS_KEV / 8) + 1.0
    for energy in LINES.values():
        counts = counts + 5e3 * np.exp(-0.5 * ((AXIS_KEV - energy) / 0.065) ** 2)
    return {
        "name": name,
        "source": f"{name}.h5",
        "format": "HDF5",
        "detector": "19511",
        "shape": [*SHAPE, AXIS_KEV.size],
        "step_mm": [1.0, 1.0],
        "total_counts": 1.2e6,
        "mean_pixel_counts": 1250.0,
        "n_missing": 0,
        "n_empty": 40,
        "notes": ["a live time of 0 means unknown"],
        "metadata": {},
        "sum_counts": counts,
        "max_counts": counts / 40,
        "energy_kev": AXIS_KEV,
        "settings": {
            "source": f"{name}.h5",
            "model": "default",
            "calibration": {"gain_kev": 0.02, "notes": [NOTE], "found": ["Pb_L"]},
        },
        "versions": {"underpaint": "0.1.0", "numpy": "2.0"},
        "written": "2026-01-02T03:04:05+00:00",
    }


def results(name: str = "fake", labels: dict[str, str] | None = None) -> Results:
    """Return pigments, elements and facts together."""
    return joined(pigment_maps(labels), element_maps(), summary=summary(name))
