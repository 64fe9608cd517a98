"""The shipped network, which answers by place, on a virtual panel."""

from underpaint.lab.evaluation import evaluate_panel


def test_a_panel_is_scored_by_what_lies_anywhere() -> None:
    figures = evaluate_panel("fig7", cell_pixels=1)
    assert not any("." in name for part in ("groups", "members", "false_alarms") for name in figures[part])
    assert figures["group_macro_f1"] > figures["always_yes_macro_f1"]
