"""HTTP and JSON for callers without gRPC: a separate process in front of a server, which does not know about it.

    connection   -> bounds   of their number, and of the time for a head             connections.py
    HTTP request -> front    request id, places, headers of every answer             front.py
                 -> route    one for each unary RPC, and a shop's own few            routes.py  methods.py
                 -> parse    proto3 JSON or a query -> message, or every bad field   parse.py
                 -> call     deadline, metadata, one grpc.aio channel                calls.py  retries.py
                 -> answer   message -> proto3 JSON, google.rpc.Status -> error      answers.py
                    or a stream of messages -> server-sent events                       sse.py  watch.py
                    or the recommendations as HTML                                      card.py
    or a file of the page    for people, under /look/, where it is told to              page.py

`openapi` and `tools` are the documents that describe all this.

JSON is protobuf's own mapping, as Google's APIs use it: lowerCamelCase names (a request may use the proto's, too),
the values of enums by name, 64-bit integers as strings, fields at their default left out. An unknown field is refused
and named, where a gRPC server would ignore it: in JSON it is a typo, not a newer caller.

The path of an RPC is its gRPC path below /rpc, read from the descriptor: a new unary RPC gets its path without a line
of code here. The shop paths (/api/v1/...) do the same with less around it. The GET ones put a shopper's id into a URL,
which the contract is wary of, since others keep URLs: so every answer says `Cache-Control: no-store` and nothing here
logs a path. A caller who minds uses POST.

Calls that found no server are retried within a share of the deadline; a refusal for too many calls is passed on at
once: see `retries`. Nothing is kept between requests but the channel: a gateway that dies takes its own requests with
it, and any number of gateways can run side by side. Like the server, a gateway neither knows who calls nor sets a
cookie; who may reach it is up to what stands in front of it.
"""
