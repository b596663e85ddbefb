"""What filtering came to on every node, and the error that says so in upstream's words.

The plain form is a dict. The vector form is one array of small integers, each standing for a :class:`Rejection`; it is turned into names and words only
where somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from kubeling.scheduler.types import PostFilterResult, Rejection, histogram

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Codes:
    """Rejections numbered from 1; 0 stands for a node that fits."""

    def __init__(self) -> None:
        self._known: dict[Rejection, int] = {}
        self._all: list[Rejection | None] = [None]

    def __len__(self) -> int:
        return len(self._all)

    def of(self, rejection: Rejection | None) -> int:
        """The number of a rejection; the same one always has the same."""
        if rejection is None:
            return 0
        code = self._known.get(rejection)
        if code is None:
            code = self._known[rejection] = len(self._all)
            self._all.append(rejection)
        return code

    def __getitem__(self, code: int) -> Rejection:
        found = self._all[code]
        assert found is not None
        return found


class Verdicts(Protocol):
    """Why which node was rejected."""

    def counts(self) -> list[tuple[Rejection, int]]:
        """Each rejection with the number of nodes."""
        ...

    def get(self, node: str) -> Rejection | None:
        """The rejection of one node."""
        ...

    def curable(self) -> list[str]:
        """The nodes whose rejection removing pods might cure, in the order of the nodes."""
        ...

    def items(self) -> Iterable[tuple[str, Rejection]]:
        """All rejected nodes."""
        ...


class PlainVerdicts(dict[str, Rejection]):
    """Node → rejection."""

    def counts(self) -> list[tuple[Rejection, int]]:
        found: dict[Rejection, int] = {}
        for each in self.values():
            found[each] = found.get(each, 0) + 1
        return list(found.items())

    def curable(self) -> list[str]:
        return [name for name, each in self.items() if not each.unresolvable]


class VectorVerdicts:
    """A code for each row of the table."""

    def __init__(self, codes: NDArray[np.int32], meaning: Codes, names: list[str], index: dict[str, int]) -> None:
        self.codes, self.meaning, self._names, self._index = codes, meaning, names, index

    def counts(self) -> list[tuple[Rejection, int]]:
        import numpy as np

        totals = np.bincount(self.codes)
        return [(self.meaning[code], int(totals[code])) for code in np.flatnonzero(totals).tolist() if code]

    def get(self, node: str) -> Rejection | None:
        code = int(self.codes[self._index[node]]) if node in self._index else 0
        return self.meaning[code] if code else None

    def curable_rows(self) -> NDArray[np.intp]:
        """:meth:`curable` as rows of the table."""
        import numpy as np

        hopeless = [code for code in range(1, len(self.meaning)) if self.meaning[code].unresolvable]
        table = np.ones(len(self.meaning), dtype=bool)
        table[0] = False
        table[hopeless] = False
        return np.flatnonzero(table[self.codes])

    def curable(self) -> list[str]:
        return [self._names[row] for row in self.curable_rows().tolist()]

    def items(self) -> Iterable[tuple[str, Rejection]]:
        for name, code in zip(self._names, self.codes.tolist(), strict=False):
            if code:
                yield name, self.meaning[code]


@dataclass(slots=True)
class FitError(Exception):
    """No node is feasible. `str()` is the message that people see, in upstream's words.

    `prefilter`: what *pre_filter* said where it rejected the pod outright; `extra` plugins are those that an extender or an absent node stands for.
    """

    nodes: int
    verdicts: Verdicts = field(default_factory=PlainVerdicts)
    prefilter: Rejection | None = None
    nomination: PostFilterResult | None = None

    def __str__(self) -> str:
        if self.nodes == 0:
            return "no nodes available to schedule pods"
        text = f"0/{self.nodes} nodes are available:"
        reasons = ", ".join(self.prefilter.reasons) if self.prefilter else histogram(self.verdicts.counts())
        if reasons:
            text += f" {reasons}."
        return f"{text} {self.nomination.message}" if self.nomination and self.nomination.message else text

    @property
    def plugins(self) -> frozenset[str]:
        """The plugins that rejected something: their hints decide when to try again."""
        if self.prefilter is not None:
            return frozenset({self.prefilter.plugin} - {""})
        return frozenset(each.plugin for each, _ in self.verdicts.counts() if each.plugin)
