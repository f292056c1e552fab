from __future__ import annotations

import numpy as np
import paddle
import pytest

from trainer.model.dropout import OwnRows, PageDropout, uniform_rows


@pytest.fixture
def rows():
    return OwnRows(paddle.to_tensor([1, 3]), 5)


def test_all_rows_lose_what_paddles_own_layer_takes():
    values = paddle.randn([4, 3, 8])
    paddle.seed(2)
    want = paddle.nn.Dropout(0.4)(values)
    paddle.seed(2)
    np.testing.assert_array_equal(PageDropout(0.4)(values).numpy(), want.numpy())


def test_own_rows_lose_what_they_lose_among_all(rows):
    values = paddle.randn([5, 3, 8])
    layer = PageDropout(0.4)
    paddle.seed(2)
    whole = [layer(values).numpy() for _ in range(2)]
    layer.own = rows
    paddle.seed(2)
    for one in whole:  # the second draw is no other than that of all rows either
        got = layer(paddle.gather(values, rows.index)).numpy()
        np.testing.assert_allclose(got, one[[1, 3]], rtol=1e-6)
        assert 0 < (got == 0).sum() < got.size


def test_nothing_is_lost_in_evaluation(rows):
    values = paddle.randn([2, 3])
    layer = PageDropout(0.4)
    layer.own = rows
    layer.eval()
    np.testing.assert_array_equal(layer(values).numpy(), values.numpy())


def test_own_rows_get_the_draws_of_all(rows):
    paddle.seed(4)
    whole = uniform_rows([5, 3], None).numpy()
    paddle.seed(4)
    np.testing.assert_array_equal(uniform_rows([2, 3], rows).numpy(), whole[[1, 3]])
