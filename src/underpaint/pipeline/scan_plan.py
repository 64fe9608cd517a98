"""How long a scan must last to answer a question about layers, from the results of a quick one."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
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
    HALF,
    MOST,
    OrderQuestion,
    Planned,
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

HIGHER_KV = 10.0
"""Beside the scan's voltage, one so much higher is planned for."""
MOST_NAMED = 2


@dataclass(frozen=True)
class VoltagePlan:
    """What one voltage needs.

    Parameters
    ----------
    voltage_kv : float
        Of the tube; of a monochromatic beam its energy, keV.
    rate : float
        Counts in a time over those of the quick scan, at the same current.
    planned : Planned
        Scans that give the answer, by counts.
    """

    voltage_kv: float
    rate: float
    planned: Planned


@dataclass(frozen=True)
class ScanPlan:
    """How long a scan must last to answer a question.

    Parameters
    ----------
    question : OrderQuestion
    paint : int
        Number of the paint that was planned for.
    layers : tuple of str
        Of which the answer is yes, and which come nearest to the paint's spectrum: each with its thickness, um.
    probability_now : float
        Of a yes, from the summed spectrum of the paint as it is, at a first look.
    counts_now : float
        Mean counts of a pixel of the paint.
    seconds_now : float or None
        Time of a pixel; None where it is not known.
    area_mm2 : float or None
        Of the whole scan; None where the step is not known.
    steps_mm : tuple of float
        Steps that are planned for.
    voltages : tuple of VoltagePlan
    methods : tuple of mapping
        That settle what stays open.
    pigments : tuple of str
        What would tell the likeliest pigments of the groups apart.
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
        """Return the time of a pixel over that of the quick scan; infinite where no time suffices."""
        return voltage.planned.counts_needed(share) / (self.counts_now * voltage.rate)

    def seconds(self, voltage: VoltagePlan, share: float) -> float | None:
        """Return the time of a pixel, s."""
        return None if self.seconds_now is None else self.seconds_now * self.times_longer(voltage, share)

    def hours(self, voltage: VoltagePlan, step_mm: float) -> float | None:
        """Return the time of the scan's area at a step, where half of its pixels give the answer; h."""
        seconds = self.seconds(voltage, HALF)
        if seconds is None or self.area_mm2 is None:
            return None
        return seconds * self.area_mm2 / step_mm**2 / 3600.0

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each voltage, null for what is not known, or not reached by any time."""
        return [
            {
                "voltage_kv": voltage.voltage_kv,
                "counts_needed": _known(voltage.planned.counts_needed(HALF)),
                "counts_needed_9_in_10": _known(voltage.planned.counts_needed(MOST)),
                "times_longer": _known(self.times_longer(voltage, HALF)),
                "seconds_per_pixel": _known(self.seconds(voltage, HALF)),
                "seconds_per_pixel_9_in_10": _known(self.seconds(voltage, MOST)),
                "pixels_to_sum": _known(
                    float(np.ceil(round(voltage.planned.counts_needed(HALF) / self.counts_now, 6)))
                ),
                "hours_by_step_mm": {f"{step:g}": _known(self.hours(voltage, step)) for step in self.steps_mm},
            }
            for voltage in self.voltages
        ]

    def record(self) -> dict[str, Any]:
        """Return the plan as plain values for JSON."""
        return {
            "question": asdict(self.question),
            "paint": self.paint,
            "layers": list(self.layers),
            "probability_now": self.probability_now,
            "counts_now": self.counts_now,
            "seconds_now": self.seconds_now,
            "table": self.rows(),
            "curve": [
                {
                    "voltage_kv": voltage.voltage_kv,
                    "counts": voltage.planned.counts.tolist(),
                    "seconds": None if (seconds := self.curve_seconds(voltage)) is None else seconds.tolist(),
                    "share_answered": voltage.planned.share.tolist(),
                    "probability": voltage.planned.probability.tolist(),
                }
                for voltage in self.voltages
            ],
            "other_methods": [dict(method) for method in self.methods],
            "pigments": list(self.pigments),
        }

    def curve_seconds(self, voltage: VoltagePlan) -> Any:
        """Return (n,) the times of a pixel at which scans were simulated, s; None where they are not known."""
        if self.seconds_now is None:
            return None
        return self.seconds_now * voltage.planned.counts / (self.counts_now * voltage.rate)

    def words(self) -> list[str]:
        """Return sentences: what was assumed, what stays open, and what settles it."""
        below, above = group_name(self.question.below), group_name(self.question.above)
        never = [f"{each.voltage_kv:g} kV" for each in self.voltages if not np.isfinite(each.planned.counts_needed())]
        sentences = [
            f"Assumed is, of paint {self.paint}, what comes nearest to its spectrum and has {below} under {above}: "
            f"{'; '.join(self.layers)}. With other thicknesses the times are others.",
            f"A first look at the sum of this paint gives that order a probability of {self.probability_now:.2f}.",
        ]
        if never:
            sentences.append(
                f"No time suffices at {', '.join(never)}: up to {self.voltages[0].planned.counts[-1]:,.0f} counts "
                "fewer than half of the simulated scans give the answer."
            )
        settles = "; ".join(f"{method['method']} ({method['settles']})" for method in self.methods)
        return [*sentences, f"What stays open, another method settles: {settles}.", *self.pigments]


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
    """Plan a scan from the results of a quick one.

    Parameters
    ----------
    folder : str or Path
        Results with paints, as ``underpaint identify`` writes them.
    question : str
        "lead_pigment under mercury_red".
    scan : str or None
        Where the quick scan is, if it was moved.
    paint : int or None
        Number of the paint to plan for; None: the largest one with the group that lies above.
    voltages_kv : sequence of float
        Of the tube; by default that of the scan and one 10 kV higher.
    steps_mm : sequence of float
        By default the scan's and half of it.
    seconds : float or None
        Time of a pixel of the quick scan, where its file does not say.
    instrument : str or None
        Preset or file.
    ground : str
    progress : callable, optional

    Raises
    ------
    ScanError
        There are no results, no paints in them, no paint with the group, or the scan is gone.
    SampleError
        The question is none, or nothing with that order comes near the paint's spectrum.
    UnderpaintError
        The instrument, a voltage or the ground cannot be used.
    """
    step, place = progress or no_progress, Path(folder)
    about = OrderQuestion.of_text(question)
    given = None if instrument is None else load_instrument(instrument)
    ground_layer(ground, 100.0)
    step("Reading the results", 0, 1)
    results = read_results(place)
    area = _paint(results, about, paint)
    opened = find_scan(place, results.summary, scan, results.shape, required=True)
    step("Finding the energy axis", 0, 1)
    axis = resolve_energy_axis(opened, calibrated=was_calibrated(results))
    if given is not None:
        check_instrument(axis, given, trusted=False)
    scanner = spectrum_knowledge(opened, axis, given).instrument
    mask = results.map("paint") == area.number
    spectrum = region_spectrum(axis.scan, mask)
    candidates = _with_question(candidate_groups_of(area, results, ground), about)
    instruments = _at_voltages(scanner, voltages_kv, axis.beam_kev)
    step("Searching the layers of the paint", 0, 1 + len(instruments))
    layers, probability = likeliest_layers(spectrum, scanner, candidates, about, ground)
    rate_now = float(expected_spectrum(layers, scanner)[0].sum())
    plans = []
    for number, (voltage, each) in enumerate(instruments.items(), start=1):
        step(f"Simulating scans at {voltage:g} kV", number, 1 + len(instruments))
        rate = float(expected_spectrum(layers, each)[0].sum()) / rate_now
        plans.append(VoltagePlan(voltage, rate, answered_shares(layers, each, candidates, about, COUNTS, ground)))
    known_step = opened.step_mm or results.step_mm
    return ScanPlan(
        about,
        area.number,
        tuple(f"{layer.name} {um_text(layer.thickness_um)} um" for layer in layers.layers),
        probability,
        float(spectrum.counts.sum()) / int(mask.sum()),
        seconds or _seconds_of(opened, mask),
        None if known_step is None else known_step[0] * known_step[1] * opened.n_pixel,
        tuple(steps_mm) or (() if known_step is None else (known_step[0] / 2, known_step[0])),
        tuple(plans),
        methods_for_layers(),
        _ways_to_part_pigments(about),
    )


def _paint(results: Results, question: OrderQuestion, number: int | None) -> PaintArea:
    areas = {area.number: area for area in results.paints}
    if not areas:
        raise ScanError("Cannot plan: these results hold no paints. Run `underpaint paints` on them first.")
    if number is not None and number not in areas:
        raise ScanError(f"Cannot plan for paint {number}: there are paints 1 to {len(areas)}.")
    with_group = [area for area in results.paints if question.above in area.groups]
    if number is None and not with_group:
        every = sorted({name for area in results.paints for name in area.groups})
        raise ScanError(
            f"Cannot plan for {question.above} on top: no paint holds it. There are {', '.join(every) or 'no groups'}; "
            "or name a paint with --paint."
        )
    return areas[number] if number is not None else with_group[0]


def _with_question(candidates: CandidateGroups, question: OrderQuestion) -> CandidateGroups:
    """Return the groups to look for with those of the question, which may be absent unless they are certain."""
    pairs = dict(zip(candidates.groups, candidates.absent, strict=True))
    missing = {name: 0.5 for name in (question.below, question.above) if name not in pairs}
    pairs |= missing
    probability = {
        **candidates.probability,
        **{name: min(candidates.probability.get(name, 0.5), CERTAIN_PROBABILITY) for name in missing},
    }
    return replace(candidates, groups=tuple(pairs), absent=tuple(pairs.values()), probability=probability)


def _at_voltages(scanner: Instrument, voltages_kv: Sequence[float], beam_kev: float | None) -> dict[float, Instrument]:
    if scanner.source_spectrum is not None or beam_kev is not None:
        if voltages_kv:
            raise SampleError(
                "Cannot plan for other voltages: the scan was excited by a given spectrum, not by a tube. Leave "
                "--voltages out."
            )
        return {scanner.highest_kev: scanner}
    usual = scanner.tube.voltage_kv
    voltages = sorted(set(voltages_kv) or {usual, usual + HIGHER_KV})
    table = scanner.model_dump()
    return {
        voltage: instrument_from({**table, "tube": {**table["tube"], "voltage_kv": voltage}}, scanner.name)
        for voltage in voltages
    }


def _seconds_of(scan: Scan, mask: Any) -> float | None:
    times = scan.real_time_s if scan.real_time_s is not None else scan.live_time_s
    known = None if times is None else times[mask & np.isfinite(times)]
    return None if known is None or not known.size else float(np.median(known))


def _ways_to_part_pigments(question: OrderQuestion) -> tuple[str, ...]:
    """Return what would tell the commonest pigments of each group of a question apart."""
    sentences = []
    for group in (question.above, question.below):
        members = library().members(group)[:MOST_NAMED]
        sentences += [distinguishing_methods_text(members[0].name, other.name) for other in members[1:]]
    return tuple(sentences)


def _known(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None
