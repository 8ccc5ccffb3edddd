"""Ray's token authentication. Ray reads its mode when it is imported, so this module does not import Ray."""

from __future__ import annotations

import logging
import os
import stat

from ascend_serve.node.user_files import TOKEN_VARIABLE, token_file

logger = logging.getLogger(__name__)

AUTH_MODE = "RAY_AUTH_MODE"


def prefer_token_authentication() -> None:
    """Turn token authentication on where there is a token; to be called before Ray is imported.

    Ray does so by itself for the clusters it starts, but not for one at an explicit address. What the user set wins.
    """
    keep_to_oneself()
    if has_token():
        os.environ.setdefault(AUTH_MODE, "token")


def has_token() -> bool:
    """Whether Ray would find a token."""
    given = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get(TOKEN_VARIABLE)
    return bool(given) or os.path.exists(token_file())


def keep_to_oneself() -> None:
    """Let nobody else read the token in the user's home; Ray (2.60.0) writes it for all to read."""
    file = token_file()
    try:
        found = file.stat()
        if found.st_uid != os.getuid() or not found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            return
        file.chmod(stat.S_IRUSR | stat.S_IWUSR)
    except OSError:
        return
    logger.warning(
        "%s could be read by other users of this machine; now it cannot. Whoever has read it can use your Ray "
        "clusters: where there are other users, remove it before the next start, which makes a new one",
        file,
    )
