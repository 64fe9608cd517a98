"""Scan time that is needed to answer a question about layers, from the results of a quick scan."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from underpaint.calibrate import check_instrument, resolve_energy_axis
from underpaint.data import Scan
from underpaint.data.maps import Results
from underpaint.data.paint_areas import PaintArea
from underpaint.errors import SampleError, ScanError
from underpaint.io import read_results
from underpaint.io.results.sidecars import find_scan
from underpaint.physics.instrument import Instrument, instrument_from, load_instrument
from underpaint.physics.materials import ground_layer, library
from underpaint.pigments.explain import CandidateGroups
from underpaint.pigments.explain.candidate_groups import CERTAIN_PROBABILITY
from underpaint.pigments.explain.planning import (
    COUNTS,
    HALF_OF_SCANS,
    MOST_SCANS,
    AnsweredShares,
    OrderQuestion,
    answered_shares,
    expected_spectrum,
    likeliest_layers,
)
from underpaint.pigments.explain.region import region_spectrum
from underpaint.pigments.explain.verdict import um_text
from underpaint.pigments.explain.words import group_name
from underpaint.pigments.limits import distinguishing_methods_text, methods_for_layers
from underpaint.pipeline.paints import candidate_groups_of, spectrum_knowledge, was_calibrated
from underpaint.runtime.progress import Progress, no_progress

VOLTAGE_STEP_KV = 10.0
"""Difference between the voltage of the quick scan and the second voltage of the default plan."""
MAX_PIGMENTS = 2
"""Maximum number of pigments per group for which distinguishing methods are listed."""


@dataclass(frozen=True)
class VoltagePlan:
    """Plan for one tube voltage.

    Parameters
    ----------
    voltage_kv : float
        Voltage of the tube, or the maximum energy in keV of a given source spectrum.
    rate : float
        Ratio of the count rate to that of the quick scan at the same current.
    answered_shares : AnsweredShares
        Fraction of the simulated scans that gives the answer, for each number of counts.
    """

    voltage_kv: float
    rate: float
    answered_shares: AnsweredShares


@dataclass(frozen=True)
class ScanPlan:
    """Scan times that are needed to answer a question.

    Parameters
    ----------
    question : OrderQuestion
    paint : int
        Number of the paint.
    layers : tuple of str
        Assumed layers with their thicknesses in um. These layers are the most probable with the order in question.
    probability_now : float
        Probability of this order by a search without sampling, from the paint's summed spectrum in the quick scan.
    counts_now : float
        Mean counts per pixel of the paint.
    seconds_now : float or None
        Time per pixel of the quick scan, or None if unknown.
    area_mm2 : float or None
        Area of the whole scan, or None if the step is unknown.
    steps_mm : tuple of float
        Steps between pixels for which times are planned.
    voltages : tuple of VoltagePlan
    methods : tuple of mapping
        Other methods that answer questions about layers.
    pigments : tuple of str
        Sentences on methods that distinguish the first pigments of each group.
    """

    question: OrderQuestion
    paint: int
    layers: tuple[str, ...]
    probability_now: float
    counts_now: float
    seconds_now: float | None
    area_mm2: float | None
    steps_mm: tuple[float, ...]
    voltages: tuple[VoltagePlan, ...]
    methods: tuple[Any, ...]
    pigments: tuple[str, ...]

    def times_longer(self, voltage: VoltagePlan, share: float) -> float:
        """Return the ratio of the needed time per pixel to that of the quick scan, or infinity if no time suffices."""
        return voltage.answered_shares.counts_needed(share) / (self.counts_now * voltage.rate)

    def seconds(self, voltage: VoltagePlan, share: float) -> float | None:
        """Return the needed time per pixel in s, or None if the time of the quick scan is unknown."""
        return None if self.seconds_now is None else self.seconds_now * self.times_longer(voltage, share)

    def hours(self, voltage: VoltagePlan, step_mm: float) -> float | None:
        """Return the scan time in h after which half of the pixels give the answer."""
        seconds = self.seconds(voltage, HALF_OF_SCANS)
        if seconds is None or self.area_mm2 is None:
            return None
        return seconds * self.area_mm2 / step_mm**2 / 3600.0

    def rows(self) -> list[dict[str, Any]]:
        """Return one table row for each voltage, with None for unknown and infinite values."""
        return [
            {
                "voltage_kv": voltage.voltage_kv,
                "counts_needed": _finite_or_none(voltage.answered_shares.counts_needed(HALF_OF_SCANS)),
                "counts_needed_9_in_10": _finite_or_none(voltage.answered_shares.counts_needed(MOST_SCANS)),
                "times_longer": _finite_or_none(self.times_longer(voltage, HALF_OF_SCANS)),
                "seconds_per_pixel": _finite_or_none(self.seconds(voltage, HALF_OF_SCANS)),
                "seconds_per_pixel_9_in_10": _finite_or_none(self.seconds(voltage, MOST_SCANS)),
                "pixels_to_sum": _finite_or_none(
                    float(np.ceil(round(voltage.answered_shares.counts_needed(HALF_OF_SCANS) / self.counts_now, 6)))
                ),
                "hours_by_step_mm": {f"{step:g}": _finite_or_none(self.hours(voltage, step)) for step in self.steps_mm},
            }
            for voltage in self.voltages
        ]

    def record(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        return {
            "question": {"below": self.question.lower_group, "above": self.question.upper_group},
            "paint": self.paint,
            "layers": list(self.layers),
            "probability_now": self.probability_now,
            "counts_now": self.counts_now,
            "seconds_now": self.seconds_now,
            "table": self.rows(),
            "curve": [
                {
                    "voltage_kv": voltage.voltage_kv,
                    "counts": voltage.answered_shares.counts.tolist(),
                    "seconds": None if (seconds := self.curve_seconds(voltage)) is None else seconds.tolist(),
                    "share_answered": voltage.answered_shares.answered_share.tolist(),
                    "probability": voltage.answered_shares.median_probability.tolist(),
                }
                for voltage in self.voltages
            ],
            "other_methods": [dict(method) for method in self.methods],
            "pigments": list(self.pigments),
        }

    def curve_seconds(self, voltage: VoltagePlan) -> Any:
        """Return the (n,) times per pixel of the simulated scans in s, or None if unknown."""
        if self.seconds_now is None:
            return None
        return self.seconds_now * voltage.answered_shares.counts / (self.counts_now * voltage.rate)

    def sentences(self) -> list[str]:
        """Return sentences on the assumed layers, on insufficient tube voltages, and on other methods."""
        lower_name, upper_name = group_name(self.question.lower_group), group_name(self.question.upper_group)
        insufficient_voltages = [
            f"{voltage.voltage_kv:g} kV"
            for voltage in self.voltages
            if not np.isfinite(voltage.answered_shares.counts_needed())
        ]
        sentences = [
            f"The plan assumes the likeliest layers of paint {self.paint} with {lower_name} under {upper_name}: "
            f"{'; '.join(self.layers)}. Layers of other thickness need other times.",
            f"The summed spectrum of this paint in the quick scan gives this order a probability of "
            f"{self.probability_now:.2f}.",
        ]
        if insufficient_voltages:
            sentences.append(
                f"No time suffices at {', '.join(insufficient_voltages)}: with up to "
                f"{self.voltages[0].answered_shares.counts[-1]:,.0f} counts, fewer than half of the simulated scans "
                "give the "
                "answer."
            )
        methods = "; ".join(f"{method['method']} ({method['settles']})" for method in self.methods)
        return [*sentences, f"Other methods that answer such questions: {methods}.", *self.pigments]


def plan_scan(
    folder: str | Path,
    question: str,
    *,
    scan: str | None = None,
    paint: int | None = None,
    voltages_kv: Sequence[float] = (),
    steps_mm: Sequence[float] = (),
    seconds: float | None = None,
    instrument: str | None = None,
    ground: str = "chalk",
    progress: Progress | None = None,
) -> ScanPlan:
    """Plan a scan from the results of a quick scan.

    Parameters
    ----------
    folder : str or Path
        Results with paints, as written by ``underpaint identify``.
    question : str
        Question such as "lead_pigment under mercury_red".
    scan : str or None
        Path of the quick scan, if it was moved.
    paint : int or None
        Number of the paint, by default the largest paint with both groups, or else with the upper group.
    voltages_kv : sequence of float
        Tube voltages, by default that of the scan and 10 kV more.
    steps_mm : sequence of float
        Steps between pixels, by default that of the scan and half of it.
    seconds : float or None
        Time per pixel of the quick scan, needed if the file of the scan does not contain it.
    instrument : str or None
        Preset or file.
    ground : str
        Ground of the library.
    progress : callable, optional
        Called with (task, steps done, total steps).

    Raises
    ------
    ScanError
        The results are missing or contain no paints, no paint contains the group, or the scan is missing.
    SampleError
        The question cannot be parsed, or no layers with this order are consistent with the spectrum of the paint.
    UnderpaintError
        The instrument, a voltage or the ground cannot be used.
    """
    report_progress, results_folder = progress or no_progress, Path(folder)
    given_instrument = None if instrument is None else load_instrument(instrument)
    ground_layer(ground, 100.0)
    report_progress("Reading the results", 0, 1)
    results = read_results(results_folder)
    order_question = OrderQuestion.from_text(question, _groups_of_paints(results))
    area = _paint_area(results, order_question, paint)
    quick_scan = find_scan(results_folder, results.summary, scan, results.shape, allow_shares=True)
    report_progress("Finding the energy axis", 0, 1)
    calibrated = resolve_energy_axis(quick_scan, calibrated=was_calibrated(results))
    if given_instrument is not None:
        check_instrument(calibrated, given_instrument, trusted=False)
    scanner = spectrum_knowledge(quick_scan, calibrated, given_instrument).instrument
    mask = results.map("paint") == area.number
    spectrum = region_spectrum(calibrated.scan, mask)
    candidates = _with_question_groups(candidate_groups_of(area, results, ground), order_question)
    instruments = _instruments_at_voltages(scanner, voltages_kv, calibrated.beam_kev)
    report_progress("Searching the layers of the paint", 0, 1 + len(instruments))
    layers, probability, n_structures = likeliest_layers(spectrum, scanner, candidates, order_question, ground)
    if layers is None:
        raise SampleError(
            f"Cannot plan for {order_question.lower_group} under {order_question.upper_group} in paint {area.number}: "
            f"{n_structures} layer structures of {', '.join(candidates.groups)} fit its summed spectrum, and none has "
            f"this order (probability {probability:.2g}). {_paints_with_both(results, order_question)} Choose another "
            "paint with --paint, or ask about other groups."
        )
    quick_scan_rate = float(expected_spectrum(layers, scanner)[0].sum())
    voltage_plans = []
    for n_done, (voltage_kv, instrument_at_voltage) in enumerate(instruments.items(), start=1):
        report_progress(f"Simulating scans at {voltage_kv:g} kV", n_done, 1 + len(instruments))
        relative_rate = float(expected_spectrum(layers, instrument_at_voltage)[0].sum()) / quick_scan_rate
        shares_by_counts = answered_shares(layers, instrument_at_voltage, candidates, order_question, COUNTS, ground)
        voltage_plans.append(VoltagePlan(voltage_kv, relative_rate, shares_by_counts))
    step_mm = quick_scan.step_mm or results.step_mm
    return ScanPlan(
        order_question,
        area.number,
        tuple(f"{layer.name} {um_text(layer.thickness_um)} um" for layer in layers.layers),
        probability,
        float(spectrum.counts.sum()) / int(mask.sum()),
        seconds or _pixel_seconds(quick_scan, mask),
        None if step_mm is None else step_mm[0] * step_mm[1] * quick_scan.n_pixel,
        tuple(steps_mm) or (() if step_mm is None else (step_mm[0] / 2, step_mm[0])),
        tuple(voltage_plans),
        methods_for_layers(),
        _pigment_methods(order_question),
    )


def _groups_of_paints(results: Results) -> list[str]:
    return sorted({name for area in results.paints for name in area.groups})


def _paint_area(results: Results, question: OrderQuestion, paint_number: int | None) -> PaintArea:
    """Return the paint with the given number, by default the first with both groups, or else with the upper group.

    Raises
    ------
    ScanError
        No paint has this number, or no paint contains the group.
    """
    areas = {area.number: area for area in results.paints}
    if not areas:
        raise ScanError("Cannot plan: these results contain no paints. Run `underpaint paints` on the results first.")
    if paint_number is not None and paint_number not in areas:
        raise ScanError(
            f"Cannot plan for paint {paint_number}: there are paints 1 to {len(areas)}. `underpaint paints` lists "
            "the paints."
        )
    areas_with_group = [area for area in results.paints if question.upper_group in area.groups]
    if paint_number is None and not areas_with_group:
        raise ScanError(
            f"Cannot plan for {question.upper_group} on top: no paint contains it. The paints contain "
            f"{', '.join(_groups_of_paints(results)) or 'no groups'}. Ask about one of these groups, or choose a paint "
            "with --paint."
        )
    if paint_number is not None:
        return areas[paint_number]
    return next((area for area in areas_with_group if question.lower_group in area.groups), areas_with_group[0])


def _paints_with_both(results: Results, question: OrderQuestion) -> str:
    numbers = [
        str(area.number) for area in results.paints if {question.lower_group, question.upper_group} <= set(area.groups)
    ]
    return f"Paints with both groups: {', '.join(numbers)}." if numbers else "No paint contains both groups."


def _with_question_groups(candidates: CandidateGroups, question: OrderQuestion) -> CandidateGroups:
    """Add missing groups of the question to the candidates, as groups that may be absent."""
    absence_probabilities = dict(zip(candidates.groups, candidates.absent, strict=True))
    added_groups = {
        name: 0.5 for name in (question.lower_group, question.upper_group) if name not in absence_probabilities
    }
    absence_probabilities |= added_groups
    probability = {
        **candidates.probability,
        **{name: min(candidates.probability.get(name, 0.5), CERTAIN_PROBABILITY) for name in added_groups},
    }
    return replace(
        candidates,
        groups=tuple(absence_probabilities),
        absent=tuple(absence_probabilities.values()),
        probability=probability,
    )


def _instruments_at_voltages(
    scanner: Instrument, voltages_kv: Sequence[float], beam_kev: float | None
) -> dict[float, Instrument]:
    """Return the instrument at each tube voltage in kV, or at the maximum energy in keV of a source without a tube.

    Raises
    ------
    SampleError
        Voltages are given, but the source is not a tube.
    """
    if scanner.source_spectrum is not None or beam_kev is not None:
        if voltages_kv:
            voltages_text = ", ".join(f"{voltage:g} kV" for voltage in voltages_kv)
            raise SampleError(
                f"Cannot plan for {voltages_text}: the source of the scan is not a tube. Omit --voltages."
            )
        return {scanner.highest_kev: scanner}
    scanner_voltage_kv = scanner.tube.voltage_kv
    voltages = sorted(set(voltages_kv) or {scanner_voltage_kv, scanner_voltage_kv + VOLTAGE_STEP_KV})
    instrument_values = scanner.model_dump()
    return {
        voltage: instrument_from(
            {**instrument_values, "tube": {**instrument_values["tube"], "voltage_kv": voltage}}, scanner.name
        )
        for voltage in voltages
    }


def _pixel_seconds(scan: Scan, mask: Any) -> float | None:
    """Return the median time of the pixels of a mask in s, or None if the scan contains no times."""
    times_s = scan.real_time_s if scan.real_time_s is not None else scan.live_time_s
    finite_times_s = None if times_s is None else times_s[mask & np.isfinite(times_s)]
    return None if finite_times_s is None or not finite_times_s.size else float(np.median(finite_times_s))


def _pigment_methods(question: OrderQuestion) -> tuple[str, ...]:
    """Return sentences on methods that distinguish the first pigments of each group of a question."""
    sentences = []
    for group in (question.upper_group, question.lower_group):
        members = library().members(group)[:MAX_PIGMENTS]
        sentences += [distinguishing_methods_text(members[0].name, other_member.name) for other_member in members[1:]]
    return tuple(sentences)


def _finite_or_none(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None
