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
    counts: Annotated[float, typer.Option(min=1, help="Mean counts per pixel.")] = 1e5,
    cell_pixels: Annotated[int, typer.Option(min=1, help="Side of a square where two strips cross, pixels.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random numbers.")] = 0,
    reflectance: Annotated[
        bool, typer.Option("--reflectance", help="Also write a reflectance cube, and a library to analyse it.")
    ] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Simulate the scan of a virtual panel of crossing strips; the ground truth is stored with the scan.

    With --reflectance, FILE_reflectance.hdr is the cube of the same panel, simulated from one part of the measured
    spectra, and FILE_library.npz contains the other part.

    For example:

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
    say(f"Wrote {out}: {n_row} x {n_column} pixels, {n_channel} channels, with ground truth.", quiet=quiet)
    if reflectance:
        say(f"Wrote {cube}, the virtual reflectance, and {library}, a library to analyse it.", quiet=quiet)
    say(f"Next: underpaint identify {out}", quiet=quiet)


def _save_reflectance(panel: Any, cube: Path, library: Path, seed: int, *, overwrite: bool) -> None:
    from underpaint.reflectance import builtin
    from underpaint.reflectance.twin import panel_reflectance, save_twin, split_halves

    simulation_library, analysis_library = split_halves(builtin())
    twin = panel_reflectance(panel.stratigraphies, panel.scan.shape[:2], simulation_library, seed=seed)
    save_twin(twin, cube, overwrite=overwrite)
    analysis_library.save(library, overwrite=overwrite)


def simulate(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="TOML: a library's settings, or stratigraphies.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE.h5", help="Training library, or scan, to write.")] = None,
    photons: Annotated[
        Path | None,
        typer.Option(metavar="FILE.h5", help="Store the photons here; an existing file is only rendered."),
    ] = None,
    detector: Annotated[
        str | None, typer.Option(metavar="PRESET|FILE", help="Simulate the detector of this instrument.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; the result does not depend on it.")] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="tcp://HOST:PORT", help="Compute on a dask.distributed cluster.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show the contributions to each spectrum.")] = False,
    out_figure: Annotated[Path | None, new_file("FILE.png", "With --explain: draw it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --explain: print JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Simulate a training library of layered paintings, or spectra of given stratigraphies.

    The same command resumes an interrupted run.

    For example:

        underpaint simulate examples/default_library.toml --out library.h5

        underpaint simulate examples/two_paints.toml --out two_paints.h5

    Another detector without a new simulation of the photons: the first call stores them, the second only renders.

        underpaint simulate CONFIG --out one.h5 --photons photons.h5

        underpaint simulate CONFIG --out other.h5 --photons photons.h5 --detector MINE.toml

    The identical library from a cluster:

        underpaint simulate CONFIG --out library.h5 --scheduler tcp://HOST:8786

    The contributions to a spectrum by element, layer, order and scatter:

        underpaint simulate examples/two_paints.toml --explain --out-figure two_paints.png
    """
    from underpaint.simulate import load_job, simulate

    if out is None and not explain:
        raise typer.BadParameter("give --out FILE.h5 to write spectra, or --explain to show the contributions")
    if (out_figure or as_json) and not explain:
        raise typer.BadParameter("--out-figure and --json belong to --explain")
    job = load_job(config, detector=detector)
    if explain:
        _explain(job, out_figure, as_json=as_json, quiet=quiet)
    if out is None:
        return
    with pace(quiet=quiet, unit="stratigraphies") as step:
        simulate(job, out, photons=photons, workers=workers, scheduler=scheduler, progress=step)
    say(f"Wrote {out}; {_next_step(job, out)}", quiet=quiet or as_json)


def _explain(job: Any, out_figure: Path | None, *, as_json: bool, quiet: bool) -> None:
    from underpaint.cli._breakdown import breakdown_record, breakdown_tables, figure_paths, job_breakdowns
    from underpaint.display.plot import breakdown_figure, save_png

    breakdowns = job_breakdowns(job)
    if as_json:
        show_json({name: breakdown_record(spectrum_breakdown) for name, spectrum_breakdown in breakdowns.items()})
    for name, spectrum_breakdown in breakdowns.items():
        if not (as_json or quiet):
            show(breakdown_tables(name, spectrum_breakdown))
    paths = figure_paths(out_figure, breakdowns) if out_figure else {}
    check_new_files(list(paths.values()), overwrite=None)
    for name, path in paths.items():
        save_png(breakdown_figure(breakdowns[name], title=name), path)
        say(f"Wrote {path}.", quiet=quiet or as_json)


def _next_step(job: Any, out: Path) -> str:
    from underpaint.simulate import LibrarySettings

    is_library = isinstance(job, LibrarySettings)
    return "train on it with `underpaint train`." if is_library else f"next: underpaint info {out}"
