"""Disks that are full or turned read-only: what a listener does not need for listening does not end it."""

import errno

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


def lacks_room(error: OSError) -> bool:
    """Return whether a file could not be written because its disk is full or read-only, not because of its name."""
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    return cause.errno in NO_ROOM
