"""Elasticsearch servers that these tests do not share with others.

Data streams cannot be deleted on the test distribution, so whoever makes one has a server of his
own; so has whoever wants users.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping

import pytest

from es_plugin_config.resources import read_resources
from tests.elasticsearch_installation import ElasticsearchUnavailableError
from tests.elasticsearch_node import start

ADMIN, PASSWORD = "admin", "admin-password"
# bcrypt of PASSWORD, in four rounds, for the tests have no time.
HASH = "$2a$04$.aBJLwf4NUcE/OHccQSwY.7dRP8lMdSeMzx13Qbv67hpPGuDuOaUK"


@contextlib.contextmanager
def own_node(
    *,
    version: str | None = None,
    settings: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """The address of a server that runs as long as the block; skips where none can be had."""
    with contextlib.ExitStack() as stack:
        try:
            node = stack.enter_context(
                start(version=version, settings=settings or {}, files=files or {})
            )
        except ElasticsearchUnavailableError as error:
            if os.environ.get("CI") == "true" and version is None:
                pytest.fail(str(error))
            pytest.skip(str(error))
        yield node.url


@contextlib.contextmanager
def secure_node() -> Iterator[str]:
    """The address, without a login, of a server that wants one.

    The test distribution cannot store roles, so the committed ones are given to it as a file, each
    to a user of the same name.
    """
    roles = {each.name: each.body for each in read_resources() if each.api == "_security/role"}
    given = "".join(f"{role}:{role}\n" for role in roles)
    files = {
        # YAML takes JSON, but each role has to start a line
        "roles.yml": "".join(f"{name}: {json.dumps(body)}\n" for name, body in roles.items()),
        "users": "".join(f"{user}:{HASH}\n" for user in (ADMIN, *roles)),
        "users_roles": f"superuser:{ADMIN}\n{given}",
    }
    with own_node(settings={"xpack.security.enabled": "true"}, files=files) as url:
        yield url


def with_login(url: str, user: str, password: str) -> str:
    return url.replace("://", f"://{user}:{password}@")
