"""Paste the measured figures into README.md and the pages of docs/.

Each table stands between ``<!-- figures:begin NAME -->`` and ``<!-- figures:end -->`` and is made from the
JSON files in ``docs/figures``, which the commands in ``benchmarks/`` and ``underpaint evaluate`` write, or in
``docs/reproduce``, which ``underpaint reproduce`` writes.
What was not measured yet says so. ``--check`` changes nothing and fails when a page is not up to date.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs" / "figures"
NOT_MEASURED = "not measured yet"
NO_FIGURE = "-"
OPEN_SET_AUROC = 0.95
BLOCK = re.compile(r"(<!-- figures:begin (?P<name>\w+) -->\n).*?(<!-- figures:end -->)", re.DOTALL)

Figures = Mapping[str, Any]


def read_figures(folder: Path, name: str) -> Figures:
    """Contents of ``NAME.json``; empty when it was not measured yet."""
    path = folder / f"{name}.json"
    if not path.is_file():
        return {}
    figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return figures


def number(value: object, digits: int = 3) -> str:
    """Value rounded for a table, or that there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124 (NaN)
        return NO_FIGURE
    return f"{value:,.{digits}f}"


def scientific(value: object) -> str:
    """Small value in powers of ten."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return NOT_MEASURED
    return f"{value:.1e}"


def measured(figures: Figures, key: str, digits: int = 3, unit: str = "") -> str:
    """One figure with its unit, or that it was not measured."""
    text = number(figures.get(key), digits)
    return NOT_MEASURED if text == NO_FIGURE else f"{text}{unit}"


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def summary_table(folder: Path) -> str:
    """One row per figure that summarises a command."""
    panel, speed, aurora = (read_figures(folder, name) for name in ("table2", "network_speed", "aurora"))
    baseline = measured(panel, "always_yes_macro_f1")
    rows = [
        ("Default network, spectra per second, two cores", measured(speed, "default_spectra_per_s", 0)),
        (
            "Network of Xu et al. 2022, spectra per second, two cores",
            measured(speed, "xu2022_spectra_per_s", 0),
        ),
        ("Held-out virtual panels, macro F1 over groups", measured(panel, "group_macro_f1")),
        ("The same, answering yes always", baseline),
        ("`identify` on a painting of 7,200 pixels, report included", measured(aurora, "seconds", 0, " s")),
        ("The same, peak memory", measured(aurora, "peak_mb", 0, " MB")),
    ]
    return table(("What", "Measured"), rows)


def physics_table(folder: Path) -> str:
    """Forward model: comparisons and cost."""
    tables, forward = read_figures(folder, "fisx_tables"), read_figures(folder, "forward")
    panels, metals, tubes = (read_figures(folder, name) for name in ("monte_carlo", "measured", "tube"))
    tube = {"rel": max((entry["continuum_max_rel"] for entry in tubes.values()), default=None)}
    peak = max(_named(forward, "peak_mb").values(), default=None)
    rows = [
        ("fisx, its tables", "primary, largest relative difference", scientific(tables.get("primary_max_rel"))),
        (
            "fisx, its tables",
            "secondary over 1 % of the primary: in one layer, and hard lines",
            scientific(tables.get("secondary_max_rel")),
        ),
        (
            "fisx, its tables",
            "the same, soft lines between layers (direct quadrature agrees with ours)",
            scientific(tables.get("secondary_max_rel_soft_between_layers")),
        ),
        ("XMI-MSIM, 8 paints", "K and L families after one scale", scientific(panels.get("lines_max_rel"))),
        (
            "XMI-MSIM, 8 paints",
            "background per keV, 3 to 25 keV",
            scientific(panels.get("background_max_rel_per_kev")),
        ),
        ("measured Ti, Fe, Cu, Zn", "K-beta over K-alpha", scientific(metals.get("beta_over_alpha_max_rel"))),
        ("measured Fe, Cu, Zn", "escape peak", scientific(metals.get("escape_max_rel"))),
        ("measured Ti, Fe, Cu, Zn", "level where the shelf is", scientific(metals.get("shelf_max_rel"))),
        ("measured gold tube", "continuum per keV, 3 to 24 keV", scientific(tube["rel"])),
        ("speed, two cores", "spectra a second: all orders, scatter, detector", measured(forward, "spectra_per_s", 0)),
        ("speed, two cores", "the same, in double precision", measured(forward, "spectra_per_s_double", 0)),
        ("speed, two cores", "fisx's time for one spectrum, over ours", measured(forward, "ratio_fisx", 0)),
        ("speed, two cores", "the paper's 16,224 spectra", measured(forward, "paper_set_seconds", 0, " s")),
        ("memory", "16,000 spectra", NOT_MEASURED if peak is None else f"{number(peak, 0)} MB"),
    ]
    return table(("Compared with", "What", "Measured"), rows)


def _element_cell(figures: Figures) -> str:
    """Error of the area, its deviation from the truth over the stated one, and share of false claims."""
    present = NO_FIGURE
    if figures.get("n"):
        present = f"{number(100 * figures['median_rel'], 1)} %; {number(figures['rms_z_present'], 2)}"
    absent = f"{number(100 * figures['false_share'], 2)} %" if "false_share" in figures else NO_FIGURE
    return f"{present}; {absent}"


def elements_table(folder: Path) -> str:
    """Areas of line families on Monte Carlo paints, by engine: error, deviation, and false claims."""
    figures = read_figures(folder, "element_truth")
    rows = []
    for counts in ("1e4", "1e5", "1e6"):
        engines = _named(figures, counts)
        for name in ("As_K", "Hg_L", "Pb_L", "Zn_K", "Fe_K", "Sn_L", "S_K"):
            ours = (_named(_named(engines, engine), name) for engine in ("underpaint", "found", "fixed", "pymca"))
            cells = [_element_cell(figures_of) for figures_of in ours]
            rows.append((counts, name.replace("_", " "), *cells))
    return table(("Counts", "Family", "underpaint", "the same, instrument unknown", "fixed ratios", "PyMca"), rows)


def _named(figures: Figures, key: str) -> Figures:
    """Dictionary under the key; empty when absent."""
    entry = figures.get(key)
    return entry if isinstance(entry, dict) else {}


def _in_words(name: str) -> str:
    """Snake-case name for people."""
    return name.replace("_", " ")


def aurora_table(folder: Path) -> str:
    """Measured painting: the network's answer against line evidence, the line-area baseline beside."""
    figures = read_figures(folder, "aurora")
    auroc, spearman, kappa = (_named(figures, key) for key in ("auroc", "spearman", "kappa"))
    rows = [
        ("AUROC", _in_words(name), number(value), number(_named(figures, "baseline_auroc").get(name)), "")
        for name, value in auroc.items()
    ]
    rows += [
        (
            "Spearman correlation",
            _in_words(name),
            number(value),
            number(_named(figures, "baseline_spearman").get(name)),
            "",
        )
        for name, value in spearman.items()
    ]
    rows += [
        (
            "Cohen's kappa, detector against detector",
            _in_words(name),
            number(value),
            number(_named(figures, "baseline_kappa").get(name)),
            number(_named(figures, "kappa_of_halves").get(name)),
        )
        for name, value in kappa.items()
    ]
    header = ("Score", "Group", "Network", "Line area alone", "Network, halves of one detector's counts")
    return table(header, rows or [(NOT_MEASURED, "", "", "", "")])


def panel_table(folder: Path) -> str:
    """Held-out virtual panels: one row per group, with the always-yes baseline and the invisible labels."""
    figures = read_figures(folder, "table2")
    groups, labels = _named(figures, "groups"), _named(figures, "labels")
    rows = [
        (
            str(labels.get(name, _in_words(name))),
            number(group.get("f1")),
            number(group.get("always_yes_f1")),
            number(group.get("n_visible", group.get("n_positive")), 0),
            number(group.get("n_invisible"), 0),
        )
        for name, group in groups.items()
    ]
    header = ("Group", "F1", "Always yes", "Visible labels", "Invisible labels")
    return table(header, rows or [(NOT_MEASURED, "", "", "", "")])


def benchmark_table(folder: Path) -> str:
    """Methods on the panels of the public benchmark."""
    places = ("anywhere", "surface", "below")
    rows = []
    for method, panels in _named(read_figures(folder, "benchmark"), "methods").items():
        for panel, scores in (panels or {}).items():
            f1 = (number(_named(scores, place).get("macro_f1")) for place in places)
            anywhere = _named(scores, "anywhere")
            rows.append((method, panel, *f1, *(number(anywhere.get(key)) for key in ("missed", "false_claims"))))
    header = ("Method", "Panel", *(f"F1 {place}" for place in places), "Missed", "False claims")
    return table(header, rows or [(NOT_MEASURED, *[""] * 6)])


def reproduced(folder: Path, name: str) -> dict[str, Any]:
    """Return a study of ``underpaint reproduce``; empty when it was not run yet."""
    return dict(read_figures(folder.parent / "reproduce", name))


def arms_of(folder: Path) -> dict[str, Any]:
    """Return the arms of Table 3 by name."""
    return {name: arm for name, arm in reproduced(folder, "table3").items() if name != "about"}


def times_table(folder: Path) -> str:
    """Return epochs and seconds of each arm of Table 3."""
    about = reproduced(folder, "table3").get("about", {})
    seconds, epochs = _named(about, "seconds"), _named(about, "epochs")
    rows = [(_in_words(name), str(epochs[name]), number(seconds[name] / 60.0, 1)) for name in seconds if seconds[name]]
    return table(("Arm", "Epochs of all folds", "Minutes"), rows or [(NOT_MEASURED, "", "")])


def arms_table(folder: Path) -> str:
    """Return the means of the arms that test on what they know."""
    rows = []
    for name, arm in arms_of(folder).items():
        if "_out_" in name:
            continue
        mean = arm["mean"]
        paper = mean.get("paper", [None] * 3)
        ours = [number(mean[key]) for key in ("accuracy", "sensitivity", "f1")]
        paper_and_baselines = (
            number(paper[0]),
            number(paper[2]),
            number(mean["always_yes"]["f1"]),
            number(mean["ece"]),
        )
        rows.append((_in_words(name), *ours, *paper_and_baselines))
    header = (
        "Arm",
        "Accuracy",
        "Sensitivity",
        "F1",
        "Paper's accuracy",
        "Paper's F1",
        "Always yes F1",
        "Calibration error",
    )
    return table(header, rows or [(NOT_MEASURED, *[""] * 7)])


def pigments_table(folder: Path) -> str:
    """Return F1 by pigment of the paper's three arms, ours and the paper's."""
    arms = {name: arm for name, arm in arms_of(folder).items() if "paper" in arm["mean"]}
    header = (
        "Pigment",
        *(f"{_in_words(name)}{suffix}" for name in arms for suffix in (", ours", ", paper")),
        "Always yes, mock-ups",
    )
    if not arms:
        return table(("Pigment", "F1"), [(NOT_MEASURED, "")])
    rows = []
    for pigment in [name for name in next(iter(arms.values())) if name not in {"mean", "groups"}]:
        scores = [number(value) for arm in arms.values() for value in (arm[pigment]["f1"], arm[pigment]["paper"][2])]
        always = arms["experimental_finetune"][pigment]["always_yes"]["f1"]
        rows.append((_in_words(pigment), *scores, number(always)))
    return table(header, rows)


def seeds_table(folder: Path) -> str:
    """Return mean F1 without and with fine-tuning by perturbation of the mock-ups."""
    seeds = _named(reproduced(folder, "table3").get("about", {}), "seeds")
    rows = [
        (seed, *(number(row[key]) for key in ("no_finetune", "finetune", "always_yes"))) for seed, row in seeds.items()
    ]
    return table(("Seed", "No fine-tuning", "Fine-tuned", "Always yes"), rows or [(NOT_MEASURED, "", "", "")])


def hidden_table(folder: Path) -> str:
    """Return the scores with held-out parts, compared with the paper's test."""
    rows = []
    for name, arm in arms_of(folder).items():
        if "_out_" in name or name in {"experimental_finetune", "finetune_default_network"}:
            shown = [arm[each]["f1"] for each in ("prussian_blue", "iron_oxide_red")]
            scores = (arm["mean"]["f1"], arm["groups"]["mean"]["f1"], *shown, arm["mean"]["always_yes"]["f1"])
            rows.append((_in_words(name), *map(number, scores)))
    header = ("Arm", "F1", "F1 of groups", "Prussian blue", "Iron oxide red", "Always yes F1")
    return table(header, rows or [(NOT_MEASURED, *[""] * 5)])


def mistakes_table(folder: Path) -> str:
    """Return where each pigment of the simulation set is missed, and with what it is seen without being there."""
    rows = [
        (
            _in_words(name),
            *(number(row[key]) for key in ("missed_on_top", "missed_below")),
            _worst(row["missed_under"]),
            _worst(row["said_with"]),
        )
        for name, row in _named(reproduced(folder, "limits"), "mistakes").items()
    ]
    header = ("Pigment", "Missed on top", "Missed below", "Most often under", "Seen without being there, with")
    return table(header, rows or [(NOT_MEASURED, *[""] * 4)])


def _worst(shares: Figures) -> str:
    """Name the three largest shares of a twentieth and more."""
    ranked = sorted(((share, name) for name, share in shares.items() if (share or 0.0) >= 0.05), reverse=True)
    return ", ".join(f"{_in_words(name).lower()} {number(share)}" for share, name in ranked[:3]) or NO_FIGURE


def false_table(folder: Path) -> str:
    """Return the share of false answers by counts and network."""
    cases = _named(reproduced(folder, "limits"), "false_positives")
    rows = [
        (_in_words(case), f"{float(counts):,.0f}", *(number(values[network]["share"]) for network in values))
        for case, by_counts in cases.items()
        for counts, values in by_counts.items()
    ]
    header = ("Spectra", "Counts", "Before fine-tuning", "After", "Default network")
    return table(header, rows or [(NOT_MEASURED, *[""] * 4)])


def ablation_table(folder: Path) -> str:
    """Return mean F1 by choice."""
    keys = ("f1_simulation", "f1_mockups", "auprc_mockups", "always_yes_f1")
    choices = _named(reproduced(folder, "limits"), "ablation")
    rows = [(_in_words(name), *(number(row[key]) for key in keys)) for name, row in choices.items()]
    return table(
        ("Choice", "Simulation", "Mock-ups", "AUPRC, mock-ups", "Always yes"), rows or [(NOT_MEASURED, *[""] * 4)]
    )


def comparison_table(folder: Path) -> str:
    """Return networks side by side."""
    rows = [
        (
            _in_words(name),
            number(row["parameters"], 0),
            number(row["seconds"], 0),
            number(row["spectra_per_second"], 0),
            *(number(row[key]) for key in ("f1_simulation", "f1_mockups", "f1_finetuned", "always_yes_f1")),
        )
        for name, row in _named(reproduced(folder, "comparison"), "models").items()
    ]
    header = (
        "Network",
        "Parameters",
        "Training, s",
        "Spectra/s",
        "Own simulation",
        "Mock-ups",
        "Fine-tuned",
        "Always yes",
    )
    return table(header, rows or [(NOT_MEASURED, *[""] * 7)])


def instruments_table(folder: Path) -> str:
    """Return how well scans of random instruments are calibrated, with the wrong claims apart."""
    figures = read_figures(folder, "instruments")
    rows = (
        [
            (
                "anode right, where its lines are recorded",
                number(figures["anode_percent"], 1),
                str(figures["anode_wrong"]),
            ),
            (
                "voltage within 1 kV, where anode and end of the continuum are recorded",
                number(figures["voltage_percent"], 1),
                str(figures["voltage_wrong"]),
            ),
            (
                "angle within 5 degrees, where the peaks are recorded",
                number(figures["angle_percent"], 1),
                str(figures["angle_wrong"]),
            ),
            ("gain within 0.05 %", number(figures["gain_percent"], 1), ""),
            ("zero within 5 eV", number(figures["zero_percent"], 1), ""),
        ]
        if figures
        else [(NOT_MEASURED, "", "")]
    )
    return table(("Figure", "Per cent of the scans (aim: 99)", "Wrong claims"), rows)


def _at(figures: Any, keys: Sequence[str]) -> Any:
    return _at(figures[keys[0]], keys[1:]) if keys else figures


def trust_table(folder: Path) -> str:
    """Return the trust suite's figures with targets and baselines."""
    figures = read_figures(folder.parent / "evaluation", "trust")
    if not figures:
        return table(("Figure", "Aim", "Measured"), [(NOT_MEASURED, "", "")])
    scores, baselines, details = figures["group_macro_f1"], figures["baselines"], figures["details"]
    widths = [interval["coverage"] for interval in details["calibration"]["intervals"]["thickness_um"].values()]
    covered = [each for level in figures["coverage"].values() for group in level.values() for each in group.values()]
    open_set = [value for value in figures["openset_auroc"].values() if value is not None]
    n_held, n_seen = sum(bool(each["holds"]) for each in covered), sum(value >= OPEN_SET_AUROC for value in open_set)

    def with_baselines(*keys: str) -> tuple[str, ...]:
        return tuple(
            number(_at(baselines[name]["group_macro_f1"], keys))
            for name in ("element_thresholds", "xu2022", "always_yes")
        )

    none = ("", "", "")
    fitted, orders = details["likelihood_fit"]["by_contestant"], details["order"]["by_counts"]
    worst = [
        number(max(interval["ece"].values())) for interval in (figures, baselines["xu2022"], baselines["always_yes"])
    ]
    rows = [
        (
            "simulated, 1e4 counts, macro F1 over groups",
            "0.90",
            number(scores["simulated"]["1e4"]),
            *with_baselines("simulated", "1e4"),
        ),
        ("simulated, 1e5 counts", "0.95", number(scores["simulated"]["1e5"]), *with_baselines("simulated", "1e5")),
        ("other kinds of instruments, 1e5", "0.03 less", number(scores["unseen_instrument"]["told"]["1e5"]), *none),
        *(
            (
                f"Monte Carlo panels (XMI-MSIM), {counts}",
                "1",
                number(scores["monte_carlo"][counts]),
                *with_baselines("monte_carlo", counts),
            )
            for counts in ("1e4", "1e5")
        ),
        (
            f"a few simulated spectra, 1e5; a likelihood fit reaches {number(fitted['likelihood_fit']['macro_f1'])}",
            "",
            number(fitted["model"]["macro_f1"]),
            *with_baselines("fitted"),
        ),
        (
            "virtual mock-ups of Xu et al., not fine-tuned",
            "0.880",
            number(scores["structure_out"]),
            *with_baselines("structure_out"),
        ),
        ("the same, structures left out, fine-tuned", "0.95", number(scores["structure_out_finetuned"]), *none),
        ("expected calibration error, worst group", "0.02", worst[0], "", *worst[1:]),
        ("prediction sets of 90 and 99 % with the stated coverage", "all", f"{n_held} of {len(covered)}", *none),
        ("90 % intervals of thickness, by decade", "0.88-0.92", f"{number(min(widths))}-{number(max(widths))}", *none),
        *(
            (
                f"layer order, resolvable pairs, {counts}, {text}",
                target,
                number(figures[key][counts]),
                *none,
            )
            for counts in ("1e4", "1e5")
            for target in (number(figures["order_bound"][counts] - 0.05),)
            for key, text in (
                ("order_accuracy", "network and fit of candidates"),
                ("order_accuracy_network", "network alone"),
            )
        ),
        *(
            (
                f"wrong orders stated for the other pairs, {counts}, network and fit of candidates; network alone",
                "0",
                "; ".join(number(orders[counts][method]["wrong_on_rest"]) for method in ("refined", "network")),
                *none,
            )
            for counts in ("1e4", "1e5")
        ),
        ("open set, elements with AUROC of 0.95", "all", f"{n_seen} of {len(open_set)}", *none),
        *_custom_model_rows(figures, none),
        (
            "spectra per second, two threads",
            "10,000",
            number(figures["per_s"], 0),
            "",
            number(baselines["xu2022"]["per_s"], 0),
            "",
        ),
    ]
    return table(("Figure", "Aim", "Network", "Element thresholds", "Xu et al.", "Always yes"), rows)


def _custom_model_rows(figures: Any, none: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return what a model for one instrument and palette took, and what it reached beside the default network."""
    details = figures["details"].get("own_model", {})
    if "against_start" not in details:
        return []
    reached = details["against_start"]["groups at 1e+05"]
    before = f"{number(reached['before'])} by the default"
    return [
        ("a model for one instrument and palette, minutes", "10", number(figures["train_minutes"], 1), *none),
        ("its mean F1 over groups and places, 1e5", before, number(reached["after"]), *none),
    ]


def explain_table(folder: Path) -> str:
    """Return how often what is stated of layers is right, on Monte Carlo paints."""
    figures = read_figures(folder, "explain")
    if not figures:
        return f"{NOT_MEASURED}\n"
    parts = {"all": figures, **figures["by_groups"]}
    rows: list[tuple[str, ...]] = [("samples", "", *(str(part["n"]) for part in parts.values()))]
    for key, aim, text in (
        (
            "coverage_thickness",
            "0.85-0.97; 0.80 beyond five",
            "90 % intervals of the top layer that hold its thickness",
        ),
        ("thickness_determined", "0.75", "samples whose thickness is given as an interval"),
        ("thickness_bounded", "", 'samples where it is given as "at least" or "at most"'),
        ("order_given", "0.70", "samples with an order in which one is stated"),
        ("coverage_shares", "0.85-0.95, or called ranges", "ranges of shares that hold the truth"),
    ):
        cells = [f"{number(part[key], 2)} of {part['of'][key]}" for part in parts.values()]
        rows.append((text, aim, *cells))
    factors = [number(part["median_interval_factor"], 1) for part in parts.values()]
    rows.append(("median ratio of the ends of an interval", "at most 4", *factors))
    for given, wrong, aim, text in (
        ("pairs_given", "pairs_wrong", "at most 2 %", "orders of two groups stated; wrong"),
        ("layers_given", "layers_wrong", "0 wrong", "numbers of layers stated; wrong"),
    ):
        rows.append((text, aim, *(f"{part[given]}; {part[wrong]}" for part in parts.values())))
    rows.append(
        ("withheld, as nothing describes the spectrum", "", *(str(part["withheld"]) for part in parts.values()))
    )
    seconds = [number(part["seconds"], 0) for part in parts.values()]
    rows.append(("seconds of both runs, median", "10; 30 beyond five", *seconds))
    return table(("Figure", "Aim", *parts), rows)


def paints_table(folder: Path) -> str:
    """Return how well the paints of virtual paintings, and of two detectors, agree with what they should be."""
    figures = read_figures(folder, "paints")
    if not figures:
        return f"{NOT_MEASURED}\n"
    parts, detectors = figures["virtual"], figures.get("two_detectors")
    rows: list[tuple[str, ...]] = [
        ("mean counts of a pixel", "", *(number(part["mean_counts"], 0) for part in parts.values()), ""),
        (
            "structures; those that the bound can part",
            "",
            *(f"{part['structures']}; {part['structures_merged']}" for part in parts.values()),
            "",
        ),
    ]
    for key, aim, text in (
        ("ari", "0.9; 0.7", "adjusted Rand index, structures merged where the bound cannot part them"),
        ("ari_unmerged", "", "the same, not merged"),
        ("ari_assigned", "", "the same, merged, pixels of a paint alone"),
    ):
        last = number(detectors[key], 2) if detectors and key in detectors else ""
        rows.append((text, aim, *(number(part[key], 2) for part in parts.values()), last))
    counts = "" if detectors is None else "; ".join(str(each["paints"]) for each in detectors["detectors"])
    rows.append(("paints", "", *(str(part["paints"]) for part in parts.values()), counts))
    right = [f"{number(part['groups_right'], 2)}" for part in parts.values()]
    rows.append(("paints of which every group is right", "1", *right, ""))
    sampled = [part if part["explanations"] else None for part in parts.values()]
    orders = ["" if part is None else f"{part['pairs_given']}; {part['pairs_wrong']}" for part in sampled]
    largest = ["" if part is None else str(len(part["explanations"])) for part in sampled]
    rows.append(("largest paints whose layers were sampled", "", *largest, ""))
    rows.append(("orders of two groups stated there; wrong", "0 wrong", *orders, ""))
    titles = {"fig7": "Fig. 7 panel", "layered": "case study of two layers", "single": "case study of one"}
    return table(("Figure", "Aim", *(titles[name] for name in parts), "two detectors of a canvas"), rows)


def plan_table(folder: Path) -> str:
    """Return how well the counts of plans agree with those at which simulated scans answer the question."""
    rows = []
    for question, part in read_figures(folder, "plan").items():
        words = question.replace("_", " ").replace(" pigment", "")
        low, high = part["factor_range"]
        rows.append(
            (
                f"{words} ({' over '.join(part['layers']).replace('_', ' ')})",
                number(part["counts_planned"], 0),
                str(len(part["answered"])),
                f"at most {number(high, 2)}"
                if low is None
                else f"{number(part['factor'], 2)} ({number(low, 2)} to {number(high, 2)})",
                str(part["wrong"]),
            )
        )
    if not rows:
        return f"{NOT_MEASURED}\n"
    head = (
        "Question",
        "Counts planned",
        "Scans explained",
        "Factor to the counts at which half of them answer",
        "Wrong",
    )
    return table(head, rows)


def architecture_table(folder: Path) -> str:
    """Return what each architecture reached with the same spectra and processor time."""
    figures = read_figures(folder, "architecture")
    header = (
        "Network",
        "Parameters",
        "Million multiply-adds",
        "Spectra/s",
        "Spectra seen",
        "Anywhere",
        "Surface",
        "Below",
    )
    rows = [
        (
            entry["what"],
            number(entry["parameters"], 0),
            number(entry["million_multiply_adds"], 2),
            number(entry["spectra_per_s"], 0),
            number(entry["spectra_seen"], 0),
            *(number(entry["1e+05"][f"group_f1_{place}"]) for place in ("anywhere", "surface", "below")),
        )
        for entry in _named(figures, "networks").values()
    ]
    return table(header, rows or [(NOT_MEASURED, *[""] * (len(header) - 1))])


TABLES: Mapping[str, Callable[[Path], str]] = {
    "reproduce_times": times_table,
    "reproduce_arms": arms_table,
    "reproduce_pigments": pigments_table,
    "reproduce_seeds": seeds_table,
    "reproduce_hidden": hidden_table,
    "reproduce_mistakes": mistakes_table,
    "reproduce_false": false_table,
    "reproduce_ablation": ablation_table,
    "reproduce_comparison": comparison_table,
    "summary": summary_table,
    "physics": physics_table,
    "elements": elements_table,
    "aurora": aurora_table,
    "instruments": instruments_table,
    "table2": panel_table,
    "benchmark": benchmark_table,
    "trust": trust_table,
    "architecture": architecture_table,
    "explain": explain_table,
    "paints": paints_table,
    "plan": plan_table,
}


def paste(text: str, folder: Path) -> str:
    """Text of a page with every marked table regenerated."""

    def replaced(block: re.Match[str]) -> str:
        name = block["name"]
        if name not in TABLES:
            raise ValueError(f"A page asks for the figures {name!r}; there are {', '.join(TABLES)}.")
        return f"{block[1]}{TABLES[name](folder)}{block[3]}"

    return BLOCK.sub(replaced, text)


def main() -> int:
    """Paste the figures, or with ``--check`` only compare; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a page is out of date")
    check = parser.parse_args().check
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        before = page.read_text(encoding="utf-8")
        after = paste(before, FIGURES)
        if check and before != after:
            print(f"{page.relative_to(ROOT)} does not show the measured figures. Run: python tools/readme_figures.py")
            return 1
        if before != after:
            page.write_text(after, encoding="utf-8")
    print("The figures in README.md and docs are those that were measured.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
