"""``fit``: the spectrum of a pixel, a region or a whole scan, taken apart into families, scatter and background."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from underpaint.cli._console import list_table, progress, say, say_warning, show, show_json
from underpaint.cli._outputs import new_file
from underpaint.cli._scans import (
    AddOption,
    CountsScaleOption,
    DetectorOption,
    DropOption,
    ElementsOption,
    InstrumentOption,
    Json,
    LinesOption,
    NoCalibrate,
    OneScan,
    Overwrite,
    Quiet,
    TrustInstrument,
    named_lines,
)

POOR_FIT = 3.0
"""Chi-square a channel from which faint lines may be faults of the model."""


def fit(
    scan: OneScan,
    pixel: Annotated[str | None, typer.Option(metavar="ROW,COLUMN", help="One pixel, counted from 0.")] = None,
    region: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Sum these pixels: a mask (.npy, .png, .tif) or rows and columns (.csv)."),
    ] = None,
    elements: ElementsOption = None,
    lines: LinesOption = None,
    add: AddOption = None,
    drop: DropOption = None,
    instrument: InstrumentOption = None,
    out_figure: Annotated[Path | None, new_file("FILE.png", "Draw spectrum, fit, parts and residual.")] = None,
    no_calibrate: NoCalibrate = False,
    detector: DetectorOption = None,
    counts_scale: CountsScaleOption = None,
    trust_instrument: TrustInstrument = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit one spectrum and show what it is made of: net counts by element, limits of detection, how well it fits.

    Without --pixel or --region the sum of the whole scan is fitted. With --elements or --lines only these are fitted,
    as a test of what they explain; --add and --drop change what is fitted by default.

    **Examples**

        underpaint fit painting.h5 --pixel 12,40 --out-figure pixel.png

        underpaint fit painting.h5 --region sleeve.png --drop As

        underpaint fit painting.h5 --elements Fe,Pb,Hg
    """
    del overwrite  # looked at with the outputs
    from underpaint.calibrate import resolve_energy_axis
    from underpaint.data import survey
    from underpaint.elements import fit_spectrum
    from underpaint.io import load
    from underpaint.pigments.explain import read_spot, region_spectrum

    with progress(quiet=quiet or as_json) as step:
        step("Opening the scan", 0, 1)
        raw = load(scan, detector=detector, counts_scale=counts_scale)
        mask = None if pixel is None and region is None else read_spot(pixel, region, raw.shape[:2])
        step("Finding the energy axis", 0, 1)
        calibrated = resolve_energy_axis(
            raw, instrument=instrument, calibrated=not no_calibrate, trust_instrument=trust_instrument
        )
        step("Reading the spectra", 0, 1)
        spectrum = survey(calibrated.scan).sum_spectrum() if mask is None else region_spectrum(calibrated.scan, mask)
        step("Fitting", 0, 1)
        result = fit_spectrum(
            spectrum,
            families=named_lines(elements, lines),
            add=named_lines(add) or (),
            drop=named_lines(drop) or (),
            instrument=calibrated.instrument,
        )
    for alert in calibrated.alerts:
        say_warning(alert)
    rows = sorted(result.families.items(), key=lambda entry: -entry[1].area)
    if as_json:
        show_json(
            {
                "spectrum": result.name,
                "chi_square": result.chi_square,
                "families": {
                    name: {
                        "area_counts": family.area,
                        "sigma_counts": family.sigma,
                        "detection_limit_counts": family.detection_limit,
                        "present": family.present,
                        "hardness": _number(family.hardness),
                        "hardness_sigma": _number(family.hardness_sigma),
                    }
                    for name, family in rows
                },
            }
        )
    elif not quiet:
        table = list_table(result.name, ("lines", "net counts", "one sigma", "limit of detection"))
        for name, family in rows:
            if family.present:
                cells: tuple[Any, ...] = (family.area, family.sigma, family.detection_limit)
                table.add_row(name, *(f"{value:,.0f}" for value in cells))
        show(table)
        absent = [name for name, family in rows if not family.present]
        if absent:
            say(f"Not detected: {', '.join(sorted(absent))}.")
        say(f"Residual: chi-square {result.chi_square:.2f} a channel (1 or less: the model describes the spectrum).")
        if result.chi_square > POOR_FIT:
            say_warning(
                "The model does not describe this spectrum. Look at the residual (--out-figure) before you believe "
                "faint lines: another axis or instrument, a metal, a pure salt, sum peaks, or elements left out may be "
                "the cause."
            )
    if out_figure is not None:
        from underpaint.display.plot import save_png
        from underpaint.display.plot.spectrum_fit import spectrum_fit_figure

        save_png(spectrum_fit_figure(result), out_figure)
        say(f"Wrote {out_figure}.", quiet=quiet or as_json)


def _number(value: float) -> float | None:
    """Return a number, or None where there is none: JSON has no NaN."""
    return value if math.isfinite(value) else None
