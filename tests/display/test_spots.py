"""What is said of a pixel's pigments: those that were asked for, and those that were not."""

from pathlib import Path

import numpy as np
from viewer_fakes import element_maps, results

from underpaint.data.maps import Results
from underpaint.display.viewer.spots import omitted_member_labels, spot
from underpaint.io import write_results
from underpaint.io.results.result_maps import ResultMaps
from underpaint.physics.materials import library


def test_pigments_outside_the_palette_are_named_too(tmp_path: Path) -> None:
    maps = ResultMaps(results(tmp_path))
    (mercury,) = (entry for entry in spot(maps, 3, 4)["groups"] if entry["name"] == "mercury_red")
    maps.close()
    labels = [entry["label"] for entry in mercury["members"]]
    assert labels == ["vermilion"]
    every = {entry.label for entry in library().members("mercury_red")}
    assert {*labels, *mercury["left_out"]} == set(mercury["alike"]) == every
    assert "calomel" in mercury["left_out"]
    assert omitted_member_labels("mercury_red", []) == []


def test_quantities_of_elements_are_maps_and_values_of_a_pixel(tmp_path: Path) -> None:
    lines = element_maps()
    image = np.full((*lines.shape, 1), 5.0, np.float32)
    quantities = Results.of_quantities("areal_mass", ("Pb",), image, 0.5 * image, 2.0 * image)
    write_results(tmp_path, lines | quantities)
    maps = ResultMaps(tmp_path)
    (entry,) = (entry for entry in maps.entries if entry.process == "quantities")
    assert (entry.name, entry.kind, entry.unit) == ("areal_mass.Pb", "areal mass", "ug/cm2")
    (lead,) = spot(maps, 3, 4)["quantities"]
    maps.close()
    assert (lead["value"], lead["low"], lead["high"]) == (5.0, 2.5, 10.0)
