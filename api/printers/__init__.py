"""Tables: what `kubectl get` shows of an object. The server renders every cell, ages included; the client only lays them out."""

from __future__ import annotations

from kubeling.api.printers.table import columns_of, printer_of, row_of, table

__all__ = ["columns_of", "printer_of", "row_of", "table"]
