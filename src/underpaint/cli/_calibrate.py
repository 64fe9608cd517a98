"""Command ``calibrate``: estimate of instrument parameters from the spectra of a scan."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from underpaint.cli._console import list_table, progress, say, show, show_json, two_column_table
from underpaint.cli._outputs import check_new_files, new_file
from underpaint.cli._scans import CountsScaleOption, JsonOption, OverwriteOption, QuietOption

if TYPE_CHECKING:
    from rich.table import Table

    from underpaint.calibrate import Calibration, Drift
    from underpaint.data import Scan
    from underpaint.physics.instrument import Instrument, Scale

MIN_COMPOSITION_PERCENT = 1.05
"""Smallest plausible sum of a composition in mass per cent. A smaller sum was probably given as fractions of one."""


@dataclass(frozen=True)
class DetectorCalibration:
    """Calibration of one detector, with the path of its instrument file and of all other files written."""

    scan: "Scan"
    calibration: "Calibration"
    drift: "Drift"
    instrument_file: Path | None
    notes: tuple[str, ...]
    additional_files: tuple[Path, ...] = ()
    scale: "Scale | None" = None

    def as_record(self) -> dict[str, Any]:
        """Return calibration, drift and written files as a JSON-serialisable record."""
        from underpaint.calibrate import CalibratedScan

        calibration, calibrated_scan = (
            self.calibration,
            CalibratedScan(self.scan.with_axis(self.calibration.axis), None, self.calibration),
        )
        return calibrated_scan.facts() | {
            "detector": self.scan.detector or self.scan.name,
            "gain_uncertainty_kev": calibration.gain_uncertainty_kev,
            "zero_uncertainty_kev": calibration.zero_uncertainty_kev,
            "noise_uncertainty_kev": calibration.noise_uncertainty_kev,
            "fano_uncertainty": calibration.fano_uncertainty,
            "scatter_angle_uncertainty_deg": calibration.scatter_angle_uncertainty_deg,
            "voltage_kv": calibration.voltage_kv,
            "voltage_uncertainty_kv": calibration.voltage_uncertainty_kv,
            "seen_air_cm": calibration.seen_air_cm,
            "drift_ev": self.drift.span_ev if self.drift.shift_ev.size > 1 else None,
            "drifts": self.drift.significant,
            "notes": list(self.notes),
            "scale": None if self.scale is None else self.scale.model_dump(mode="json"),
            "instrument": None if self.instrument_file is None else str(self.instrument_file),
            "also_written": [str(path) for path in self.additional_files],
        }


def calibrate(
    scan: Annotated[
        str | None,
        typer.Argument(metavar="SCAN", help="Folder or file of the scan. By default, the standard's spectrum is used."),
    ] = None,
    out: Annotated[
        Path | None,
        new_file("FILE.toml", "Instrument file to write. By default instrument.toml, or no file with --json."),
    ] = None,
    instrument: Annotated[
        str | None,
        typer.Option(
            metavar="PRESET|FILE", help="Instrument with values that a spectrum does not determine, e.g. the window."
        ),
    ] = None,
    picture: Annotated[
        Path | None, new_file("FILE.png", "Write a figure of the sum spectrum and the calibration.")
    ] = None,
    without_drift: Annotated[
        Path | None, new_file("FILE.h5", "Write a copy of the scan in which the drift along the rows is corrected.")
    ] = None,
    standard: Annotated[
        str | None, typer.Option(metavar="FILE", help="Spectrum of a standard: a thick material of known composition.")
    ] = None,
    composition: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="Composition of the standard in mass per cent, such as 'SiO2 50, CaO 10, Fe 3'."
        ),
    ] = None,
    counts_scale: CountsScaleOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Estimate a scan's energy axis, resolution, tube, angle and drift from its lines. Write an instrument file.

    If the scan has several detectors, each gets its own file, with the detector's name appended. If a standard is
    given, the file also contains the scale for quantities.

    For example:

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
    standard_fractions = None if composition is None else parse_composition(composition)
    instrument_path = Path("instrument.toml") if out is None and not as_json else out
    base_instrument = None if instrument is None else load_instrument(instrument)
    scans = load_all(scan or str(standard), counts_scale=counts_scale)
    standard_scans = [] if standard is None else load_all(standard, counts_scale=counts_scale)
    if standard_fractions is not None and len(standard_scans) != len(scans):
        raise ScanError(
            f"Cannot find the scale: the scan has {len(scans)} detectors, and the standard has "
            f"{len(standard_scans)}. Measure both with the same detectors."
        )
    files_by_detector = [
        [
            _detector_path(detector_file, detector_scan, scans)
            for detector_file in (instrument_path, picture, without_drift)
        ]
        for detector_scan in scans
    ]
    check_new_files(
        [
            detector_file
            for detector_files in files_by_detector
            for detector_file in detector_files
            if detector_file is not None
        ],
        overwrite=overwrite,
    )
    calibrations = []
    with progress(quiet=quiet or as_json) as report_progress:
        for detector_index, (detector_scan, (instrument_file, picture_file, drift_free_file)) in enumerate(
            zip(scans, files_by_detector, strict=True)
        ):
            report_progress("Looking for lines", detector_index, len(files_by_detector))
            standard_and_fractions = (
                None if standard_fractions is None else (standard_scans[detector_index], standard_fractions)
            )
            calibrations.append(
                _calibrate_detector(
                    detector_scan,
                    base_instrument,
                    instrument_file,
                    (picture_file, drift_free_file),
                    standard_and_fractions,
                )
            )
    _show_calibrations(calibrations, quiet=quiet, as_json=as_json)


def _detector_path(path: Path | None, scan: "Scan", scans: "Sequence[Scan]") -> Path | None:
    """Return the path. If the scan has several detectors, append the detector's name."""
    if path is None or len(scans) == 1:
        return path
    detector_name = scan.detector or scan.source.rpartition("::")[2] or scan.name
    return path.with_stem(
        f"{path.stem}_{''.join(character if character.isalnum() else '_' for character in detector_name)}"
    )


def _calibrate_detector(
    scan: "Scan",
    base_instrument: "Instrument | None",
    instrument_file: Path | None,
    picture_and_drift_files: tuple[Path | None, Path | None],
    standard: tuple["Scan", dict[str, float]] | None,
) -> DetectorCalibration:
    """Calibrate one detector and write its files.

    If the standard yields no scale, no file is written.
    """
    from underpaint import calibrate as calibration_tools
    from underpaint.io import save_scan
    from underpaint.physics.instrument import save_instrument

    calibration = calibration_tools.calibrate(scan, instrument=base_instrument, tube=True)
    drift = calibration_tools.find_drift(scan, calibration)
    instrument = calibration_tools.calibrated_instrument(scan, calibration, base_instrument)
    scale = None if standard is None else _scale_of_standard(instrument, *standard)
    if instrument_file is not None:
        save_instrument(
            instrument.model_copy(update={"scale": scale}) if scale is not None else instrument, instrument_file
        )
    picture_file, drift_free_file = picture_and_drift_files
    if picture_file is not None:
        _save_picture(scan, calibration, picture_file)
    if drift_free_file is not None:
        save_scan(calibration_tools.without_drift(scan, calibration, drift), drift_free_file)
    assumptions_text = "" if base_instrument else calibration_tools.describe_assumptions(calibration)
    drift_notes = [drift.describe()] if scan.shape[0] > 1 else []
    notes = (
        *calibration_tools.calibration_notes(scan.axis, calibration),
        *drift_notes,
        *([assumptions_text] if assumptions_text else []),
    )
    if scale is not None and standard is not None:
        notes = (*notes, *_scale_notes(scale, standard[1]))
    written_files = tuple(path for path in (picture_file, drift_free_file) if path is not None)
    return DetectorCalibration(scan, calibration, drift, instrument_file, notes, written_files, scale)


def _scale_of_standard(instrument: "Instrument", standard: "Scan", composition: dict[str, float]) -> "Scale":
    """Return the scale that the spectrum of a standard yields."""
    from underpaint.calibrate import calibrate as find_calibration
    from underpaint.elements import scale_from_standard

    scan = standard.with_axis(find_calibration(standard, instrument=instrument).axis)
    return scale_from_standard(scan, instrument, composition)


def _scale_notes(scale: "Scale", composition: dict[str, float]) -> list[str]:
    """Return a note on the scale, and a note if the composition was probably given as fractions of one."""
    factors_text = ", ".join(
        f"{family.replace('_', ' ')} {factor:.2f}" for family, factor in zip(scale.families, scale.factors, strict=True)
    )
    scale_per_second_text = (
        "" if scale.counts_per_s is None else f"{scale.counts_per_s:.4g} per second of live time and "
    )
    notes = [
        f"The standard gives the scale (measured over modelled counts) "
        f"{scale_per_second_text}{scale.counts_per_scatter:.4g} per count of scattered radiation, with an error of "
        f"{scale.error:.0%}. Factors of the families: {factors_text}."
    ]
    composition_percent = 100.0 * sum(composition.values())
    if composition_percent <= MIN_COMPOSITION_PERCENT:
        notes.append(
            f"The composition adds up to {composition_percent:.2g} % only. The numbers were read as mass per cent, "
            f"and fractions of one make the scale wrong by a factor of a hundred. Write 'Fe 70', not 'Fe 0.7'."
        )
    return notes


def _save_picture(scan: "Scan", calibration: "Calibration", picture_file: Path) -> None:
    from underpaint.data import survey
    from underpaint.display.plot import save_png
    from underpaint.display.plot.spectra import calibration_figure

    scan_survey = survey(scan)
    save_png(calibration_figure(calibration, scan_survey.total, scan_survey.highest, title=scan.name), picture_file)


def _show_calibrations(calibrations: Sequence[DetectorCalibration], *, quiet: bool, as_json: bool) -> None:
    if as_json:
        show_json(
            calibrations[0].as_record()
            if len(calibrations) == 1
            else [calibration.as_record() for calibration in calibrations]
        )
        return
    for calibration in calibrations if not quiet else ():
        show(_calibration_table(calibration))
        for note in calibration.notes:
            say(note)
        say(f"Wrote {calibration.instrument_file}. Use it with --instrument {calibration.instrument_file}")
        for path in calibration.additional_files:
            say(f"Wrote {path}")
    if len(calibrations) > 1 and not quiet:
        show(_ratio_table(calibrations))


def _calibration_table(detector_calibration: DetectorCalibration) -> "Table":
    """Return a table: values found, values not found, and deviations from the tabulated energies of lines."""
    from underpaint.display.plot.spectra import calibration_words

    calibration = detector_calibration.calibration
    calibration_table = two_column_table(f"calibration of {detector_calibration.scan.name}")
    for found_value_text in calibration_words(calibration):
        calibration_table.add_row("found", found_value_text)
    for missing_value in calibration.missing:
        calibration_table.add_row("not found", missing_value)
    calibration_table.add_row("axis", f"error of {calibration.axis_uncertainty_ev:.1f} eV from 3 to 15 keV")
    deviation_texts = [f"{line} {deviation_ev:+.1f}" for line, deviation_ev in sorted(calibration.residual_ev.items())]
    calibration_table.add_row("line deviations, eV", ", ".join(deviation_texts))
    return calibration_table


def _ratio_table(calibrations: Sequence[DetectorCalibration]) -> "Table":
    """Return a table of each detector's line counts relative to the first detector.

    The ratios of low-energy lines show how air path, window and collimator differ.
    """
    from underpaint.calibrate import line_ratios

    detector_names = [calibration.scan.detector or calibration.scan.name for calibration in calibrations]
    ratio_table = list_table(f"counts over those of {detector_names[0]}", ("line", *detector_names))
    for line, ratios in line_ratios([calibration.calibration for calibration in calibrations]).items():
        ratio_table.add_row(line, *(f"{ratio:.2f}" for ratio in ratios))
    return ratio_table
