from pathlib import Path

import numpy as np
import pytest

from underpaint.errors import SampleError
from underpaint.simulate import load_recipe, paper_classes, paper_mixtures
from underpaint.simulate.draw import RandomStratigraphies, StratigraphySampler, is_similar_mixture
from underpaint.simulate.recipes import paper_grid, paper_stratigraphy


def test_the_paper_simulated_16224_structures() -> None:
    grid = paper_grid()
    assert len(grid) == 16224
    assert len(set(grid)) == 16224


def test_table_2_has_4_tops_and_16_bottoms_that_sum_to_one() -> None:
    recipe = load_recipe("table2")
    assert (len(recipe.top_paints), len(recipe.bottom_paints)) == (4, 16)
    for mixture in paper_mixtures().values():
        assert sum(mixture.values()) == pytest.approx(1.0)


def test_figure_7_is_a_part_of_table_2() -> None:
    panel, table = load_recipe("fig7"), load_recipe("table2")
    assert list(panel.top_paints) == ["Top 2", "Top 1", "Top 3", "Top 4"]
    assert all(panel.bottom_paints[name] == table.bottom_paints[name] for name in panel.bottom_paints)


def test_the_paper_has_eleven_classes() -> None:
    assert len(paper_classes()) == 11
    assert "vermilion" in paper_classes()


def test_a_paper_stratigraphy_is_one_pigment_over_another_over_chalk() -> None:
    stratigraphy = paper_stratigraphy("vermilion", "lead_white", 50.0, 100.0)
    assert [set(layer.pigments) for layer in stratigraphy.layers[:2]] == [{"vermilion"}, {"lead_white"}]
    # 3 : 1 by mass
    assert stratigraphy.layers[0].pigments["vermilion"] == pytest.approx(0.75)


def test_an_unknown_recipe_is_refused_with_what_there_is() -> None:
    with pytest.raises(SampleError, match="fig7, table2"):
        load_recipe("fig8")


def test_a_users_recipe_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'pigment_to_binder = 2.0\nbinder = "linseed_oil"\nground = "chalk"\ntop_thickness_um = [10.0, 20.0]\n'
        "bottom_thickness_um = [20.0, 30.0]\nground_thickness_um = [100.0, 120.0]\n"
        "[tops]\nred = { vermilion = 1 }\n[bottoms]\nwhite = { lead_white = 3, zinc_white = 1 }\n"
    )
    recipe = load_recipe(path)
    assert recipe.bottom_paints["white"] == pytest.approx({"lead_white": 0.75, "zinc_white": 0.25})
    path.write_text("tops = {}")
    with pytest.raises(SampleError, match="bottoms"):
        load_recipe(path)


def test_held_out_mixtures_are_never_drawn() -> None:
    palette = tuple({name for mixture in paper_mixtures().values() for name in mixture})
    sampler = StratigraphySampler(RandomStratigraphies(palette=palette))
    rng = np.random.default_rng(1)
    for _ in range(200):
        for layer in sampler.draw(rng).layers:
            total = sum(layer.pigments.values())
            if total > 0:
                shares = {name: share / total for name, share in layer.pigments.items()}
                paints = [mixture for mixture in paper_mixtures().values() if set(mixture) != {"lead_white"}]
                assert not any(is_similar_mixture(shares, mixture) for mixture in paints)


def test_too_close_needs_the_same_pigments() -> None:
    assert is_similar_mixture({"vermilion": 0.6, "zinc_white": 0.4}, {"vermilion": 0.7, "zinc_white": 0.3})
    assert not is_similar_mixture({"vermilion": 0.6, "zinc_white": 0.4}, {"vermilion": 0.8, "zinc_white": 0.2})
    assert not is_similar_mixture({"vermilion": 1.0}, {"vermilion": 0.9, "zinc_white": 0.1})


def test_draws_depend_on_the_seed_alone() -> None:
    sampler = StratigraphySampler(RandomStratigraphies(palette=("vermilion", "lead_white", "chalk")))
    first = [sampler.draw(np.random.default_rng(7)) for _ in range(2)]
    assert [layer.thickness_um for layer in first[0].layers] == [layer.thickness_um for layer in first[1].layers]
