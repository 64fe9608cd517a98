"""Regions in a table and the exploration of pixels, in Chromium."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import press, results_page, text_of, wait
from viewer_fakes import SHAPE, results

pytestmark = pytest.mark.browser


@pytest.fixture
def page(chromium: Any, tmp_path: Path) -> Iterator[Any]:
    with results_page(chromium, results(tmp_path), scan=False):
        yield chromium


def test_two_regions_are_compared_in_a_table(page: Any) -> None:
    page.execute_script("return window.viewer.regionPanel.add({ corners: [[0, 0], [0, 5], [4, 5], [4, 0]] })")
    page.execute_script("return window.viewer.regionPanel.add({ corners: [[0, 12], [0, 17], [4, 17], [4, 12]] })")
    press(page, "#open-table")
    wait(page, "document.getElementById('table').open && document.body.dataset.table")
    words = text_of(page, "table")
    assert "400 ± 2.2" in words
    assert "Hg L" in words
    row = "[...document.querySelectorAll('#table tbody tr')].find((own) => own.textContent.startsWith('Hg L'))"
    assert page.execute_script(f"return {row}.lastChild.textContent") == "124.9 σ"
    page.execute_script(
        "const kind = document.querySelector('#table select'); kind.value = 'group';"
        "kind.dispatchEvent(new Event('change'))"
    )
    assert "100 % ± " in text_of(page, "table")


def test_clusters_become_a_map_and_regions(page: Any) -> None:
    press(page, "#tab-explore")
    page.execute_script("document.getElementById('n-clusters').value = '2'")
    press(page, "#find-clusters")
    wait(page, "document.body.dataset.clusters === '2' && window.viewer.pane.entry.kind === 'cluster'")
    press(page, "#explore .link[title='Light its pixels up']")
    # Lead falls by rows and mercury by columns: half of the pixels are a cluster.
    lighted = page.execute_script("return document.body.dataset.brush")
    assert lighted == f"cluster 1: {SHAPE[0] * SHAPE[1] // 2}"
    press(page, "#explore button.small")
    wait(page, "window.viewer.regions[0]?.measurement?.n_pixel === 120")
    assert page.execute_script("return window.viewer.regions[0].name") == "cluster 1"


def test_components_are_shown_as_a_composite(page: Any) -> None:
    press(page, "#tab-explore")
    page.execute_script("document.getElementById('n-components').value = '2'")
    press(page, "#find-components")
    wait(page, "document.body.dataset.components === '2' && window.viewer.pane.parts.length === 2")
    assert page.execute_script("return window.viewer.pane.parts.map((part) => part.entry.kind)") == ["component"] * 2


def test_a_lasso_in_the_embedding_lights_its_pixels_up(page: Any) -> None:
    press(page, "#tab-explore")
    press(page, "#find-embedding")
    wait(page, "document.body.dataset.embedding")
    assert page.execute_script("return document.body.dataset.embedding") == str(SHAPE[0] * SHAPE[1])
    page.execute_script("window.viewer.explore.take([[0, 0], [300, 0], [300, 300], [0, 300]])")
    assert page.execute_script("return document.body.dataset.brush") == f"selection: {SHAPE[0] * SHAPE[1]}"
    page.execute_script("return window.viewer.choosePixel(3, 4)")
    press(page, "#like-chosen")
    assert page.execute_script("return window.viewer.brushMask[3 * window.viewer.about.shape[1] + 4]") == 1
    assert 3 <= page.execute_script("return window.viewer.brushMask.reduce((sum, own) => sum + own, 0)") < 30


def test_a_cell_of_the_correlations_leads_to_its_scatter_plot(page: Any) -> None:
    press(page, "#tab-explore")
    press(page, "#find-correlation")
    wait(page, "document.body.dataset.correlation === '2'")
    press(page, ".matrix button")
    wait(page, "!document.getElementById('scatter').hidden && window.viewer.scatter.values")
    names = "window.viewer.scatter.pair.map((index) => window.viewer.entries[index].name)"
    assert set(page.execute_script(f"return {names}")) == {"Hg_L", "Pb_L"}


def test_pixels_are_selected_by_numbers(page: Any) -> None:
    press(page, "#tab-scatter")
    wait(page, "window.viewer.scatter.values")
    page.execute_script(
        "const [from] = document.querySelectorAll('#scatter input[type=number]'); from.value = '100';"
        "document.querySelector('#scatter details button').click()"
    )
    # Mercury is in the left half; the last row has no probability.
    assert page.execute_script("return document.body.dataset.brushed") == str((SHAPE[0] - 1) * SHAPE[1] // 2)


def test_a_paint_of_the_legend_lights_up_its_pixels(page: Any) -> None:
    press(page, "[data-paint='2']")
    wait(page, f"document.body.dataset.brush === 'paint 2: {(SHAPE[0] - 1) * SHAPE[1] // 2}'")
    press(page, "[data-paint='2']")
    wait(page, "document.body.dataset.brush === ''")
