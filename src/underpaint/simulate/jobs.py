"""Jobs of ``underpaint simulate``: content of a training library, and which settings require the transport."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from underpaint.data import DEFAULT_NETWORK_AXIS, XU_NETWORK_AXIS, EnergyAxis
from underpaint.errors import SampleError
from underpaint.physics.instrument import Detector, Instrument, load_instrument, preset_names
from underpaint.physics.materials import load_palette
from underpaint.simulate.outputs import Outputs, outputs_for
from underpaint.simulate.recipes import paper_classes, paper_grid

TRANSPORT = (
    "kind",
    "n_stratigraphies",
    "palette",
    "instrument",
    "max_paint_layers",
    "max_pigments_per_layer",
    "chunk",
    "seed",
    "gapless",
    "varied",
)
"""The settings on which the photons depend; the others matter only when these are rendered."""


class LibrarySettings(BaseModel):
    """A training library."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["random", "paper"] = Field("random", description="random paintings, or the 16,224 spectra of Xu 2022")
    n_stratigraphies: int = Field(20000, ge=1, description="how many stratigraphies to draw (random)")
    palette: str | tuple[str, ...] = Field(
        "easel_15_to_20", description="palette by name or TOML file, or its pigments (random)"
    )
    instrument: str | Instrument | Annotated[tuple[Instrument, ...], Field(min_length=1)] | None = Field(
        None, description="preset, file or table; several tables: chunk by chunk in turn; None: random; paper: elio"
    )
    max_paint_layers: int = Field(3, ge=1, le=6)
    max_pigments_per_layer: int = Field(4, ge=1, le=8)
    chunk: int = Field(128, ge=1, description="stratigraphies per chunk; each chunk has one tube and geometry")
    seed: int = Field(0, ge=0, description="of stratigraphies and instruments")
    gapless: bool = Field(
        False, description="minor pigments and bare elements from 10 ppm on, without a gap between trace and pigment"
    )
    varied: bool = Field(
        False, description="all kinds of instrument, support and backing, detector paths, strong pile-up (random)"
    )

    renders: int = Field(3, ge=1, le=32, description="detectors and energy axes per stratigraphy (random)")
    detector: str | Detector | None = Field(
        None, description="detector of this preset or file, or a table; None: the instrument's, or random ones"
    )
    gain_error: float = Field(0.003, ge=0, lt=0.1, description="most that the energy axis is stretched (random)")
    zero_error_kev: float = Field(0.02, ge=0, lt=1, description="most that the energy axis is shifted, keV (random)")
    places: bool = Field(False, description="labels for the surface and below it as well as anywhere (random)")
    render_seed: int | None = Field(None, ge=0, description="of detectors, energy axes and backgrounds; None: as seed")


def resolved(settings: LibrarySettings) -> LibrarySettings:
    """Return the settings with the contents of the files they name, so that no worker has to find them.

    Raises
    ------
    SampleError
        No pigment of the palette has a detectable line.
    """
    update: dict[str, Any] = {}
    if isinstance(settings.instrument, str) and settings.instrument not in preset_names():
        update["instrument"] = load_instrument(settings.instrument)
    if isinstance(settings.detector, str):
        update["detector"] = load_instrument(settings.detector).detector
    if isinstance(settings.palette, str) and Path(settings.palette).is_file():
        update["palette"] = tuple(load_palette(settings.palette).pigments)
    job = settings.model_copy(update=update)
    if job.kind == "random" and not outputs_for(job_palette(job)).names:
        named = ", ".join(job_palette(job)) or "it is empty"
        raise SampleError(f"Cannot simulate with this palette ({named}): none of its pigments has a detectable line.")
    return job


def transport_settings(settings: LibrarySettings) -> dict[str, Any]:
    """Return the settings on which the photons depend, as plain values."""
    return settings.model_dump(mode="json", include=set(TRANSPORT))


def n_stratigraphies(settings: LibrarySettings) -> int:
    """Return the number of stratigraphies of a job."""
    return len(paper_grid()) if settings.kind == "paper" else settings.n_stratigraphies


def n_chunk(settings: LibrarySettings) -> int:
    """Return the number of chunks of a job."""
    return -(-n_stratigraphies(settings) // settings.chunk)


def chunk_size(settings: LibrarySettings, index: int) -> int:
    """Return the number of stratigraphies in a chunk; the last one may be smaller."""
    return min(settings.chunk, n_stratigraphies(settings) - index * settings.chunk)


def job_palette(settings: LibrarySettings) -> tuple[str, ...]:
    """Return the pigments that a job draws from."""
    if isinstance(settings.palette, tuple):
        return settings.palette
    return tuple(load_palette(settings.palette).pigments)


def job_outputs(settings: LibrarySettings) -> Outputs:
    """Return the labels of a job's spectra."""
    if settings.kind == "paper":
        return outputs_for(paper_classes(), with_groups=False)
    outputs = outputs_for(job_palette(settings))
    return outputs.by_place() if settings.places else outputs


def job_axis(settings: LibrarySettings) -> EnergyAxis:
    """Return the energy axis of a job's spectra."""
    return XU_NETWORK_AXIS if settings.kind == "paper" else DEFAULT_NETWORK_AXIS


def job_instrument(settings: LibrarySettings, index: int) -> Instrument | None:
    """Return the instrument that a job names for a chunk, if any."""
    named = settings.instrument
    if isinstance(named, tuple):
        return named[index % len(named)]
    return load_instrument(named) if isinstance(named, str) else named


def job_detector(settings: LibrarySettings) -> Detector | None:
    """Return the detector that a job names, if any."""
    return load_instrument(settings.detector).detector if isinstance(settings.detector, str) else settings.detector
