"""Ray's token authentication. Ray reads its mode when it is imported, so this module does not import Ray."""

from __future__ import annotations

import os

from ascend_serve.node.user_files import TOKEN_VARIABLE, token_file

AUTH_MODE = "RAY_AUTH_MODE"


def prefer_token_authentication() -> None:
    """Turn token authentication on where there is a token; to be called before Ray is imported.

    Ray does so by itself for the clusters it starts, but not for one at an explicit address. What the user set wins.
    """
    if has_token():
        os.environ.setdefault(AUTH_MODE, "token")


def has_token() -> bool:
    """Whether Ray would find a token."""
    given = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get(TOKEN_VARIABLE)
    return bool(given) or os.path.exists(token_file())
