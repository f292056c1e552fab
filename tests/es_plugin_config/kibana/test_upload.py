"""The upload against a server that answers as Kibana's documentation says; no Kibana runs here."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from es_plugin_config.kibana.__main__ import main
from es_plugin_config.kibana.saved_objects import saved_objects
from es_plugin_config.kibana.upload import Kibana, KibanaError, upload_dashboards, upload_rules


class FakeKibana:
    """Keeps what it is given; answers what it is told to."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.objects: list[dict[str, Any]] = []
        self.rules: dict[str, dict[str, Any]] = {}
        self.import_answer: tuple[int, bytes] | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if path.endswith("/api/saved_objects/_import?overwrite=true"):
            if self.import_answer is not None:
                return self.import_answer
            lines = [line for line in body.splitlines() if line.startswith(b"{")]
            self.objects = [json.loads(line) for line in lines]
            return 200, json.dumps({"success": True, "successCount": len(lines)}).encode()
        name = path.rsplit("/", 1)[-1]
        if method == "POST":
            self.rules[name] = json.loads(body)
        return (200, b"{}") if name in self.rules else (404, b'{"statusCode":404}')


def _handler(kibana: FakeKibana) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer("GET")

        def do_POST(self) -> None:
            self._answer("POST")

        def _answer(self, method: str) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            kibana.requests.append((method, self.path, dict(self.headers)))
            status, answer = kibana.answer(method, self.path, body)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    return Handler


@pytest.fixture
def kibana() -> Iterator[FakeKibana]:
    fake = FakeKibana()
    yield fake
    fake.close()


def test_every_object_is_imported_over_what_is_there(kibana: FakeKibana) -> None:
    assert upload_dashboards(Kibana(kibana.url)) == 14
    assert kibana.objects == saved_objects()
    ((method, path, headers),) = kibana.requests
    assert (method, path) == ("POST", "/api/saved_objects/_import?overwrite=true")
    assert headers["kbn-xsrf"] == "true"
    assert headers["Content-Type"].startswith("multipart/form-data; boundary=")


def test_a_space_a_base_path_and_a_login_are_used(kibana: FakeKibana) -> None:
    url = kibana.url.replace("http://", "http://shop:p%40ss@") + "/kibana"
    upload_dashboards(Kibana(url, space="search team"))
    ((_, path, headers),) = kibana.requests
    assert path == "/kibana/s/search%20team/api/saved_objects/_import?overwrite=true"
    assert headers["Authorization"] == "Basic c2hvcDpwQHNz"


def test_rules_are_created_once_and_a_changed_one_is_left_alone(kibana: FakeKibana) -> None:
    kibana.rules["crossrank-slow"] = {"params": "changed by hand"}
    created = upload_rules(Kibana(kibana.url, api_key="a2V5"))
    assert len(created) == 6
    assert kibana.rules["crossrank-slow"] == {"params": "changed by hand"}
    assert kibana.rules["crossrank-degraded"]["enabled"] is False
    assert upload_rules(Kibana(kibana.url)) == []
    assert kibana.requests[0][2]["Authorization"] == "ApiKey a2V5"


def test_the_command_uploads_with_a_key_from_a_file(
    kibana: FakeKibana, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "key"
    key.write_text("a2V5\n", encoding="utf-8")
    upload = ["upload", "--kibana", kibana.url, "--api-key-file", str(key)]
    assert main(upload) == 0
    assert {headers["Authorization"] for _, _, headers in kibana.requests} == {"ApiKey a2V5"}
    assert f"{len(saved_objects())} objects imported" in capsys.readouterr().out
    assert main([*upload[:-1], str(tmp_path / "none")]) == 1
    assert "API key: got No such file" in capsys.readouterr().err


def test_an_import_that_is_not_whole_is_an_error(kibana: FakeKibana) -> None:
    kibana.import_answer = (200, b'{"success":false,"errors":[{"id":"crossrank-quality"}]}')
    with pytest.raises(KibanaError, match=r"crossrank-quality.*want every object imported"):
        upload_dashboards(Kibana(kibana.url))


def test_a_server_that_is_no_kibana_is_named(kibana: FakeKibana) -> None:
    kibana.import_answer = (200, b"<html>welcome</html>")
    with pytest.raises(KibanaError, match=r"got 200 '<html>welcome</html>', want JSON"):
        upload_dashboards(Kibana(kibana.url))


@pytest.mark.parametrize("url", ["elastic:secret@kibana:5601", "http://e:secret@kibana:560100"])
def test_a_wrong_address_is_named_without_its_password(url: str) -> None:
    with pytest.raises(KibanaError, match=r"want http\(s\)://host:port") as caught:
        upload_dashboards(Kibana(url))
    assert "secret" not in str(caught.value)


def test_nobody_there_and_a_wrong_address_are_named() -> None:
    with pytest.raises(KibanaError, match=r"Kibana at 127.0.0.1:9: got .*, want an answer"):
        upload_dashboards(Kibana("http://u:secret@127.0.0.1:9"))
    with pytest.raises(KibanaError, match=r"got 'localhost:5601', want http\(s\)://host:port"):
        upload_dashboards(Kibana("localhost:5601"))
