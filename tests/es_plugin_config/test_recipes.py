from __future__ import annotations

import json

import pytest

from es_plugin_config.recipes import (
    RECIPES,
    Candidate,
    RecipeError,
    Wanted,
    category_rounds,
    reciprocal_rank_fusion,
    retrieve,
    search_bodies,
)
from rerank_server.commands.root import main

INDEX = "crossrank-products-recipes"


def candidate(name):
    return Candidate(name, "", 0.0)


def test_fusion_adds_reciprocal_ranks():
    fused = reciprocal_rank_fusion(
        [[candidate("a"), candidate("b")], [candidate("b"), candidate("c")]]
    )
    assert [each.id for each in fused] == ["b", "a", "c"]
    assert [each.score for each in fused] == pytest.approx([1 / 62 + 1 / 61, 1 / 61, 1 / 62])


def test_rounds_take_the_best_of_every_category_in_turn():
    groups = [[candidate("a1"), candidate("a2"), candidate("a3")], [candidate("b1")]]
    assert [each.id for each in category_rounds(groups)] == ["a1", "b1", "a2", "a3"]
    assert category_rounds([]) == []


def test_a_recipe_refuses_what_it_cannot_search_for():
    with pytest.raises(RecipeError, match=r"got 'hybird', want one of .* \(nearest: hybrid\)"):
        search_bodies("hybird", Wanted("milk"))
    with pytest.raises(RecipeError, match="recipe vector: got no vector"):
        search_bodies("vector", Wanted("milk"))
    with pytest.raises(RecipeError, match="recipe text: got no query"):
        search_bodies("text", Wanted(" "))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_query_with_every_sign_of_json_stays_one_text(recipe):
    query = 'a "quoted" \\ {{size}} \n ü'
    bodies = search_bodies(recipe, Wanted(query, vector=[0.5, 1.0], category='x"y', size=7))
    for body in bodies:
        assert body["size"] == 7
        assert 'x\\"y' in json.dumps(body)
        if "query" in body:
            assert json.dumps(query) in json.dumps(body)


@pytest.fixture
def shop(elasticsearch_client):
    """20 milks, 3 dog foods that are also called milk, a cheese whose vector is a milk's."""
    mappings = {
        "properties": {
            "category": {"type": "keyword"},
            "id": {"type": "keyword"},
            "row": {"type": "integer"},
            "text": {"type": "text"},
            "vector": {"type": "dense_vector", "dims": 2, "similarity": "cosine"},
        }
    }
    elasticsearch_client.indices.create(index=INDEX, mappings=mappings)
    products = [(f"milk-{n:02}", "dairy", "fresh milk", [1.0, n / 100]) for n in range(20)]
    products += [(f"dog-{n}", "pet", "dog snack with milk taste", [-1.0, 0.5]) for n in range(3)]
    products += [("cheese", "dairy", "gouda", [1.0, 0.0])]
    for row, (name, category, text, vector) in enumerate(products):
        elasticsearch_client.index(
            index=INDEX,
            id=name,
            document={
                "id": name, "row": row, "category": category, "text": text, "vector": vector
            },
        )  # fmt: skip
    elasticsearch_client.indices.refresh(index=INDEX)
    return elasticsearch_client


def found(client, recipe, **wanted):
    return [each.id for each in retrieve(client, INDEX, recipe, Wanted(**wanted))]


@pytest.mark.elasticsearch
def test_the_recipes_find_what_they_promise(shop):
    text = found(shop, "text", query="milk", size=8)
    assert text == [f"milk-{n:02}" for n in range(8)]
    # no word in common with the query, but a vector like those of the best by text
    assert "cheese" in found(shop, "vector", query="milk", size=8)
    assert "cheese" in found(shop, "fused", query="milk", size=20)
    assert set(found(shop, "vector", like=("dog-0",), size=3)) == {"dog-0", "dog-1", "dog-2"}
    hybrid = found(shop, "hybrid", query="fresh milk", size=24)
    assert set(hybrid[:20]) == {f"milk-{n:02}" for n in range(20)}
    assert hybrid.index("cheese") == 20  # the vector alone, after those that both sides find
    # on the page of eight by text there is no dog food; balanced, the small category is there
    balanced = found(shop, "balanced", query="milk", size=8)
    assert balanced[:4] == ["milk-00", "dog-0", "milk-01", "dog-1"]
    assert found(shop, "balanced", query="milk", category="pet", size=8) == [
        "dog-0", "dog-1", "dog-2"
    ]  # fmt: skip


@pytest.mark.elasticsearch
def test_what_cannot_be_searched_is_said(shop, elasticsearch_url, capsys):
    with pytest.raises(RecipeError, match="index 'crossrank-none': got none of that name"):
        found(shop, "text", query="milk") and retrieve(
            shop, "crossrank-none", "text", Wanted("milk")
        )
    with pytest.raises(RecipeError, match="vector: got none for 'nothing at all'"):
        found(shop, "vector", query="nothing at all")
    flags = ["--index", INDEX, "--url", elasticsearch_url, "--size", "2", "--json"]
    assert main(["es", "search", "milk", "--recipe", "text", *flags]) == 0
    assert [each["id"] for each in json.loads(capsys.readouterr().out)] == ["milk-00", "milk-01"]
    assert main(["es", "search", "milk", "--recipe", "hybrid", "--body", *flags]) == 0
    assert len(json.loads(capsys.readouterr().out)["knn"]["query_vector"]) == 2
