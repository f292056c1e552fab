"""`crossrank rerank`: one page from a file, in process or by a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rerank_server.commands.options import (
    SERVER,
    JsonFlag,
    ServerOption,
    TlsCaOption,
    TlsClientOption,
    TokenFileOption,
    connect,
)
from rerank_server.commands.output import write_json, write_notice, write_table
from rerank_server.contract.errors import RerankError

if TYPE_CHECKING:
    from rerank_server.client.answer import RerankAnswer
    from rerank_server.page import SearchPage

app = typer.Typer()


class RerankOptionsError(RerankError):
    """Options that do not go together."""


@app.command()
def rerank(
    page: Annotated[
        Path, typer.Argument(help="A RerankRequest as JSON; - reads it from standard input.")
    ],
    *,
    bundle: Annotated[
        Path | None, typer.Option(help="Rerank in this process with the bundle in this folder.")
    ] = None,
    products: Annotated[
        Path | None, typer.Option(help="Folder of the product store of --bundle.")
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenFileOption = None,
    tls_ca: TlsCaOption = None,
    tls_client: TlsClientOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Rerank one page, by a running server or, with --bundle and --products, without one."""
    from rerank_server.commands.page_file import read_page

    if (bundle is None) != (products is None):
        raise RerankOptionsError("--bundle and --products: got one of them, want both or none")
    wanted = read_page(page)
    if bundle is not None and products is not None:
        answer = rerank_in_process(wanted, bundle, products)
    else:
        from rerank_server.client.rerank_client import RerankClient

        with RerankClient(connect(server, token_file, tls_ca, tls_client)) as client:
            answer = client.ask(wanted)
    write_answer(answer, as_json=as_json)


def rerank_in_process(
    page: SearchPage, bundle: Path, products: Path, policy: Path | None = None
) -> RerankAnswer:
    """Return the answer that a server with this bundle, product store and policy gives.

    Raises:
        RerankError: When one of them is broken, or the page names what the bundle does not know.
    """
    from time import perf_counter_ns

    from rerank_server.client.messages import answer_from_pb
    from rerank_server.convert import response_to_pb
    from rerank_server.cores import available_cores
    from rerank_server.policy_file import read_policy
    from rerank_server.reranker import Reranker
    from rerank_server.version import server_version

    rules = None if policy is None else read_policy(policy)
    reranker = Reranker.open(bundle, products, threads=available_cores())
    if rules is not None:
        reranker.policy = reranker.compile_policy(rules)
    began = perf_counter_ns()
    ranked = reranker.rerank(page)
    took_us = (perf_counter_ns() - began) // 1_000
    response = response_to_pb(ranked, queue_us=0, total_us=took_us, version=server_version())
    return answer_from_pb(page, response, took_us)


def write_answer(answer: RerankAnswer, *, as_json: bool) -> None:
    """Write the page in its new order; a degraded one with its reason on standard error."""
    ranks = answer.retrieval_ranks.tolist()
    columns = {
        "score": answer.scores.tolist(),
        **{name: values.tolist() for name, values in answer.probabilities.items()},
        **{name: values.tolist() for name, values in answer.explanations.items()},
    }
    if as_json:
        write_json(
            {
                "candidate_ids": list(answer.candidate_ids),
                "retrieval_ranks": ranks,
                "scores": columns["score"],
                "probabilities": {name: columns[name] for name in answer.probabilities},
                "explanations": {name: columns[name] for name in answer.explanations},
                "bundle_id": answer.bundle_id,
                "degraded_reason": answer.degraded_reason or None,
                "degraded_detail": answer.degraded_detail or None,
                "stages_us": dict(answer.stages_us),
                "server_us": answer.server_us,
            }
        )
        return
    if answer.degraded:
        write_notice(f"retrieval order: {answer.degraded_reason}, {answer.degraded_detail}")
        columns = {}
    rows = [
        (rank, candidate, before, *(values[rank] for values in columns.values()))
        for rank, (candidate, before) in enumerate(zip(answer.candidate_ids, ranks, strict=True))
    ]
    write_table(("rank", "candidate", "retrieved at", *columns), rows)
