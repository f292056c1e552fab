"""`crossrank policy`: checks the rules of a policy, and shows what they do to a page."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from rerank_server.commands.options import JsonFlag
from rerank_server.commands.output import write_json, write_notice, write_table, write_text
from rerank_server.contract.errors import RerankError

app = typer.Typer(no_args_is_help=True)

PolicyFile = Annotated[Path, typer.Argument(help="TOML file of the rules.")]


class PolicyCommandError(RerankError):
    """Options that do not go together, or a trace of a page that could not be scored."""


@app.callback()
def _group() -> None:
    """Check the rules of a policy, and see what they do to a page."""


@app.command("check")
def check(
    policy: PolicyFile,
    *,
    bundle: Annotated[
        Path | None, typer.Option(help="Folder of a bundle: its names must hold the rules'.")
    ] = None,
    products: Annotated[
        Path | None, typer.Option(help="Folder of the product store of --bundle.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check a policy file: keys, values, conflicts, and the names of a bundle."""
    from rerank_server.policy_file import read_policy

    if (bundle is None) != (products is None):
        raise PolicyCommandError("--bundle and --products: got one of them, want both or none")
    rules = read_policy(policy)
    if bundle is not None and products is not None:
        from rerank_server.reranker import Reranker

        Reranker.open(bundle, products, threads=1).compile_policy(rules)
    if as_json:
        names = [rule.name for rule in rules]
        write_json({"rules": names, "policy_version": rules.version, "bundle": str(bundle or "")})
        return
    fits = f", and they fit {bundle}" if bundle else ""
    write_text(f"{policy}: {rules.size} rules{fits}, version {rules.version[:12]}")


@app.command("trace")
def trace(
    policy: PolicyFile,
    page: Annotated[
        Path, typer.Argument(help="A RerankRequest as JSON; - reads it from standard input.")
    ],
    *,
    bundle: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    products: Annotated[Path, typer.Option(help="Folder of the product store of --bundle.")],
    as_json: JsonFlag = False,
) -> None:
    """Rerank a page in this process and say which rule moved which candidate where."""
    from dataclasses import replace

    from rerank_server.commands.page_file import read_page
    from rerank_server.commands.rerank import rerank_in_process

    wanted = replace(read_page(page), policy_trace=True)
    answer = rerank_in_process(wanted, bundle, products, policy)
    found = answer.policy_trace
    if found is None:
        raise PolicyCommandError(
            f"page: got {answer.degraded_reason}, {answer.degraded_detail}, want scores to trace"
        )
    if as_json:
        write_json({"candidate_ids": list(answer.candidate_ids)} | asdict(found))
        return
    columns = (found.rule_indexes, found.retrieval_ranks, found.ranks_before, found.ranks_after)
    rows = [
        (found.rules[rule], wanted.candidate_ids[rank], before, "hidden" if after < 0 else after)
        for rule, rank, before, after in zip(*columns, strict=True)
    ]
    write_table(("rule", "candidate", "rank by score", "rank"), rows)
    for rule, missing in zip(found.rules, found.shortfalls, strict=True):
        if missing:
            write_notice(f"{rule}: fell short by {missing}, the page has no others")
