"""All that was concluded about a scan, as labelled arrays that are read from the file when they are computed with."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from underpaint.data.maps.detectability import STATES, DetectabilityMaps
from underpaint.data.maps.maps import PRESENT_PROBABILITY, ElementMaps, PigmentMaps
from underpaint.data.maps.open_set import OpenSet, UnexplainedLine
from underpaint.data.maps.places import Place, at_place
from underpaint.data.maps.quantities import LEVEL, SURFACE_UM, Estimate, QuantityMaps, material_of
from underpaint.errors import ScanError

if TYPE_CHECKING:
    import xarray as xr

Maps = TypeVar("Maps")
_MOST_LISTED = 8
_ARRAYS = ("probability", "pigment_probability", "area", "area_sigma", "thickness", "share", "state", "unlikeness")


@dataclass(frozen=True, repr=False)
class Results:
    """What was concluded about a scan.

    Each property is an :class:`xarray.DataArray` with dimensions among ``group``, ``pigment``, ``place``, ``line``,
    ``quantile``, ``row`` and ``column``; units, the long name and the origin are in its ``attrs``. What lies in a file
    is read when it is computed with. A property raises :class:`~underpaint.errors.ScanError`
    where nothing of the kind was concluded; :meth:`to_dataset` holds those that there are.

    Parameters
    ----------
    pigment_maps, element_maps, detectability_maps : maps or None
        The numbers as they were made, or as they lie in the file.
    open_set : OpenSet or None
        Lines that nothing explains, and how unlike all that is known each spectrum is.
    summary : mapping
        Facts of the scan; and under ``settings``, ``versions`` and ``written`` how and when the results were made.

    Examples
    --------
    >>> area = np.ones((1, 2, 1), np.float32)
    >>> results = Results(element_maps=ElementMaps(("Fe_K",), area, area))
    >>> float(results.area.sel(line="Fe_K").sum())
    2.0

    Of results on disk ``up.read_results("painting_underpaint").probability.sel(group="mercury_red", place="surface")``,
    and ``results.to_dataset().to_netcdf("painting.nc")``.
    """

    pigment_maps: PigmentMaps | None = None
    element_maps: ElementMaps | None = None
    detectability_maps: DetectabilityMaps | None = None
    open_set: OpenSet | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)

    @property
    def probability(self) -> "xr.DataArray":
        """(group, place, row, column) probability that a pigment of the group is there; NaN: no answer."""
        maps = self._pigment_maps()
        layers = [
            [_layer(maps.probability, maps.names, at_place(name, place)) for place in maps.places]
            for name in self.groups
        ]
        labels = [maps.labels[maps.names.index(name)] for name in self.groups]
        coordinates = {"group": list(self.groups), "place": list(maps.places), "label": ("group", labels)}
        return self._array(layers, ("group", "place"), coordinates, "1", "probability that the group is there")

    @property
    def pigment_probability(self) -> "xr.DataArray":
        """(pigment, row, column) probability that a pigment is anywhere in the paint; NaN: no answer."""
        maps = self._pigment_maps()
        layers = [_layer(maps.probability, maps.names, name) for name in self.pigments]
        labels = [maps.labels[maps.names.index(name)] for name in self.pigments]
        coordinates = {"pigment": list(self.pigments), "label": ("pigment", labels)}
        return self._array(layers, ("pigment",), coordinates, "1", "probability that the pigment is there")

    def pigment_at(self, pigment: str, place: Place) -> "xr.DataArray":
        """Return the (row, column) probability that a pigment is at a place; maps of few pigments are kept.

        Raises
        ------
        ScanError
            There are no pigments.
        KeyError
            The model knows no places, or no map was kept because the pigment is nowhere likely there.
        """
        maps = self._pigment_maps()
        maps.at(pigment, place)
        name = at_place(pigment, place)
        return self._array(
            _layer(maps.probability, maps.names, name), (), {}, "1", f"probability of {pigment}, {place}"
        )

    @property
    def area(self) -> "xr.DataArray":
        """(line, row, column) net counts of each line family; NaN: no answer."""
        return self._of_lines("area", "net counts of the line family")

    @property
    def area_sigma(self) -> "xr.DataArray":
        """(line, row, column) one standard deviation of counting of :attr:`area`, counts."""
        return self._of_lines("uncertainty", "standard deviation of the net counts")

    @property
    def thickness(self) -> "xr.DataArray":
        """(quantile, row, column) thickness of the uppermost layer of paint, um: median and 90 % interval."""
        estimate = _delayed_estimate(self._quantity_maps(), SURFACE_UM)
        return self._array(estimate, ("quantile",), _quantiles(), "um", "thickness of the uppermost layer")

    @property
    def share(self) -> "xr.DataArray":
        """(group, quantile, row, column) mass share among the dry pigments at the surface: median and 90 % interval."""
        quantities = self._quantity_maps()
        names = [name for name in quantities.names if material_of(name) is not None]
        layers = [_delayed_estimate(quantities, name) for name in names]
        coordinates = {"group": [material_of(name) for name in names], **_quantiles()}
        return self._array(layers, ("group", "quantile"), coordinates, "1", "share of the dry pigments at the surface")

    @property
    def state(self) -> "xr.DataArray":
        """(group, row, column) uint8: what an answer of no is worth; ``attrs["meaning"]`` names the numbers."""
        maps = _require(self.detectability_maps, "states", "underpaint identify --detectability")
        layers = [_layer(maps.state, maps.names, name) for name in maps.names]
        array = self._array(layers, ("group",), {"group": list(maps.names)}, "1", "what an answer of no is worth")
        array.attrs["meaning"] = {str(number): text for number, text in STATES.items()}
        return array

    @property
    def unlikeness(self) -> "xr.DataArray":
        """(row, column) standard deviations of the strongest peak that nothing known explains."""
        unlikeness = None if self.open_set is None else self.open_set.unlikeness
        maps = _require(unlikeness, "unlikeness", "underpaint identify")
        return self._array(maps.score, (), {}, "1", "strongest unexplained peak")

    @property
    def unexplained(self) -> tuple[UnexplainedLine, ...]:
        """Lines that are there although nothing that was concluded carries them, the most widespread first."""
        return () if self.open_set is None else self.open_set.lines

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the pigment groups."""
        return () if self.pigment_maps is None else self.pigment_maps.select("group")

    @property
    def pigments(self) -> tuple[str, ...]:
        """Names of the pigments, the members of groups."""
        return () if self.pigment_maps is None else self.pigment_maps.select("member")

    @property
    def lines(self) -> tuple[str, ...]:
        """Names of the line families."""
        return () if self.element_maps is None else self.element_maps.names

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user has to know, in words; alerts first."""
        settings = self.summary.get("settings", {})
        of_maps = (
            maps.notes for maps in (self.element_maps, self.pigment_maps, self.detectability_maps) if maps is not None
        )
        return tuple(dict.fromkeys([*settings.get("alerts", ()), *(note for notes in of_maps for note in notes)]))

    @property
    def step_mm(self) -> tuple[float, float] | None:
        """Distance of rows and of columns, mm."""
        maps = (self.pigment_maps, self.element_maps, self.detectability_maps)
        return next((each.step_mm for each in maps if each is not None and each.step_mm is not None), None)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        if self.pigment_maps is not None:
            return _rows_and_columns(self.pigment_maps.probability)
        if self.element_maps is not None:
            return _rows_and_columns(self.element_maps.area)
        return (0, 0) if self.detectability_maps is None else _rows_and_columns(self.detectability_maps.state)

    def to_dataset(self) -> "xr.Dataset":
        """Return all arrays as one :class:`xarray.Dataset`, lazily; ``to_netcdf`` writes it."""
        import xarray as xr

        arrays = {}
        for name in _ARRAYS:
            with suppress(ScanError):
                arrays[name] = getattr(self, name)
        labels = {"probability": "group_label", "pigment_probability": "pigment_label"}
        for name, label in labels.items():
            if name in arrays:
                arrays[name] = arrays[name].rename(label=label)
        if "state" in arrays:
            arrays["state"].attrs["meaning"] = "; ".join(f"{number}: {text}" for number, text in STATES.items())
        return xr.Dataset(arrays, attrs=self._origin() | {"notes": "\n".join(self.notes)})

    def __iter__(self) -> "Iterator[PigmentMaps | ElementMaps | Mapping[str, Any] | None]":
        """Give maps of pigments, maps of elements and the summary, as versions before this class returned them."""
        return iter((self.pigment_maps, self.element_maps, self.summary))

    def __repr__(self) -> str:
        n_row, n_column = self.shape
        lines = [f"<underpaint results of {self.summary.get('name', 'a scan')}: {n_row} rows x {n_column} columns>"]
        if self.pigment_maps is not None:
            maps = self.pigment_maps
            shares = {name: _share_present(maps[name]) for name in self.groups}
            seen = sorted((name for name in shares if shares[name] > 0), key=lambda name: -shares[name])
            listed = (f"{name} {100 * shares[name]:.0f} %" for name in seen)
            lines += [_listing("groups present", listed, "none"), _listing("pigments", self.pigments, "none")]
            lines += [_listing("places", maps.places, "none")]
        if self.element_maps is not None:
            lines += [_listing("lines", self.lines, "none")]
        lines += [_listing("unexplained", (line.family for line in self.unexplained), "nothing")]
        lines += [f"  note        {note}" for note in self.notes]
        return "\n".join(lines)

    def _pigment_maps(self) -> PigmentMaps:
        return _require(self.pigment_maps, "pigments", "underpaint identify")

    def _quantity_maps(self) -> QuantityMaps:
        return _require(self._pigment_maps().quantities, "quantities", "underpaint identify with a model of layers")

    def _of_lines(self, which: str, long_name: str) -> "xr.DataArray":
        maps = _require(self.element_maps, "elements", "underpaint elements")
        cube = getattr(maps, which)
        layers = [_layer(cube, maps.names, name) for name in maps.names]
        return self._array(layers, ("line",), {"line": list(maps.names)}, "counts", long_name)

    def _array(
        self, layers: Any, dimensions: tuple[str, ...], coordinates: Mapping[str, Any], units: str, long_name: str
    ) -> "xr.DataArray":
        import dask.array as da
        import xarray as xr

        def stacked(part: Any) -> Any:
            return da.stack([stacked(each) for each in part]) if isinstance(part, list) else part

        values = stacked(layers)
        n_row, n_column = values.shape[-2:]
        along: dict[str, Any] = {"row": np.arange(n_row), "column": np.arange(n_column)}
        if self.step_mm is not None:
            along |= {
                "y_mm": ("row", self.step_mm[0] * along["row"]),
                "x_mm": ("column", self.step_mm[1] * along["column"]),
            }
        attributes = {"units": units, "long_name": long_name} | self._origin()
        return xr.DataArray(
            values, dims=(*dimensions, "row", "column"), coords={**coordinates, **along}, attrs=attributes
        )

    def _origin(self) -> dict[str, str]:
        settings = self.summary.get("settings", {})
        origin = {
            "source": settings.get("source", ""),
            "model": "" if self.pigment_maps is None else self.pigment_maps.model_name,
            "underpaint": self.summary.get("versions", {}).get("underpaint", ""),
            "written": self.summary.get("written", ""),
        }
        return {name: str(value) for name, value in origin.items() if value}


def _require(maps: Maps | None, what: str, command: str) -> Maps:
    if maps is None:
        raise ScanError(f"These results hold no {what}: `{command}` writes them.")
    return maps


def _layer(cube: Any, names: Sequence[str], name: str) -> Any:
    """Return one (n_row, n_column) map of a cube as a lazy array; not a number where none was kept."""
    import dask.array as da

    shape = _rows_and_columns(cube)
    if name not in names:
        return da.full(shape, np.nan, np.float32, chunks=shape)
    return _delayed(shape, cube.dtype, lambda: cube[:, :, names.index(name)])


def _delayed(shape: tuple[int, int], dtype: Any, read: Callable[[], Any]) -> Any:
    import dask
    import dask.array as da

    return da.from_delayed(dask.delayed(read, pure=False)(), shape, dtype)


def _delayed_estimate(maps: QuantityMaps, name: str) -> list[Any]:
    """Return lower end, median and upper end of a quantity's 90 % interval as lazy maps."""
    shape = _rows_and_columns(maps.value)
    ends = ("low", "value", "high")
    estimate = partial(maps.estimate, name, LEVEL)
    return [_delayed(shape, np.float32, partial(_end_of, estimate, end)) for end in ends]


def _end_of(estimate: Callable[[], Estimate], end: str) -> Any:
    return getattr(estimate(), end)


def _quantiles() -> dict[str, list[float]]:
    return {"quantile": [0.5 - 0.5 * LEVEL, 0.5, 0.5 + 0.5 * LEVEL]}


def _rows_and_columns(cube: Any) -> tuple[int, int]:
    return int(cube.shape[0]), int(cube.shape[1])


def _share_present(values: Any) -> float:
    known = values[np.isfinite(values)]
    return float((known > PRESENT_PROBABILITY).mean()) if known.size else 0.0


def _listing(what: str, names: Iterable[str], none: str) -> str:
    every = list(names)
    rest = f", and {len(every) - _MOST_LISTED} more" if len(every) > _MOST_LISTED else ""
    return f"  {what:11s} {', '.join(every[:_MOST_LISTED]) + rest if every else none}"
