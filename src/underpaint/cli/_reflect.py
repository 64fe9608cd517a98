"""Commands on reflectance spectra: ``reflect``, ``add-reflectance`` and ``reflectance``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from underpaint.cli._console import list_table, progress, say, say_warning, show, show_json
from underpaint.cli._outputs import new_folder
from underpaint.cli._scans import JsonOption, OverwriteOption, QuietOption


def reflect(
    cube: Annotated[
        str,
        typer.Argument(metavar="CUBE", help="Reflectance cube: ENVI header or data, HDF5 (FILE::NAME), or TIFF stack."),
    ],
    xrf: Annotated[Path, typer.Option(metavar="RESULT", help="Results folder that `underpaint identify` wrote.")],
    white: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="White reference, if CUBE contains counts: frames, or one spectrum."),
    ] = None,
    dark: Annotated[str | None, typer.Option(metavar="FILE", help="Dark reference, if CUBE contains counts.")] = None,
    scale: Annotated[
        float | None,
        typer.Option(metavar="VALUE", help="Value that is stored for a reflectance of 1, if CUBE does not show it."),
    ] = None,
    library: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Reference spectra that replace those of the package: CSV, ENVI library, or .npz."
        ),
    ] = None,
    palette: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Consider only pigments of this palette.")
    ] = None,
    points: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File of corresponding points. Each line has x,y on the cube and column,row on the maps.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        new_folder("DIR", "Write a copy of RESULT with the new maps to this folder. By default, RESULT gets the maps."),
    ] = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Identify surface pigments from a reflectance cube. Also map the pigment groups below the surface.

    The cube is registered to the element maps automatically, or by the given points. The registration is stored with
    the results. If XRF detects copper, for example, reflectance identifies the copper pigment at the surface. A group
    is reported as below the surface if the probability of this place is above 90 %. Otherwise the place of the group is
    reported as not determined. The place that XRF gives (surface or below) is taken into account. No other input
    improves the result as much as the painter's palette (--palette).

    For example:

        underpaint reflect cube.hdr --xrf painting_underpaint --palette old_master

    If the cube contains the counts of a line scanner, give the white and dark references:

        underpaint reflect scan.hdr --xrf painting_underpaint --white white.hdr --dark dark.hdr

    To try the command, simulate both scans of a virtual panel:

        underpaint mockup fig7 --out panel.h5 --reflectance

        underpaint identify panel.h5 --out result

        underpaint reflect panel_reflectance.hdr --xrf result --library panel_library.npz
    """
    from underpaint.pipeline.reflect import ReflectSettings
    from underpaint.pipeline.reflect import reflect as run_reflect

    settings = ReflectSettings(white=white, dark=dark, scale=scale, library=library, points=points, palette=palette)
    with progress(quiet=quiet or as_json) as report_progress:
        results = run_reflect(cube, xrf, settings, out=out, overwrite=overwrite, progress=report_progress)
    folder = xrf if out is None else out
    results_record = _results_record(results, folder)
    if as_json:
        show_json(results_record)
        return
    for note in results_record["notes"]:
        say_warning(note)
    _show_results(results_record, quiet=quiet)


def _results_record(results: Any, folder: Path) -> dict[str, Any]:
    """Return the area fractions of surface pigments, and of groups below the surface, as a JSON-serialisable record."""
    import numpy as np

    from underpaint.data.maps import BELOW_PROBABILITY, below_surface, share_present

    surface_shares = {
        name: share_present(results.map("surface_member", name)) for (name,) in results.stacks["surface_member"].keys
    }
    settings = results.settings_of("reflectance")
    answered_pixels = np.isfinite(results.map("surface_member", *results.stacks["surface_member"].keys[-1]))
    groups_below = {}
    if "hidden" in results.stacks:
        groups_below = {
            name: below_surface(results.map("hidden", name), answered_pixels)
            for (name,) in results.stacks["hidden"].keys
        }
    return {
        "folder": str(folder),
        "answered": float(answered_pixels.mean()),
        "registration": settings["registration"],
        "surface": surface_shares,
        "labels": settings["labels"],
        "hidden_above": BELOW_PROBABILITY,
        "hidden": {group: group_below.share for group, group_below in groups_below.items() if group_below.share > 0},
        "hidden_probability": {
            group: group_below.certainty for group, group_below in groups_below.items() if group_below.share > 0
        },
        "hidden_undetermined": {
            name: group_pixels.undetermined_share
            for name, group_pixels in groups_below.items()
            if group_pixels.undetermined_share > 0
        },
        "notes": list(results.process_notes.get("reflectance", ())),
    }


def _show_results(record: dict[str, Any], *, quiet: bool) -> None:
    if quiet:
        return
    registration = record["registration"]
    error_text = (
        "" if registration["error_px"] is None else f", error {registration['error_px']:.1f} pixels of the maps"
    )
    coverage_text = f"the cube covers {100 * record['answered']:.0f} % of the maps"
    say(
        f"Registration of the cube by {registration['how']}: {registration['verdict']}{error_text}. In this "
        f"registration, {coverage_text}."
    )
    surface_table = list_table("Pigments that give the surface its colour", ("pigment", "share of the area"))
    for name, area_share in sorted(record["surface"].items(), key=lambda group_share: -group_share[1]):
        if area_share > 0:
            surface_table.add_row(record["labels"].get(name, name), f"{100 * area_share:.1f} %")
    show(surface_table)
    for name, area_share in sorted(record["hidden"].items(), key=lambda group_share: -group_share[1]):
        certainty_text = f"probability {100 * record['hidden_probability'][name]:.0f} %"
        say(f"- {name}: below the surface in {100 * area_share:.1f} % of the area ({certainty_text} there)")
    threshold_text = f"{100 * record['hidden_above']:.0f} %"
    if not record["hidden"]:
        say(f"No group lies below the surface with a probability above {threshold_text}.")
    undetermined_shares = {
        name: area_share for name, area_share in record["hidden_undetermined"].items() if area_share >= 0.001
    }
    if undetermined_shares:
        sorted_shares = sorted(undetermined_shares.items(), key=lambda group_share: -group_share[1])
        say(
            f"Not determined, at the surface or below (probability under {threshold_text}): "
            + ", ".join(f"{name} in {100 * area_share:.1f} %" for name, area_share in sorted_shares)
        )
    say(f"To view the results: underpaint view {record['folder']}")


def add_reflectance(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="File with the spectra: CSV, ENVI spectral library, or .npz.")
    ],
    name: Annotated[str, typer.Option(metavar="NAME", help="Name under which the set is stored.")],
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Store measured reflectance spectra. `underpaint reflect` uses them in addition to the package's spectra.

    For example:

        underpaint pigments add-reflectance my_charts.csv --name my_charts
    """
    from underpaint.reflectance.user_sets import add_set, sets_folder

    stored_spectra = add_set(file, name, overwrite=overwrite)
    for note in stored_spectra.notes:
        say_warning(note)
    pigment_names = ", ".join(stored_spectra.members) or "no known pigment"
    say(f"Stored {len(stored_spectra)} spectra in {sets_folder() / f'{name}.npz'}: {pigment_names}.", quiet=quiet)


def reflectance(as_json: JsonOption = False) -> None:
    """List the measured reflectance spectra in the package and in the sets that you added.

    For example:

        underpaint pigments reflectance
    """
    from underpaint.reflectance import builtin, read
    from underpaint.reflectance.user_sets import user_sets

    spectrum_sets = {"package": builtin()} | {name: read(path) for name, path in user_sets().items()}
    set_records: list[dict[str, Any]] = [
        {
            "set": name,
            "spectra": len(reference_spectra),
            "pigments": list(reference_spectra.members),
            "sources": list(reference_spectra.sources),
        }
        for name, reference_spectra in spectrum_sets.items()
    ]
    if as_json:
        show_json(set_records)
        return
    set_table = list_table("reflectance spectra", ("set", "spectra", "pigments", "sources"))
    for record in set_records:
        set_table.add_row(
            record["set"], str(record["spectra"]), ", ".join(record["pigments"]), "; ".join(record["sources"])
        )
    show(set_table)
