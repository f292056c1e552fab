"""Which indices are reranked without being asked, and how: the gateway's TOML file of rules.

```toml
[[index]]
pattern = "products-*"    # of the index as the request names it; the first rule that fits is used
rerank = true             # false: only how, when a search asks
window = 200
id_field = "sku"
category_field = "category"
surface = "search"
signals = {in_stock = "stock"}
```
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rerank_server.contract.errors import nearest
from rerank_server.gateway.errors import GatewaySettingsError, OptionsError
from rerank_server.gateway.options import RerankOptions, read_options

# Of one search, not of an index.
_OF_A_SEARCH = ("query", "query_id", "shopper_id", "session_id", "history", "time")


@dataclass(frozen=True, slots=True)
class IndexRule:
    """How the searches of some indices are reranked.

    Attributes:
        pattern: Of index names; `*` stands for any characters.
        rerank: Whether they are reranked without asking.
        options: How.
    """

    pattern: str
    rerank: bool
    options: RerankOptions


class IndexRules:
    """The rules in order, and what holds where none fits."""

    def __init__(self, rules: Sequence[IndexRule] = (), window: int = 100) -> None:
        """Rerank `window` candidates where no rule says otherwise."""
        self._rules = tuple(rules)
        self._default = IndexRule("*", rerank=False, options=RerankOptions(window=window))

    @property
    def rerank_some(self) -> bool:
        """Whether any index is reranked without asking."""
        return any(rule.rerank for rule in self._rules)

    def of(self, index: str) -> IndexRule:
        """Return the first rule that fits every part of an index expression.

        Args:
            index: As in the request's path, decoded: `a,b-*`; empty means all indices.
        """
        parts = [part for part in index.split(",") if part and not part.startswith("-")]
        for rule in self._rules:
            if all(fnmatchcase(part, rule.pattern) for part in parts or ["_all"]):
                return rule
        return self._default


def read_rules(path: Path | None, window: int) -> IndexRules:
    """Read the rules; no file has none.

    Raises:
        GatewaySettingsError: When the file cannot be read or breaks a rule.
    """
    if path is None:
        return IndexRules(window=window)
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise GatewaySettingsError(f"{path}: got {error}, want a TOML file of rules") from error
    for name in content:
        if name != "index":
            raise GatewaySettingsError(
                f"{path}: got the table {name!r}, want [[index]]{nearest(name, ['index'])}"
            )
    tables = content.get("index", [])
    if not isinstance(tables, list):
        raise GatewaySettingsError(f"{path}: got one table [index], want [[index]]")
    rules = [_read_rule(f"{path}, [[index]] {n}", t, window) for n, t in enumerate(tables, 1)]
    return IndexRules(rules, window)


def _read_rule(where: str, table: Mapping[str, Any], window: int) -> IndexRule:
    said = dict(table)
    pattern, rerank = said.pop("pattern", None), said.pop("rerank", False)
    if not isinstance(pattern, str) or not pattern:
        raise GatewaySettingsError(f"{where}, pattern: got {pattern!r}, want an index pattern")
    if not isinstance(rerank, bool):
        raise GatewaySettingsError(f"{where}, rerank: got {rerank!r}, want true or false")
    for name in _OF_A_SEARCH:
        if name in said:
            raise GatewaySettingsError(f"{where}, {name}: got it in a rule, want it in a search")
    try:
        options = read_options(where, said, RerankOptions(window=window))
    except OptionsError as error:
        raise GatewaySettingsError(str(error)) from error
    return IndexRule(pattern, rerank, options)
