#!/usr/bin/env bash
# Writes the files that test_old_files.py reads. Run once per released format, with that version installed:
#   bash tests/old_files/write.sh tests/old_files/VERSION
# The files of 0.1.0 were written by commit 6412fb7.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$1
python=${PYTHON:-python}
mkdir -p "$out" && cd "$out"
underpaint() { "$python" -m underpaint "$@" --quiet; }

cat >panel.toml <<'TOML'
pigment_to_binder = 3.0
binder = "linseed_oil"
ground = "chalk"
top_thickness_um = [30.0, 60.0]
bottom_thickness_um = [100.0, 150.0]
ground_thickness_um = [150.0, 200.0]

[tops]
vermilion = { vermilion = 1.0 }

[bottoms]
lead = { lead_white = 0.9, zinc_white = 0.1 }
TOML
underpaint mockup panel.toml --cell-pixels 1 --counts 20000 --seed 5 --out panel.h5
cat >palette.toml <<'TOML'
name = "four paints"
pigments = ["vermilion", "lead_white", "zinc_white", "chalk"]
TOML
underpaint identify panel.h5 --out default --detectability
underpaint identify panel.h5 --out xu2022 --model xu2022
underpaint elements panel.h5 --out pymca --engine pymca

cat >library.toml <<'TOML'
kind = "random"
n_stratigraphies = 4
renders = 1
palette = "xu2022"
places = true
chunk = 4
seed = 3
TOML
underpaint simulate library.toml --out library.h5 --photons photons.h5

"$python" - "$here/.." <<'PY'
"""The files that no command writes in seconds: regions, a checkpoint, an interrupted run, the paper's spectra, means."""

import json
import sys
from pathlib import Path

import numpy as np

import underpaint
from underpaint.instrument import load_instrument, save_instrument
from underpaint.predict import open_model
from underpaint.reproduce.simulation import simulated_as_in_paper
from underpaint.spectrum import XU_NETWORK_AXIS
from underpaint.synth.mockups import paint_mockups
from underpaint.synth.recipes import paper_grid, paper_stratigraphy
from underpaint.train import TrainSettings, train
from underpaint.viewer.regions import Region, save_regions

sys.path.insert(0, str(Path(sys.argv[1]) / "train"))
from toy_training_library import write_toy_library

save_instrument(load_instrument("elio"), Path("instrument.toml"))
save_regions(
    Path("default"),
    [Region("robe", ((0.0, 0.0), (0.0, 4.0), (3.0, 4.0), (3.0, 0.0))), Region("class", (), ((1, 0, 2), (2, 1, 1)))],
    underpaint.load("panel.h5").shape[:2],
)


def stop(what: str, *_: int) -> None:
    if what == "Looking for what nothing explains":  # all blocks are done by then
        raise KeyboardInterrupt


try:
    underpaint.identify_to_folder("panel.h5", "interrupted", progress=stop)
except KeyboardInterrupt:
    pass
train(TrainSettings(library=write_toy_library(Path("toy.h5"), n_bin=32), out="training", kind="xu2022", batch=16, epochs=1))

mockups = paint_mockups(64, 1e5, 2022)
model = open_model("xu2022")
recorded = np.tile(np.float32([XU_NETWORK_AXIS.start_kev, XU_NETWORK_AXIS.stop_kev]), (64, 1))
log_odds, probability = model(mockups.counts.astype(np.float32), recorded)[:2]
grid = paper_grid()[::811]
simulated = simulated_as_in_paper([paper_stratigraphy(*entry) for entry in grid], [set(entry[:2]) for entry in grid], mockups)
np.savez_compressed(
    "paper.npz",
    mockup_counts=mockups.counts,
    log_odds=log_odds,
    probability=probability,
    grid_step=811,
    simulated=simulated.spectra,
    labels=simulated.labels,
)

means: dict[str, dict[str, float]] = {}
for folder in ("default", "xu2022", "pymca"):
    pigments, elements, _ = underpaint.read_results(folder)
    of_pigments = {} if pigments is None else {name: pigments[name] for name in pigments.names}
    of_elements = {} if elements is None else {name: elements[name] for name in elements.names}
    means[folder] = {name: float(np.mean(values)) for name, values in {**of_pigments, **of_elements}.items()}
Path("means.json").write_text(json.dumps(means, indent=1) + "\n")
PY
rm -rf panel.toml library.toml toy.h5 */report.html {xu2022,pymca}/{elements,pigments} training/last.ckpt
