"""What a search says of its reranking; errors never repeat who asks."""

from __future__ import annotations

import pytest

from rerank_server.gateway.errors import OptionsError
from rerank_server.gateway.options import RerankOptions, read_options


@pytest.mark.parametrize("name", ["shopper_id", "session_id"])
@pytest.mark.parametrize(
    ("value", "said"),
    [(48151623, "got a value of type int, want a text"), ("x48151623" * 99, "got 891 bytes")],
)
def test_a_wrong_id_of_a_person_is_not_repeated(name, value, said):
    with pytest.raises(OptionsError) as caught:
        read_options("ext.rerank", {name: value}, RerankOptions())
    assert str(caught.value).startswith(f"ext.rerank.{name}: {said}")
    assert "48151623" not in str(caught.value)


def test_an_id_is_taken_as_it_is():
    assert read_options("ext.rerank", {"shopper_id": "s-1"}, RerankOptions()).shopper_id == "s-1"
