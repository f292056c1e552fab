from __future__ import annotations

import pytest

from deploy.demo.titles import category_title, product_title


@pytest.mark.parametrize(
    ("kind", "title"),
    [
        ("white bread", "White bread"),
        ("frzn boxed vegetables - plain", "Frozen boxed vegetables - plain"),
        ("dairy case 100% pure juice - o", "Dairy case 100% pure juice"),
        ("sw gds: sw rolls/dan", "Sweet goods: sweet rolls / dan"),
        ("misc candy (including", "Assorted candy"),
        ("soft drinks 12/18&15pk can car", "Soft drinks 12 to 18 cans"),
        ("sft drnk 2 liter btl carb incl", "Soft drink 2 liter bottle carbonated"),
        ("broccoli whole&crowns", "Broccoli whole & crowns"),
        ("meat: ham bulk", "Meat: ham bulk"),
        ("", ""),
    ],
)
def test_shelf_shorthand_becomes_a_title(kind, title):
    assert product_title(kind) == title


def test_categories_have_names_for_people_and_unknown_ones_are_tidied():
    assert category_title("bread_sweet") == "Bread & sweet bakes"
    assert category_title("new_things") == "New things"
    assert category_title("") == "Other"
