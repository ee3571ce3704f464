"""GitHub's own description of its API, as npm has it, and a proxy that holds requests and answers against it."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

CONTRACT = Path(__file__).parent / "contract"
_MODULES = CONTRACT / "node_modules"
_DESCRIPTIONS = _MODULES / "@octokit/openapi/generated"
_PATIENCE = 60.0  # seconds for the proxy to start, on a machine with other work
# The one path that the descriptions of the REST API leave to another one: query() holds it.
_GRAPHQL = {
    "post": {
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"required": ["query"]}}}},
        "responses": {"200": {"description": "", "content": {"application/json": {"schema": {"required": ["data"]}}}}},
    }
}
# Of a description, what no validation needs; examples are most of it.
_LEFT_OUT = {"example", "examples", "externalDocs", "x-github", "x-octokit", "x-github-breaking-changes", "deprecated"}


def install() -> None:
    """Install what package-lock.json names, once; skip the test where there is no npm."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed: GitHub's description of its API and its validator come from there")
    with FileLock(CONTRACT / ".installing"):
        installed = _MODULES / ".package-lock.json"  # written last
        if not installed.is_file() or installed.stat().st_mtime < (CONTRACT / "package-lock.json").stat().st_mtime:
            subprocess.run([npm, "ci"], cwd=CONTRACT, check=True, timeout=600)
            for unused in _DESCRIPTIONS.glob("*.deref.json"):
                unused.unlink()  # the same with every reference written out: most of the half a gigabyte
            installed.touch()


def names() -> list[str]:
    """Return the descriptions that are held: github.com's, and the newest of GitHub Enterprise Server."""
    servers = {
        tuple(map(int, path.stem.removeprefix("ghes-").split("."))): path.stem
        for path in _DESCRIPTIONS.glob("ghes-*.json")
    }
    return ["api.github.com", servers[max(servers)]]


def subset(name: str, wanted: set[tuple[str, str]], *, prefix: str = "") -> dict[str, Any]:
    """Return a description of some (method, path) alone, with paths below a prefix. Raises KeyError for others."""
    whole = json.loads((_DESCRIPTIONS / f"{name}.json").read_text(encoding="utf-8"))
    paths: dict[str, Any] = {prefix.removesuffix("/v3") + "/graphql": _GRAPHQL}
    for method, path in sorted(wanted):
        paths.setdefault(prefix + path, {})[method.lower()] = _lean(whole["paths"][path][method.lower()])
    found: dict[str, Any] = {"openapi": whole["openapi"], "info": whole["info"], "paths": paths, "components": {}}
    waiting = list(_references(paths))
    while waiting:
        _, kind, part = waiting.pop().removeprefix("#/").split("/")
        there = found["components"].setdefault(kind, {})
        if part not in there:
            there[part] = _lean(whole["components"][kind][part])
            waiting += _references(there[part])
    return found


def run_query(query: str, data: Any) -> Any:
    """Return what GraphQL answers to a query over some data, by GitHub's schema: ``data``, or ``errors``."""
    given = json.dumps({"query": query, "data": data})
    done = subprocess.run(
        ["node", "query.mjs"], cwd=CONTRACT, input=given, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)


def resolve(description: dict[str, Any], value: Any) -> Any:
    """Return what a reference within a description stands for."""
    while "$ref" in value:
        _, kind, part = value["$ref"].removeprefix("#/").split("/")
        value = description["components"][kind][part]
    return value


@contextmanager
def proxy(description: dict[str, Any], upstream: str, folder: Path) -> Iterator[str]:
    """Run a proxy before a server: what is not as described becomes an error. Gives its address."""
    file, log = folder / "description.json", folder / "proxy.log"
    file.write_text(json.dumps(description), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["node", str(_MODULES / "@stoplight/prism-cli/dist/index.js"), "proxy", str(file), upstream, "--errors"]
    with log.open("wb") as output:
        running = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "NO_COLOR": "1"},
        )
    try:
        until = time.monotonic() + _PATIENCE
        while not _listens(port):
            if running.poll() is not None or time.monotonic() > until:
                pytest.fail(f"the proxy did not start:\n{log.read_text(encoding='utf-8')}")
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        running.terminate()
        running.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _lean(value: Any) -> Any:
    if isinstance(value, list):
        return [_lean(part) for part in value]
    if not isinstance(value, dict):
        return value
    # Names of properties are kept, whatever they are.
    lean = {k: _properties(v) if k == "properties" else _lean(v) for k, v in value.items() if k not in _LEFT_OUT}
    return _typed(lean) if "nullable" in lean and "type" not in lean else lean


def _typed(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema without a "nullable" that has no "type": the validator silently passes all where there is one.

    To an enumeration that may be null, it adds null.
    """
    kept = {key: value for key, value in schema.items() if key != "nullable"}
    return {"anyOf": [kept, {"type": "string", "nullable": True, "enum": []}]} if schema["nullable"] else kept


def _properties(value: Any) -> Any:
    return {name: _lean(schema) for name, schema in value.items()} if isinstance(value, dict) else value


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for part in value.values():
            yield from _references(part)
    elif isinstance(value, list):
        for part in value:
            yield from _references(part)
