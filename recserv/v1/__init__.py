"""The contract in Python, generated from protos/recserv/v1 (see tests/test_stubs.py), every name of it from one place:

    from recserv.v1 import EVENT_TYPE_VIEW, Event, IngestEventRequest, RecommendationServiceStub

Which file of protos/ holds a message, and so which module here, is nobody else's business and may change. What belongs
to the service's calls loads gRPC when it is first asked for; messages alone do without.
"""

from typing import TYPE_CHECKING

from recserv.v1 import recommendation_service_pb2 as recommendation_service_pb2
from recserv.v1.context_pb2 import *
from recserv.v1.events_pb2 import *
from recserv.v1.explanations_pb2 import *
from recserv.v1.items_pb2 import *
from recserv.v1.recommendation_pb2 import *

# Each module has one of its own.
del DESCRIPTOR

if TYPE_CHECKING:
    from recserv.v1.recommendation_service_pb2_grpc import RecommendationServiceServicer as RecommendationServiceServicer
    from recserv.v1.recommendation_service_pb2_grpc import RecommendationServiceStub as RecommendationServiceStub
    from recserv.v1.recommendation_service_pb2_grpc import (
        add_RecommendationServiceServicer_to_server as add_RecommendationServiceServicer_to_server,
    )
else:
    _OF_CALLS = frozenset(
        {"RecommendationServiceStub", "RecommendationServiceServicer", "add_RecommendationServiceServicer_to_server"}
    )

    def __getattr__(name):
        if name not in _OF_CALLS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from recserv.v1 import recommendation_service_pb2_grpc

        found = globals()[name] = getattr(recommendation_service_pb2_grpc, name)
        return found

    def __dir__():
        return sorted({*globals(), *_OF_CALLS})
