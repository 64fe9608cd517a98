"""Settings of a training library for ``underpaint simulate``."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from underpaint.data import DEFAULT_NETWORK_AXIS, XU_NETWORK_AXIS, EnergyAxis
from underpaint.errors import SampleError
from underpaint.physics.instrument import Detector, Instrument, load_instrument, preset_names
from underpaint.physics.materials import load_palette
from underpaint.simulate.outputs import Outputs, outputs_for
from underpaint.simulate.recipes import paper_classes, paper_grid

TRANSPORT_FIELDS = (
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
"""Settings that determine the emitted photons. All other settings affect only detector and electronics."""


class LibrarySettings(BaseModel):
    """Settings of a training library."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["random", "paper"] = Field(
        "random", description="random stratigraphies, or the 16,224 spectra of Xu et al. 2022"
    )
    n_stratigraphies: int = Field(20000, ge=1, description="number of stratigraphies (only if kind is random)")
    palette: str | tuple[str, ...] = Field(
        "easel_15_to_20", description="name or TOML file of a palette, or a list of pigments (only if kind is random)"
    )
    instrument: str | Instrument | Annotated[tuple[Instrument, ...], Field(min_length=1)] | None = Field(
        None,
        description="preset, file or table. Several tables take turns with the chunks. None means random instruments "
        "(or elio, if kind is paper)",
    )
    max_paint_layers: int = Field(3, ge=1, le=6)
    max_pigments_per_layer: int = Field(4, ge=1, le=8)
    chunk: int = Field(128, ge=1, description="number of stratigraphies per chunk. A chunk has one tube and geometry")
    seed: int = Field(0, ge=0, description="seed of random stratigraphies and instruments")
    gapless: bool = Field(
        False, description="add minor pigments and bare elements, with mass fractions of 10 ppm or more"
    )
    varied: bool = Field(
        False,
        description="draw from more kinds of instruments, supports and backings, and from wider ranges "
        "(only if kind is random)",
    )

    renders: int = Field(
        3, ge=1, le=32, description="number of detectors and energy axes per stratigraphy (only if kind is random)"
    )
    detector: str | Detector | None = Field(
        None,
        description="preset or file whose detector is used, or a table. None means the instrument's detector if an "
        "instrument is given, else random detectors",
    )
    gain_error: float = Field(
        0.003, ge=0, lt=0.1, description="maximum relative error of the gain (only if kind is random)"
    )
    zero_error_kev: float = Field(
        0.02, ge=0, lt=1, description="maximum error of the zero of the energy axis, in keV (only if kind is random)"
    )
    places: bool = Field(
        False, description="add labels for the surface and for the layers below the surface (only if kind is random)"
    )
    render_seed: int | None = Field(
        None, ge=0, description="seed of random detectors, energy axes and backgrounds, by default ``seed``"
    )


def with_file_contents(settings: LibrarySettings) -> LibrarySettings:
    """Replace file names in the settings by the files' contents, because workers may not have the files.

    Raises
    ------
    SampleError
        No pigment of the palette has a detectable line.
    """
    file_contents: dict[str, Any] = {}
    if isinstance(settings.instrument, str) and settings.instrument not in preset_names():
        file_contents["instrument"] = load_instrument(settings.instrument)
    if isinstance(settings.detector, str):
        file_contents["detector"] = load_instrument(settings.detector).detector
    if isinstance(settings.palette, str) and Path(settings.palette).is_file():
        file_contents["palette"] = tuple(load_palette(settings.palette).pigments)
    job = settings.model_copy(update=file_contents)
    if job.kind == "random" and not outputs_for(job_palette(job)).names:
        palette_text = ", ".join(job_palette(job)) or "it is empty"
        raise SampleError(
            f"Cannot simulate with this palette ({palette_text}): no pigment of the palette has a detectable line. "
            "Add a pigment with a detectable element."
        )
    return job


def transport_settings(settings: LibrarySettings) -> dict[str, Any]:
    """Return a JSON-serialisable dictionary of the settings that determine the emitted photons."""
    return settings.model_dump(mode="json", include=set(TRANSPORT_FIELDS))


def n_stratigraphies(settings: LibrarySettings) -> int:
    """Return the number of stratigraphies in a job."""
    return len(paper_grid()) if settings.kind == "paper" else settings.n_stratigraphies


def n_chunks(settings: LibrarySettings) -> int:
    """Return the number of chunks into which a job is divided."""
    return -(-n_stratigraphies(settings) // settings.chunk)


def chunk_size(settings: LibrarySettings, chunk_index: int) -> int:
    """Return the number of stratigraphies in a chunk. The last chunk may have fewer stratigraphies."""
    return min(settings.chunk, n_stratigraphies(settings) - chunk_index * settings.chunk)


def job_palette(settings: LibrarySettings) -> tuple[str, ...]:
    """Return the pigments of a job's palette."""
    if isinstance(settings.palette, tuple):
        return settings.palette
    return tuple(load_palette(settings.palette).pigments)


def job_outputs(settings: LibrarySettings) -> Outputs:
    """Return the network outputs for which a job's spectra are labelled."""
    if settings.kind == "paper":
        return outputs_for(paper_classes(), with_groups=False)
    outputs = outputs_for(job_palette(settings))
    return outputs.with_places() if settings.places else outputs


def job_axis(settings: LibrarySettings) -> EnergyAxis:
    """Return the energy axis of a job's spectra."""
    return XU_NETWORK_AXIS if settings.kind == "paper" else DEFAULT_NETWORK_AXIS


def job_instrument(settings: LibrarySettings, chunk_index: int) -> Instrument | None:
    """Return the instrument for a chunk, or None if it is drawn at random."""
    instrument_setting = settings.instrument
    if isinstance(instrument_setting, tuple):
        return instrument_setting[chunk_index % len(instrument_setting)]
    return load_instrument(instrument_setting) if isinstance(instrument_setting, str) else instrument_setting


def job_detector(settings: LibrarySettings) -> Detector | None:
    """Return the detector that a job sets, or None if it sets none."""
    return load_instrument(settings.detector).detector if isinstance(settings.detector, str) else settings.detector
