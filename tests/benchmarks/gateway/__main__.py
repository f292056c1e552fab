"""Measures what the gateway costs a request that is not reranked, beside nginx and no proxy.

    python -m tests.benchmarks.gateway [--elasticsearch URL] [--rounds 300] [--out FILE]

Elasticsearch, nginx and the gateway are processes of their own; without a URL the tests' node is
started. The same request goes to the bare connection, to nginx (`proxy_pass`, kept-alive
connections, no buffering) and to the gateway in turn, so that whatever else the machine does meets
all alike; every way has one connection that is kept open. Prints and writes one JSON document.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter, sleep
from urllib.parse import urlsplit

INDEX = "crossrank-bench"
NGINX = """\
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; client_max_body_size 64m; client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u;
  scgi_temp_path {folder}/s; keepalive_requests 10000000;
  upstream elasticsearch {{ server {upstream}; keepalive 16; keepalive_requests 10000000; }}
  server {{ listen 127.0.0.1:{port}; location / {{
    proxy_pass http://elasticsearch; proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_buffering off; proxy_request_buffering off; }} }}
}}
"""

_Request = tuple[str, str, bytes | None]


def requests() -> dict[str, _Request]:
    """Return the requests by name: small, a page, a page by `_msearch`, and half a megabyte."""
    page = json.dumps({"query": {"match": {"text": "milk"}}, "size": 20}).encode()
    lines = [json.dumps({"index": {"_id": f"n{n}"}}) for n in range(2_000)]
    bulk = "".join(f'{line}\n{{"text":"{"bread " * 30}"}}\n' for line in lines).encode()
    return {
        "get": ("GET", f"/{INDEX}/_doc/1", None),
        "search": ("POST", f"/{INDEX}/_search", page),
        "msearch": ("POST", f"/{INDEX}/_msearch", b"{}\n" + page + b"\n"),
        # to an index that is not there and must not be made: it is read, and refused
        "bulk": ("POST", "/crossrank-no-such/_bulk?require_alias=true", bulk),
    }


class Way:
    """One way to Elasticsearch, over one connection."""

    def __init__(self, name: str, address: str, pid: int = 0) -> None:
        """Connect to host:port, where the process `pid` stands between."""
        self.name = name
        self.pid = pid
        host, _, port = address.rpartition(":")
        self._connection = http.client.HTTPConnection(host, int(port), timeout=60)

    def time_ms(self, method: str, target: str, body: bytes | None) -> float:
        """Send one request and return the milliseconds to the last byte of its answer."""
        headers = {
            "Content-Type": "application/x-ndjson" if "bulk" in target else "application/json"
        }
        began = perf_counter()
        self._connection.request(method, target, body, headers if body else {})
        answer = self._connection.getresponse()
        answer.read()
        took_ms = (perf_counter() - began) * 1_000
        if answer.status != http.client.OK:
            raise SystemExit(f"{self.name}: got status {answer.status} for {target}, want 200")
        return took_ms

    def cpu_ms(self) -> float:
        """Return the CPU time of the process between, with its children."""
        if not self.pid:
            return 0.0
        return sum(_cpu_ms(pid) for pid in (self.pid, *_children(self.pid)))


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _cpu_ms(pid: int) -> float:
    fields_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields_[11]) + int(fields_[12])) * 1_000 / os.sysconf("SC_CLK_TCK")


def measure(ways: Sequence[Way], rounds: int) -> dict[str, dict[str, object]]:
    """Return figures by request and way; the order of the ways turns with every round."""
    figures: dict[str, dict[str, object]] = {}
    for name, request in requests().items():
        times: dict[str, list[float]] = {way.name: [] for way in ways}
        warm_up = max(rounds // 10, 5)
        cpu_ms = {way.name: -way.cpu_ms() for way in ways if way.pid}
        for round_ in range(-warm_up, rounds):
            turn = round_ % len(ways)
            for way in (*ways[turn:], *ways[:turn]):
                took_ms = way.time_ms(*request)
                if round_ >= 0:
                    times[way.name].append(took_ms)
        for way in ways:
            if way.pid:
                cpu_ms[way.name] += way.cpu_ms()
        figures[name] = _figures(times)
        sent = rounds + warm_up
        figures[name]["cpu_ms_per_request"] = {n: round(ms / sent, 3) for n, ms in cpu_ms.items()}
    return figures


def _figures(times: Mapping[str, Sequence[float]]) -> dict[str, object]:
    middle = {name: statistics.median(values) for name, values in times.items()}
    late = {name: statistics.quantiles(values, n=20)[18] for name, values in times.items()}
    early = {name: statistics.quantiles(values, n=10)[0] for name, values in times.items()}
    figures: dict[str, object] = {
        "p10_ms": {name: round(value, 3) for name, value in early.items()},
        "p50_ms": {name: round(value, 3) for name, value in middle.items()},
        "p95_ms": {name: round(value, 3) for name, value in late.items()},
    }
    if "nginx" in middle:
        figures["gateway_minus_nginx_p50_ms"] = round(middle["gateway"] - middle["nginx"], 3)
        figures["gateway_minus_nginx_p10_ms"] = round(early["gateway"] - early["nginx"], 3)
        figures["gateway_to_nginx_p50"] = round(middle["gateway"] / middle["nginx"], 3)
    figures["gateway_minus_bare_p50_ms"] = round(middle["gateway"] - middle["bare"], 3)
    return figures


@contextmanager
def nginx(upstream: str) -> Iterator[Way]:
    """Run nginx before `upstream` for the length of a `with` block."""
    with tempfile.TemporaryDirectory() as folder:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        configuration = Path(folder) / "nginx.conf"
        configuration.write_text(NGINX.format(folder=folder, upstream=upstream, port=port))
        Path(folder).chmod(0o755)
        started = subprocess.Popen(["nginx", "-c", str(configuration)], stderr=subprocess.DEVNULL)
        try:
            sleep(1)
            yield Way("nginx", f"127.0.0.1:{port}", started.pid)
        finally:
            started.terminate()
            started.wait(10)


@contextmanager
def gateway(upstream: str) -> Iterator[Way]:
    """Run the gateway before `upstream`, without rules, for the length of a `with` block."""
    command = [sys.executable, "-m", "rerank_server", "gateway", "--port", "0"]
    started = subprocess.Popen(
        [*command, "--elasticsearch", f"http://{upstream}", "--reranker", "127.0.0.1:9"],
        stderr=subprocess.PIPE,
    )
    try:
        for line in started.stderr or ():
            if found := re.search(rb'gateway listens.*"address": "([^"]+)"', line):
                yield Way("gateway", found[1].decode(), started.pid)
                return
        raise SystemExit("gateway: got no address, want one in its log")
    finally:
        started.terminate()
        started.wait(10)


def _fill(address: str) -> None:
    way = http.client.HTTPConnection(address, timeout=60)
    lines = []
    for number in range(200):
        lines += [json.dumps({"index": {"_id": str(number)}})]
        lines += [json.dumps({"text": "milk " * (number % 9 + 1), "n": number})]
    body = "".join(f"{line}\n" for line in lines).encode()
    target = f"/{INDEX}/_bulk?refresh=true"
    way.request("POST", target, body, {"Content-Type": "application/x-ndjson"})
    way.getresponse().read()


def _remove(address: str) -> None:
    way = http.client.HTTPConnection(address, timeout=60)
    way.request("DELETE", f"/{INDEX}")
    way.getresponse().read()


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gateway")
    parser.add_argument("--elasticsearch", help="address; the tests' node without it")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with ExitStack() as stack:
        url = options.elasticsearch
        if url is None:
            from tests.elasticsearch_node import start  # noqa: PLC0415 - it brings jgo

            url = stack.enter_context(start()).url
        upstream = urlsplit(url).netloc
        _fill(upstream)
        stack.callback(_remove, upstream)
        ways = [Way("bare", upstream)]
        if shutil.which("nginx"):
            ways.append(stack.enter_context(nginx(upstream)))
        ways.append(stack.enter_context(gateway(upstream)))
        result = {
            "command": f"python -m tests.benchmarks.gateway --rounds {options.rounds}",
            "load_average": round(os.getloadavg()[0], 1),
            "cores": os.cpu_count(),
            "requests": measure(ways, options.rounds),
        }
    text = json.dumps(result, indent=2)
    sys.stdout.write(f"{text}\n")
    if options.out is not None:
        options.out.write_text(f"{text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
