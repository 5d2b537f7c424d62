"""The groups of variants in a model: a file where there are some, none where there are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recserv.errors import ModelError
from recserv.model.snapshot import load_popular, load_snapshot
from recserv.model.writer import save_snapshot
from recserv.training.assemble import assemble
from recserv.training.options import BuildOptions
from recserv.training.ranker import PLAIN_RANKER
from tests.factories import grouped_catalog, tiny_log
from tests.model.support import write_array

GROUPS = "item_groups.npy"


@pytest.fixture
def grouped(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    options = BuildOptions(events=("made up",), out=str(path), dimensions=4, epochs=0)
    contents, _ = assemble(
        tiny_log(40, 30), grouped_catalog(40, {"item-1": "g", "item-2": "g", "item-3": "x"}), options
    )
    save_snapshot(contents.ranked_by(PLAIN_RANKER), path, durable=False)
    return path


def test_variants_have_the_same_code_and_whoever_is_alone_has_none(grouped: Path) -> None:
    model = load_snapshot(grouped)
    one, other = model.items.row("item-1"), model.items.row("item-2")
    assert model.item_groups[one] == model.item_groups[other] >= 0
    assert (np.delete(model.item_groups, [one, other]) == -1).all()
    assert model.items.get(one).group_id == "g"
    assert load_popular(grouped).item_groups.tolist() == model.item_groups.tolist()


def test_a_model_without_variants_has_no_such_file_and_is_read_as_before(tiny_model: Path) -> None:
    assert not (tiny_model / GROUPS).exists()
    assert len(load_snapshot(tiny_model).item_groups) == 0


@pytest.mark.parametrize(("codes", "problem"), [([0, 0], "2 codes"), ([-2] * 40, "outside"), ([40] * 40, "outside")])
def test_codes_that_do_not_fit_are_refused(grouped: Path, codes: list[int], problem: str) -> None:
    write_array(grouped, "item_groups", np.array(codes, np.int32))
    with pytest.raises(ModelError, match=rf"item_groups\.npy: .*{problem}"):
        load_snapshot(grouped)


def test_popular_items_are_served_without_groups_that_are_damaged(grouped: Path) -> None:
    data = bytearray((grouped / GROUPS).read_bytes())
    data[140] ^= 1
    (grouped / GROUPS).write_bytes(data)
    with pytest.raises(ModelError, match=r"item_groups\.npy"):
        load_snapshot(grouped)
    assert len(load_popular(grouped).item_groups) == 0
