"""Which versions of grpcio may be dealt with by names that are its own: event_loop.py, server/slots.py and
server/core_batches.py do. With any other version they leave it alone.
"""

from __future__ import annotations

TRIED = ("1.85.",)


def tried() -> bool:
    # Not at the top: commands that only make an event loop should not wait for it.
    import grpc

    return grpc.__version__.startswith(TRIED)
