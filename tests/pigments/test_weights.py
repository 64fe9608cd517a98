"""Model cards and where models are found."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from underpaint.errors import ModelError
from underpaint.pigments.weights import ModelAxis, ModelCard, load_card, model_path, shipped_models


def card(**changes: object) -> ModelCard:
    fields = {
        "name": "toy",
        "axis": ModelAxis(start_kev=1.0, bin_kev=0.04, n_bin=1000),
        "names": ("mercury", "vermilion"),
        "kinds": ("group", "member"),
        "groups": (("mercury",), ("mercury",)),
        "labels": ("mercury pigment", "vermilion"),
        "elements": (("Hg_L",), ("Hg_L", "S_K")),
    }
    return ModelCard.model_validate({**fields, **changes})


def test_axis_ends_where_its_bins_end() -> None:
    axis = card().axis
    assert axis.stop_kev == pytest.approx(41.0)
    assert axis.edges_kev[[0, -1]] == pytest.approx([1.0, 41.0])


def test_card_needs_one_entry_per_name() -> None:
    with pytest.raises(ValidationError, match="labels has 1 entries for 2 names"):
        card(labels=("vermilion",))


def test_card_returns_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "toy.onnx").write_bytes(b"")
    card(narrowest_kev=(1.5, 20.0)).write(tmp_path / "toy.json")
    assert load_card(tmp_path / "toy.onnx") == load_card(tmp_path / "toy.json") == card(narrowest_kev=(1.5, 20.0))


def test_missing_model_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nothing\.onnx and nothing\.json not found"):
        model_path(tmp_path / "nothing")


def test_damaged_card_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "toy.onnx").write_bytes(b"")
    (tmp_path / "toy.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match=r"Cannot read the model card .*toy\.json"):
        load_card(tmp_path / "toy.onnx")


def test_every_shipped_model_has_a_readable_card() -> None:
    assert [load_card(name).name for name in shipped_models()] == list(shipped_models())


def test_cards_open_without_torch_or_onnxruntime() -> None:
    code = "import sys, underpaint.pigments.weights; sys.exit(any(m in sys.modules for m in ('torch', 'onnxruntime')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
