"""What may be lost, and whether more was. Pure: the clients' lines and the history of what was done go in, complaints come out.

The rules, which are those of the Kubernetes documentation as we read it:

- A pod that is deleted, or replaced by a rollout, loses nothing: it serves until its endpoint is gone everywhere, since it pauses before it is stopped.
- A node that loses its power takes the connections of its pods with it; new ones may be led there until its endpoints are taken away (the grace period of
  nodes, and a moment for the proxies). Then nothing, unless it had all of them: then until there is one elsewhere.
- Who flushes a node's rules loses what passes there before they are back, and the memory of which client stays with which pod.
- The proxy, a DNS server or an apiserver that is killed loses nobody anything. A look-up may take a second question.
- Session affinity: a client stays with its pod until that is no ready endpoint any more.
- A UDP flow may lose single datagrams when its endpoint is taken away; it never stays silent.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Obj = dict[str, Any]

#: For what was begun just before something happened, and for word of it to arrive everywhere.
MOMENT = 2.0
#: The same on a busy machine, or where whoever brings the word was killed and has to come back first; with what it takes to move the flows.
LATE = 5.0
#: Longer than this a flow must not be silent: one datagram that is not answered, and what a busy machine takes.
SILENCE = 4.5
#: A connection that begins while rules are gone is tried for so long.
PATIENCE = 10.0


@dataclass
class Done:
    """Something that was done to the cluster; `ended` is when its consequences were over."""

    what: str
    began: float
    ended: float = float("inf")
    node: str = ""


@dataclass
class History:
    """Faults, and for each pod which node it was on and when it was (pairs of times) a ready endpoint."""

    faults: list[Done] = field(default_factory=list)
    node_of: dict[str, str] = field(default_factory=dict)
    ready: dict[str, list[list[float]]] = field(default_factory=dict)

    def see(self, now: float, ready: dict[str, str]) -> None:
        """The ready endpoints now: pod → node."""
        self.node_of.update(ready)
        for pod in ready:
            spans = self.ready.setdefault(pod, [])
            if not spans or spans[-1][1] != float("inf"):
                spans.append([now, float("inf")])
        for pod, spans in self.ready.items():
            if pod not in ready and spans[-1][1] == float("inf"):
                spans[-1][1] = now

    def over(self, fault: Done) -> float:
        """When nobody need notice it any more: its endpoints are away, and there is one; where all had been on the lost node, that takes until the first one elsewhere."""
        spans = [span for each in self.ready.values() for span in each]
        if any(begin <= fault.ended < end for begin, end in spans):
            return fault.ended
        return min((begin for begin, _ in spans if begin > fault.ended), default=fault.ended)

    def was_ready(self, pod: str, since: float, until: float) -> bool:
        """All the time."""
        return any(begin <= since and end >= until for begin, end in self.ready.get(pod, ()))


def judge(lines: Iterable[Obj], history: History) -> tuple[list[str], Counter[str]]:
    """What is wrong; and what was lost with an excuse, by the excuse."""
    wrong: list[str] = []
    excused: Counter[str] = Counter()
    silent: dict[str, list[list[Obj]]] = defaultdict(list)
    for line in lines:
        if line["event"] == "moved":
            if line["kind"] == "sticky" and line["before"]:
                excuse = _of_move(line, history)
                excused[excuse] += 1
                if not excuse:
                    wrong.append(f"{line['job']} was moved from {line['before']}, which was ready, at {line['at']:.2f}")
        elif line["event"] == "lost" and line["kind"] == "udp":
            runs = silent[line["job"]]
            if runs and line["began"] - runs[-1][-1]["ended"] < 0.5:
                runs[-1].append(line)
            else:
                runs.append([line])
        elif line["event"] == "lost":
            excuse = _of_loss(line, history)
            excused[excuse] += 1
            if not excuse:
                wrong.append(_words(line))
    for runs in silent.values():
        for run in runs:
            excuse = _of_silence(run, history)
            excused[excuse] += len(run)
            if not excuse:
                wrong.append(f"{_words(run[0])}: silent for {run[-1]['ended'] - run[0]['began']:.1f} s")
    del excused[""]
    return wrong, excused


def _words(line: Obj) -> str:
    kind = "established" if line["established"] else "new"
    return f"{line['job']} lost {line['began']:.2f}-{line['ended']:.2f} ({kind}, last of {line['pod']}): {line['error']}"


def _of_move(line: Obj, history: History) -> str:
    at, before = line["at"], line["before"]
    if not history.was_ready(before, at - MOMENT, at):
        return "the pod was no endpoint any more"
    for each in history.faults:
        if each.what == "rules flushed" and each.began <= at <= each.began + 2 * PATIENCE:
            return each.what
    return ""


def _of_loss(line: Obj, history: History) -> str:
    """What was established is bound to its pod, and through a balancer to the node that the balancer chose; the rest may be led anywhere."""
    node = history.node_of.get(line["pod"], "")
    free = not line["established"] or "/balancer/" in line["job"]
    for each in history.faults:
        overlaps = line["began"] <= history.over(each) + MOMENT and line["ended"] >= each.began
        if each.what == "node lost" and overlaps and (free or node == each.node):
            return each.what
        # While the rules are gone nothing is translated, so that also what was established meets strangers, who refuse it.
        if each.what == "rules flushed" and each.began - MOMENT <= line["began"] <= each.began + MOMENT:
            return each.what
    return ""


def _of_silence(run: list[Obj], history: History) -> str:
    began, ended = run[0]["began"], run[-1]["ended"]
    pod = run[0]["pod"]
    node = history.node_of.get(pod, "")
    for each in history.faults:
        # A flow that was never answered, or whose endpoint goes meanwhile, is led to whatever is drawn: to the dead node too.
        drawn_anew = not history.was_ready(pod, began, min(ended, each.ended))
        overlaps = began <= each.ended + MOMENT and ended >= each.began
        if each.what == "node lost" and overlaps and (node == each.node or drawn_anew):
            # Only until the endpoint is taken away: then the flow has to move.
            return each.what if ended <= each.ended + MOMENT + SILENCE else ""
    flushes = [each for each in history.faults if each.what == "rules flushed" and began - MOMENT <= each.began <= ended]
    if flushes and flushes[0].began <= began + MOMENT and ended - began <= SILENCE * len(flushes):
        return flushes[0].what
    # Each flow is moved when its own endpoint goes, and only then.
    went = not pod or any(began - LATE <= end <= ended + MOMENT for _, end in history.ready.get(pod, ()))
    return "a datagram, as its endpoint went" if went and ended - began <= SILENCE else ""
