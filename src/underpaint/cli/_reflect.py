"""Commands on reflectance: `reflect`, and the user's sets of spectra."""

from pathlib import Path
from typing import Annotated, Any

import typer

from underpaint.cli._console import list_table, progress, say, say_warning, show, show_json
from underpaint.cli._outputs import new_folder
from underpaint.cli._scans import Json, Overwrite, Quiet


def reflect(
    cube: Annotated[str, typer.Argument(metavar="CUBE", help="ENVI header or data, HDF5 (FILE::NAME), TIFF stack.")],
    xrf: Annotated[Path, typer.Option(metavar="RESULT", help="Results folder of `underpaint identify`.")],
    white: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="White reference, frames or one spectrum; CUBE holds counts."),
    ] = None,
    dark: Annotated[str | None, typer.Option(metavar="FILE", help="Dark reference.")] = None,
    scale: Annotated[
        float | None, typer.Option(metavar="VALUE", help="Stored value of a reflectance of 1, if it is not recognised.")
    ] = None,
    library: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Reference spectra to use instead: CSV, ENVI library, .npz.")
    ] = None,
    palette: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Limit the candidates to this palette.")
    ] = None,
    points: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Corresponding points, one per line: x, y on the cube, column, row on the maps."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        new_folder("DIR", "Folder for a copy of RESULT with the new maps; without it they are added to RESULT."),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Identify the pigments at the surface from a reflectance cube, and map pigment groups that lie below it.

    The cube is registered to the element maps automatically or by points, and the registration is stored with the
    results. If XRF detects copper, reflectance tells which copper pigment is at the surface. A group is reported as
    below the surface at a probability above 90 %; otherwise this is not determined. The place of a group by XRF
    (surface or below) is taken into account. Limiting the candidates to the painter's palette (--palette) improves the
    result more than any other input.

    For example:

        underpaint reflect cube.hdr --xrf painting_underpaint --palette old_master

    With counts of a line scanner and its references:

        underpaint reflect scan.hdr --xrf painting_underpaint --white white.hdr --dark dark.hdr

    To try it with both scans of a virtual panel:

        underpaint mockup fig7 --out panel.h5 --reflectance

        underpaint identify panel.h5 --out result

        underpaint reflect panel_reflectance.hdr --xrf result --library panel_library.npz
    """
    from underpaint.pipeline.reflect import ReflectSettings
    from underpaint.pipeline.reflect import reflect as run

    settings = ReflectSettings(white=white, dark=dark, scale=scale, library=library, points=points, palette=palette)
    with progress(quiet=quiet or as_json) as step:
        results = run(cube, xrf, settings, out=out, overwrite=overwrite, progress=step)
    folder = xrf if out is None else out
    record = _record(results, folder)
    if as_json:
        show_json(record)
        return
    for note in record["notes"]:
        say_warning(note)
    _show(record, quiet=quiet)


def _record(results: Any, folder: Path) -> dict[str, Any]:
    """Return a JSON-serialisable summary: area fractions of the surface members and of the groups below them."""
    import numpy as np

    from underpaint.data.maps import BELOW_PROBABILITY, below_surface, share_present

    surface = {
        name: share_present(results.map("surface_member", name)) for (name,) in results.stacks["surface_member"].keys
    }
    settings = results.settings_of("reflectance")
    answered = np.isfinite(results.map("surface_member", *results.stacks["surface_member"].keys[-1]))
    below = {}
    if "hidden" in results.stacks:
        below = {
            name: below_surface(results.map("hidden", name), answered) for (name,) in results.stacks["hidden"].keys
        }
    return {
        "folder": str(folder),
        "answered": float(answered.mean()),
        "registration": settings["registration"],
        "surface": surface,
        "labels": settings["labels"],
        "hidden_above": BELOW_PROBABILITY,
        "hidden": {name: each.share for name, each in below.items() if each.share > 0},
        "hidden_probability": {name: each.certainty for name, each in below.items() if each.share > 0},
        "hidden_undetermined": {
            name: each.undetermined_share for name, each in below.items() if each.undetermined_share > 0
        },
        "notes": list(results.process_notes.get("reflectance", ())),
    }


def _show(record: dict[str, Any], *, quiet: bool) -> None:
    if quiet:
        return
    place = record["registration"]
    error = "" if place["error_px"] is None else f", error {place['error_px']:.1f} pixels of the maps"
    share = f"the cube covers {100 * record['answered']:.0f} % of the maps"
    say(f"Registration of the cube by {place['how']}: {place['verdict']}{error}; {share}.")
    table = list_table("Pigments that give the surface its colour", ("pigment", "share of the area"))
    for name, share in sorted(record["surface"].items(), key=lambda entry: -entry[1]):
        if share > 0:
            table.add_row(record["labels"].get(name, name), f"{100 * share:.1f} %")
    show(table)
    for name, share in sorted(record["hidden"].items(), key=lambda entry: -entry[1]):
        certainty = f"probability {100 * record['hidden_probability'][name]:.0f} %"
        say(f"- {name}: below the surface in {100 * share:.1f} % of the area ({certainty} there)")
    threshold = f"{100 * record['hidden_above']:.0f} %"
    if not record["hidden"]:
        say(f"No group lies below the surface with a probability above {threshold}.")
    open_shares = {name: share for name, share in record["hidden_undetermined"].items() if share >= 0.001}
    if open_shares:
        listed = sorted(open_shares.items(), key=lambda entry: -entry[1])
        say(
            f"Not determined, at the surface or below (probability under {threshold}): "
            + ", ".join(f"{name} in {100 * share:.1f} %" for name, share in listed)
        )
    say(f"To view the results: underpaint view {record['folder']}")


def add_reflectance(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV, ENVI spectral library, or .npz.")],
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the set.")],
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Store a set of measured reflectance spectra, which `underpaint reflect` uses in addition to those of the package.

    For example:

        underpaint pigments add-reflectance my_charts.csv --name my_charts
    """
    from underpaint.reflectance.user_sets import add_set, sets_folder

    spectra = add_set(file, name, overwrite=overwrite)
    for note in spectra.notes:
        say_warning(note)
    members = ", ".join(spectra.members) or "no known pigment"
    say(f"Stored {len(spectra)} spectra in {sets_folder() / f'{name}.npz'}: {members}.", quiet=quiet)


def reflectance(as_json: Json = False) -> None:
    """List the measured reflectance spectra of the package and of the sets that you added.

    For example:

        underpaint pigments reflectance
    """
    from underpaint.reflectance import builtin, read
    from underpaint.reflectance.user_sets import user_sets

    sets = {"package": builtin()} | {name: read(path) for name, path in user_sets().items()}
    records: list[dict[str, Any]] = [
        {"set": name, "spectra": len(known), "pigments": list(known.members), "sources": list(known.sources)}
        for name, known in sets.items()
    ]
    if as_json:
        show_json(records)
        return
    table = list_table("reflectance spectra", ("set", "spectra", "pigments", "sources"))
    for record in records:
        table.add_row(
            record["set"], str(record["spectra"]), ", ".join(record["pigments"]), "; ".join(record["sources"])
        )
    show(table)
