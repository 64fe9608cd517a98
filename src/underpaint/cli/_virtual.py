"""Commands that simulate: mockup, simulate."""

from pathlib import Path
from typing import Annotated, Any

import typer

from underpaint.cli._console import progress, say, show, show_json
from underpaint.cli._outputs import check_new_files, new_file
from underpaint.cli._pace import pace
from underpaint.cli._scans import Overwrite, Quiet


def mockup(
    recipe: Annotated[
        str, typer.Argument(metavar="[fig7|table2|CONFIG]", help="A panel of the paper, or TOML.")
    ] = "fig7",
    out: Annotated[Path, new_file("FILE.h5", "File to write.")] = Path("panel.h5"),
    instrument: Annotated[str, typer.Option(metavar="PRESET|FILE", help="The scanner.")] = "elio",
    counts: Annotated[float, typer.Option(min=1, help="Mean counts a pixel.")] = 1e5,
    cell_pixels: Annotated[int, typer.Option(min=1, help="Side of a crossing of strips, pixels.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Of every random number.")] = 0,
    reflectance: Annotated[
        bool, typer.Option("--reflectance", help="Write its reflectance cube and a library to read it with, too.")
    ] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Paint a virtual panel of crossing strips and scan it; the truth is stored with the scan.

    With --reflectance, FILE_reflectance.hdr is the cube of the same panel, drawn from one part of the measured spectra,
    and FILE_library.npz the other part.

    **Examples**

        underpaint mockup fig7 --out panel.h5

        underpaint identify panel.h5 --out result

        underpaint mockup fig7 --out panel.h5 --reflectance
    """
    from underpaint.simulate import PanelSettings, make_panel, save_panel

    settings = PanelSettings(recipe=recipe, instrument=instrument, counts=counts, cell_pixels=cell_pixels, seed=seed)
    cube, library = (out.with_name(out.stem + ending) for ending in ("_reflectance.hdr", "_library.npz"))
    if reflectance:
        check_new_files([cube, cube.with_suffix(".img"), library], overwrite=overwrite)
    with progress(quiet=quiet) as step:
        step("Simulating the panel", 0, 1)
        panel = make_panel(settings, progress=step)
        step("Writing", 0, 1)
        save_panel(panel, out)
        if reflectance:
            _save_reflectance(panel, cube, library, seed, overwrite=overwrite)
    n_row, n_column, n_channel = panel.scan.shape
    say(f"Wrote {out}: {n_row} x {n_column} pixels, {n_channel} channels, with its truth.", quiet=quiet)
    if reflectance:
        say(f"Wrote {cube}, its virtual reflectance, and {library}, to read it with.", quiet=quiet)
    say(f"Next: underpaint identify {out}", quiet=quiet)


def _save_reflectance(panel: Any, cube: Path, library: Path, seed: int, *, overwrite: bool) -> None:
    from underpaint.reflectance import builtin
    from underpaint.reflectance.twin import halves, panel_reflectance, save_twin

    drawn_from, read_with = halves(builtin())
    twin = panel_reflectance(panel.stratigraphies, panel.scan.shape[:2], drawn_from, seed=seed)
    save_twin(twin, cube, overwrite=overwrite)
    read_with.save(library, overwrite=overwrite)


def simulate(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="TOML: a library's settings, or stratigraphies.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE.h5", help="Training library, or scan, to write.")] = None,
    photons: Annotated[
        Path | None,
        typer.Option(metavar="FILE.h5", help="Keep the photons here; if the file is there, only render them."),
    ] = None,
    detector: Annotated[
        str | None, typer.Option(metavar="PRESET|FILE", help="See with the detector of this instrument.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; the result does not depend on it.")] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="tcp://HOST:PORT", help="Let a dask.distributed cluster do the work.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show what each spectrum is made of.")] = False,
    out_figure: Annotated[Path | None, new_file("FILE.png", "With --explain: draw it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --explain: print JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Simulate a training library of layered paintings, or spectra of stratigraphies written down by hand.

    Call again to go on where it stopped, or was killed.

    **Examples**

        underpaint simulate examples/default_library.toml --out library.h5

        underpaint simulate examples/two_paints.toml --out two_paints.h5

    Another detector without following the photons again: the first call keeps them, the second only renders.

        underpaint simulate CONFIG --out one.h5 --photons photons.h5

        underpaint simulate CONFIG --out other.h5 --photons photons.h5 --detector MINE.toml

    The same library, to the last bit, from a cluster:

        underpaint simulate CONFIG --out library.h5 --scheduler tcp://HOST:8786

    What a spectrum is made of, by element, layer, order and scatter:

        underpaint simulate examples/two_paints.toml --explain --out-figure two_paints.png
    """
    from underpaint.simulate import load_job, simulate

    if out is None and not explain:
        raise typer.BadParameter("give --out FILE.h5 to write spectra, or --explain to see what they are made of")
    if (out_figure or as_json) and not explain:
        raise typer.BadParameter("--out-figure and --json belong to --explain")
    job = load_job(config, detector=detector)
    if explain:
        _explain(job, out_figure, as_json=as_json, quiet=quiet)
    if out is None:
        return
    with pace(quiet=quiet, unit="stratigraphies") as step:
        simulate(job, out, photons=photons, workers=workers, scheduler=scheduler, progress=step)
    say(f"Wrote {out}; {_next(job, out)}", quiet=quiet or as_json)


def _explain(job: Any, out_figure: Path | None, *, as_json: bool, quiet: bool) -> None:
    from underpaint.cli._breakdown import explained, figure_paths, record, tables
    from underpaint.display.plot import breakdown_figure, save_png

    found = explained(job)
    if as_json:
        show_json({name: record(parts) for name, parts in found.items()})
    for name, parts in found.items():
        if not (as_json or quiet):
            show(tables(name, parts))
    paths = figure_paths(out_figure, found) if out_figure else {}
    check_new_files(list(paths.values()), overwrite=None)
    for name, path in paths.items():
        save_png(breakdown_figure(found[name], title=name), path)
        say(f"Wrote {path}.", quiet=quiet or as_json)


def _next(job: Any, out: Path) -> str:
    from underpaint.simulate import LibrarySettings

    trains = isinstance(job, LibrarySettings)
    return "train on it with `underpaint train`." if trains else f"next: underpaint info {out}"
