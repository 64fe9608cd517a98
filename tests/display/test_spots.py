"""What is said of a pixel's pigments: those that were asked for, and those that were not."""

from pathlib import Path

from viewer_fakes import results

from underpaint.display.viewer.spots import left_out, spot
from underpaint.io.results.result_maps import ResultMaps
from underpaint.physics.materials import library


def test_pigments_that_were_not_asked_for_are_named_beside_those_that_were(tmp_path: Path) -> None:
    maps = ResultMaps(results(tmp_path))
    (mercury,) = (own for own in spot(maps, 3, 4)["groups"] if own["name"] == "mercury_red")
    maps.close()
    asked = [own["label"] for own in mercury["members"]]
    assert asked == ["vermilion"]
    every = {own.label for own in library().members("mercury_red")}
    assert {*asked, *mercury["left_out"]} == set(mercury["alike"]) == every
    assert "calomel" in mercury["left_out"]
    assert left_out("mercury_red", []) == []
