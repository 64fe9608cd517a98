"""Spectra speak against a group whose lines are missing, hidden under no other's, or the tube's own."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

import underpaint as up
from underpaint.data import EnergyAxis, Scan, survey
from underpaint.data.peaks import peak_counts, resolution_fwhm_kev
from underpaint.elements import LineEvidence, line_evidence, plan_all_families
from underpaint.elements.evidence import BACKGROUND_ERROR, HIDDEN_LINE_LOG_ODDS
from underpaint.elements.variable_fit import Evidence, VariableFit
from underpaint.physics.atomic import family_lines
from underpaint.physics.forward import pile_up
from underpaint.physics.instrument import Detector, Instrument, Tube

AXIS = EnergyAxis(0.02, -0.1, 2048)
GROUPS = {"mercury": ("Hg_L",), "antimony": ("Sb_K", "Sb_L"), "cadmium": ("Cd_K", "Cd_L"), "copper": ("Cu_K",)}
GROUPS |= {"silver": ("Ag_K", "Ag_L"), "arsenic": ("As_K",), "bismuth": ("Bi_L",)}
CAVES = Path(__file__).parents[3] / "shared" / "data" / "cave_paintings" / "spectra.npz"


def spectrum(background: float = 2e6, **counts: float) -> np.ndarray:
    """Expected counts of line families over scattered radiation."""
    energy = AXIS.energy_kev
    hump = np.exp(-(((energy - 14.0) / 8.0) ** 2)) * (energy > 1.0)
    expected = background * hump / hump.sum()
    for family, area in counts.items():
        element, shell = family.split("_")
        line_kev, rate = family_lines(element, shell, 40.0)
        width = resolution_fwhm_kev(line_kev, 0.09, 0.115)
        expected += peak_counts(AXIS, line_kev, area * rate / rate.sum(), width)
    return np.asarray(expected)


def against(*expected: np.ndarray, anode: str = "Rh", voltage_kv: float = 40.0) -> list[set[str]]:
    """Return the groups that the lines of each spectrum exclude."""
    evidence, shown = judged(*expected, anode=anode, voltage_kv=voltage_kv)
    return named(evidence, evidence(shown) > 0)


def proven(*expected: np.ndarray, anode: str = "Rh") -> list[set[str]]:
    """Return the groups that each spectrum of a scan proves."""
    evidence, shown = judged(*expected, anode=anode)
    return named(evidence, evidence.proves(shown))


def named(evidence: LineEvidence, answers: np.ndarray) -> list[set[str]]:
    return [{group for group, yes in zip(evidence.groups, row, strict=True) if yes} for row in answers]


def judged(*expected: np.ndarray, anode: str = "Rh", voltage_kv: float = 40.0) -> tuple[LineEvidence, Evidence]:
    counts = np.random.default_rng(5).poisson(np.stack(expected))
    machine = Instrument(tube=Tube(anode=anode, voltage_kv=voltage_kv), detector=Detector(noise_fwhm_kev=0.09))
    surveyed = survey(Scan(counts[None]))
    fit = plan_all_families(surveyed, AXIS, machine, peaks=False)
    return line_evidence(GROUPS, fit, surveyed, AXIS, machine, voltage_known=True), fit(counts)


def test_lines_under_anothers_do_not_excuse_those_that_are_missing() -> None:
    rock = {"Ca_K": 2e6, "Fe_K": 5e5, "K_K": 5e4}
    assert "antimony" in against(spectrum(**rock))[0]
    assert "antimony" not in against(spectrum(**rock, Sb_K=2e4, Sb_L=2e4))[0]


def test_lines_that_the_voltage_hardly_excites_are_not_missed() -> None:
    assert "antimony" in against(spectrum(Ca_K=2e6), voltage_kv=40.0)[0]
    assert "antimony" not in against(spectrum(Ca_K=2e6), voltage_kv=33.0)[0]


def test_under_a_low_voltage_cadmium_is_claimed_on_certain_lines_alone() -> None:
    soft = {"Ca_K": 2e5, "K_K": 3e4, "background": 1e5}
    assert "cadmium" in against(spectrum(**soft), voltage_kv=20.0)[0]
    assert "cadmium" in against(spectrum(**soft), voltage_kv=15.0)[0]
    assert "cadmium" not in against(spectrum(**soft, Cd_L=3e4), voltage_kv=20.0)[0]


def test_two_photons_taken_for_one_are_no_mercury() -> None:
    detector = Detector(noise_fwhm_kev=0.09, pulse_pair_us=0.6)
    red = spectrum(background=5e5, Ca_K=2e6, Fe_K=8e5)
    piled = pile_up(red[None], 5e4, detector, AXIS)[0]
    under_mercury = np.abs(AXIS.energy_kev - 10.0) < 0.15
    assert (piled - red)[under_mercury].sum() > 5 * np.sqrt(piled[under_mercury].sum())  # a peak is there
    assert "mercury" in against(piled)[0]
    vermilion = pile_up(spectrum(background=5e5, Ca_K=2e6, Fe_K=8e5, Hg_L=5e4)[None], 5e4, detector, AXIS)[0]
    assert "mercury" not in against(vermilion)[0]


def test_a_line_of_few_counts_is_evidence() -> None:
    faint = spectrum(background=800.0, Pb_L=150.0, Hg_L=60.0)
    judged = against(*[faint] * 50)
    assert sum("mercury" in groups for groups in judged) <= 2


def test_a_line_of_the_anode_is_evidence_only_where_it_exceeds_the_scatter() -> None:
    scattered = [spectrum(background=size, Cu_K=0.02 * size, Ca_K=1e5) for size in (5e5, 1e6, 2e6)]
    green = spectrum(background=1e6, Cu_K=2e5, Ca_K=1e5)
    *paper, painted = against(*scattered, green, anode="Cu")
    assert all("copper" in groups for groups in paper)
    assert "copper" not in painted
    # a single spectrum does not tell how much is scattered
    assert "copper" in against(green, anode="Cu")[0]


def test_a_strong_line_proves_its_element_and_no_other() -> None:
    earth = spectrum(Ca_K=2e5, Fe_K=4e4, Cu_K=2e4)
    lead = spectrum(background=2e5, Pb_L=1e6, Pb_M=1e5, Ca_K=1e5)
    cinnabar = spectrum(background=2e5, Pb_L=1e5, Hg_L=5e4, Ca_K=1e5)
    assert proven(earth)[0] == {"copper"}
    assert proven(lead, cinnabar) == [set(), {"mercury"}]
    assert proven(spectrum(background=2e5, Ca_K=1e5, Cu_K=200.0))[0] == set()  # visible, but not certain


def test_a_sure_claim_stands_where_other_lines_hide_its_lines() -> None:
    evidence, (shown, hidden) = judged(spectrum(background=2e5, Ca_K=1e5)), judged(spectrum(Pb_L=3e6, Pb_M=3e5))
    clear, overlapped = (dict(zip(each.groups, each(of)[0], strict=True)) for each, of in (evidence, (shown, hidden)))
    assert clear["mercury"] == clear["arsenic"] == np.inf
    assert overlapped["arsenic"] == HIDDEN_LINE_LOG_ODDS
    assert clear["cadmium"] == np.inf  # its soft line is hidden, its hard one is not


def test_faint_families_of_an_element_count_together() -> None:
    evidence, shown = judged(spectrum(background=2e5))
    columns = evidence.columns[evidence.groups.index("antimony")]
    for sigmas, contradicted in ((1.2, True), (1.7, False)):
        area = np.array(shown.area)
        area[:, columns] = sigmas * np.hypot(shown.sigma_if_absent, BACKGROUND_ERROR * shown.background)[:, columns]
        assert (evidence(shown._replace(area=area))[0, evidence.groups.index("antimony")] > 0) == contradicted


def test_soft_lines_prove_nothing_where_the_hard_ones_are_missing() -> None:
    assert "antimony" in proven(spectrum(background=2e5, Sb_K=2e4, Sb_L=2e4))[0]
    assert "antimony" not in proven(spectrum(background=2e5, Sb_L=2e4))[0]
    assert "antimony" in proven(spectrum(background=2e5, Sb_K=2e4))[0]


def test_lines_that_the_tube_may_bring_prove_nothing() -> None:
    green = spectrum(background=2e5, Cu_K=2e4, Ca_K=1e5)
    assert "copper" in proven(green)[0]
    assert "copper" not in proven(green, anode="Cu")[0]


def test_of_an_anode_that_is_not_known_silver_proves_nothing() -> None:
    leaf = spectrum(background=2e5, Ag_K=2e4, Ca_K=1e5)
    evidence, shown = judged(leaf)
    assert named(evidence, evidence.proves(shown)) == [{"silver"}]
    unknown = SimpleNamespace(names=("Cu_K", "Ag_K"), n_source=0)
    surveyed = survey(Scan(leaf[None, None].astype(int)))
    of_anode = line_evidence(GROUPS, cast(VariableFit, unknown), surveyed, AXIS).is_anode
    assert [group for group, may in zip(("copper", "silver"), of_anode, strict=True) if may] == ["silver"]


def test_sum_peaks_prove_nothing() -> None:
    detector = Detector(noise_fwhm_kev=0.09, pulse_pair_us=0.6)
    piled = pile_up(spectrum(background=5e5, Ca_K=2e6, Fe_K=8e5)[None], 5e4, detector, AXIS)[0]
    assert "mercury" not in proven(piled)[0]


@pytest.mark.skipif(not CAVES.is_file(), reason="the measured spectra are not part of the repository")
def test_cave_paintings_hold_neither_antimony_nor_mercury() -> None:
    maps = up.identify(up.load(CAVES))
    assert not maps.is_present_somewhere("antimony_pigment")
    assert not maps.is_present_somewhere("mercury_red")
    assert (maps["iron_pigment"] > 0.5).mean() > 0.8
    assert (maps["calcium_white"] > 0.5).all()
    assert (maps["copper_green_blue"] > 0.99).sum() == 5  # the green ones; traces of copper show in others
