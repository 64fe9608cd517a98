"""The command ``calibrate``: what a scan's spectra tell about the instrument."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from underpaint.cli._console import list_table, progress, say, show, show_json, two_columns
from underpaint.cli._outputs import check_new_files, new_file
from underpaint.cli._scans import CountsScaleOption, Json, Overwrite, Quiet

if TYPE_CHECKING:
    from rich.table import Table

    from underpaint.calibrate import Calibration, Drift
    from underpaint.data import Scan
    from underpaint.physics.instrument import Instrument, Scale

LEAST_TOTAL = 1.05
"""Mass per cent in all up to which a composition may be one in fractions."""


@dataclass(frozen=True)
class Found:
    """One detector of a scan, with what its spectra tell, the file that keeps it, and the other files written."""

    scan: "Scan"
    calibration: "Calibration"
    drift: "Drift"
    out: Path
    notes: tuple[str, ...]
    also: tuple[Path, ...] = ()
    scale: "Scale | None" = None

    def facts(self) -> dict[str, Any]:
        """JSON-serialisable."""
        from underpaint.calibrate import CalibratedScan

        own, axis = self.calibration, CalibratedScan(self.scan.with_axis(self.calibration.axis), None, self.calibration)
        return axis.facts() | {
            "detector": self.scan.detector or self.scan.name,
            "gain_uncertainty_kev": own.gain_uncertainty_kev,
            "zero_uncertainty_kev": own.zero_uncertainty_kev,
            "noise_uncertainty_kev": own.noise_uncertainty_kev,
            "fano_uncertainty": own.fano_uncertainty,
            "scatter_angle_uncertainty_deg": own.scatter_angle_uncertainty_deg,
            "voltage_kv": own.voltage_kv,
            "voltage_uncertainty_kv": own.voltage_uncertainty_kv,
            "seen_air_cm": own.seen_air_cm,
            "drift_ev": self.drift.span_ev if self.drift.shift_ev.size > 1 else None,
            "drifts": self.drift.significant,
            "notes": list(self.notes),
            "scale": None if self.scale is None else self.scale.model_dump(mode="json"),
            "instrument": str(self.out),
            "also_written": [str(path) for path in self.also],
        }


def calibrate(
    scan: Annotated[
        str | None, typer.Argument(metavar="SCAN", help="Folder or file; by default the standard's spectrum.")
    ] = None,
    out: Annotated[Path, new_file("FILE.toml", "Instrument file to write.")] = Path("instrument.toml"),
    instrument: Annotated[
        str | None, typer.Option(metavar="PRESET|FILE", help="Supplies what a spectrum cannot tell, e.g. the window.")
    ] = None,
    picture: Annotated[Path | None, new_file("FILE.png", "Save the sum spectrum with everything found.")] = None,
    without_drift: Annotated[
        Path | None, new_file("FILE.h5", "Save the scan with the drift along its rows taken out.")
    ] = None,
    standard: Annotated[
        str | None, typer.Option(metavar="FILE", help="Spectrum of a thick material of known composition.")
    ] = None,
    composition: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What the standard is made of: 'SiO2 50, CaO 10, Fe 3', mass %.")
    ] = None,
    counts_scale: CountsScaleOption = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Find energy axis, resolution, tube, angle and drift of a scan from its lines; write an instrument file.

    Of several detectors each gets a file, with its name added. With a standard the file holds the scale of
    quantities, too.

    **Example**

        underpaint calibrate painting.h5 --out ours.toml --picture ours.png

        underpaint identify other.h5 --instrument ours.toml

        underpaint calibrate --standard glass.spx --composition "SiO2 70, CaO 9, Fe2O3 0.1" --out ours.toml
    """
    from underpaint.elements import parse_composition
    from underpaint.errors import ScanError
    from underpaint.io import load_all
    from underpaint.physics.instrument import load_instrument

    if (standard is None) != (composition is None) or (scan is None and standard is None):
        raise typer.BadParameter(
            "Give a SCAN, or --standard and --composition together, such as --composition 'SiO2 70, CaO 9'."
        )
    known = None if composition is None else parse_composition(composition)
    base = None if instrument is None else load_instrument(instrument)
    scans = load_all(scan or str(standard), counts_scale=counts_scale)
    standards = [] if standard is None else load_all(standard, counts_scale=counts_scale)
    if known is not None and len(standards) != len(scans):
        raise ScanError(
            f"Cannot find the scale: the scan has {len(scans)} detectors, the standard {len(standards)}; measure both "
            "with the same."
        )
    targets = [[_named(path, own, scans) for path in (out, picture, without_drift)] for own in scans]
    check_new_files([path for paths in targets for path in paths if path is not None], overwrite=overwrite)
    found = []
    with progress(quiet=quiet or as_json) as step:
        for number, (own, (toml, image, straight)) in enumerate(zip(scans, targets, strict=True)):
            step("Looking for lines", number, len(targets))
            standard_of = None if known is None else (standards[number], known)
            found.append(_examined(own, base, toml or out, (image, straight), standard_of))
    _tell(found, quiet=quiet, as_json=as_json)


def _named(path: Path | None, scan: "Scan", scans: "Sequence[Scan]") -> Path | None:
    """Return the path, with the detector's name where there are several."""
    if path is None or len(scans) == 1:
        return path
    name = scan.detector or scan.source.rpartition("::")[2] or scan.name
    return path.with_stem(f"{path.stem}_{''.join(own if own.isalnum() else '_' for own in name)}")


def _examined(
    scan: "Scan",
    base: "Instrument | None",
    out: Path,
    more: tuple[Path | None, Path | None],
    standard: tuple["Scan", dict[str, float]] | None,
) -> Found:
    """Calibrate one detector and write its files; nothing is written where the standard gives no scale."""
    from underpaint import calibrate as room
    from underpaint.io import save_scan
    from underpaint.physics.instrument import save_instrument

    own = room.calibrate(scan, instrument=base, tube=True)
    drift = room.find_drift(scan, own)
    instrument = room.calibrated_instrument(scan, own, base)
    scale = None if standard is None else _scale(instrument, *standard)
    save_instrument(instrument.model_copy(update={"scale": scale}) if scale is not None else instrument, out)
    picture, straight = more
    if picture is not None:
        _save_picture(scan, own, picture)
    if straight is not None:
        save_scan(room.without_drift(scan, own, drift), straight)
    assumed = "" if base else room.describe_assumptions(own)
    drifts = [drift.describe()] if scan.shape[0] > 1 else []
    notes = (*room.calibration_notes(scan.axis, own), *drifts, *([assumed] if assumed else []))
    if scale is not None and standard is not None:
        notes = (*notes, *_scale_notes(scale, standard[1]))
    written = tuple(path for path in (picture, straight) if path is not None)
    return Found(scan, own, drift, out, notes, written, scale)


def _scale(instrument: "Instrument", standard: "Scan", composition: dict[str, float]) -> "Scale":
    """Return the scale that a standard shows."""
    from underpaint.calibrate import calibrate as calibrated
    from underpaint.elements import scale_from_standard

    scan = standard.with_axis(calibrated(standard, instrument=instrument).axis)
    return scale_from_standard(scan, instrument, composition)


def _scale_notes(scale: "Scale", composition: dict[str, float]) -> list[str]:
    """Say the scale, and whether the composition looks like fractions of one."""
    factors = ", ".join(
        f"{name.replace('_', ' ')} {factor:.2f}" for name, factor in zip(scale.families, scale.factors, strict=True)
    )
    per_s = "" if scale.counts_per_s is None else f"{scale.counts_per_s:.4g} for a second of live time and "
    notes = [
        f"Scale from the standard, counts measured over those of the model: {per_s}{scale.counts_per_scatter:.4g} for "
        f"a count of scattered radiation, good to {scale.error:.0%}; times a factor by family: {factors}."
    ]
    total = 100.0 * sum(composition.values())
    if total <= LEAST_TOTAL:
        notes.append(
            f"The composition adds up to {total:.2g} % only. It is read as mass per cent: where fractions of one were "
            "meant, the scale is wrong by a factor of a hundred; write 'Fe 70', not 'Fe 0.7'."
        )
    return notes


def _save_picture(scan: "Scan", found: "Calibration", path: Path) -> None:
    from underpaint.data import survey
    from underpaint.display.plot import save_png
    from underpaint.display.plot.calibration import calibration_figure

    seen = survey(scan)
    save_png(calibration_figure(found, seen.total, seen.highest, title=scan.name), path)


def _tell(found: Sequence[Found], *, quiet: bool, as_json: bool) -> None:
    if as_json:
        show_json(found[0].facts() if len(found) == 1 else [own.facts() for own in found])
        return
    for own in found if not quiet else ():
        show(_table(own))
        for note in own.notes:
            say(note)
        say(f"Wrote {own.out}; use it with --instrument {own.out}")
        for path in own.also:
            say(f"Wrote {path}")
    if len(found) > 1 and not quiet:
        show(_ratios(found))


def _table(found: Found) -> "Table":
    """Everything found, everything missing, and how far each line lies from its tabulated energy."""
    from underpaint.display.plot.calibration import words

    own = found.calibration
    table = two_columns(f"calibration of {found.scan.name}")
    for text in words(own):
        table.add_row("found", text)
    for text in own.missing:
        table.add_row("not found", text)
    table.add_row("axis", f"good to {own.axis_uncertainty_ev:.1f} eV from 3 to 15 keV")
    offs = [f"{name} {value:+.1f}" for name, value in sorted(own.residual_ev.items())]
    table.add_row("lines, eV off", ", ".join(offs))
    return table


def _ratios(found: Sequence[Found]) -> "Table":
    """Counts of each line in every detector over the first: soft lines show air, window and collimator."""
    from underpaint.calibrate import line_ratios

    names = [own.scan.detector or own.scan.name for own in found]
    table = list_table(f"counts over those of {names[0]}", ("line", *names))
    for line, ratios in line_ratios([own.calibration for own in found]).items():
        table.add_row(line, *(f"{ratio:.2f}" for ratio in ratios))
    return table
