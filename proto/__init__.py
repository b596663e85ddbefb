"""Generated messages and stubs of the gRPC protocols that kubeling speaks. The ``.proto`` files are the source; ``make protos`` makes the rest."""
