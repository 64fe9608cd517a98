"""Commands on reflectance: reflect, and the user's own sets of spectra."""

from pathlib import Path
from typing import Annotated, Any

import typer

from underpaint.cli._console import list_table, progress, say, say_warning, show, show_json
from underpaint.cli._outputs import new_folder
from underpaint.cli._scans import Json, Overwrite, Quiet


def reflect(
    cube: Annotated[str, typer.Argument(metavar="CUBE", help="ENVI header or data, HDF5 (FILE::NAME), TIFF stack.")],
    xrf: Annotated[Path, typer.Option(metavar="RESULT", help="Folder of results of `underpaint identify`.")],
    white: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="White reference: frames or one spectrum; then CUBE holds counts."),
    ] = None,
    dark: Annotated[str | None, typer.Option(metavar="FILE", help="Dark reference.")] = None,
    scale: Annotated[
        float | None, typer.Option(metavar="VALUE", help="Stored value of a reflectance of 1, where it is not seen.")
    ] = None,
    library: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Spectra to read it with: CSV, ENVI library, .npz.")
    ] = None,
    palette: Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Only these pigments.")] = None,
    points: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Lines of x, y on the cube and column, row on the maps that belong together."
        ),
    ] = None,
    out: Annotated[
        Path | None, new_folder("DIR", "Folder for a copy of RESULT with the answers; else they are added to it.")
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Name the pigments of the surface from a reflectance cube, and map what XRF sees and light does not.

    The cube is registered to the element maps by itself, or by points; how it lies is kept with the results. Where XRF
    says "copper", reflectance says which of its pigments. That a group lies below the surface is stated
    above a probability of 90 %; under it, that is not determined. Whether XRF places a group at the surface or below
    counts, too. What the painter can have used (--palette) decides more than any other input.

    For example:

        underpaint reflect cube.hdr --xrf painting_underpaint --palette old_master

    Counts of a line scanner, with its references:

        underpaint reflect scan.hdr --xrf painting_underpaint --white white.hdr --dark dark.hdr

    A virtual panel with both scans, to try it:

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
    """Return what was found: shares of the answered area by member, and of the groups that lie below."""
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
        "hidden_undetermined": {name: each.undetermined for name, each in below.items() if each.undetermined > 0},
        "notes": list(results.process_notes.get("reflectance", ())),
    }


def _show(record: dict[str, Any], *, quiet: bool) -> None:
    if quiet:
        return
    place = record["registration"]
    off = "" if place["error_px"] is None else f", {place['error_px']:.1f} pixels of the maps off on average"
    share = f"{100 * record['answered']:.0f} % of the maps lie on it"
    say(f"The cube lies {place['verdict']} by {place['how']}{off}; {share}.")
    table = list_table("Pigments that give the surface its colour", ("pigment", "share of the area"))
    for name, share in sorted(record["surface"].items(), key=lambda entry: -entry[1]):
        if share > 0:
            table.add_row(record["labels"].get(name, name), f"{100 * share:.1f} %")
    show(table)
    for name, share in sorted(record["hidden"].items(), key=lambda entry: -entry[1]):
        certainty = f"probability {100 * record['hidden_probability'][name]:.0f} %"
        say(f"- {name}: below the surface in {100 * share:.1f} % of the area ({certainty} there)")
    least = f"{100 * record['hidden_above']:.0f} %"
    if not record["hidden"]:
        say(f"No group lies below the surface with a probability above {least}.")
    open_shares = {name: share for name, share in record["hidden_undetermined"].items() if share >= 0.001}
    if open_shares:
        listed = sorted(open_shares.items(), key=lambda entry: -entry[1])
        say(
            f"Not determined, at the surface or below (probability under {least}): "
            + ", ".join(f"{name} in {100 * share:.1f} %" for name, share in listed)
        )
    say(f"Look at it: underpaint view {record['folder']}")


def add_reflectance(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV, ENVI spectral library, or .npz.")],
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the set.")],
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Keep a set of measured reflectance spectra, which `underpaint reflect` reads beside those of the package.

    For example:

        underpaint pigments add-reflectance my_charts.csv --name my_charts
    """
    from underpaint.reflectance.user_sets import add_set, sets_folder

    spectra = add_set(file, name, overwrite=overwrite)
    for note in spectra.notes:
        say_warning(note)
    members = ", ".join(spectra.members) or "no pigment that is known"
    say(f"Kept {len(spectra)} spectra in {sets_folder() / f'{name}.npz'}: {members}.", quiet=quiet)


def reflectance(as_json: Json = False) -> None:
    """List the measured reflectance spectra: those of the package, and the sets that you added.

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
