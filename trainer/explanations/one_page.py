"""Why the products of one page stand where they stand, and what would lift one of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rerank_server.contract.errors import nearest
from trainer.explanations.attribution import GroupGame, leave_one_out, shapley_values
from trainer.explanations.counterfactual import (
    default_actions,
    find_counterfactual,
    parse_action,
)
from trainer.explanations.pages import (
    ExplanationError,
    LoggedPage,
    neutral_of,
    read_pages,
    served_score,
)
from trainer.explanations.tables import format_counterfactual, format_products
from trainer.pipeline import Run

_SHOWN = 3
_PAIRS = 32


def explain_page(run: Run, number: int, product: str | None, top: int, changes: list[str]) -> str:
    """Return in words what moved the products of a page, and what would lift one of them.

    Args:
        run: Trained.
        number: Page of the encoded log.
        product: Id of the product to explain; None explains the best ones, and asks what would
            lift the one that is just short of the first `top`.
        top: Places wanted.
        changes: What may be changed, for `parse_action`; empty for the default.

    Raises:
        ExplanationError: When the product is not on the page, or a change cannot be read.
    """
    schema = run.log.schema
    actions = [parse_action(text, schema) for text in changes] or default_actions(run.log)
    page = read_pages(run, np.array([number]))[0]
    score = served_score(run)
    game = GroupGame(page.scored, schema, neutral_of(run), score)
    random = np.random.default_rng(0)  # the same page gives the same words
    attributions = {
        "shapley": shapley_values(game, random, pairs=_PAIRS),
        "leave one out": leave_one_out(game),
    }
    scores = game.worth([game.everyone])[0]
    names = _names(run, page)
    query = run.log.prepared.page_queries[run.log.selection.pages[number]]
    parts = [
        f"page {number}, {schema.surfaces[page.scored.surface]}"
        + (f", query {run.log.prepared.queries[query]!r}" if query >= 0 else "")
        + f", {page.scored.size} products"
    ]
    order = np.argsort(-scores, kind="stable").tolist()
    if product is None:
        parts.append(format_products(names, scores, attributions, _SHOWN))
        asked = order[min(top, len(order) - 1)]
    else:
        asked = _index_of(run, page, product)
        alone = np.full_like(scores, -np.inf)
        alone[asked] = scores[asked]
        parts.append(f"place {order.index(asked) + 1}")
        parts.append(format_products(names, alone, attributions, 1))
    if actions and page.scored.size > top:
        lifted = find_counterfactual(page, asked, top, actions, schema, score)
        parts.append(format_counterfactual(names[asked], lifted))
    return "\n".join(parts)


def _names(run: Run, page: LoggedPage) -> list[str]:
    records = run.catalogue.records
    return [f"{records[row]['id']} ({records[row]['text']})" for row in page.rows.tolist()]


def _index_of(run: Run, page: LoggedPage, product: str) -> int:
    ids: Sequence[str] = [run.catalogue.records[row]["id"] for row in page.rows.tolist()]
    if product not in ids:
        raise ExplanationError(
            f"--product: got {product!r}, want one of the {len(ids)} products of the page"
            f"{nearest(product, ids)}"
        )
    return ids.index(product)
