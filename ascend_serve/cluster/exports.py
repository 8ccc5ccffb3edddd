"""``python -m ascend_serve.cluster.exports``: this node's environment as shell commands, for use before ``ray start``.

Standard output is meant for ``eval``; what is wrong with variables that are set goes to standard error.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping

from ascend_serve.node.environment import node_environment
from ascend_serve.node.finding import Status, worst
from ascend_serve.node.probe import probe_node


def shell_exports(env: Mapping[str, str]) -> str:
    """One ``export`` per variable, quoted for a POSIX shell."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in env.items())


def main() -> int:
    """Print the exports; answers 1, with nothing exported, when a variable that is set cannot work here."""
    environment = node_environment(probe_node(), {})
    for finding in environment.findings:
        sys.stderr.write(f"{finding.status}: {finding.text}\nnext: {finding.fix}\n")
    if worst(finding.status for finding in environment.findings) is Status.FAIL:
        return 1
    sys.stdout.write(shell_exports(environment.env))
    return 0


if __name__ == "__main__":
    sys.exit(main())
