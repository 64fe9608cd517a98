"""Commands that simulate: mockup, simulate."""

from pathlib import Path
from typing import Annotated

import typer

from underpaint.cli._console import chunk_progress, progress, say
from underpaint.cli._scans import Overwrite, Quiet


def mockup(
    recipe: Annotated[
        str, typer.Argument(metavar="[fig7|table2|CONFIG]", help="A panel of the paper, or TOML.")
    ] = "fig7",
    out: Annotated[Path, typer.Option(metavar="FILE.h5", help="File to write.")] = Path("panel.h5"),
    instrument: Annotated[str, typer.Option(metavar="PRESET|FILE", help="The scanner.")] = "elio",
    counts: Annotated[float, typer.Option(min=1, help="Mean counts a pixel.")] = 1e5,
    cell_pixels: Annotated[int, typer.Option(min=1, help="Side of a crossing of strips, pixels.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Of every random number.")] = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Paint a virtual panel of crossing strips and scan it; the truth is stored with the scan.

    **Examples**

        underpaint mockup fig7 --out panel.h5

        underpaint identify panel.h5 --out result
    """
    from underpaint.api import check_new_file
    from underpaint.synth import PanelSettings, make_panel, save_panel

    check_new_file(out, overwrite=overwrite)
    settings = PanelSettings(recipe=recipe, instrument=instrument, counts=counts, cell_pixels=cell_pixels, seed=seed)
    with progress(quiet=quiet) as step:
        step("Simulating the panel", 0, 1)
        panel = make_panel(settings, progress=chunk_progress(step, "Simulating the panel"))
        step("Writing", 0, 1)
        save_panel(panel, out)
    n_row, n_column, n_channel = panel.scan.shape
    say(f"Wrote {out}: {n_row} x {n_column} pixels, {n_channel} channels, with its truth.", quiet=quiet)
    say(f"Next: underpaint identify {out}", quiet=quiet)


def simulate(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="TOML file of the library's settings.")],
    out: Annotated[Path, typer.Option(metavar="FILE.h5", help="Training library to write.")],
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; the result does not depend on it.")] = None,
    quiet: Quiet = False,
) -> None:
    """Simulate a training library of layered paintings; call again to go on where it stopped.

    **Example**

        underpaint simulate examples/default_library.toml --out library.h5
    """
    from underpaint.api import library_settings
    from underpaint.synth import simulate_library

    settings = library_settings(config)
    with progress(quiet=quiet) as step:
        step("Simulating", 0, 1)
        simulate_library(settings, out, workers=workers, progress=chunk_progress(step, "Simulating"))
    say(f"Wrote {out}; train on it with `underpaint train`.", quiet=quiet)
