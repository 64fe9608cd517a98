"""Simulated test sets: held-out instruments and structures, virtual mock-ups, and elements left out of the fit."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from underpaint.data import DEFAULT_NETWORK_AXIS, EnergyAxis, Scan, survey
from underpaint.data.maps import UNLIKE_SIGMA, split_place
from underpaint.elements import Evidence, known_families, plan_all_families, unlikeness
from underpaint.lab.evaluation.answering import Spectra, columns_by_name
from underpaint.lab.evaluation.groups import group_outputs, summarise_scores
from underpaint.lab.evaluation.parts import splits_by_group, structure_families
from underpaint.lab.evaluation.plan import TrustPlan
from underpaint.lab.evaluation.scores import auroc
from underpaint.physics.forward import axis_of, count, counts_needed, efficiency, emit, render
from underpaint.physics.instrument import Detector, Filter, Geometry, Instrument, Tube
from underpaint.physics.materials import library, load_palette
from underpaint.pigments.weights import ModelCard
from underpaint.runtime.progress import Progress
from underpaint.simulate import LibrarySettings, RandomStratigraphies, StratigraphySampler, simulate_library
from underpaint.simulate.instrument_inputs import conditions_of
from underpaint.simulate.labels import labels_by_lines, materials, pigments_in, present_at, visible_labels
from underpaint.simulate.mockups import Mockups, paint_mockups
from underpaint.simulate.outputs import Outputs

if TYPE_CHECKING:
    from underpaint.lab.training import FinetuneSettings, Library, TrainedNetwork


Array = NDArray[np.float64]
N_SAMPLE_PER_BATCH = 100
MIN_SPECTRA = 20
"""Minimum number of positive spectra, and of negative spectra, for an AUROC."""
PRESENT_SIGMAS = 5.0
"""Significance, in sigma, above which an element is present. ``counts_needed`` is rescaled from 3 to 5 sigma."""
BACKGROUND_FRACTION = 0.02
"""Smooth background as a fraction of the total counts."""


@dataclass(frozen=True)
class OpenSetSamples:
    """Expected spectra, normalised to a sum of one.

    ``counts_needed`` is the total counts above which each line family is visible. ``line_fraction`` is the fraction of
    the counts in each line family.
    """

    expected_spectra: Array
    counts_needed: dict[str, Array]
    line_fraction: dict[str, Array]
    elements: list[set[str]]


def draw_samples(
    n_painting: int, instrument: Instrument, seed: int, *, progress: Callable[[int, int], None] | None = None
) -> OpenSetSamples:
    """Draw random paintings, and simulate their spectra with a smooth background of 2 % of the counts."""
    axis = axis_of(instrument.detector)
    rng = np.random.default_rng(seed)
    visible_groups = {group.name for group in library().groups if group.visible}
    palette = tuple(pigment.name for pigment in library() if visible_groups & set(pigment.groups))
    stratigraphy_sampler = StratigraphySampler(RandomStratigraphies(palette=palette))
    stratigraphies = [stratigraphy_sampler.draw(rng) for _ in range(n_painting)]
    expected_spectra = np.zeros((n_painting, axis.n_channel))
    counts_needed_by_family: dict[str, Array] = {}
    line_fraction: dict[str, Array] = {}
    for batch_start in range(0, n_painting, N_SAMPLE_PER_BATCH):
        rows = slice(batch_start, batch_start + N_SAMPLE_PER_BATCH)
        emission = emit(stratigraphies[rows], instrument)
        energy_kev, family_of_line = np.asarray(emission.lines.energy_kev), np.asarray(emission.lines.family)
        line_counts = np.asarray(emission.line_photons) * efficiency(instrument.detector, energy_kev)
        spectra = np.asarray(render(emission, instrument.detector, axis), dtype=np.float64)
        spectra += BACKGROUND_FRACTION * spectra.sum(axis=1, keepdims=True) / axis.n_channel
        expected_spectra[rows] = spectra / spectra.sum(axis=1, keepdims=True)
        for name in set(family_of_line.tolist()):
            is_family_line = family_of_line == name
            family_counts_needed = counts_needed(
                line_counts[:, is_family_line], energy_kev[is_family_line], spectra, axis, instrument.detector
            )
            counts_needed_by_family.setdefault(name, np.full(n_painting, np.inf))[rows] = (
                PRESENT_SIGMAS / 3.0
            ) ** 2 * family_counts_needed
            is_in_range = (energy_kev[is_family_line] > axis.start_kev) & (energy_kev[is_family_line] < axis.stop_kev)
            line_fraction.setdefault(name, np.zeros(n_painting))[rows] = (
                line_counts[:, is_family_line] * is_in_range
            ).sum(axis=1) / spectra.sum(axis=1)
        if progress is not None:
            progress(min(batch_start + N_SAMPLE_PER_BATCH, n_painting), n_painting)
    elements = [{name for layer in sample.layers for name in layer.mass_fractions} for sample in stratigraphies]
    return OpenSetSamples(expected_spectra, counts_needed_by_family, line_fraction, elements)


def leave_each_out(samples: OpenSetSamples, counts: float, instrument: Instrument, seed: int) -> dict[str, Any]:
    """Score the unlikeness, with each element in turn left out of the known elements.

    Returns
    -------
    dict
        ``auroc``, ``auroc_fit`` and ``spectra`` by element, and ``alarms``.
        For ``auroc_fit``, a spectrum is positive if the element's true line counts exceed 5 sigma. The fit that
        determines sigma includes the element. ``auroc`` and ``auroc_fit`` differ for elements whose lines overlap with
        other lines. ``alarms`` is the fraction of spectra with a high unlikeness when no element is left out.
    """
    axis = axis_of(instrument.detector)
    spectra = count(counts * samples.expected_spectra, rng=np.random.default_rng(seed))
    all_families = known_families()
    family_fit = plan_all_families(survey(Scan(spectra[None], axis)), axis, instrument)
    batches = [
        family_fit(spectra[batch_start : batch_start + N_SAMPLE_PER_BATCH])
        for batch_start in range(0, len(spectra), N_SAMPLE_PER_BATCH)
    ]
    evidence = Evidence(*(np.concatenate(batch) for batch in zip(*batches, strict=True)))
    area_sigma_by_family = dict(zip(family_fit.names, evidence.sigma_if_absent.T, strict=False))
    unlikeness_score, _ = unlikeness(all_families, family_fit, axis, instrument)(evidence)
    scores_by_element: dict[str, Any] = {
        "alarms": float((unlikeness_score > UNLIKE_SIGMA).mean()),
        "auroc": {},
        "auroc_fit": {},
        "spectra": {},
    }
    for element in sorted({family.partition("_")[0] for family in all_families}):
        element_families = [name for name in samples.counts_needed if name.partition("_")[0] == element]
        is_absent = np.array([element not in present_elements for present_elements in samples.elements])
        if not element_families or element == instrument.tube.anode:
            continue
        is_clearly_present = np.min([samples.counts_needed[name] for name in element_families], axis=0) < counts
        exceeds_fit_limit = [
            counts * samples.line_fraction[name] > PRESENT_SIGMAS * area_sigma_by_family[name]
            for name in element_families
            if name in area_sigma_by_family
        ]
        if min(is_clearly_present.sum(), is_absent.sum()) < MIN_SPECTRA:
            continue
        remaining_families = [name for name in all_families if name.partition("_")[0] != element]
        unlikeness_score, _ = unlikeness(remaining_families, family_fit, axis, instrument)(evidence)
        scores_by_element["auroc"][element] = _auroc(unlikeness_score, is_clearly_present, is_absent)
        scores_by_element["auroc_fit"][element] = (
            _auroc(unlikeness_score, np.any(exceeds_fit_limit, axis=0), is_absent) if exceeds_fit_limit else None
        )
        scores_by_element["spectra"][element] = {
            "present": int(is_clearly_present.sum()),
            "absent": int(is_absent.sum()),
            "present_flagged": float((unlikeness_score[is_clearly_present] > UNLIKE_SIGMA).mean()),
            "absent_flagged": float((unlikeness_score[is_absent] > UNLIKE_SIGMA).mean()),
        }
    scores_by_element["missed"] = [
        name for name, auroc_value in scores_by_element["auroc"].items() if auroc_value < 0.95
    ]
    scores_by_element["missed_fit"] = [
        name
        for name, auroc_value in scores_by_element["auroc_fit"].items()
        if auroc_value is not None and auroc_value < 0.95
    ]
    return scores_by_element


def _auroc(
    unlikeness_score: NDArray[np.floating], is_present: NDArray[np.bool_], is_absent: NDArray[np.bool_]
) -> float | None:
    if min(is_present.sum(), is_absent.sum()) < MIN_SPECTRA:
        return None
    is_scored = is_present | is_absent
    return auroc(unlikeness_score[is_scored], is_present[is_scored])


PALETTE = "easel_15_to_20"
"""Palette that is simulated for models that predict all its visible pigments."""
TEST_SEED, TUNING_SEED, UNSEEN_SEED = 0, 1, 2
"""Numbers added to the seed, so that each set has different random numbers."""
MAX_SERIAL_CHUNKS = 8
"""Maximum number of chunks that are simulated in a single process."""
AnswerFunction = Callable[[Spectra], NDArray[np.float32]]
"""Function that returns (n, n_group) probabilities for spectra. NaN means no answer."""
BATCH_SIZE = 256


@dataclass(frozen=True)
class HeldOutSet:
    """Simulated spectra with their labels.

    Parameters
    ----------
    expected : (n, n_channel) float32 array
        Expected spectra, normalised to a sum of one.
    recorded : (n, 2) float32 array
        Lowest and highest recorded energy, in keV.
    labels, counts_needed : (n, n_name) arrays
        Whether each output is present, and the total counts above which it is visible.
    surface_um : (n,) float32 array
        Thickness of the uppermost paint, in um, or NaN if there is no paint.
    surface_share : (n, n_material) float32 array
        Mass fraction of each material in the dry pigments of the uppermost paint.
    instrument : (n, n_input) float32 array
        Instrument conditions.
    names, kinds, materials : tuple of str
        Names and kinds of the outputs, and the materials of ``surface_share``.
    axis : EnergyAxis
    max_absent_counts : (n, n_name) float32 array or None
        Total counts below which a name counts as absent, for networks that predict the presence of lines.
        None means no limit.
    """

    expected: NDArray[np.float32]
    recorded: NDArray[np.float32]
    labels: NDArray[np.uint8]
    counts_needed: NDArray[np.float32]
    surface_um: NDArray[np.float32]
    surface_share: NDArray[np.float32]
    instrument: NDArray[np.float32]
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    materials: tuple[str, ...]
    axis: EnergyAxis = DEFAULT_NETWORK_AXIS
    max_absent_counts: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Return the number of spectra."""
        return len(self.expected)

    @property
    def instrument_index(self) -> NDArray[np.int64]:
        """Index of the instrument of each spectrum, with the shape (n,)."""
        return np.asarray(np.unique(self.instrument, axis=0, return_inverse=True)[1].ravel(), dtype=np.int64)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups, without places."""
        names_and_kinds = zip(self.names, self.kinds, strict=True)
        return tuple(
            name
            for name, output_kind in names_and_kinds
            if output_kind == "group" and split_place(name)[1] == "anywhere"
        )

    def columns(self, names: tuple[str, ...]) -> list[int]:
        """Return the column index in ``labels`` of each name."""
        return [self.names.index(name) for name in names]

    def select_rows(self, rows: NDArray[np.integer] | slice) -> "HeldOutSet":
        """Return the held-out set, restricted to the spectra in the given rows."""
        array_names = ("expected", "recorded", "labels", "counts_needed", "surface_um", "surface_share", "instrument")
        max_absent_counts = None if self.max_absent_counts is None else self.max_absent_counts[rows]
        return replace(
            self, max_absent_counts=max_absent_counts, **{name: getattr(self, name)[rows] for name in array_names}
        )

    def draw_spectra(self, counts: NDArray[np.floating] | float, seed: tuple[int, ...]) -> Spectra:
        """Draw spectra with the given mean total counts, which are one number or an (n,) array."""
        rng = np.random.default_rng(seed)
        total_counts = np.broadcast_to(np.asarray(counts, dtype=np.float64), (len(self),))
        spectra = count(self.expected * total_counts[:, None], rng=rng).astype(np.float32)
        return Spectra(spectra, self.axis, self.recorded, self.instrument)

    def is_present(self, counts: NDArray[np.floating] | float) -> NDArray[np.bool_]:
        """Return an (n, n_name) mask of the names that count as present at the given total counts."""
        return present_at(self.labels, self.max_absent_counts, self._total_counts_column(counts))

    def is_visible(self, counts: NDArray[np.floating] | float) -> NDArray[np.bool_]:
        """Return an (n, n_name) mask of the names that are present and visible at the given total counts."""
        return np.asarray(self.is_present(counts) & (self.counts_needed <= self._total_counts_column(counts)))

    def _total_counts_column(self, counts: NDArray[np.floating] | float) -> NDArray[np.float64]:
        return np.broadcast_to(np.asarray(counts, dtype=np.float64), (len(self),))[:, None]


def palette_for(model_card: ModelCard) -> tuple[str, ...]:
    """Return the pigments to simulate: the easel-painting palette or, for small models, the model's pigments."""
    easel_pigments = tuple(load_palette(PALETTE).pigments)
    visible_groups = {group.name for group in library().groups if group.visible}
    visible_pigments = {name for name in easel_pigments if visible_groups.intersection(library()[name].groups)}
    model_pigments = materials(
        [name for name, output_kind in zip(model_card.names, model_card.kinds, strict=True) if output_kind == "member"]
    )
    return easel_pigments if visible_pigments <= set(model_pigments) else tuple(model_pigments)


def held_out_set(plan: TrustPlan, model_card: ModelCard, folder: Path, progress: Progress) -> HeldOutSet:
    """Simulate spectra as in training but with another seed, or read the spectra of an earlier run."""
    return _simulated_set(plan, model_card, folder / "held_out.h5", plan.stratigraphies, TEST_SEED, None, progress)


def tuning_set(plan: TrustPlan, model_card: ModelCard, folder: Path, progress: Progress) -> HeldOutSet:
    """Simulate a second set of spectra for the choice of thresholds, or read the spectra of an earlier run."""
    return _simulated_set(
        plan, model_card, folder / "tuning.h5", plan.tuning_stratigraphies, TUNING_SEED, None, progress
    )


def unseen_set(
    plan: TrustPlan, model_card: ModelCard, folder: Path, instrument_name: str, progress: Progress
) -> HeldOutSet:
    """Simulate structures recorded with one of the unseen instruments."""
    path = folder / f"unseen_{instrument_name}.h5"
    seed = UNSEEN_SEED + list(unseen_instruments()).index(instrument_name)
    return _simulated_set(
        plan, model_card, path, plan.unseen_stratigraphies, seed, unseen_instruments()[instrument_name], progress
    )


def unseen_instruments() -> dict[str, Instrument]:
    """Return instruments with one property outside its training range, by the name of this property."""
    poor_detector = Detector(noise_fwhm_kev=0.16)
    flat_geometry = Geometry(incidence_angle_deg=35.0, takeoff_angle_deg=20.0)
    high_voltage_tube = Tube(anode="W", voltage_kv=70.0)
    thick_filter = Filter(formula="Al", density=2.70, thickness_um=1500.0)
    return {
        "chromium_anode": Instrument(name="Cr anode, 35 kV", tube=Tube(anode="Cr", voltage_kv=35.0)),
        "high_voltage": Instrument(name="W anode, 70 kV, 1.5 mm Al", tube=high_voltage_tube, filters=(thick_filter,)),
        "flat_angles": Instrument(name="Rh anode, 40 kV, incidence 35, take-off 20 degree", geometry=flat_geometry),
        "poor_resolution": Instrument(
            name="Mo anode, 40 kV, about 205 eV", tube=Tube(anode="Mo"), detector=poor_detector
        ),
    }


def group_scores(
    held_out_spectra: HeldOutSet, answer_function: AnswerFunction, counts: float, seed: int
) -> dict[str, Any]:
    """Return the scores of each pigment group at the given total counts, as from :func:`summarise_scores`."""
    group_columns = held_out_spectra.columns(held_out_spectra.groups)
    probability = answer_function(held_out_spectra.draw_spectra(counts, (seed, round(counts))))
    return summarise_scores(
        probability,
        held_out_spectra.is_present(counts)[:, group_columns],
        held_out_spectra.is_visible(counts)[:, group_columns],
        held_out_spectra.groups,
    )


def _simulated_set(
    plan: TrustPlan,
    model_card: ModelCard,
    path: Path,
    n_stratigraphies: int,
    seed: int,
    instrument: Instrument | None,
    progress: Progress,
) -> HeldOutSet:
    settings = LibrarySettings(
        n_stratigraphies=n_stratigraphies,
        palette=palette_for(model_card),
        instrument=instrument,
        chunk=plan.per_instrument,
        seed=plan.seed + seed,
        renders=1,
        places=True,
    )
    if path.is_file() and not _has_settings(path, settings):
        path.unlink()
    if not path.is_file():
        # a few chunks are simulated faster than further processes start
        workers = 1 if n_stratigraphies <= MAX_SERIAL_CHUNKS * plan.per_instrument else plan.workers
        simulate_library(settings, path, workers=workers, progress=progress)
    return read_held_out(path, with_line_labels=bool(model_card.amounts))


def _has_settings(path: Path, settings: LibrarySettings) -> bool:
    with h5py.File(path, "r") as file:
        return LibrarySettings.model_validate_json(file.attrs["config"]) == settings


def read_held_out(path: Path, *, with_line_labels: bool = False) -> HeldOutSet:
    """Read a library that :func:`underpaint.simulate.simulate_library` wrote with labels by place.

    With ``with_line_labels``, a group is present if the lines of its element are visible. Networks that predict amounts
    are trained with labels of visible lines.
    """
    array_names = ("expected", "recorded", "labels", "counts_needed", "surface_um", "surface_share", "instrument")
    with h5py.File(path, "r") as file:
        name_lists: dict[str, Any] = {
            name: tuple(json.loads(file.attrs[name])) for name in ("names", "kinds", "materials")
        }
        array_by_name = {name: file[name][()] for name in array_names}
        if with_line_labels:
            line_limits = file["lines_needed"][()], file["lines_hidden"][()]
            line_labels = labels_by_lines(
                name_lists["names"], array_by_name["labels"], array_by_name["counts_needed"], *line_limits
            )
            array_by_name |= dict(zip(("labels", "counts_needed", "max_absent_counts"), line_labels, strict=True))
        return HeldOutSet(**array_by_name, **name_lists)


@dataclass(frozen=True)
class LabelledMockups:
    """The virtual mock-ups and their labels by group.

    Parameters
    ----------
    mockups : Mockups
    groups : tuple of str
        Visible groups of the pigments in the mock-ups, including those of the ground.
    labels : (n, n_group) uint8 array
    is_visible : (n, n_group) bool array
        Whether the group is present and visible at the counts of the spectrum.
    """

    mockups: Mockups
    groups: tuple[str, ...]
    labels: NDArray[np.uint8]
    is_visible: NDArray[np.bool_]

    @property
    def spectra(self) -> Spectra:
        """The spectra of the mock-ups, as input of a model."""
        return Spectra.from_instrument(self.mockups.counts, self.mockups.axis, self.mockups.instrument)


def simulate_mockups(plan: TrustPlan, *, with_line_labels: bool = False) -> LabelledMockups:
    """Simulate the mock-ups with labels of visible pigments, or of visible lines if ``with_line_labels`` is True."""
    mockups = paint_mockups(plan.mockup_spectra, plan.mockup_counts, plan.seed)
    outputs = _mockup_outputs(mockups)
    labels, counts_needed, max_absent_counts = _labels_and_limits(mockups, outputs, with_line_labels=with_line_labels)
    counts = mockups.counts.sum(axis=1)[:, None]
    is_present = present_at(labels, max_absent_counts, counts)
    return LabelledMockups(mockups, outputs.names, is_present.astype(np.uint8), is_present & (counts_needed <= counts))


def scores_without_finetuning(labelled_mockups: LabelledMockups, answer_function: AnswerFunction) -> dict[str, Any]:
    """Return the scores of each group, as from :func:`~underpaint.lab.evaluation.groups.summarise_scores`."""
    return summarise_scores(
        answer_function(labelled_mockups.spectra),
        labelled_mockups.labels,
        labelled_mockups.is_visible,
        labelled_mockups.groups,
    )


def finetuning_obstacle(model_card: ModelCard) -> str:
    """Return the reason why a model cannot be fine-tuned, or an empty string if it can."""
    missing_packages = [name for name in ("torch", "lightning", "onnx") if find_spec(name) is None]
    if missing_packages:
        return f"{', '.join(missing_packages)} is not installed"
    if not model_card.kind.startswith("layers") and model_card.kind != "default":
        return f"a network of the kind {model_card.kind} has no groups as outputs"
    return ""


def finetuned_scores(
    labelled_mockups: LabelledMockups, model: str | Path, plan: TrustPlan, folder: Path, progress: Progress
) -> tuple[dict[str, Any], int]:
    """Cross-validate a fine-tuned model by structure, and score the pooled answers of all folds.

    In each fold, the test set is the spectra of one top paint or of one family of bottom paints. The fine-tuning
    set is a fifth of all spectra, drawn from outside the test set.

    Returns
    -------
    dict
        Scores over the test sets of all folds, as from :func:`~.groups.summarise_scores`.
        Groups without a training spectrum in a fold have unknown labels in training, but are scored.
    int
        Number of folds.

    Raises
    ------
    TrainingError
        The model's weights cannot be read from its file.
    CoverageError
        The model needs energies below 2.80 keV, which the mock-ups do not cover.
    """
    from underpaint.lab.training import answers, finetune, load_trainable
    from underpaint.lab.training.labelled import absent_as_unknown

    splits = splits_by_group(structure_families(labelled_mockups.mockups), plan.seed)[: plan.folds]
    probability_by_fold, test_rows_by_fold = [], []
    for fold_number, split in enumerate(splits):
        progress("Fine-tuning, structures left out", fold_number, len(splits))
        pretrained_model = load_trainable(model)
        library, settings = (
            _as_library(labelled_mockups, pretrained_model),
            _finetune_settings(pretrained_model, plan, folder / f"structure_out_{fold_number}"),
        )
        trained_model = finetune(
            pretrained_model, settings, absent_as_unknown(library.select_rows(split.finetune_rows))
        ).trained_model
        probability = answers(trained_model, library, split.test_rows, settings)
        probability_by_fold.append(columns_by_name(probability, library.names, labelled_mockups.groups))
        test_rows_by_fold.append(split.test_rows)
    test_rows = np.concatenate(test_rows_by_fold)
    return summarise_scores(
        np.concatenate(probability_by_fold),
        labelled_mockups.labels[test_rows],
        labelled_mockups.is_visible[test_rows],
        labelled_mockups.groups,
    ), len(splits)


def _mockup_outputs(mockups: Mockups) -> Outputs:
    """Return the visible groups of the pigments and of the ground as outputs."""
    names = {
        name for stratigraphy in mockups.stratigraphies for layer in stratigraphy.layers for name in layer.pigments
    }
    return group_outputs(sorted(library()[name].name for name in names))


def _labels_and_limits(
    mockups: Mockups, outputs: Outputs, *, with_line_labels: bool
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    label_batches = []
    detector = mockups.instrument.detector
    for batch_start in range(0, len(mockups), BATCH_SIZE):
        samples = mockups.stratigraphies[batch_start : batch_start + BATCH_SIZE]
        emission = emit(samples, mockups.instrument, single=True)
        expected_counts = np.asarray(render(emission, detector, mockups.axis), dtype=np.float64)
        label_batches.append(
            visible_labels(
                samples, emission, expected_counts, outputs, detector, mockups.axis, by_lines=with_line_labels
            )
        )
    labels, counts_needed, max_absent_counts = (
        np.concatenate(batch_arrays) for batch_arrays in zip(*label_batches, strict=True)
    )
    return labels, counts_needed, max_absent_counts


def _as_library(labelled_mockups: LabelledMockups, pretrained_model: "TrainedNetwork") -> "Library":
    """Convert the mock-ups to a library on the axis of a model. Outputs without labels become unknown."""
    from underpaint.lab.training import labelled_spectra

    mockups, model_card = labelled_mockups.mockups, pretrained_model.card
    present_names = [
        sorted(pigments_in(stratigraphy) & set(model_card.names)) for stratigraphy in mockups.stratigraphies
    ]
    counts = mockups.counts.astype(np.float32)
    library = labelled_spectra(counts, mockups.axis, present_names, model_card, source=mockups.structure)
    if not model_card.instrument_inputs:
        return library
    conditions = conditions_of(mockups.instrument).inputs(model_card.instrument_inputs)
    return replace(
        library,
        instrument=np.tile(conditions, (len(library), 1)),
        instrument_inputs=model_card.instrument_inputs,
        quantities=np.full((len(library), len(model_card.quantities)), np.nan, dtype=np.float32),
        quantity_names=model_card.quantities,
    )


def _finetune_settings(pretrained_model: "TrainedNetwork", plan: TrustPlan, output_folder: Path) -> "FinetuneSettings":
    from underpaint.lab.training import FinetuneSettings

    return FinetuneSettings(
        library=(Path("mockups"),),
        out=output_folder,
        name=pretrained_model.card.name,
        kind=pretrained_model.card.kind,
        epochs=plan.finetune_epochs,
        dense_epochs=plan.dense_epochs,
        split="structure",  # a random split would put the same structures in both training and validation set
        test_share=0.0,
        threads=plan.threads,
        seed=plan.seed,
        precision="32",
        progress=False,
    )
