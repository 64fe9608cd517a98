"""Draw the README's picture: what was painted on the virtual panel of Fig. 7, and what was answered.

    python tools/readme_picture.py PANEL RESULT [--out docs/images/fig7_result.png]

PANEL is the file of ``underpaint mockup fig7``, RESULT the folder of ``underpaint identify`` on it.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from underpaint.io import read_results, read_truth
from underpaint.physics.materials import library

GROUPS = ("mercury_red", "lead_pigment", "tin_pigment", "cobalt_pigment", "iron_pigment", "copper_green_blue")
PAINTED = ListedColormap(["#f2f2f2", "#9ecae1", "#fdae6b", "#756bb1"])
"""Not painted, in the bottom strip, in the top strip, in both."""


def main() -> None:
    """Read the panel and its result, draw, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("panel", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/images/fig7_result.png"))
    arguments = parser.parse_args()
    truth = read_truth(arguments.panel)
    probability = read_results(arguments.result).probability.sel(place="anywhere")
    figure = Figure(figsize=(12.0, 3.3), layout="constrained")
    panels = figure.subplots(2, len(GROUPS))
    for column, name in enumerate(GROUPS):
        painted, answered = panels[0, column], panels[1, column]
        painted.imshow(where_painted(truth, name), cmap=PAINTED, vmin=-0.5, vmax=3.5, interpolation="nearest")
        image = answered.imshow(probability.sel(group=name), cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
        painted.set_title(library().group(name).label.split(" (")[0], fontsize=10)
        for axes, label in ((painted, "painted"), (answered, "answered")):
            bare(axes, label if column == 0 else "")
    figure.colorbar(image, ax=list(panels[:, -1]), label="probability")
    figure.legend(
        [Patch(color=PAINTED(index)) for index in (1, 2, 3)],
        ["painted in the bottom strip", "in the top strip", "in both"],
        fontsize=9,
        loc="outside lower left",
        ncols=3,
        frameon=False,
    )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.out, dpi=110)


def where_painted(truth: dict[str, NDArray[np.float32]], group: str) -> NDArray[np.int64]:
    """Return 0 (nowhere), 1 (bottom), 2 (top) or 3 (both) for each pixel."""
    result = np.zeros(truth["top_thickness_um"].shape, dtype=np.int64)
    for bit, place in ((1, "bottom"), (2, "top")):
        members = [pigment.name for pigment in library().members(group)]
        present = [truth[f"{place}/{name}"] > 0 for name in members if f"{place}/{name}" in truth]
        if present:
            result |= bit * np.any(present, axis=0)
    return result


def bare(axes: Axes, label: str) -> None:
    """Take ticks and frame away; write a label at the left."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_ylabel(label, fontsize=9)
    for spine in axes.spines.values():
        spine.set_visible(False)


if __name__ == "__main__":
    main()
