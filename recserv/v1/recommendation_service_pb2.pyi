from recserv.v1 import context_pb2 as _context_pb2
from recserv.v1 import events_pb2 as _events_pb2
from recserv.v1 import explanations_pb2 as _explanations_pb2
from recserv.v1 import recommendation_pb2 as _recommendation_pb2
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor
