"""One task behind the Model Context Protocol: its environment's tools, for any agent that is an MCP client.

Each client session is an episode of its own, begun by its first call. The statement is the server's
instructions and the prompt `task`; the reward is in the structured result of `Done` and in the resource
`codegym://episode`, which a host reads and a model is not shown. What is wrong with a call is a result with
`isError`.

Over stdio a session is the process. Over streamable HTTP it is what the handshake of the protocol up to
2025-11-25 begins; later versions of the protocol know requests and no sessions, so there the server offers
the earlier ones only, and clients that speak both shake hands.

Source: https://modelcontextprotocol.io/specification/2025-11-25, and version 2 of its Python SDK (`mcp`).
"""

import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import mcp_types as types
import uvicorn
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from codegym_jax.adapters.catalog import Catalog
from codegym_jax.adapters.served_episode import CallResult, ServedEpisode, without_surrogates
from codegym_jax.config import UserError
from codegym_jax.data.json_schema import tool_schema
from codegym_jax.envs.env import HostFailure
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import EnvSpec, Task, ToolSpec

EPISODE_URI = "codegym://episode"
PROMPT = "task"
_STATE_KEY = "codegym episode"
_MAX_BODY_BYTES = 2**20
_SHUTDOWN_S = 2  # for what clients still listen to

Context = ServerRequestContext[Any, Any]


class ClientEpisode:
    """The episode of one client session."""

    def __init__(self, sandbox: Sandbox, spec: EnvSpec, task: Task):
        self._parts = (sandbox, spec, task)
        self._episode: ServedEpisode | None = None
        self._one_at_a_time = anyio.Lock()

    async def call(self, name: str, arguments: dict[str, Any]) -> CallResult:
        """Calls a tool, after the calls that came before it.

        Raises:
          HostFailure: when the host failed.
        """
        async with self._one_at_a_time:
            return await anyio.to_thread.run_sync(self._call, name, arguments)

    def facts(self) -> dict[str, Any]:
        """Where the episode stands. The reward is None until it has ended, and where the host failed."""
        episode = self._episode
        if episode is None:
            return {"calls": 0, "finished": False, "valid": True, "reward": None}
        return {
            "calls": episode.step_count,
            "finished": episode.finished,
            "valid": episode.valid,
            "reward": episode.reward if episode.finished and episode.valid else None,
        }

    def close(self) -> None:
        """Frees the guest."""
        if self._episode is not None:
            self._episode.close()

    def _call(self, name: str, arguments: dict[str, Any]) -> CallResult:
        if self._episode is None:
            self._episode = ServedEpisode(*self._parts)
        return self._episode.call(name, arguments)


EpisodeOf = Callable[[Context], ClientEpisode]


class TaskServer:
    """Serves one task, to one client or to many."""

    def __init__(self, sandbox: Sandbox, spec: EnvSpec, task: Task):
        self._parts = (sandbox, spec, task)
        self._spec = spec
        self._statement = without_surrogates(spec.statement.strip())

    async def serve_stdio(self) -> None:
        """Serves one client on this process's standard streams, until it closes them."""
        server = self.for_one_client()
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())

    def for_one_client(self) -> Server[ClientEpisode]:
        """A server each run of which is one client's."""

        @asynccontextmanager
        async def lifespan(_: Server[ClientEpisode]) -> AsyncIterator[ClientEpisode]:
            episode = ClientEpisode(*self._parts)
            try:
                yield episode
            finally:
                episode.close()

        return self._server(lambda context: context.lifespan_context, lifespan=lifespan)

    def http_server(self, host: str, *, max_sessions: int, idle_s: float) -> uvicorn.Server:
        """Serves many clients over streamable HTTP, at `/mcp`; `run(sockets=[...])` starts it.

        Args:
          host: where it will listen. On a loopback address, requests that name another host are refused.
          max_sessions: at a time; more are answered with 503.
          idle_s: a session without a request for so long is ended, and its guest freed.
        """
        server = self._server(self._episode_of_session)

        async def discover(_: Context, __: types.RequestParams) -> types.DiscoverResult:
            versions = list(HANDSHAKE_PROTOCOL_VERSIONS)
            return types.DiscoverResult(supported_versions=versions, capabilities=server.get_capabilities())

        server.add_request_handler("server/discover", types.RequestParams, discover)
        app = server.streamable_http_app(
            host=host,
            session_idle_timeout=idle_s,
            max_sessions=max_sessions,
            max_request_body_size=_MAX_BODY_BYTES,
        )
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=_SHUTDOWN_S)
        return uvicorn.Server(config)

    def _episode_of_session(self, context: Context) -> ClientEpisode:
        if context.protocol_version not in HANDSHAKE_PROTOCOL_VERSIONS:
            raise MCPError(types.INVALID_REQUEST, "an episode needs a session; begin one with `initialize`")
        # A session's state and what is done at its end lie on its connection, which the SDK has given no
        # public name yet.
        connection = context.session._connection
        if _STATE_KEY not in connection.state:
            episode = ClientEpisode(*self._parts)
            connection.state[_STATE_KEY] = episode
            connection.exit_stack.callback(episode.close)
        return connection.state[_STATE_KEY]

    def _server(self, episode_of: EpisodeOf, **settings: Any) -> Server[Any]:
        return Server(
            "codegym",
            title=self._spec.env_id,
            instructions=self._statement,
            on_list_tools=self._list_tools,
            on_call_tool=partial(_call_tool, episode_of),
            on_list_resources=_list_resources,
            on_read_resource=partial(_read_resource, episode_of),
            on_list_prompts=_list_prompts,
            on_get_prompt=self._get_prompt,
            **settings,
        )

    async def _list_tools(self, _: Context, __: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_tool(tool) for tool in self._spec.tools])

    async def _get_prompt(self, _: Context, wanted: types.GetPromptRequestParams) -> types.GetPromptResult:
        if wanted.name != PROMPT:
            raise MCPError(types.INVALID_PARAMS, f"there is one prompt, {PROMPT}, and not {wanted.name}")
        content = types.TextContent(text=self._statement)
        return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=content)])


def open_task(folder: str | os.PathLike[str], split: str, env_id: str, number: int) -> tuple[EnvSpec, Task]:
    """One task of a task set.

    Args:
      folder: of the task set.
      split: one of its splits.
      env_id: an environment that has tasks there.
      number: which of these, from 0.

    Raises:
      UserError: when there is no such task set or task.
    """
    catalog = Catalog(folder, split)
    tasks = catalog.tasks(env_id)
    if not 0 <= number < len(tasks):
        raise UserError(f"{env_id} has {len(tasks)} tasks in the split {split}, from 0, and no task {number}")
    return catalog.spec(env_id), tasks[number]


async def _call_tool(
    episode_of: EpisodeOf, context: Context, wanted: types.CallToolRequestParams
) -> types.CallToolResult:
    episode = episode_of(context)
    try:
        result = await episode.call(wanted.name, wanted.arguments or {})
    except HostFailure as error:
        text = f"the host failed, so the episode is invalid: {error}"
        raise MCPError(types.INTERNAL_ERROR, text) from error
    return types.CallToolResult(
        content=[types.TextContent(text=result.text)],
        structured_content=episode.facts() if result.finished else None,
        is_error=result.error is not None,
    )


async def _list_resources(_: Context, __: Any) -> types.ListResourcesResult:
    resource = types.Resource(
        uri=EPISODE_URI,
        name="episode",
        description="Where this session's episode stands, and its reward once it has ended",
        mime_type="application/json",
    )
    return types.ListResourcesResult(resources=[resource])


async def _read_resource(
    episode_of: EpisodeOf, context: Context, wanted: types.ReadResourceRequestParams
) -> types.ReadResourceResult:
    if wanted.uri != EPISODE_URI:
        raise MCPError(types.INVALID_PARAMS, f"there is one resource, {EPISODE_URI}, and not {wanted.uri}")
    text = json.dumps(episode_of(context).facts())
    contents = types.TextResourceContents(uri=EPISODE_URI, text=text, mime_type="application/json")
    return types.ReadResourceResult(contents=[contents])


async def _list_prompts(_: Context, __: Any) -> types.ListPromptsResult:
    prompt = types.Prompt(name=PROMPT, description="What the task asks for")
    return types.ListPromptsResult(prompts=[prompt])


def _tool(spec: ToolSpec) -> types.Tool:
    function = tool_schema(spec)["function"]
    return types.Tool(
        name=function["name"],
        description=without_surrogates(function["description"]),
        input_schema=function["parameters"],
    )
