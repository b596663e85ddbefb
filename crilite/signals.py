"""Signal names, as images and CRI write them."""

from __future__ import annotations

import signal

from kubeling.proto import cri_pb2


def from_image(text: str) -> int:
    """``SIGTERM``, ``TERM``, ``15`` or ``SIGRTMIN+3``; an empty or unknown one is SIGTERM."""
    text = text.strip().upper()
    if text.isdigit():
        return int(text)
    name, sign, offset = text.removeprefix("SIG").partition("+")
    if not sign:
        name, sign, offset = text.removeprefix("SIG").partition("-")
    number = getattr(signal, f"SIG{name}", None)
    if not isinstance(number, int):
        return int(signal.SIGTERM)
    shift = int(offset) if offset.isdigit() else 0
    return int(number) + (shift if sign == "+" else -shift)


def from_cri(value: int) -> int:
    """The number of a CRI Signal; 0 for "the runtime's default"."""
    if not value:
        return 0
    return from_image(cri_pb2.Signal.Name(value).removeprefix("SIGNAL_").replace("PLUS", "+").replace("MINUS", "-"))


def to_cri(number: int) -> int:
    """The CRI Signal for a number."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        if signal.SIGRTMIN < number < signal.SIGRTMAX:
            shift = number - signal.SIGRTMIN
            name = f"SIGRTMINPLUS{shift}" if shift <= 15 else f"SIGRTMAXMINUS{signal.SIGRTMAX - number}"
        else:
            return 0
    return dict(cri_pb2.Signal.items()).get(f"SIGNAL_{name}", 0)
