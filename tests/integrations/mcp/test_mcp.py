"""``modernrank mcp`` with the client of the official SDK, over standard input and output."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from modernrank import AsyncReranker, InputError, Reranker
from modernrank.integrations.mcp import McpOptions, create_server
from support.layout import ROOT

pytestmark = pytest.mark.integrations

PAGE = ROOT / "docs" / "integrations" / "mcp.md"
PROGRAM = Path(sys.executable).with_name("modernrank")
QUERY = "play music in a terminal"
DOCUMENTS = (ROOT / "demo" / "documents.txt").read_text().splitlines()
LONG = " ".join(DOCUMENTS * 20)


@asynccontextmanager
async def connected(artifact: Path, *options: object) -> AsyncIterator[Client]:
    """A client of a server in a process of its own."""
    parameters = StdioServerParameters(command=str(PROGRAM), args=["mcp", str(artifact), *map(str, options)])
    async with Client(stdio_client(parameters)) as client:
        yield client


def on(artifact: Path, use: Callable[[Client], Awaitable[Any]], *options: object) -> Any:
    """What ``use`` gives for a client of this artifact."""

    async def used() -> Any:
        async with connected(artifact, *options) as client:
            return await use(client)

    return asyncio.run(used())


async def ask(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    answer = await client.call_tool(tool, arguments)
    assert not answer.is_error, answer.content
    assert json.loads(answer.content[0].text) == answer.structured_content  # for clients that read the text
    return dict(answer.structured_content)


async def refused(client: Client, tool: str, **arguments: Any) -> str:
    answer = await client.call_tool(tool, arguments)
    assert answer.is_error
    return str(answer.content[0].text)


def passages(artifact: Path, texts: Sequence[str], *options: object, query: str = QUERY, **fields: Any) -> Any:
    asked = {"query": query, "passages": list(texts), "top_k": max(1, len(texts)), **fields}
    return on(artifact, lambda client: ask(client, "rerank_passages", **asked), *options)["results"]


def files(artifact: Path, folder: Path, *paths: str, options: Sequence[object] = ()) -> dict[str, Any]:
    async def ranked(client: Client) -> dict[str, Any]:
        return await ask(client, "rerank_files", query=QUERY, paths=list(paths))

    answer: dict[str, Any] = on(artifact, ranked, "--files", folder, *options)
    return answer


@pytest.fixture(scope="module")
def reference(demo: Path) -> Any:
    with Reranker.load(demo) as reranker:
        yield reranker


def test_scores_are_those_of_the_reranker(demo: Path, reference: Reranker) -> None:
    texts = [*DOCUMENTS, LONG, "", DOCUMENTS[1]]
    ranked = reference.rank(QUERY, texts, activation="sigmoid", long_documents="chunk", max_parts=256)

    results = passages(demo, texts)

    assert [(r["index"], r["score"], r["text"]) for r in results] == [(r.index, r.score, r.document) for r in ranked]
    assert [r["tokens_cut"] for r in results] == [r.tokens_cut for r in ranked]


def test_options_of_the_command_reach_the_model(demo: Path, reference: Reranker) -> None:
    ranked = reference.rank(QUERY, [LONG], max_length=64, long_documents="chunk", max_parts=2)

    (result,) = passages(demo, [LONG], "--activation", "logit", "--max-length", 64, "--max-parts", 2)

    assert (result["score"], result["tokens_cut"]) == (ranked[0].score, ranked[0].tokens_cut)
    assert result["tokens_cut"] > 0


def test_no_passages_are_no_results(demo: Path) -> None:
    assert passages(demo, []) == []


def test_the_best_ten_are_answered_unless_asked_otherwise(demo: Path) -> None:
    texts = [f"{text} {number}" for number in range(3) for text in DOCUMENTS]

    async def both(client: Client) -> tuple[int, int]:
        ten = await ask(client, "rerank_passages", query=QUERY, passages=texts)
        two = await ask(client, "rerank_passages", query=QUERY, passages=texts, top_k=2)
        return len(ten["results"]), len(two["results"])

    assert on(demo, both) == (10, 2)


def test_thousands_of_passages_and_equal_ones_in_their_order(artifacts: Path) -> None:
    texts = [f"document {number % 500}" for number in range(5000)]

    results = passages(artifacts / "tiny", texts)

    assert sorted(result["index"] for result in results) == list(range(5000))
    scores = {result["text"]: result["score"] for result in results}
    assert all(scores[result["text"]] == result["score"] for result in results)
    best = [result["index"] for result in results if result["text"] == results[0]["text"]]
    assert best == sorted(best) and len(best) == 10


def test_calls_at_the_same_time_have_their_own_results(demo: Path, reference: Reranker) -> None:
    queries = ["play music", "print a score", "back up files", "compile programs"] * 4

    async def together(client: Client) -> list[dict[str, Any]]:
        calls = (ask(client, "rerank_passages", query=query, passages=DOCUMENTS) for query in queries)
        return await asyncio.gather(*calls)

    for query, answer in zip(queries, on(demo, together), strict=True):
        ranked = reference.rank(query, DOCUMENTS, activation="sigmoid")
        assert [(r["index"], r["score"]) for r in answer["results"]] == [(r.index, r.score) for r in ranked]


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        ({"passages": [None]}, "passages.0"),
        ({"passages": ["a"], "query": None}, "query"),
        ({"passages": "a"}, "passages"),
        ({"passages": ["a"], "top_k": 0}, "top_k"),
        ({"passages": ["a"] * 6}, "5"),
    ],
)
def test_what_cannot_be_ranked_is_refused_and_the_server_goes_on(
    arguments: dict[str, Any], fact: str, artifacts: Path
) -> None:
    async def refuse_and_go_on(client: Client) -> tuple[str, dict[str, Any]]:
        reason = await refused(client, "rerank_passages", **{"query": QUERY, **arguments})
        return reason, await ask(client, "rerank_passages", query=QUERY, passages=["a"])

    reason, answer = on(artifacts / "tiny", refuse_and_go_on, "--max-passages", 5)

    assert fact in reason
    assert len(answer["results"]) == 1


def test_a_call_that_is_given_up_does_not_keep_the_next_one_waiting(artifacts: Path) -> None:
    many = [f"{LONG} {number}" for number in range(5000)]  # about a minute

    async def give_up(client: Client) -> int:
        slow = asyncio.create_task(client.call_tool("rerank_passages", {"query": QUERY, "passages": many}))
        await asyncio.sleep(2)
        slow.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await slow
        async with asyncio.timeout(20):
            return len((await ask(client, "rerank_passages", query=QUERY, passages=DOCUMENTS))["results"])

    assert on(artifacts / "tiny", give_up) == len(DOCUMENTS)


def test_the_tools_are_described(demo: Path, tmp_path: Path) -> None:
    async def described(client: Client) -> tuple[Any, str]:
        return (await client.list_tools()).tools, client.instructions

    (alone,), instructions = on(demo, described)
    passages_tool, files_tool = on(demo, described, "--files", tmp_path)[0]

    assert alone.name == passages_tool.name == "rerank_passages"
    assert alone.input_schema["required"] == ["query", "passages"]
    assert alone.output_schema["properties"]["results"]["type"] == "array"
    assert alone.annotations.read_only_hint is True
    assert "192 tokens" in instructions
    assert files_tool.name == "rerank_files" and str(tmp_path) in files_tool.description


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Notes, a file that leads outside, and what is no text."""
    folder = tmp_path / "notes"
    (folder / "deep" / ".git").mkdir(parents=True)
    filler = [DOCUMENTS[0], DOCUMENTS[4]] * 8
    (folder / "player.md").write_text("\n".join([*filler, DOCUMENTS[1], *filler]))
    (folder / "deep" / "sheet.txt").write_text(DOCUMENTS[3])
    (folder / "deep" / ".git" / "hidden.txt").write_text(DOCUMENTS[1])
    (folder / "image.md").write_bytes(b"\x89PNG\r\n\x1a\n\xff")
    (folder / "empty.md").write_text(" \n")
    (folder / "large.md").write_text("x" * (2**20 + 1))
    (tmp_path / "secret.md").write_text(DOCUMENTS[1])
    (folder / "link.md").symlink_to(tmp_path / "secret.md")
    os.mkfifo(folder / "pipe.md")
    return folder


def test_a_file_counts_by_its_best_passage_and_shows_it(demo: Path, folder: Path, reference: Reranker) -> None:
    text = (folder / "player.md").read_text()
    options: dict[str, Any] = {"activation": "sigmoid", "long_documents": "chunk", "part_tokens": 48}
    (ranked,) = reference.rank(QUERY, [text], max_parts=256, **options)

    best, other = files(demo, folder, "deep", "player.md", options=("--passage-tokens", 48))["results"]

    assert (best["path"], best["score"], best["tokens_cut"]) == ("player.md", ranked.score, 0)
    assert DOCUMENTS[1] in best["text"] and len(best["text"]) < len(text)
    shown = text.splitlines()[best["first_line"] - 1 : best["last_line"]]
    assert best["text"] in "\n".join(shown) and DOCUMENTS[1] in shown
    assert (other["path"], other["first_line"], other["last_line"]) == ("deep/sheet.txt", 1, 1)
    assert other["text"] == DOCUMENTS[3]


def test_what_was_not_ranked_is_named(demo: Path, folder: Path) -> None:
    answer = files(demo, folder, "*.md", "nothing.txt", "../secret.md", "/etc/hostname", "**x", "", "a\0b")

    assert [result["path"] for result in answer["results"]] == ["player.md"]
    reasons = {
        skipped["path"].rpartition("/")[2] or skipped["path"]: skipped["reason"] for skipped in answer["skipped"]
    }
    assert reasons.keys() == {
        *("image.md", "empty.md", "large.md", "link.md", "pipe.md"),
        *("nothing.txt", "secret.md", "hostname", "**x", "", "a\0b"),
    }
    assert "UTF-8" in reasons["image.md"] and "1,048,577" in reasons["large.md"]
    assert all("outside" in reasons[name] for name in ("link.md", "secret.md", "hostname"))


def test_patterns_and_folders_lead_to_each_file_once_and_to_hidden_ones_by_name_only(demo: Path, folder: Path) -> None:
    (folder / "image.md").unlink()
    for paths, expected in [
        (("**/*.txt", "deep", str(folder / "deep" / "sheet.txt")), {"deep/sheet.txt"}),
        ((str(folder / "**" / "*.txt"),), {"deep/sheet.txt"}),
        (("deep/.git",), {"deep/.git/hidden.txt"}),
        (("deep/.git/*.txt",), {"deep/.git/hidden.txt"}),
        ((".",), {"player.md", "deep/sheet.txt"}),
    ]:
        results = files(demo, folder, *paths)["results"]
        assert {result["path"] for result in results} == expected and len(results) == len(expected)


def test_of_several_folders_the_paths_are_absolute_and_lead_back(artifacts: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same.txt").write_text(name)

    async def twice(client: Client) -> list[list[str]]:
        first = await ask(client, "rerank_files", query=QUERY, paths=["same.txt"])
        again = await ask(client, "rerank_files", query=QUERY, paths=[r["path"] for r in first["results"]])
        return [sorted(r["path"] for r in answer["results"]) for answer in (first, again)]

    found, again = on(artifacts / "tiny", twice, "--files", tmp_path / "one", "--files", tmp_path / "two")

    assert found == again == [str(tmp_path / "one" / "same.txt"), str(tmp_path / "two" / "same.txt")]


def test_too_many_files_are_refused_and_a_thousand_are_ranked(artifacts: Path, tmp_path: Path) -> None:
    for number in range(1001):
        (tmp_path / f"{number:04}.txt").write_text(f"document {number}")

    async def both(client: Client) -> tuple[str, dict[str, Any]]:
        reason = await refused(client, "rerank_files", query=QUERY, paths=["."])
        return reason, await ask(client, "rerank_files", query=QUERY, paths=["0*.txt"], top_k=2000)

    reason, answer = on(artifacts / "tiny", both, "--files", tmp_path)

    assert "1,000" in reason
    assert len(answer["results"]) == 1000


def test_a_server_in_this_process_has_the_same_tools(demo: Path, reference: Reranker) -> None:
    async def asked() -> dict[str, Any]:
        async with AsyncReranker(reference) as shared, Client(create_server(shared)) as client:
            return await ask(client, "rerank_passages", query=QUERY, passages=DOCUMENTS)

    ranked = reference.rank(QUERY, DOCUMENTS, activation="sigmoid")
    assert [r["score"] for r in asyncio.run(asked())["results"]] == [r.score for r in ranked]


def test_what_no_call_could_do_is_refused_at_the_start(artifacts: Path, tmp_path: Path) -> None:
    async def made(artifact: Path, options: McpOptions) -> None:
        async with AsyncReranker(artifact) as shared:
            create_server(shared, options)

    for artifact, options in [
        ("tiny-cls", McpOptions()),
        ("tiny", McpOptions(activation="softmax")),
        ("tiny", McpOptions(folders=(tmp_path / "none",))),
    ]:
        with pytest.raises(InputError):
            asyncio.run(made(artifacts / artifact, options))


@pytest.mark.parametrize("arguments", [["tiny-cls"], ["tiny", "--files", "none"], ["none"]])
def test_a_command_that_cannot_start_says_why_in_one_line(arguments: list[str], artifacts: Path) -> None:
    done = subprocess.run(
        [PROGRAM, "mcp", artifacts / arguments[0], *arguments[1:]], capture_output=True, text=True, input="", timeout=60
    )

    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("modernrank: ") and "Traceback" not in done.stderr


INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "old", "version": "1"}},
}
CALL = {
    "jsonrpc": "2.0",
    "id": 2,
    "method": "tools/call",
    "params": {"name": "rerank_passages", "arguments": {"query": QUERY, "passages": DOCUMENTS}},
}


@pytest.mark.parametrize(("ends", "code"), [("input", 0), (signal.SIGINT, -2), (signal.SIGTERM, -15)])
def test_a_client_of_the_first_version_is_served_until_the_end(ends: Any, code: int, demo: Path) -> None:
    command = [PROGRAM, "mcp", demo]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as server:
        assert server.stdin is not None and server.stdout is not None and server.stderr is not None
        print(json.dumps(INITIALIZE), file=server.stdin, flush=True)
        greeting = json.loads(server.stdout.readline())["result"]
        print(json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}), file=server.stdin)
        print(json.dumps(CALL), file=server.stdin, flush=True)
        answer = json.loads(server.stdout.readline())["result"]
        if ends == "input":
            server.stdin.close()
        else:
            server.send_signal(ends)
        assert server.wait(10) == code
        logged = server.stderr.read()
    assert greeting["protocolVersion"] == "2024-11-05"
    assert json.loads(answer["content"][0]["text"])["results"][0]["text"] == DOCUMENTS[1]
    assert DOCUMENTS[1] not in logged and "Traceback" not in logged


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def in_folder(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in which the page's paths exist."""
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "demo").symlink_to(demo)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{PROGRAM.parent}:{os.environ['PATH']}")


@pytest.mark.usefixtures("in_folder")
def test_the_example_of_the_page_prints_what_it_shows() -> None:
    output = io.StringIO()
    command = [sys.executable, "-c", blocks("py")[0]]
    output.write(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)
    assert output.getvalue() == blocks("text")[0]


@pytest.mark.usefixtures("in_folder")
def test_the_servers_example_of_the_page_makes_a_server() -> None:
    names: dict[str, Any] = {}
    source = blocks("py")[1].replace("await server.run_streamable_http_async(port=8000)", "return server.name")
    exec(compile(source, str(PAGE), "exec"), names)
    assert asyncio.run(names["serve"]()) == "modernrank"


def test_the_configuration_of_the_page_starts_the_server(demo: Path, folder: Path) -> None:
    entry = json.loads(blocks("json")[0])["mcpServers"]["modernrank"]
    places = {
        "/home/me/modernrank/.venv/bin/modernrank": str(PROGRAM),
        "/home/me/modernrank/artifacts/demo": str(demo),
        "/home/me/notes": str(folder),
    }
    command, *arguments = (places.get(word, word) for word in [entry["command"], *entry["args"]])

    async def tools() -> set[str]:
        server = StdioServerParameters(command=command, args=arguments)
        async with Client(stdio_client(server)) as client:
            return {tool.name for tool in (await client.list_tools()).tools}

    assert asyncio.run(tools()) == {"rerank_passages", "rerank_files"}
