"""Commands that simulate: ``mockup`` and ``simulate``, with the tables of ``simulate --explain``."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.columns import Columns
from rich.console import Group
from rich.table import Table

from underpaint.cli._console import progress, say, show, show_json
from underpaint.cli._outputs import check_new_files, new_file
from underpaint.cli._progress_rate import progress_with_rate
from underpaint.cli._scans import OverwriteOption, QuietOption
from underpaint.display.plot.breakdown import ORDER_NAMES
from underpaint.errors import SampleError
from underpaint.physics.forward import ORDERS
from underpaint.physics.forward.breakdown import SCATTERED, Breakdown, breakdown
from underpaint.simulate.explicit import ExplicitSettings, explicit_instrument
from underpaint.simulate.jobs import LibrarySettings

MIN_SHOWN_FRACTION = 1e-4
"""Minimum fraction of the counts for a separate row of a line family and layer. Weaker ones share one row."""
ORDER_HEADINGS = ("primary", "second", "third", "by\nscatter", "re-\nscatter")
"""Column headings for ``ORDERS``."""


def job_breakdowns(job: ExplicitSettings | LibrarySettings) -> dict[str, Breakdown]:
    """Return the breakdown of each stratigraphy of a job, by name.

    Raises
    ------
    SampleError
        The job is a training library.
    """
    if isinstance(job, LibrarySettings):
        raise SampleError(
            "Cannot explain a training library: its stratigraphies are random. Give a job with [[stratigraphy]] "
            "tables, such as examples/two_paints.toml."
        )
    instrument = explicit_instrument(job)
    stratigraphy_names = [
        stratigraphy_settings.name or f"stratigraphy {index}"
        for index, stratigraphy_settings in enumerate(job.stratigraphy, start=1)
    ]
    stratigraphies = [stratigraphy_settings.stratigraphy() for stratigraphy_settings in job.stratigraphy]
    return {
        stratigraphy_name
        if stratigraphy_names.count(stratigraphy_name) == 1
        else f"{stratigraphy_name} ({index})": breakdown(stratigraphy, instrument, counts=job.counts)
        for index, (stratigraphy_name, stratigraphy) in enumerate(
            zip(stratigraphy_names, stratigraphies, strict=True), start=1
        )
    }


def figure_paths(path: Path, stratigraphy_names: Iterable[str]) -> dict[str, Path]:
    """Return the file of each stratigraphy's figure, numbered if there are several stratigraphies."""
    stratigraphy_list = list(stratigraphy_names)
    if len(stratigraphy_list) == 1:
        return {stratigraphy_list[0]: path}
    return {
        stratigraphy_name: path.with_stem(f"{path.stem}-{index}")
        for index, stratigraphy_name in enumerate(stratigraphy_list, start=1)
    }


def breakdown_tables(stratigraphy_name: str, spectrum_breakdown: Breakdown) -> Group:
    """Return a table of the lines by layer and order, and tables of sums by element, layer and order."""
    layer_sums = [
        (_layer_name(spectrum_breakdown, layer_index), float(counts.sum()))
        for layer_index, counts in spectrum_breakdown.by_layer().items()
    ]
    order_sums = [(ORDER_NAMES[order], float(counts.sum())) for order, counts in spectrum_breakdown.by_order().items()]
    element_sums = [(element, float(counts.sum())) for element, counts in spectrum_breakdown.by_element().items()]
    total_counts = float(spectrum_breakdown.total.sum())
    sum_tables = [
        _sums_table(quantity, named_sums, total_counts)
        for quantity, named_sums in (("element", element_sums), ("layer", layer_sums), ("order", order_sums))
    ]
    return Group(_lines_table(stratigraphy_name, spectrum_breakdown, total_counts), Columns(sum_tables, padding=(0, 2)))


def breakdown_record(spectrum_breakdown: Breakdown) -> dict[str, Any]:
    """Return the breakdown as a JSON-serialisable record."""
    return {
        "counts": float(spectrum_breakdown.total.sum()),
        "layers": list(spectrum_breakdown.layer_names),
        "by_element": {element: float(counts.sum()) for element, counts in spectrum_breakdown.by_element().items()},
        "by_layer": {
            _layer_name(spectrum_breakdown, layer_index): float(counts.sum())
            for layer_index, counts in spectrum_breakdown.by_layer().items()
        },
        "by_order": {order: float(counts.sum()) for order, counts in spectrum_breakdown.by_order().items()},
        "parts": [
            {
                "family": line_part.family,
                "layer": None if line_part.layer is None else line_part.layer + 1,
                "order": line_part.order,
                "photons": line_part.photons,
                "counts": line_part.counts,
            }
            for line_part in spectrum_breakdown.parts
        ],
    }


def _lines_table(stratigraphy_name: str, spectrum_breakdown: Breakdown, total_counts: float) -> Table:
    lines_table = Table(
        title=f"{stratigraphy_name}: {total_counts:,.0f} counts expected",
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
    )
    lines_table.add_column("lines")
    lines_table.add_column("layer", justify="right")
    for heading in (*ORDER_HEADINGS, "counts", "%"):
        lines_table.add_column(heading, justify="right")
    counts_by_line_and_layer: dict[tuple[str, int], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for line_part in spectrum_breakdown.parts:
        if line_part.layer is not None:
            counts_by_line_and_layer[line_part.family, line_part.layer][line_part.order] += line_part.counts
    shown_counts = {
        line_and_layer: counts_by_order
        for line_and_layer, counts_by_order in counts_by_line_and_layer.items()
        if sum(counts_by_order.values()) >= MIN_SHOWN_FRACTION * total_counts
    }
    for (family, layer), counts_by_order in sorted(
        shown_counts.items(), key=lambda table_entry: -sum(table_entry[1].values())
    ):
        lines_table.add_row(family.replace("_", " "), str(layer + 1), *_row_cells(counts_by_order, total_counts))
    weak_counts: dict[str, float] = defaultdict(float)
    for line_and_layer, counts_by_order in counts_by_line_and_layer.items():
        if line_and_layer not in shown_counts:
            for order, counts in counts_by_order.items():
                weak_counts[order] += counts
    if weak_counts:
        lines_table.add_row(
            f"{len(counts_by_line_and_layer) - len(shown_counts)} weak", "", *_row_cells(weak_counts, total_counts)
        )
    return lines_table


def _row_cells(counts_by_order: dict[str, float], total_counts: float) -> list[str]:
    counts = sum(counts_by_order.values())
    return [
        *(_counts_text(counts_by_order.get(order, 0.0)) for order in ORDERS),
        _counts_text(counts),
        _percent_text(counts / total_counts),
    ]


def _sums_table(quantity: str, named_sums: list[tuple[str, float]], total_counts: float) -> Table:
    sums_table = Table(box=SIMPLE_HEAD)
    sums_table.add_column(f"by {quantity}")
    sums_table.add_column("counts", justify="right")
    sums_table.add_column("%", justify="right")
    for row_label, counts in named_sums:
        sums_table.add_row(row_label, _counts_text(counts), _percent_text(counts / total_counts))
    sums_table.add_section()
    sums_table.add_row(
        "sum",
        _counts_text(sum(counts for _, counts in named_sums)),
        _percent_text(sum(counts for _, counts in named_sums) / total_counts),
    )
    return sums_table


def _layer_name(spectrum_breakdown: Breakdown, layer_index: int | None) -> str:
    return SCATTERED if layer_index is None else f"{layer_index + 1} {spectrum_breakdown.layer_names[layer_index]}"


def _counts_text(counts: float) -> str:
    if counts == 0:
        return "-"
    if counts < 0.05:
        return "<0.1"
    return f"{counts:,.0f}" if counts >= 10 else f"{counts:.1f}"


def _percent_text(fraction: float) -> str:
    return f"{100 * fraction:.2f}"


def mockup(
    recipe: Annotated[
        str, typer.Argument(metavar="[fig7|table2|CONFIG]", help="Panel of the paper, or a TOML file.")
    ] = "fig7",
    out: Annotated[Path, new_file("FILE.h5", "File to write.")] = Path("panel.h5"),
    instrument: Annotated[str, typer.Option(metavar="PRESET|FILE", help="Scanner of the panel.")] = "elio",
    counts: Annotated[float, typer.Option(min=1, help="Mean counts per pixel.")] = 1e5,
    cell_pixels: Annotated[int, typer.Option(min=1, help="Side of a square where two strips cross, in pixels.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random numbers.")] = 0,
    reflectance: Annotated[
        bool, typer.Option("--reflectance", help="Also write a reflectance cube, and a library to analyse it.")
    ] = False,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Simulate the scan of a virtual panel of crossing strips, and store it with the ground truth.

    With --reflectance, FILE_reflectance.hdr is a reflectance cube of the same panel. The cube is simulated from half of
    the measured reflectance spectra. FILE_library.npz contains the other half.

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
        Path, typer.Argument(metavar="CONFIG", help="TOML file of a library's settings, or of stratigraphies.")
    ],
    out: Annotated[Path | None, typer.Option(metavar="FILE.h5", help="Training library or scan to write.")] = None,
    photons: Annotated[
        Path | None,
        typer.Option(metavar="FILE.h5", help="File for the simulated photons. An existing file is only rendered."),
    ] = None,
    detector: Annotated[
        str | None, typer.Option(metavar="PRESET|FILE", help="Simulate the detector of this instrument.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of worker processes, which does not change the result.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="tcp://HOST:PORT", help="Compute on a dask.distributed cluster.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show the contributions to each spectrum.")] = False,
    out_figure: Annotated[Path | None, new_file("FILE.png", "With --explain, draw the contributions.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --explain, print JSON.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Simulate a training library of layered paintings, or spectra of given stratigraphies.

    The same command resumes an interrupted run.

    For example:

        underpaint simulate examples/default_library.toml --out library.h5

        underpaint simulate examples/two_paints.toml --out two_paints.h5

    For another detector without a new simulation, store the photons in the first call and render them in the second:

        underpaint simulate CONFIG --out one.h5 --photons photons.h5

        underpaint simulate CONFIG --out other.h5 --photons photons.h5 --detector MINE.toml

    To compute the identical library on a cluster:

        underpaint simulate CONFIG --out library.h5 --scheduler tcp://HOST:8786

    To show the contributions to a spectrum by element, layer, order and scatter:

        underpaint simulate examples/two_paints.toml --explain --out-figure two_paints.png
    """
    from underpaint.simulate import load_job, simulate

    if out is None and not explain:
        raise typer.BadParameter("give --out FILE.h5 to write spectra, or --explain to show the contributions")
    if (out_figure or as_json) and not explain:
        raise typer.BadParameter("--out-figure and --json belong to --explain")
    job = load_job(config, detector=detector)
    if explain:
        _show_breakdowns(job, out_figure, as_json=as_json, quiet=quiet)
    if out is None:
        return
    with progress_with_rate(quiet=quiet, unit="stratigraphies") as report_progress:
        simulate(job, out, photons=photons, workers=workers, scheduler=scheduler, progress=report_progress)
    say(f"Wrote {out}; {_next_step_text(job, out)}", quiet=quiet or as_json)


def _show_breakdowns(job: Any, out_figure: Path | None, *, as_json: bool, quiet: bool) -> None:
    from underpaint.cli._virtual import breakdown_record, breakdown_tables, figure_paths, job_breakdowns
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
