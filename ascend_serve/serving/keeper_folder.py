"""What HAProxy and the stream keeper beside it have between them: names in HAProxy's folder, which both run in.

Relative ones: the folder that Serve chooses, with the 56 characters of a node's id, can be longer than the path of a
socket may be.
"""

KEEPER = "keeper.sock"
"""HAProxy asks the keeper here."""

KEPT = "kept.sock"
"""The keeper asks HAProxy here."""

LOCK = "keeper.lock"
"""Held by the one that listens."""

LOG = "keeper.log"
"""What the keeper has to say."""

LARGEST_BODY = 2**23
"""Bytes of a request that is kept; the keeper has it as long as the stream lasts."""
