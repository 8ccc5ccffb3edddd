"""HAProxy's configuration as Ray Serve writes it, adapted to what a deployment promises. Pure: text in, text out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from ascend_serve.api.retry_after import SHORTEST_SECONDS
from ascend_serve.api.stream_journal import GIVEN, KEEP, MODEL
from ascend_serve.serving.keeper_folder import KEEPER, KEPT, LARGEST_BODY

ERROR_FILE = "503.http"
"""Name of the file with `UNAVAILABLE`, beside the configuration."""

_ERROR = {
    "message": "No replica answers now; try again.",
    "type": "ServiceUnavailableError",
    "param": None,
    "code": 503,
}
_BODY = json.dumps({"error": _ERROR})

DETOUR = "X-Serve-Fallback"
"""Header of answers that came through Serve's own proxy behind HAProxy, where an application has no replica yet."""

FALLBACK_PROXY = "SERVE_PROXY_ACTOR-fallback-"
"""How the name of the proxy begins that Serve (2.60.0) has behind HAProxy, for applications without a replica: the
actor's, and the server's in HAProxy's configuration."""

APPLICATION_WATCHES = "X-Request-Disconnect-Disabled"
"""Header by which Serve (2.60.0) leaves it to the application to notice that its client has gone. vLLM does; Serve
would have two tasks more for each request, each a turn of the event loop before the engine has it."""

UNAVAILABLE = (
    "HTTP/1.1 503 Service Unavailable\r\n"
    "Content-Type: application/json\r\n"
    f"Content-Length: {len(_BODY)}\r\n"
    f"Retry-After: {SHORTEST_SECONDS}\r\n"
    "Cache-Control: no-cache\r\n"
    "Connection: close\r\n"
    f"\r\n{_BODY}"
)
"""What a client gets where no replica can be reached, or where one goes before it has answered."""

_LIMITS = (
    "option forwardfor",
    "option http-buffer-request",
    # Headers, and as much of a body as is waited for, sent in drops.
    "timeout http-request 60s",
    # A WebSocket may be silent, unlike a client that does not read: Serve's own time for both.
    "timeout tunnel 3600s",
)
_DEFAULT_LOG = "127.0.0.1:514"
"""Serve's log target unless it is told another one: the machine's syslog, which would get every path that is asked."""

_KEEPS = "stream_keeper"
_KEPT_ID = 2
"""HAProxy's number of the socket by which the keeper asks; that of the clients' port is 1."""

_KEEPER_RULES = (
    f"acl is_kept so_id {_KEPT_ID}",
    *(f"http-request del-header {name} if !is_kept" for name in (KEEP, GIVEN, MODEL)),
    # Who counts requests by the log shall not count them twice.
    "http-request set-log-level silent if is_kept",
    f"use_backend {_KEEPS} if METH_POST !is_kept {{ path_end /v1/chat/completions /v1/completions }} "
    f"{{ req.hdr(content-length) -m found }} {{ req.hdr_val(content-length) le {LARGEST_BODY} }} "
    f"{{ srv_is_up({_KEEPS}/keeper) }}",
)
_KEEPER_BACKEND = (
    f"backend {_KEEPS}",
    "http-reuse always",
    # What a replica refuses was asked of others already.
    "retry-on conn-failure empty-response",
    # A keeper that is gone is left out at the first connection that it refuses, and what was to go by it goes past it.
    f"server keeper unix@{KEEPER} check inter 500ms fall 1 rise 1 observe layer4 error-limit 1 on-error mark-down",
    f"server past_keeper unix@{KEPT} backup",
)


@dataclass(frozen=True, slots=True)
class Listener:
    """Where clients reach HAProxy, and by which way their streams go.

    Attributes:
        host: Address to listen on; ``None`` where Serve's own is right.
        certificate: PEM file with certificate and key; ``None`` for plain HTTP, on both sides of HAProxy.
        is_kept: Whether a stream keeper is beside it.
    """

    host: str | None = None
    certificate: str | None = None
    is_kept: bool = False


class UnknownConfigurationError(ValueError):
    """The configuration is none that Ray Serve 2.60 writes."""


def adapted(text: str, listener: Listener) -> str:
    """Adapt a configuration (``haproxy_templates.py`` of Ray Serve 2.60.0).

    Metrics and statistics, which Serve has on all interfaces at ports of the machine, get Unix sockets in the folder
    that HAProxy runs in, and the administrative one is for nobody else. Paths are relative: Serve's, with the 56
    characters of a node's id, can be longer than the 95 that HAProxy can bind. HAProxy waits for a request as far as it
    fits into its buffer: what it has sent in parts it cannot ask of another replica.

    Args:
        text: What Serve wrote.
        listener: Where clients reach it.

    Raises:
        UnknownConfigurationError: Something is not there, so that nobody can tell what would listen where.
    """
    text = _replaced(text, r"^( *stats socket) (\S+/)?(\S+) mode 666", r"\1 unix@\3 mode 600")
    text = _replaced(text, r"^(frontend prometheus\n *bind) :\d+$", r"\1 unix@prometheus.sock mode 600")
    text = _replaced(text, r"^(listen stats\n *bind) \*:\d+$", r"\1 unix@stats.sock mode 600")
    text = _replaced(text, r"^( *errorfile 50[234]) \S+$", rf"\1 {ERROR_FILE}")
    text = _replaced(text, r"^( *option httplog)$", "\n    ".join((r"\1", *_LIMITS)))
    if not re.search(r"^ *use_backend ", text, re.MULTILINE):
        # One that has just begun does not know the applications yet, and Serve would say that nothing is there (404).
        text = _replaced(text, r"^( *http-request return status) 404 .*$", r"\1 503 default-errorfiles")
    text = re.sub(rf"^ *log {re.escape(_DEFAULT_LOG)} .*\n", "", text, flags=re.MULTILINE)
    text = _replaced(text, r"^(frontend http_frontend\n *bind) (\S+):(\d+)$", lambda found: _bind(found, listener))
    text = re.sub(r"^ *http-reuse always$(?:\n(?!backend ).*)*", _backend, text, flags=re.MULTILINE)
    if listener.certificate is not None:
        text = re.sub(r"^( *server \S+ \S+:\d+) ", r"\1 ssl verify none ", text, flags=re.MULTILINE)
    return _kept(text) if listener.is_kept else text


def gist(error: str) -> str:
    """The line of an error that says what is wrong; HAProxy's alerts come after notices of its version."""
    first = error.splitlines()[0]
    alerts = [line.partition(" : ")[2] for line in error.splitlines() if line.startswith("[ALERT]")]
    return f"{first.partition('[')[0]}{alerts[0]}" if alerts else first


def _replaced(text: str, pattern: str, replacement: str | Callable[[re.Match[str]], str]) -> str:
    done, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
    if not count:
        raise UnknownConfigurationError(f"HAProxy's configuration has no {pattern}")
    return done


def _backend(found: re.Match[str]) -> str:
    """The backend of an application, of which Serve's own proxy may be the only server."""
    first, _, rest = found[0].partition("\n")
    rules = [f"http-response set-header {DETOUR} 1 if {{ srv_name -m beg {FALLBACK_PROXY} }}"]
    if any(not name.startswith(FALLBACK_PROXY) for name in re.findall(r"^ *server (\S+)", rest, re.MULTILINE)):
        rules.append(f"http-request set-header {APPLICATION_WATCHES} ?1")
    return "\n    ".join((first, *rules)) + f"\n{rest}"


def _kept(text: str) -> str:
    """Let generation go by the keeper: from the clients' port to it, and from it, by a socket, to the replicas.

    Each stream is two connections then. Were clients let take the places of the second ones, all would wait for good.
    """
    connections = re.search(r"^ *maxconn (\d+)$", text, re.MULTILINE)
    if connections is None:
        raise UnknownConfigurationError("HAProxy's configuration has no maxconn")
    most = int(connections[1]) // 2
    bind = rf"\1 maxconn {most}\n    bind unix@{KEPT} mode 600 id {_KEPT_ID}"
    text = _replaced(text, r"^(frontend http_frontend\n *bind .*)$", bind)
    rules = "    " + "\n    ".join(_KEEPER_RULES)
    text = re.sub(r"^ *use_backend ", rf"{rules}\n\g<0>", text, count=1, flags=re.MULTILINE)
    return text.rstrip("\n") + "\n" + "\n    ".join(_KEEPER_BACKEND) + "\n"


def _bind(found: re.Match[str], listener: Listener) -> str:
    host = found[2] if listener.host is None else listener.host
    address = f"[{host}]" if ":" in host else host
    both = " v4v6" if host == "::" else ""
    tls = "" if listener.certificate is None else f" ssl crt {listener.certificate}"
    return f"{found[1]} {address}:{found[3]}{both}{tls}"
