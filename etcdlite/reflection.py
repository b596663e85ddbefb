"""Server reflection: the services and their messages, for clients without .proto files (grpcurl and the like). v1 and v1alpha differ in nothing but the name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import Any

from kubeling.etcdlite.rpc import CODES, Context, Service, both_streams, service

_V1, _ALPHA = "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"


def handlers(names: Collection[str]) -> list[Service]:
    """Both versions; `names` are those of all other services."""
    known = sorted({*names, _V1, _ALPHA})
    described: list[_Described] = []

    async def info(incoming: AsyncIterator[bytes], context: Context) -> None:
        # Most members are never asked, so nothing is loaded before.
        if not described:
            described.append(_Described(known))
        async for raw in incoming:
            await context.write(described[0].answer(raw))

    return [service(name, {"ServerReflectionInfo": both_streams(info)}) for name in (_V1, _ALPHA)]


class _Described:
    """The answers about these services, from the generated modules' descriptors. Only their own files are told, not all that this process has loaded."""

    def __init__(self, names: Collection[str]) -> None:
        from google.protobuf import descriptor_pool
        from grpc_health.v1 import health_pb2

        from kubeling.proto import election_pb2, etcd_pb2, lock_pb2, reflection_alpha_pb2, reflection_pb2

        modules: list[Any] = [election_pb2, etcd_pb2, lock_pb2, reflection_alpha_pb2, reflection_pb2, health_pb2]
        self._messages: Any = reflection_pb2
        self._pool: Any = descriptor_pool.Default()
        self._names = names
        self._files: dict[str, Any] = {}
        for module in modules:
            for file in _with_dependencies(module.DESCRIPTOR):
                self._files[file.name] = file

    def answer(self, raw: bytes) -> bytes:
        """The ``ServerReflectionResponse`` to a ``ServerReflectionRequest``."""
        request = self._messages.ServerReflectionRequest.FromString(raw)
        response = self._messages.ServerReflectionResponse(valid_host=request.host, original_request=request)
        kind = request.WhichOneof("message_request")
        if kind == "list_services":
            response.list_services_response.service.extend(self._messages.ServiceResponse(name=name) for name in self._names)
        elif kind == "file_by_filename":
            self._add_files(response, self._files.get(request.file_by_filename), request.file_by_filename)
        elif kind == "file_containing_symbol":
            self._add_files(response, self._file_of(request.file_containing_symbol), request.file_containing_symbol)
        elif kind == "all_extension_numbers_of_type" and self._is_message(request.all_extension_numbers_of_type):
            # There are no extensions in proto3.
            response.all_extension_numbers_response.base_type_name = request.all_extension_numbers_of_type
        elif kind is None:
            _refuse(response, "INVALID_ARGUMENT", "the request asks for nothing")
        else:
            _refuse(response, "NOT_FOUND", "not found")
        encoded: bytes = response.SerializeToString()
        return encoded

    def _file_of(self, symbol: str) -> Any:
        try:
            file = self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            return None
        return self._files.get(file.name)

    def _is_message(self, name: str) -> bool:
        return any(name in (message.full_name for message in _messages(file)) for file in self._files.values())

    def _add_files(self, response: Any, file: Any, wanted: str) -> None:
        if file is None:
            _refuse(response, "NOT_FOUND", f"not found: {wanted}")
            return
        found = _with_dependencies(file)
        response.file_descriptor_response.file_descriptor_proto.extend(one.serialized_pb for one in found)


def _messages(file: Any) -> list[Any]:
    return list(file.message_types_by_name.values())


def _refuse(response: Any, code: str, text: str) -> None:
    response.error_response.error_code = CODES[code]
    response.error_response.error_message = text


def _with_dependencies(file: Any) -> list[Any]:
    """The file, and behind it all that it needs, each once."""
    found: dict[str, Any] = {}
    waiting = [file]
    while waiting:
        one = waiting.pop(0)
        if one.name not in found:
            found[one.name] = one
            waiting += one.dependencies
    return list(found.values())
