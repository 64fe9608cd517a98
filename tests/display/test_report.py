"""The page: every section there, nothing from outside, names from files escaped, findings as in the maps."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import report_fakes as fakes

from result_parts import changed, joined
from underpaint.data.maps import Results
from underpaint.display.report import find_groups, render_report, write_report
from underpaint.display.report.findings import element_evidence
from underpaint.display.report.wording import key_finding, percent
from underpaint.errors import OutputError, ScanError
from underpaint.io import write_results

SECTIONS = ("findings", "elements", "spectrum", "pigments", "table", "unknown", "methods", "settings")
SHORT_SECTIONS = ("findings", "elements", "spectrum", "unknown", "methods")
LARGEST_BYTES = 8e6


class Page(HTMLParser):
    """Collects what a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "img", "br", "link"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture(scope="module")
def text() -> str:
    return fakes.full_report(fakes.results())


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_page_is_well_formed_and_has_every_section(page: Page) -> None:
    assert page.open == []
    assert [section["id"] for section in page.all("section")] == list(SECTIONS)


def test_links_lead_to_places_of_the_page(page: Page) -> None:
    places = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    links = [link["href"] for link in page.all("a")]
    assert len(links) >= len(SECTIONS)
    assert {str(link).removeprefix("#") for link in links} <= places


def test_nothing_comes_from_outside_and_nothing_runs(text: str, page: Page) -> None:
    assert re.findall(r"(?:https?:)?//[a-z]", re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", text)) == []
    assert page.all("script") == page.all("link") == page.all("iframe") == []
    assert all(str(picture["src"]).startswith("data:image/png;base64,") for picture in page.all("img"))
    assert "@import" not in text
    assert not re.search(r"url\(", text)


def test_every_picture_has_words(page: Page) -> None:
    pictures = page.all("img")
    # Overview, spectrum, two groups, two members, the gallery.
    assert len(pictures) == 7
    assert all(len(str(picture["alt"])) > 20 for picture in pictures)


@pytest.mark.parametrize("nasty", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}"])
@pytest.mark.usefixtures("without_drawing")
def test_names_from_files_are_escaped(nasty: str) -> None:
    labels = {"mercury_red": nasty, "vermilion": nasty}
    facts = fakes.summary(nasty) | {"notes": [nasty], "detector": nasty, "metadata": {"date": nasty}}
    facts["settings"]["palette"] = nasty
    page = Page(fakes.full_report(replace(fakes.results(labels=labels), summary=facts)))
    assert page.all("script") == []
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert "49" not in {str(attributes.get("alt")) for _, attributes in page.tags}


def test_findings_say_what_the_maps_hold() -> None:
    lead, mercury = find_groups(fakes.results())
    assert (lead.name, mercury.name) == ("lead_pigment", "mercury_red")
    assert lead.share == 1.0
    assert mercury.share == pytest.approx(0.25)
    assert mercury.evidence[0].family == "Hg_L"
    assert mercury.evidence[0].share > 0.99
    assert mercury.evidence[0].median_counts == pytest.approx(900, rel=0.1)
    assert {"vermilion", "calomel"} <= set(mercury.members)
    assert [leaning.name for leaning in mercury.separate_findings] == ["vermilion"]
    assert not mercury.is_doubtful


def test_the_counts_of_a_line_are_those_where_it_stands_out() -> None:
    area = np.zeros((10, 10, 1), np.float32)
    area[:2, :, 0] = 5000.0
    (iron,) = element_evidence(Results.of_lines(("Fe_K",), area, np.ones_like(area)))
    assert (iron.family, iron.median_counts) == ("Fe_K", 5000.0)
    assert iron.share == pytest.approx(0.2)


def test_how_far_a_group_spreads_says_nothing_of_its_depth() -> None:
    lead, _ = find_groups(fakes.results())
    for share in (1.0, 0.6, 0.1, 0.01):
        assert "surface" not in key_finding(replace(lead, share=share), (), {}).extent


@pytest.mark.usefixtures("without_drawing")
def test_without_element_maps_nothing_is_called_certain_or_doubtful() -> None:
    page = fakes.full_report(joined(fakes.pigment_maps(), summary=fakes.summary()))
    assert 'class="tag">likely<' in page
    assert 'class="tag">certain<' not in page
    assert 'class="tag">doubtful<' not in page
    assert "not fitted" in page


@pytest.mark.usefixtures("without_drawing")
def test_a_pigment_without_its_line_is_called_doubtful() -> None:
    results = fakes.results()
    results["Hg_L"][:] = 0.0
    mercury = find_groups(results)[1]
    assert mercury.is_doubtful
    assert "1 of 3 pigment groups were found, 1 more is doubtful." in fakes.full_report(results)


def test_a_group_without_a_mapped_line_does_not_contradict_what_present_means() -> None:
    elements = fakes.element_maps()
    without_mercury = Results.of_lines(
        ("Ca_K", "Pb_L"), *(elements.stacks[name].values[:, :, [0, 4]] for name in ("area", "area_sigma"))
    )
    text = fakes.full_report(joined(fakes.pigment_maps(), without_mercury))
    assert "no line was fitted" not in text
    assert "detected by the network only: none of its lines is in the element maps" in text
    assert "lines of the group's element are significant" not in text


def test_words_of_the_page(text: str) -> None:
    for words in (
        "2 of 3 pigment groups were found",
        "XRF cannot distinguish members of a group that contain the same elements",
        "reads 65 eV low at Fe K",
        "Not detected: copper green blue",
        "Knows no lakes.",
        "40 of 960 pixels have no answer",
        "10.1039/d2ja00246a",
    ):
        assert words in text.replace("&#39;", "'")


@pytest.mark.usefixtures("without_drawing")
def test_a_voltage_that_nobody_gave_is_not_shown() -> None:
    facts = fakes.summary()
    facts["settings"] |= {"instrument_settings": {"name": "found", "tube": {"anode": "Ag", "voltage_kv": 40.0}}}
    facts["settings"]["calibration"]["anode"] = "Ag"
    title_block = fakes.full_report(Results(summary=facts)).split("<main>")[0]
    assert "not given; Ag anode detected by its scattered lines" in title_block
    assert "40" not in title_block.split("<dt>Instrument</dt>")[1].split("</dd>")[0]


@pytest.mark.usefixtures("without_drawing")
def test_the_date_of_a_clock_never_set_is_not_shown() -> None:
    facts = fakes.summary()
    shown = [
        "<dt>Date of the scan</dt>" in fakes.full_report(Results(summary=facts | {"metadata": {"START_TIME": date}}))
        for date in ("01/01/1970 23:59:59", "05/03/2024 10:00:00")
    ]
    assert shown == [False, True]


@pytest.mark.usefixtures("without_drawing")
def test_elements_alone_make_a_page_too() -> None:
    text = fakes.full_report(joined(fakes.element_maps(), summary=fakes.summary()))
    assert "pigments" not in {section["id"] for section in Page(text).all("section")}
    body = re.sub(r"<style>.*?</style>|<section id=.settings.*?</section>", "", text, flags=re.S)
    # beside the data that the program rests on, and what is cited, it speaks of elements
    text = re.sub(r"<section id=.methods.*?</section>", "", body, flags=re.S).lower()
    for word in ("pigment", "network", "probabilit", "palette"):
        assert word not in text
    assert "line families exceed 5σ" in text


@pytest.mark.usefixtures("without_drawing")
def test_quantities_of_elements_have_a_table_and_maps() -> None:
    lines = fakes.element_maps()
    image = np.full((*lines.shape, 2), 4.0, np.float32)
    low = np.stack([np.full(lines.shape, 2.0), np.zeros(lines.shape)], axis=2).astype(np.float32)
    low[: lines.shape[0] // 2, :, 0] = 0.2
    settings = {"sample": "uppermost paint", "families": list(lines.lines[:2])}
    names = tuple(line.partition("_")[0] for line in lines.lines[:2])
    for kind, unit in (("mass_fraction", "%"), ("areal_mass", "µg/cm²")):
        quantities = Results.of_quantities(kind, names, image, low, 1.5 * image, notes=("relative",), settings=settings)
        text = fakes.full_report(joined(lines, quantities, summary=fakes.summary()))
        rows = {row[0]: row[1:] for row in table_rows(text, "quantities")}
        assert rows[names[0]] == [unit, "4 (1.1 to 6)", "100 %", "50 %", "–"]
        assert rows[names[1]] == [unit, "–", "0.0 %", "0.0 %", "6"]
        assert f"{kind.replace('_', ' ').capitalize()} (uppermost paint), with 90 % intervals" in text
        assert text.count("<li>relative</li>") == 1
        assert "hatched where not determined" in text


def table_rows(text: str, section: str) -> list[list[str]]:
    """Return the cells of the rows of a section's table, without tags."""
    part = re.search(rf'<section id="{section}".*?</section>', text, flags=re.S)
    assert part is not None
    rows = re.findall(r"<tr>(<td.*?)</tr>", part.group(), flags=re.S)
    return [
        [re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, flags=re.S)] for row in rows
    ]


@pytest.mark.usefixtures("without_drawing")
def test_a_scan_without_any_answer_makes_a_page_that_says_so() -> None:
    pigments = fakes.pigment_maps()
    silent = changed(pigments, probability=np.full_like(pigments.stacks["probability"].values, np.nan))
    assert "No pigment group reached" in fakes.full_report(joined(silent, summary={"name": "empty"}))


@pytest.mark.usefixtures("without_drawing")
def test_a_model_without_groups_shows_its_members() -> None:
    results = fakes.results()
    members = {name: material._replace(kind="member") for name, material in results.materials.items()}
    assert "mercury red" in fakes.full_report(replace(results, materials=members))


def test_report_of_a_folder_is_written_beside_its_results(tmp_path: Path) -> None:
    write_results(tmp_path, fakes.results())
    path = write_report(tmp_path)
    assert path == tmp_path / "report.html"
    assert Page(path.read_text("utf-8")).open == []
    assert list(tmp_path.glob("*.part")) == []


def test_the_short_report_has_what_a_verdict_rests_on_and_names_the_full_one(tmp_path: Path) -> None:
    write_results(tmp_path, fakes.results())
    text = write_report(tmp_path).read_text("utf-8")
    page = Page(text)
    assert page.open == []
    assert [section["id"] for section in page.all("section")] == list(SHORT_SECTIONS)
    places = {each["id"] for _, each in page.tags if "id" in each}
    assert {str(link["href"]) for link in page.all("a")} <= {f"#{place}" for place in places}
    assert "Element maps as red, green and blue" in text
    assert "underpaint report FOLDER --full" in text
    assert text.index("Versions") > text.index('id="methods"')
    assert "(25\N{NO-BREAK SPACE}% of the area)" in text  # a line may not end between them
    page = Page(render_report(fakes.results()))
    assert [section["id"] for section in page.all("section")] == list(SHORT_SECTIONS)
    assert len(text) < len(write_report(tmp_path, full=True).read_text("utf-8"))


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r"no results\.h5"):
        write_report(tmp_path)


def test_a_report_of_twenty_maps_stays_small() -> None:
    rng, shape, n_map = np.random.default_rng(2), (60, 120), 20
    names = tuple(f"pigment_{n}" for n in range(n_map))
    probability = rng.random((*shape, n_map), dtype=np.float32)
    kinds = ("group",) * 10 + ("member",) * 10
    groups = tuple((names[n % 10],) for n in range(n_map))
    families = ("Fe_K", "Cu_K", "Zn_K", "Pb_L", "Hg_L")
    elements = (("Pb_L", "Fe_K"),) * n_map
    pigments = Results.of_pigments(
        names, probability, kinds=kinds, groups=groups, labels=names, elements=elements, step_mm=(1.0, 1.0)
    )
    area = rng.uniform(0, 1e3, (*shape, len(families))).astype(np.float32)
    text = fakes.full_report(
        joined(pigments, Results.of_lines(families, area, np.ones_like(area)), summary=fakes.summary())
    )
    assert len(text) < LARGEST_BYTES
    assert text.count("<img ") == n_map + 3


@pytest.mark.parametrize(("share", "words"), [(1.0, "100 %"), (0.9991, "over 99 %"), (0.25, "25 %"), (0.0123, "1.2 %")])
def test_shares_are_as_precise_as_they_need_to_be(share: float, words: str) -> None:
    assert percent(share) == words


def test_a_report_does_not_take_the_place_of_the_scan_that_it_tells_of(tmp_path: Path) -> None:
    scan, folder = tmp_path / "scan.h5", tmp_path / "results"
    scan.write_bytes(b"counts")
    write_results(folder, joined(fakes.element_maps(), source=str(scan)))
    for target in (scan, tmp_path / "link.html"):
        if target != scan:
            target.hardlink_to(scan)
        with pytest.raises(OutputError, match=r"Cannot write .*: it is part of the scan .*scan\.h5"):
            write_report(folder, target)
        assert target.read_bytes() == b"counts"
