"""How well reflectance identifies surface pigments: ``python benchmarks/reflectance.py FOLDER --json FILE``.

FOLDER holds the three measured sets (``tools/reflectance_library.py`` names them). One run takes about three minutes of
processor time and gives all figures:

- ``given_group``, ``alone``: Kremer's patches, each left out with its four shades and classified with the others.
  ``given_group``: XRF names every group of the pigment and no other; ``alone``: without XRF. With ``by_group`` and
  ``calibration_error``. A member with a single patch cannot be named once this is left out: ``one_patch_only`` scores
  these apart, by how often the answer is "none of these".
- ``cross_library``: artists' pigments of the USGS, classified with Kremer's patches only.
- ``mixtures``: mixtures of REVIGO, each left out in turn. ``mixtures_predicted``: no mixture is in the library.
  ``mixtures_cross``: no spectrum of REVIGO is in the library.
- ``open_set_auroc``, ``open_set_auroc_alone``: the probability of "none of these" for members left out altogether
  (unknown pigments) against patches left out (known pigments), with and without XRF.
- ``twins``: virtual twins of the paper's 64 structures, simulated from one half of the spectra and classified with the
  other.
- ``per_s``: spectra of 200 bands classified per second of processor time.

``--library FILE`` classifies the spectra of a file with the library of the package, and the pure spectra of the package
with the file.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

from reflectance_library import KREMER, REVIGO, USGS, build
from underpaint.data.maps import BELOW_PROBABILITY
from underpaint.physics.materials import Layer, Stratigraphy, load_palette
from underpaint.physics.materials import library as pigments
from underpaint.pipeline.plan import identify
from underpaint.reflectance import ReferenceSpectrum, ReflectanceAnswer, ReflectanceClassifier, ReflectanceLibrary, read
from underpaint.reflectance.hypotheses import BLACK, WHITES
from underpaint.reflectance.names import groups_of, member_of
from underpaint.reflectance.twin import COLOURLESS_PIGMENTS, panel_reflectance, split_halves
from underpaint.simulate import PanelSettings, make_panel, outputs_for

GROUPS = tuple(group.name for group in pigments().groups)
N_BIN = 10
SUBSTITUTED, SUBSTITUTES = "emerald_green", {"verdigris", "sodium_arsenite"}
"""The paper's mock-up has these in place of emerald green, with the same elements."""


def progress(task: str, number: int, total: int) -> None:
    """Print how many items of a task are done, every tenth time, with the processor time since the start."""
    if number % max(1, total // 10) == 0:
        print(f"{time.process_time():6.0f} s  {task}: {number} of {total}", file=sys.stderr, flush=True)


def groups_seen(names: Iterable[str]) -> NDArray[np.float64]:
    """Return the group probabilities of an XRF that detects every group of these pigments and no other."""
    detected = {group for name in names if name in pigments() for group in pigments()[name].groups}
    return np.asarray([float(group in detected) for group in GROUPS])


def answers(
    library: ReflectanceLibrary, spectra: Sequence[ReferenceSpectrum]
) -> tuple[ReflectanceAnswer, ReflectanceAnswer]:
    """Return the answers of a library for spectra on one wavelength grid: given the groups, and alone."""
    classifier = ReflectanceClassifier(library, spectra[0].wavelength_nm)
    values = np.stack([spectrum.reflectance for spectrum in spectra])
    detected = np.stack([groups_seen(spectrum.shares or [spectrum.pigment]) for spectrum in spectra])
    return classifier.identify(values, detected, GROUPS), classifier.identify(values)


class Tally:
    """Collects answers and their truth, by group and by member."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, tuple[str, ...], bool, float, str, float]] = []

    def add(self, spectrum: ReferenceSpectrum, answer: ReflectanceAnswer, row: int, true: Iterable[str] = ()) -> None:
        """Add the answer for a spectrum; ``true`` replaces its member as the right answer."""
        parts = set(true) or {spectrum.member}
        probability = answer.probability[row]
        best = int(np.argmax(probability))
        named = answer.members[best]
        detected = tuple(group for group, value in zip(GROUPS, groups_seen([spectrum.pigment]), strict=True) if value)
        self.rows.append(
            (
                spectrum.member,
                detected or ("none",),
                named in parts,
                float(probability[best]),
                named,
                float(probability[-1]),
            )
        )

    def record(self) -> dict[str, Any]:
        """Return the scores, JSON-serialisable."""
        if not self.rows:
            return {"n": 0}
        right = np.asarray([row[2] for row in self.rows])
        sure = np.asarray([row[3] for row in self.rows])
        by_group: dict[str, list[bool]] = defaultdict(list)
        by_member: dict[str, list[bool]] = defaultdict(list)
        for member, detected, correct, *_ in self.rows:
            by_member[member].append(correct)
            for group in detected:
                by_group[group].append(correct)
        wrong: dict[str, int] = defaultdict(int)
        for member, _, correct, _, named, _ in self.rows:
            if not correct:
                wrong[f"{member} > {named}"] += 1
        return {
            "right": float(right.mean()),
            "interval": wilson(int(right.sum()), right.size),
            "n": right.size,
            "calibration_error": calibration_error(sure, right),
            "by_group": {key: [float(np.mean(each)), len(each)] for key, each in sorted(by_group.items())},
            "by_member": {key: [float(np.mean(each)), len(each)] for key, each in sorted(by_member.items())},
            "wrong": dict(sorted(wrong.items(), key=lambda entry: -entry[1])),
        }


def calibration_error(sure: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Return the mean distance between probability and fraction correct, over bins of equal width."""
    bins = np.minimum((sure * N_BIN).astype(int), N_BIN - 1)
    used = [bins == place for place in range(N_BIN) if (bins == place).any()]
    return float(sum(each.mean() * abs(sure[each].mean() - right[each].mean()) for each in used))


def wilson(right: int, n: int) -> list[float]:
    """Return the 95 % confidence interval of a fraction (Wilson)."""
    z, share = 1.96, right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return [float(max(middle - half, 0.0)), float(min(middle + half, 1.0))]


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Return the probability that a positive scores above a negative; ties count half."""
    both = np.concatenate([positive, negative])
    order = np.unique(both, return_inverse=True, return_counts=True)
    upper = np.cumsum(order[2])
    rank = (upper - (order[2] - 1) / 2)[order[1]]
    n, m = len(positive), len(negative)
    return float((rank[:n].sum() - n * (n + 1) / 2) / (n * m))


def patches_left_out(library: ReflectanceLibrary) -> tuple[dict[str, Any], tuple[list[float], list[float]]]:
    """Return the scores with each patch left out in turn, and the probabilities of none of these (XRF, alone)."""
    pure = [spectrum for spectrum in library.spectra if spectrum.member and spectrum.pure]
    n_patch: dict[str, set[str]] = defaultdict(set)
    for spectrum in pure:
        n_patch[spectrum.member].add(spectrum.patch)
    given, alone = Tally(), Tally()
    single_given: list[float] = []
    known_scores: tuple[list[float], list[float]] = ([], [])
    patches = sorted({spectrum.patch for spectrum in pure})
    for number, patch in enumerate(patches):
        progress("patches left out", number, len(patches))
        left_out = [spectrum for spectrum in pure if spectrum.patch == patch]
        rest = library.subset(spectrum.patch != patch for spectrum in library.spectra)
        with_groups, without = answers(rest, left_out)
        for row, spectrum in enumerate(left_out):
            if len(n_patch[spectrum.member]) > 1:
                given.add(spectrum, with_groups, row)
                alone.add(spectrum, without, row)
                known_scores[0].append(float(with_groups.probability[row, -1]))
                known_scores[1].append(float(without.probability[row, -1]))
            else:
                single_given.append(float(with_groups.probability[row, -1]))
    record = {
        "given_group": given.record(),
        "alone": alone.record(),
        "one_patch_only": {"n": len(single_given), "named_none": float(np.mean(np.asarray(single_given) > 0.5))},
    }
    return record, known_scores


def members_left_out(library: ReflectanceLibrary) -> tuple[list[float], list[float]]:
    """Return the probabilities of none of these for each member left out of the library: with XRF, and alone."""
    scores: tuple[list[float], list[float]] = ([], [])
    for number, member in enumerate(library.members):
        progress("members left out", number, len(library.members))
        left_out = [spectrum for spectrum in library.spectra if spectrum.member == member and spectrum.pure]
        rest = library.subset(spectrum.member != member for spectrum in library.spectra)
        for side, answer in enumerate(answers(rest, left_out)):
            scores[side].extend(float(value) for value in answer.probability[:, -1])
    return scores


def read_with(library: ReflectanceLibrary, tested: Sequence[ReferenceSpectrum]) -> dict[str, Any]:
    """Return the scores for spectra of another source whose member is in the library."""
    given, alone = Tally(), Tally()
    missing = sorted(
        {spectrum.member for spectrum in tested if spectrum.member and spectrum.member not in library.members}
    )
    by_grid: dict[bytes, list[ReferenceSpectrum]] = defaultdict(list)
    for spectrum in tested:
        if spectrum.member in library.members:
            by_grid[spectrum.wavelength_nm.tobytes()].append(spectrum)
    for same_grid in by_grid.values():
        with_groups, without = answers(library, same_grid)
        for row, spectrum in enumerate(same_grid):
            given.add(spectrum, with_groups, row)
            alone.add(spectrum, without, row)
    return {"given_group": given.record(), "alone": alone.record(), "not_in_the_library": missing}


def mixtures(library: ReflectanceLibrary, tested: Sequence[ReferenceSpectrum]) -> dict[str, Any]:
    """Return the scores for the main pigment of mixtures."""
    given, alone = Tally(), Tally()
    add_mixtures(given, alone, library, tested)
    return {"given_group": given.record(), "alone": alone.record()}


def mixtures_left_out(library: ReflectanceLibrary, tested: Sequence[ReferenceSpectrum]) -> dict[str, Any]:
    """Return the scores for the main pigment with each mixture left out in turn."""
    given, alone = Tally(), Tally()
    patches = sorted({spectrum.patch for spectrum in tested})
    for number, patch in enumerate(patches):
        progress("mixtures left out", number, len(patches))
        rest = library.subset(spectrum.patch != patch for spectrum in library.spectra)
        add_mixtures(given, alone, rest, [spectrum for spectrum in tested if spectrum.patch == patch])
    return {"given_group": given.record(), "alone": alone.record()}


def add_mixtures(given: Tally, alone: Tally, library: ReflectanceLibrary, tested: Sequence[ReferenceSpectrum]) -> None:
    """Score mixtures. For a grey, any white or black is right, because reflectance cannot tell whites apart."""
    with_groups, without = answers(library, tested)
    for row, spectrum in enumerate(tested):
        parts = {member_of(part) for part in spectrum.shares}
        true = {*WHITES, BLACK} if parts <= {*WHITES, BLACK} else {spectrum.member}
        given.add(spectrum, with_groups, row, true)
        alone.add(spectrum, without, row, true)


def twins(library: ReflectanceLibrary, seed: int, *, swapped: bool) -> dict[str, Any]:
    """Return the scores of a virtual panel of the paper's 64 structures, with scan and cube simulated.

    The groups and their places are those of the default network. ``of_the_palette``: limited to the paper's palette
    (``--palette``). ``without_place``: the places by XRF are not used. ``bound``: the palette, an ideal XRF, which is
    right about every group that the counts allow to detect and about its place, and the spectra from which the panel
    was simulated. ``bound_without_palette``: the same with all pigments of these spectra as candidates.

    ``main_right``: fraction of pixels whose most probable member is in the uppermost layer. ``members_right``:
    fraction of the groups in the uppermost layer whose most probable member is one of its pigments. ``pixels_right``:
    fraction of pixels in which this holds for all groups. ``pixels_right_but_substitutes``: the same, with emerald
    green counted as right for its substitutes. ``hidden_auroc``: AUROC of the probability that a group is hidden.
    Positives are pixels and groups that are hidden and detectable at these counts (the bound of the simulation);
    negatives are absent groups and groups at the surface. ``stated``: number of pixels and groups reported as below
    the surface, true and false, and number of those hidden and detectable.
    """
    drawn_from, read_with_half = split_halves(library)[:: -1 if swapped else 1]
    outputs = outputs_for([pigment.name for pigment in pigments() if pigment.groups]).select_output_names(GROUPS)
    panel = make_panel(PanelSettings(recipe="table2", cell_pixels=3, gap_pixels=0, seed=seed), outputs=outputs)
    shape = (panel.scan.shape[0], panel.scan.shape[1])
    twin = panel_reflectance(panel.stratigraphies, shape, drawn_from, magnification=1, seed=seed)
    results = identify(panel.scan)
    groups = tuple(group for group in results.groups if group in outputs.names)
    anywhere, surface = (
        np.stack([np.asarray(results[group, place]).reshape(-1) for group in groups], axis=1)
        for place in ("anywhere", "surface")
    )
    columns = [outputs.index(group) for group in groups]
    counts = np.asarray(panel.scan.counts.sum(axis=2)).reshape(-1, 1)
    visible = (np.asarray(panel.labels)[:, columns] == 1) & (np.asarray(panel.counts_needed)[:, columns] <= counts)
    on_top = np.stack([[shows(group, each.layers[:1]) for each in panel.stratigraphies] for group in groups], axis=1)
    values = twin.reflectance.reshape(len(panel.stratigraphies), -1)
    members = {member_of(name) for name in load_palette("xu2022").pigments}
    ideal = np.where(visible, 0.97, 0.02), np.where(visible & on_top, 0.97, 0.02)

    def figures(spectra: ReflectanceLibrary, present: NDArray[Any], place: NDArray[Any] | None) -> dict[str, Any]:
        answer = ReflectanceClassifier(spectra, twin.wavelength_nm).identify(values, present, groups, place)
        return twin_figures(panel.stratigraphies, visible, answer)

    def of_palette(spectra: ReflectanceLibrary) -> ReflectanceLibrary:
        return spectra.subset(spectrum.member in members or not spectrum.member for spectrum in spectra.spectra)

    return {
        "drawn_from": list(twin.source_patches),
        **figures(read_with_half, anywhere, surface),
        "without_place": figures(read_with_half, anywhere, None),
        "of_the_palette": figures(of_palette(read_with_half), anywhere, surface),
        "bound": figures(of_palette(drawn_from), *ideal),
        "bound_without_palette": figures(drawn_from, *ideal),
    }


def twin_figures(
    stratigraphies: Sequence[Stratigraphy], visible: NDArray[np.bool_], answer: ReflectanceAnswer
) -> dict[str, Any]:
    """Return the scores of one panel; see :func:`twins`."""
    groups = answer.groups
    tops = [set(stratigraphy.layers[0].pigments) - set(COLOURLESS_PIGMENTS) for stratigraphy in stratigraphies]
    top_members = [{member_of(name) for name in top} for top in tops]
    layers = [set(stratigraphy.layers[0].pigments) for stratigraphy in stratigraphies]
    best = [answer.members[place] for place in answer.probability.argmax(axis=1)]
    by_top: dict[str, list[bool]] = defaultdict(list)
    right: list[bool] = []
    complete: list[bool] = []
    complete_but_substitutes: list[bool] = []
    wrong: dict[str, int] = defaultdict(int)
    for row, top in enumerate(tops):
        all_right, substituted = [], []
        for group in sorted({group for name in top for group in pigments()[name].groups} & set(groups)):
            able = [
                place
                for place, name in enumerate(answer.members[:-1])
                if any(group in each for each in groups_of(name))
            ]
            if able:
                named = answer.members[able[int(np.argmax(answer.presence[row, able]))]]
                all_right.append(named in top_members[row])
                substituted.append(all_right[-1] or (named == SUBSTITUTED and layers[row] >= SUBSTITUTES))
                if not all_right[-1]:
                    wrong[f"{group}: {named}"] += 1
        right += all_right
        complete.append(all(all_right))
        complete_but_substitutes.append(all(substituted))
        by_top["+".join(sorted(top))].append(all(all_right))
    scores: dict[str, tuple[list[float], list[float]]] = {}
    stated: dict[str, list[int]] = {}
    for place, group in enumerate(groups):
        in_top = np.asarray([shows(group, stratigraphy.layers[:1]) for stratigraphy in stratigraphies])
        in_all = np.asarray([shows(group, stratigraphy.layers) for stratigraphy in stratigraphies])
        hidden = answer.hidden[:, place]
        below = in_all & ~in_top
        positive, negative = hidden[below & visible[:, place]], hidden[~below]
        claimed = answer.determinable[:, place] & (hidden > BELOW_PROBABILITY)
        stated[group] = [int((claimed & each).sum()) for each in (below, ~below)] + [len(positive)]
        if len(positive) and len(negative):
            scores[group] = (positive.tolist(), negative.tolist())
    pooled = [[value for each in scores.values() for value in each[side]] for side in (0, 1)]
    return {
        "n": len(tops),
        "main_right": float(np.mean([name in top for name, top in zip(best, top_members, strict=True)])),
        "members_right": float(np.mean(right)),
        "pixels_right": float(np.mean(complete)),
        "pixels_right_but_substitutes": float(np.mean(complete_but_substitutes)),
        "pixels_right_by_top": {key: float(np.mean(each)) for key, each in by_top.items()},
        "wrong": dict(sorted(wrong.items(), key=lambda entry: -entry[1])),
        "hidden_auroc": auroc(pooled[0], pooled[1]),
        "stated": np.sum(list(stated.values()), axis=0).tolist(),
        "stated_by_group": {key: each for key, each in stated.items() if any(each)},
        "hidden_auroc_by_group": {key: [auroc(*each), len(each[0]), len(each[1])] for key, each in scores.items()},
    }


def shows(group: str, layers: Sequence[Layer]) -> bool:
    """Return whether these layers contain a pigment of a group."""
    return any(group in pigments()[name].groups for layer in layers for name in layer.pigments)


def speed(library: ReflectanceLibrary) -> float:
    """Return the number of spectra of 200 bands classified per second of processor time."""
    wavelength = np.linspace(400.0, 1000.0, 200)
    pure = [spectrum for spectrum in library.spectra if spectrum.pure and spectrum.wavelength_nm[-1] > 900][:64]
    values = np.stack([np.interp(wavelength, spectrum.wavelength_nm, spectrum.reflectance) for spectrum in pure])
    values = np.repeat(values, 128, axis=0).astype(np.float32)
    classifier = ReflectanceClassifier(library, wavelength)
    detected = np.tile(groups_seen(["azurite", "lead_white", "red_earth"]), (len(values), 1))
    classifier.identify(values[:1024], detected[:1024], GROUPS)
    start = time.process_time()
    classifier.identify(values, detected, GROUPS)
    return len(values) / (time.process_time() - start)


def main() -> None:
    """Compute, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with the measured sets kremer, usgs and revigo")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--library", type=Path, help="another set of spectra to test")
    parser.add_argument(
        "--only", nargs="+", choices=("kremer", "open", "usgs", "mixtures", "twins", "speed"), help="parts to run"
    )
    arguments = parser.parse_args()
    parts = set(arguments.only or ("kremer", "open", "usgs", "mixtures", "twins", "speed"))
    library = build(arguments.folder)
    kremer = library.subset(spectrum.source == KREMER for spectrum in library.spectra)
    result: dict[str, Any] = {}
    if parts & {"kremer", "open"}:
        result["kremer"], known_scores = patches_left_out(kremer)
        result["given_group"] = result["kremer"]["given_group"]["right"]
        result["alone"] = result["kremer"]["alone"]["right"]
        result["by_group"] = {
            group: {"given_group": values[0], "alone": result["kremer"]["alone"]["by_group"][group][0], "n": values[1]}
            for group, values in result["kremer"]["given_group"]["by_group"].items()
        }
        result["calibration_error"] = result["kremer"]["given_group"]["calibration_error"]
    if "open" in parts:
        unknown_scores = members_left_out(kremer)
        given, alone = (auroc(unknown_scores[side], known_scores[side]) for side in (0, 1))
        result["open_set_auroc"], result["open_set_auroc_alone"] = given, alone
    if "usgs" in parts:
        artists = [spectrum for spectrum in library.spectra if spectrum.source == USGS and "artists" in spectrum.medium]
        result["usgs"] = read_with(kremer, artists)
        result["cross_library"] = result["usgs"]["given_group"]["right"]
        result["cross_library_n"] = result["usgs"]["given_group"]["n"]
        result["cross_library_interval"] = result["usgs"]["given_group"]["interval"]
    if "mixtures" in parts:
        mixed = [spectrum for spectrum in library.spectra if spectrum.source == REVIGO and not spectrum.pure]
        pure = library.subset(spectrum.pure for spectrum in library.spectra)
        result["mixtures_predicted"] = mixtures(pure, mixed)
        other_sets = library.subset(spectrum.source != REVIGO for spectrum in library.spectra)
        result["mixtures_cross"] = mixtures(
            other_sets, [spectrum for spectrum in mixed if spectrum.member in other_sets.members]
        )
        result["mixtures"] = mixtures_left_out(library, mixed)
    if "twins" in parts:
        result["twins"] = []
        for number, (seed, swapped) in enumerate(product(range(2), (False, True))):
            progress("virtual twins", number, 4)
            result["twins"].append(twins(library, seed, swapped=swapped))
        keys = ("main_right", "members_right", "pixels_right", "pixels_right_but_substitutes", "hidden_auroc", "stated")
        kinds = ("without_place", "of_the_palette", "bound", "bound_without_palette")
        for key in keys:
            of_kinds = [
                [each[key] for each in result["twins"]],
                *([each[kind][key] for each in result["twins"]] for kind in kinds),
            ]
            combined = [np.sum(each, axis=0).tolist() if key == "stated" else float(np.mean(each)) for each in of_kinds]
            result[f"twins_{key}"] = combined[0]
            result |= {f"twins_{kind}_{key}": value for kind, value in zip(kinds, combined[1:], strict=True)}
            print(
                f"twins_{key}: {combined[0]}",
                *(f"{kind} {value}" for kind, value in zip(kinds, combined[1:], strict=True)),
            )
    if "speed" in parts:
        result["per_s"] = speed(library)
    if arguments.library:
        file = read(arguments.library)
        result["library"] = {
            "notes": list(file.notes),
            "read_with_the_package": read_with(library, file.spectra),
            "reads_the_package": read_with(file, [spectrum for spectrum in library.spectra if spectrum.pure]),
        }
        for key in ("read_with_the_package", "reads_the_package"):
            given_group, alone_record = result["library"][key]["given_group"], result["library"][key]["alone"]
            if given_group["n"]:
                print(
                    f"library, {key}: {given_group['right']:.3f} of {given_group['n']} given the groups, "
                    f"{alone_record['right']:.3f} alone"
                )
    for key in (
        "given_group",
        "alone",
        "calibration_error",
        "open_set_auroc",
        "open_set_auroc_alone",
        "cross_library",
        "cross_library_n",
        "per_s",
    ):
        if key in result:
            print(f"{key}: {result[key]:.3f}")
    for key in ("mixtures", "mixtures_predicted", "mixtures_cross"):
        if key in result:
            given, alone = result[key]["given_group"], result[key]["alone"]
            print(f"{key}: {given['right']:.3f} of {given['n']} given the groups, {alone['right']:.3f} alone")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
