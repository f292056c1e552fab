from __future__ import annotations

from rerank_server.gateway import kept_orders
from rerank_server.gateway.candidates import Candidates
from rerank_server.gateway.kept_orders import KeptOrders
from rerank_server.gateway.ranking import Ranking

RANKING = Ranking(("b", "a"), (0.9, 0.1), 0, "bundle", "", "", "", {})


def candidates(*ids):
    places = tuple((place,) for place in range(len(ids)))
    return Candidates(ids, places, (1.0,) * len(ids), {}, ())


def found(orders, mark, *ids):
    kept = orders.find(mark, candidates(*ids))
    return None if kept is None else kept.ranking


def test_an_order_is_kept_for_a_while_and_for_its_candidates_only():
    now = [0.0]
    orders = KeptOrders(60, lambda: now[0])
    orders.keep(b"x", candidates("a", "b"), RANKING, None)
    assert found(orders, b"x", "b", "a") is RANKING
    assert found(orders, b"x", "a", "c") is None
    assert found(orders, b"y", "a", "b") is None
    now[0] = 60.0
    assert found(orders, b"x", "a", "b") is None


def test_the_oldest_orders_make_room(monkeypatch):
    monkeypatch.setattr(kept_orders, "MOST_CANDIDATES", 4)
    orders = KeptOrders(60, lambda: 0.0)
    for mark in (b"1", b"2", b"1", b"3"):
        orders.keep(mark, candidates("a", "b"), RANKING, None)
    assert [found(orders, mark, "a", "b") for mark in (b"1", b"2", b"3")] == [
        RANKING,
        None,
        RANKING,
    ]


def test_nothing_is_kept_for_no_time():
    orders = KeptOrders(0)
    orders.keep(b"x", candidates("a"), RANKING, None)
    assert found(orders, b"x", "a") is None
