from __future__ import annotations

import math

import numpy as np
import pytest

from recserv.errors import DatasetError
from recserv.evaluation.metrics import next_item_metrics
from recserv.evaluation.report import evaluate, read_prefixes


def test_metrics_of_known_ranks():
    metrics = next_item_metrics(np.array([1, 2, 0, 4]))
    assert metrics.hit_rate == 0.75
    assert metrics.reciprocal_rank == pytest.approx((1 + 1 / 2 + 1 / 4) / 4)
    assert metrics.ndcg == pytest.approx((1 + 1 / math.log2(3) + 1 / math.log2(5)) / 4)


def test_no_ranks_give_zero():
    assert next_item_metrics(np.array([], dtype=np.int64)).hit_rate == 0


@pytest.mark.parametrize("line", ["1 2 3\n", "\t4\n", "1 2\t\n"])
def test_a_line_that_is_no_prefix_and_target_is_named(tmp_path, line):
    path = tmp_path / "sessions.tsv"
    path.write_text("1 2\t3\n" + line)
    with pytest.raises(DatasetError, match="row 2"):
        list(read_prefixes(path))


def test_a_file_that_only_says_it_is_gzip_is_named(tmp_path):
    path = tmp_path / "sessions.tsv.gz"
    path.write_text("1 2\t3\n")
    with pytest.raises(DatasetError, match=r"sessions\.tsv\.gz"):
        list(read_prefixes(path))


def test_a_model_is_scored_by_the_pipeline_that_serves(tiny_model, tmp_path):
    path = tmp_path / "sessions.tsv"
    path.write_text("item-1 item-2\titem-3\nitem-4\titem-4\nnobody\tnothing\n")
    report = evaluate(tiny_model, path, k=20)
    assert report.overall.count == 3
    assert report.repeats.count == 1
    assert 0 < report.coverage <= 1
    assert report.degraded == 0
