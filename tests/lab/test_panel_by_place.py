"""The shipped network, which answers by place, on a virtual panel."""

from underpaint.lab.evaluation import evaluate_panel


def test_a_panel_is_scored_by_what_lies_anywhere() -> None:
    found = evaluate_panel("fig7", cell_pixels=1)
    assert not any("." in name for part in ("groups", "members", "false_alarms") for name in found[part])
    assert found["group_macro_f1"] > found["always_yes_macro_f1"]
