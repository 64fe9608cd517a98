"""Commands ``mockup`` and ``simulate``: simulated scans and training libraries."""

from pathlib import Path
from typing import Annotated, Any

import typer

from underpaint.cli._console import progress, say, show, show_json
from underpaint.cli._outputs import check_ending, check_new_files, new_file
from underpaint.cli._progress_rate import progress_with_rate
from underpaint.cli._scans import OverwriteOption, QuietOption


def mockup(
    recipe: Annotated[
        str,
        typer.Argument(metavar="[fig7|table2|CONFIG]", help="Name of a built-in panel, or a TOML file with a recipe."),
    ] = "fig7",
    out: Annotated[Path, new_file("FILE.h5", "File to write.")] = Path("panel.h5"),
    instrument: Annotated[str, typer.Option(metavar="PRESET|FILE", help="Scanner that records the panel.")] = "elio",
    counts: Annotated[float, typer.Option(min=1, help="Mean total counts of a pixel.")] = 1e5,
    cell_pixels: Annotated[int, typer.Option(min=1, help="Side of a square where two strips cross, in pixels.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random numbers.")] = 0,
    reflectance: Annotated[
        bool,
        typer.Option(
            "--reflectance", help="Also write a reflectance cube, and a spectral library to analyse the cube."
        ),
    ] = False,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Simulate the scan of a virtual panel of crossing paint strips. The file also contains the ground truth.

    With --reflectance, FILE_reflectance.hdr is a reflectance cube of the same panel. The cube is simulated with one
    half of the measured reflectance spectra. FILE_library.npz contains the other half.

    For example:

        underpaint mockup fig7 --out panel.h5

        underpaint identify panel.h5 --out result

        underpaint mockup fig7 --out panel.h5 --reflectance
    """
    from underpaint.simulate import PanelSettings, make_panel, save_panel

    settings = PanelSettings(recipe=recipe, instrument=instrument, counts=counts, cell_pixels=cell_pixels, seed=seed)
    cube_file, library_file = (
        out.with_name(out.stem + file_ending) for file_ending in ("_reflectance.hdr", "_library.npz")
    )
    if reflectance:
        check_new_files([cube_file, cube_file.with_suffix(".img"), library_file], overwrite=overwrite)
    with progress(quiet=quiet) as report_progress:
        report_progress("Simulating the panel", 0, 1)
        panel = make_panel(settings, progress=report_progress)
        report_progress("Writing", 0, 1)
        save_panel(panel, out)
        if reflectance:
            _save_reflectance(panel, cube_file, library_file, seed, overwrite=overwrite)
    n_row, n_column, n_channel = panel.scan.shape
    say(f"Wrote {out}: {n_row} x {n_column} pixels, {n_channel} channels, with ground truth.", quiet=quiet)
    if reflectance:
        say(f"Wrote {cube_file}, the virtual reflectance, and {library_file}, a library to analyse it.", quiet=quiet)
    say(f"Next: underpaint identify {out}", quiet=quiet)


def _save_reflectance(panel: Any, cube_file: Path, library_file: Path, seed: int, *, overwrite: bool) -> None:
    from underpaint.reflectance import builtin
    from underpaint.reflectance.twin import panel_reflectance, save_twin, split_halves

    simulation_library, analysis_library = split_halves(builtin())
    virtual_cube = panel_reflectance(panel.stratigraphies, panel.scan.shape[:2], simulation_library, seed=seed)
    save_twin(virtual_cube, cube_file, overwrite=overwrite)
    analysis_library.save(library_file, overwrite=overwrite)


def simulate(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="TOML file with the settings of a library, or with stratigraphies.")
    ],
    out: Annotated[Path | None, typer.Option(metavar="FILE.h5", help="Training library or scan to write.")] = None,
    photons: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.h5", help="File for the emitted photons. If the file exists, only the detector is simulated."
        ),
    ] = None,
    detector: Annotated[
        str | None, typer.Option(metavar="PRESET|FILE", help="Use the detector of this instrument.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of worker processes, which has no effect on the result.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="tcp://HOST:PORT", help="Compute on this dask.distributed cluster.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show what contributes to each spectrum.")] = False,
    out_figure: Annotated[
        Path | None, new_file("FILE.png", "With --explain, draw what contributes to each spectrum.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --explain, print the contributions as JSON.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Simulate a training library of random stratigraphies, or spectra of given stratigraphies.

    The same command resumes an interrupted run.

    For example:

        underpaint simulate examples/default_library.toml --out library.h5

        underpaint simulate examples/two_paints.toml --out two_paints.h5

    To simulate only the detector again, store the emitted photons in the first call and reuse them in the second:

        underpaint simulate CONFIG --out one.h5 --photons photons.h5

        underpaint simulate CONFIG --out other.h5 --photons photons.h5 --detector MINE.toml

    To compute the same library on a cluster:

        underpaint simulate CONFIG --out library.h5 --scheduler tcp://HOST:8786

    To show how much each element, layer, order of fluorescence and scatter contributes to a spectrum:

        underpaint simulate examples/two_paints.toml --explain --out-figure two_paints.png
    """
    from underpaint.simulate import load_job, simulate

    if out is None and not explain:
        raise typer.BadParameter("give --out FILE.h5 to write spectra, or --explain to show the contributions")
    if (out_figure or as_json) and not explain:
        raise typer.BadParameter("--out-figure and --json belong to --explain")
    for path in (out, photons):
        if path is not None:
            check_ending(path, "FILE.h5")
    job = load_job(config, detector=detector)
    if explain:
        _show_breakdowns(job, out_figure, as_json=as_json, quiet=quiet)
    if out is None:
        return
    with progress_with_rate(quiet=quiet, unit="stratigraphies") as report_progress:
        simulate(job, out, photons=photons, workers=workers, scheduler=scheduler, progress=report_progress)
    say(f"Wrote {out}; {_next_step_text(job, out)}", quiet=quiet or as_json)


def _show_breakdowns(job: Any, out_figure: Path | None, *, as_json: bool, quiet: bool) -> None:
    from underpaint.cli._breakdown import breakdown_record, breakdown_tables, figure_paths, job_breakdowns
    from underpaint.display.plot import breakdown_figure, save_png

    breakdown_by_name = job_breakdowns(job)
    if as_json:
        show_json(
            {
                stratigraphy_name: breakdown_record(spectrum_breakdown)
                for stratigraphy_name, spectrum_breakdown in breakdown_by_name.items()
            }
        )
    for stratigraphy_name, spectrum_breakdown in breakdown_by_name.items():
        if not (as_json or quiet):
            show(breakdown_tables(stratigraphy_name, spectrum_breakdown))
    figure_files = figure_paths(out_figure, breakdown_by_name) if out_figure else {}
    check_new_files(list(figure_files.values()), overwrite=None)
    for stratigraphy_name, figure_file in figure_files.items():
        save_png(breakdown_figure(breakdown_by_name[stratigraphy_name], title=stratigraphy_name), figure_file)
        say(f"Wrote {figure_file}.", quiet=quiet or as_json)


def _next_step_text(job: Any, out: Path) -> str:
    from underpaint.simulate import LibrarySettings

    is_library = isinstance(job, LibrarySettings)
    return "train on it with `underpaint train`." if is_library else f"next: underpaint info {out}"
