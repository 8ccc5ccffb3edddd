"""The exception tree: one class per failure a user can act on.

Every error carries what was wrong and what to do next; the command line prints both and exits with ``exit_code``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

Problem = tuple[str, str]
"""What is wrong, and what to do about it."""


class AscendServeError(Exception):
    """Base of all errors a user can act on.

    Args:
        problem: What was wrong, with the full key, value or file.
        remedy: What to do next.

    Attributes:
        record: Where all that was known is kept, when something was lost that had begun; empty otherwise.
    """

    exit_code = 1

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy
        self.record = ""

    def __str__(self) -> str:
        return f"{self.problem}\n{self.remedy}" if self.remedy else self.problem


class ProblemsError(AscendServeError):
    """An error that may tell several problems at once."""

    @classmethod
    def of(cls, source: str, problems: Sequence[Problem]) -> Self:
        """One error for all problems: a single one plainly, several as a list with the remedy beside each.

        Args:
            source: What the problems are in, for example the file.
            problems: Problem and remedy of each, at least one.
        """
        if len(problems) == 1:
            return cls(*problems[0])
        lines = [f"  - {problem}. {remedy}" for problem, remedy in problems]
        return cls("\n".join([f"{source}: {len(problems)} problems", *lines]), "Correct all of them, then try again.")


class ConfigError(ProblemsError):
    """A configuration that cannot be read, or that asks for something impossible."""

    exit_code = 2


class PlanError(AscendServeError):
    """A deployment that cannot work on the described hardware."""

    exit_code = 2


class ModelError(ProblemsError):
    """A model that is missing or cannot be read."""

    exit_code = 2


class MachineError(ProblemsError):
    """A machine that lacks what a deployment needs of it."""


class ClusterError(AscendServeError):
    """A Ray cluster that cannot be reached or does not offer what was asked for."""


class PortInUseError(AscendServeError):
    """The address the server should listen on is taken."""


class CaptureError(AscendServeError):
    """Capture failed and ``graph.on_failure`` does not allow to go on."""


class EngineError(AscendServeError):
    """The engine did not start or died."""


class VendorInterfaceError(EngineError):
    """A release of vLLM or vllm-ascend that has something else than what is expected of it."""


class RequestError(AscendServeError):
    """A request that the engine did not answer: the error that an HTTP client gets, for those who have a handle.

    Attributes:
        status: Its HTTP status.
        body: Its body, in the shape of OpenAI's.
        retry_after: Seconds after which to try again, where the engine is being replaced.
    """

    def __init__(
        self,
        problem: str,
        remedy: str = "",
        *,
        status: int = 500,
        body: Mapping[str, Any] | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(problem, remedy)
        # Ray takes what a class has for the error's own, so these are the instance's.
        self.status = status
        self.body = body or {}
        self.retry_after = retry_after

    @classmethod
    def of(cls, body: Mapping[str, Any], status: int | None = None, retry_after: int | None = None) -> Self:
        """Make it from an answer.

        Args:
            body: As above, or with the ``detail`` that FastAPI writes.
            status: When not given, the code in ``body``.
            retry_after: As above.
        """
        told = body.get("error") or {"message": body.get("detail"), "code": status}
        code = status or int(told.get("code") or 500)
        return cls(str(told.get("message")), status=code, body={"error": told}, retry_after=retry_after)


class AgreementError(CaptureError):
    """The ranks of one capture group do not run the same thing."""


class EventFileError(AscendServeError):
    """A file of events that is missing or cannot be read."""

    exit_code = 2


class OutputFileError(AscendServeError):
    """A file that a command cannot write."""

    exit_code = 2


class ProfileError(AscendServeError):
    """A profiler file that is missing or cannot be read."""

    exit_code = 2


def chain_of(error: BaseException) -> list[BaseException]:
    """``error`` after the errors that it was raised from or during, the first one first."""
    chain = [error]
    while (before := _before(chain[-1])) is not None and before not in chain:
        chain.append(before)
    return chain[::-1]


def _before(error: BaseException) -> BaseException | None:
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)
