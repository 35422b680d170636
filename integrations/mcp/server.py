"""The tools ``rerank_passages`` and ``rerank_files``, and the server that offers them on standard input and output."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from modernrank import AsyncReranker, Reranker, __version__
from modernrank.errors import InputError, ModernRankError
from modernrank.options import ActivationChoice

from .files import AllowedFolders, SkippedFile, TextFile

try:
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp.types import ToolAnnotations
    from pydantic import Field
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"modernrank.integrations.mcp requires version 2 of the SDK `mcp` ({error.msg}): pip install 'modernrank[mcp]'",
        name=error.name,
    ) from error

RERANK_PASSAGES = """Sort passages by how well each answers a query, best first, with a reranking model.

Use it after a search that returns more passages than you want to read: it reads query and passage together, so it is
more exact than keyword or embedding search. Equal passages get equal scores. `index` counts the passages from 0."""

RERANK_FILES = """Sort text files by how well each answers a query, best first, and show the best passage of each.

Use it to find which of many files to read. Each result has the path, the score of its best passage, that passage and
its lines. `skipped` names the paths that were not ranked, and why. The files must be in: {folders}"""

INSTRUCTIONS = """Reranks texts with the model {name}. Scores are {scale}: compare them within one query only. A pair of
query and passage has at most {max_length} tokens; longer passages count by their best part."""

SCALES: dict[str, str] = {"logit": "logits, of any sign", "sigmoid": "between 0 and 1", "model": "the model's own"}

Query = Annotated[str, Field(description="What you look for: a question, a sentence or keywords.")]
Passages = Annotated[list[str], Field(description="The texts to be sorted, each up to a few pages long.")]
Paths = Annotated[
    list[str],
    Field(description="Files, folders (with all that is in them) or patterns such as docs/**/*.md."),
]
TopK = Annotated[int, Field(ge=1, description="Number of results; the best ones are returned.")]


@dataclass(frozen=True)
class RankedPassage:
    """A passage of the input by its ``index``; ``tokens_cut`` counts tokens that the model did not read."""

    index: int
    score: float
    text: str
    tokens_cut: int = 0


@dataclass(frozen=True)
class RankedFile:
    """A file, the score of its best passage, that passage and its lines, counted from 1."""

    path: str
    score: float
    first_line: int
    last_line: int
    text: str
    tokens_cut: int = 0


@dataclass(frozen=True)
class PassageRanking:
    """What ``rerank_passages`` answers: the best passages first."""

    results: list[RankedPassage]


@dataclass(frozen=True)
class FileRanking:
    """What ``rerank_files`` answers: the best files first, and the paths that were not ranked."""

    results: list[RankedFile]
    skipped: list[SkippedFile] = field(default_factory=list)


@dataclass(frozen=True)
class McpOptions:
    """What the tools may do.

    folders:        folders whose files ``rerank_files`` reads; without any there is no such tool.
    activation:     scale of the scores, as in ``Reranker.rank``.
    max_passages:   maximum number of passages of a call.
    max_parts:      maximum number of parts in which a long passage or file is scored.
    passage_tokens: maximum number of tokens of the passage that is shown of a file.
    """

    folders: tuple[str | Path, ...] = ()
    activation: ActivationChoice = "sigmoid"
    max_passages: int = 10_000
    max_parts: int = 256
    passage_tokens: int = 256


def create_server(reranker: AsyncReranker, options: McpOptions | None = None) -> MCPServer:
    """The server with its tools, for any transport of the SDK.

    Args:
        reranker: the model, loaded, of one label. Its owner closes it.
        options: what the tools may do.

    Raises:
        InputError: the model has several labels or not this activation, or one of the folders does not exist.
    """
    options = options or McpOptions()
    model = reranker.reranker
    model.rank_request("", [], activation=options.activation)  # refuses what no call could do
    tools = _Tools(reranker, options, AllowedFolders(options.folders))
    server = MCPServer(
        "modernrank",
        title="modernrank",
        version=__version__,
        instructions=INSTRUCTIONS.format(
            name=model.manifest.name, scale=SCALES[options.activation], max_length=model.max_length
        ),
        log_level="WARNING",  # texts and paths are logged below it
    )
    read_only = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
    server.add_tool(tools.rerank_passages, description=RERANK_PASSAGES, annotations=read_only)
    if options.folders:
        description = RERANK_FILES.format(folders=tools.folders)
        server.add_tool(tools.rerank_files, description=description, annotations=read_only)
    return server


def serve_stdio(reranker: Reranker, options: McpOptions | None = None) -> None:
    """Serve until standard input ends.

    Args:
        reranker: the model, which its owner closes.
        options: what the tools may do.

    Raises:
        InputError: as ``create_server``.
    """

    async def serve() -> None:
        async with AsyncReranker(reranker) as shared:
            await create_server(shared, options).run_stdio_async()

    asyncio.run(serve())


class _Tools:
    """The tools as functions; the SDK makes their schemas from the signatures."""

    def __init__(self, reranker: AsyncReranker, options: McpOptions, folders: AllowedFolders) -> None:
        self._reranker = reranker
        self._options = options
        self.folders = folders

    async def rerank_passages(self, query: Query, passages: Passages, top_k: TopK = 10) -> PassageRanking:
        """Rank ``passages``; see ``RERANK_PASSAGES``."""
        async with _errors_for_the_assistant():
            maximum = self._options.max_passages
            if len(passages) > maximum:
                raise InputError(f"there are {len(passages):,} passages; the maximum is {maximum:,}, so send fewer")
            ranked = await self._reranker.rank(
                query,
                passages,
                top_k,
                activation=self._options.activation,
                long_documents="chunk",
                max_parts=self._options.max_parts,
            )
        return PassageRanking([RankedPassage(r.index, r.score, r.document, r.tokens_cut) for r in ranked])

    async def rerank_files(self, query: Query, paths: Paths, top_k: TopK = 10) -> FileRanking:
        """Rank the files that ``paths`` lead to; see ``RERANK_FILES``."""
        async with _errors_for_the_assistant():
            read = await asyncio.to_thread(self.folders.read, paths)
            ranked = await self._reranker.rank(
                query,
                [file.text for file in read.files],
                top_k,
                activation=self._options.activation,
                long_documents="chunk",
                max_parts=self._options.max_parts,
                part_tokens=self._options.passage_tokens,
                with_parts=True,
            )
        results = []
        for place in ranked:
            best = max(place.parts, key=lambda part: part.score)
            file = read.files[place.index]
            results.append(_ranked_file(file, place.score, (best.start, best.end), place.tokens_cut))
        return FileRanking(results, read.skipped)


def _ranked_file(file: TextFile, score: float, characters: tuple[int, int], tokens_cut: int) -> RankedFile:
    start, end = characters
    passage = file.text[start:end]
    start += len(passage) - len(passage.lstrip())
    passage = passage.strip()
    first = file.text.count("\n", 0, start) + 1
    return RankedFile(file.path, score, first, first + passage.count("\n"), passage, tokens_cut)


@asynccontextmanager
async def _errors_for_the_assistant() -> AsyncIterator[None]:
    """The SDK shows an assistant the text of a ``ToolError`` alone."""
    try:
        yield
    except ModernRankError as error:
        raise ToolError(str(error)) from error
