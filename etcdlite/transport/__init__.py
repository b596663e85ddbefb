"""The client port: gRPC over HTTP/2, and HTTP/1.1 for the JSON gateway and the status pages, on asyncio protocols.

    listener    accepts, with or without TLS, looks at the first bytes and hands the connection to one of
      connection    HTTP/2 (RFC 9113): frames, settings, windows, limits against abuse
        stream        one exchange: what it may send, and what waits for the client to make room
          call          a gRPC call: messages, deadline, status
          page          an HTTP request that came over HTTP/2
      http1         HTTP/1.1, by h11
    web         what both kinds of HTTP requests are answered by: fixed pages and the JSON gateway

Nothing here knows the store. A service is a table of functions that take and give bytes (`kubeling.etcdlite.rpc`).
"""
