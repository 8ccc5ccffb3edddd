"""A capture group without processes: ranks that follow the protocol on devices that have streams and faults."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ascend_serve.capture.deadlines import Deadlines
from ascend_serve.capture.messages import (
    Arrive,
    CaptureResult,
    Failed,
    Join,
    Leave,
    Lost,
    Phase,
    Propose,
    Question,
    Seal,
    Verdict,
    VerdictKind,
)
from ascend_serve.capture.outcome import Delivery, IncarnationOutcome, OutcomeKind
from ascend_serve.capture.session import Session
from ascend_serve.graph.death import death_by_signal
from ascend_serve.graph.keys import GraphKey
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import CapturePlan, GraphRequest, Proposal

DEADLINES = Deadlines(join=600.0, propose=60.0, capture=120.0, seal=90.0)
SLOW_SECONDS = 5.0

ERRORS = {
    "stream_exhausted": "error code is 207008\n[Error]: Stream resources are insufficient.",
    "old_hdk": "error code is 207005\nAlloc sq cq fail",
    "not_capturable": "error code is 107030",
    "out_of_memory": "NPU out of memory. Tried to allocate 2.00 GiB",
    "device_fault": "error code is 507015",
    "peer_gone": "[pair.cc:534] Connection closed by peer [::1]:9",
    "no_compiler": "InvalidCxxCompiler: No working C++ compiler found",
    "unknown": "something else",
}


@dataclass(frozen=True)
class Fault:
    """What happens once on one rank: an error by name, ``hang``, ``crash``, ``slow`` or ``wrong`` (numbers).

    With an ``incarnation`` it happens to no process of the rank but that one.
    """

    rank: int
    phase: Phase
    error: str
    size: int | None = None
    recorded: bool = True
    signal: str = "SIGKILL"
    incarnation: int | None = None


@dataclass
class Device:
    """Streams of one rank's device."""

    quota: int | None = None
    per_full: int = 1
    per_piecewise: int = 1
    tells: bool = True

    def price(self, key: GraphKey) -> int:
        return self.per_full if key.kind is GraphMode.FULL else self.per_piecewise

    def left(self, held: set[GraphKey]) -> int | None:
        return None if self.quota is None else self.quota - sum(map(self.price, held))

    def capture(self, key: GraphKey, held: set[GraphKey]) -> CaptureResult:
        """Capture ``key`` beside what is held, or be refused as the device does."""
        left, price = self.left(held), self.price(key)
        if left is not None and left < price:
            text = ERRORS["stream_exhausted"]
            told = left if self.tells else None
            return CaptureResult(
                False, streams_left=told, phase=Phase.CAPTURE, error_type="RuntimeError", error_text=text
            )
        if not self.tells:
            return CaptureResult(True, seconds=0.5)
        return CaptureResult(True, 0.5, streams_used=price, streams_left=None if left is None else left - price)


class Rank:
    """One worker process that does what the verdicts say."""

    def __init__(self, rank: int, incarnation: int, proposal: Proposal, device: Device) -> None:
        self.rank, self.incarnation, self.device = rank, incarnation, device
        self.proposal = proposal
        self.held: set[GraphKey] = set()
        self.plan: CapturePlan | None = None
        self.ended: VerdictKind | None = None
        self._todo: deque[GraphKey] = deque()
        self._inside = False
        self._joined = False

    @property
    def phase(self) -> Phase:
        """Where this rank is."""
        if self.ended is VerdictKind.SEALED:
            return Phase.SERVE
        if self.plan is None:
            return Phase.PROPOSE if self._joined else Phase.JOIN
        return (Phase.CAPTURE if self._inside else Phase.WARMUP) if self._todo else Phase.SEAL

    @property
    def key(self) -> GraphKey | None:
        """The graph that this rank stands at."""
        return self._todo[0] if self._todo else None

    def question(self, result: CaptureResult | None = None, canary_ok: bool = True) -> Question:
        """What this rank asks next; ``result`` and ``canary_ok`` are used where they belong."""
        if self.plan is None:
            if self._joined:
                return Propose(self.rank, self.incarnation, self.proposal)
            return Join(self.rank, self.incarnation, f"node-{self.rank // 2}", 1000 + self.rank)
        if not self._todo:
            digest = ",".join(sorted(key.label for key in self.held))
            return Seal(self.rank, self.incarnation, self.plan.epoch, digest, canary_ok)
        key = self._todo[0]
        if not self._inside:
            return Arrive(self.rank, self.incarnation, self.plan.epoch, key)
        done = result or self.device.capture(key, self.held)
        if done.ok:
            self.held.add(key)
        return Leave(self.rank, self.incarnation, self.plan.epoch, key, done)

    def hear(self, verdict: Verdict) -> None:
        """Do what the verdict says."""
        match verdict.kind:
            case VerdictKind.PROPOSE:
                self._joined = True
            case VerdictKind.PLAN:
                assert verdict.plan is not None
                assert set(verdict.kept) <= self.held & set(verdict.plan.keys), "kept what this rank does not hold"
                self.plan, self._inside = verdict.plan, False
                self.held = set(verdict.kept)
                self._todo = deque(key for key in verdict.plan.keys if key not in self.held)
            case VerdictKind.GO:
                self._inside = True
            case VerdictKind.COMMIT:
                self._todo.popleft()
                self._inside = False
            case VerdictKind.SEALED | VerdictKind.REPLACE | VerdictKind.ABORT:
                self.ended = verdict.kind


Prepare = Callable[[int], tuple[Proposal, Device]]


def able(request: GraphRequest, **changes: object) -> Proposal:
    """The proposal of a rank that can do all that was asked for."""
    runtimes = (request.runtime, RuntimeName.ACLGRAPH, RuntimeName.EAGER)
    proposal = {"mode": request.mode, "capture_sizes": request.capture_sizes} | changes
    return Proposal(tuple(dict.fromkeys(runtimes)), **proposal)  # type: ignore[arg-type]


@dataclass
class Group:
    """Runs a session to its end: the executor, the ranks and the clock.

    A group that serves and is struck then is followed by another one, with a session of its own, as a replica's engines
    follow each other.
    """

    request: GraphRequest
    ranks: int = 2
    faults: list[Fault] = field(default_factory=list)
    prepare: Prepare | None = None
    remembered: CapturePlan | None = None

    def __post_init__(self) -> None:
        self.faults = list(self.faults)
        self.struck: list[Fault] = []
        self.session = Session(self.ranks, self.request, DEADLINES, remembered=self.remembered)
        self.now = 0.0
        self.verdicts: list[tuple[int, VerdictKind]] = []
        self.outcomes: list[IncarnationOutcome] = []
        self._start(0)

    def run(self) -> IncarnationOutcome:
        """Go on until the group is sealed or given up; returns how."""
        while True:
            while self._round():
                pass
            outcome = self._outcome()
            if outcome is None:
                assert self.session.next_deadline is not None, "nobody can go on and nothing is waited for"
                self.now = max(self.now, self.session.next_deadline)
                self._hand_out(self.session.tick(self.now))
                outcome = self._outcome()
            if outcome is not None:
                self.outcomes.append(outcome)
                if outcome.kind is OutcomeKind.SEALED and self._loses_while_serving():
                    following = outcome.incarnation + 1
                    self.session = Session(
                        self.ranks, self.request, DEADLINES, remembered=outcome.plan, incarnation=following
                    )
                elif outcome.kind is not OutcomeKind.REPLACE:
                    return outcome
                self._start(outcome.incarnation + 1)

    def _loses_while_serving(self) -> bool:
        """Let what strikes in a step happen; whether the group is lost to it."""
        struck = [fault for member in self.members if (fault := self._fault(member)) is not None]
        lost = [fault for fault in struck if fault.error != "slow"]
        for fault in lost:
            death = death_by_signal(fault.signal)
            self._hand_out(self.session.handle(Lost(fault.rank, self._incarnation, death, final=True), self.now))
        return bool(lost)

    def _outcome(self) -> IncarnationOutcome | None:
        """How the incarnation that runs has ended, if it has."""
        outcome = self.session.outcome
        return outcome if outcome is not None and outcome.incarnation == self._incarnation else None

    def _start(self, incarnation: int) -> None:
        self._incarnation = incarnation
        prepare = self.prepare or (lambda rank: (able(self.request), Device()))
        self.members = [Rank(rank, incarnation, *prepare(rank)) for rank in range(self.ranks)]
        self._stuck: set[int] = set()
        self._asked: set[int] = set()

    def _round(self) -> bool:
        """Let every rank that can speak do so once; whether any did."""
        spoke = False
        # A warm-up is over when it is on all ranks: what strikes there comes before any rank's capture.
        for member in sorted(self.members, key=lambda member: not self._is_struck_in_warm_up(member)):
            if self._outcome() or member.rank in self._stuck | self._asked or member.ended:
                continue
            spoke = True
            self.now += 0.001
            self._speak(member)
        return spoke

    def _speak(self, member: Rank) -> None:
        fault = self._fault(member)
        if fault is None:
            self._ask(member, member.question())
        elif fault.error == "slow":
            self.now += SLOW_SECONDS
            self._ask(member, member.question())
        elif fault.error == "hang":
            # A rank that hangs in a warm-up or in a canary leaves its peers inside a collective.
            collective = fault.phase in (Phase.WARMUP, Phase.SEAL)
            self._stuck |= {peer.rank for peer in self.members} if collective else {member.rank}
        elif fault.error == "crash":
            self._stuck.add(member.rank)
            lost = Lost(member.rank, member.incarnation, death_by_signal(fault.signal))
            self._hand_out(self.session.handle(lost, self.now))
        elif fault.error == "wrong":
            self._ask(member, member.question(canary_ok=False))
        elif fault.phase in (Phase.WARMUP, Phase.CAPTURE):
            self._fail_graph(member, fault)
        else:
            text = ERRORS[fault.error]
            self._ask(member, Failed(member.rank, member.incarnation, fault.phase, "RuntimeError", text))

    def _fail_graph(self, member: Rank, fault: Fault) -> None:
        recorded = fault.recorded and fault.phase is Phase.CAPTURE
        text = ERRORS[fault.error]
        result = CaptureResult(False, 0.1, None, None, fault.phase, "RuntimeError", text, recorded)
        if fault.phase is Phase.WARMUP:
            self._stuck |= {peer.rank for peer in self.members if peer is not member}
        self._ask(member, member.question(result))

    def _is_struck_in_warm_up(self, member: Rank) -> bool:
        fault = self._waiting_fault(member)
        return fault is not None and fault.phase is Phase.WARMUP

    def _fault(self, member: Rank) -> Fault | None:
        """The fault that strikes now, which does so once."""
        fault = self._waiting_fault(member)
        if fault is not None:
            self.faults.remove(fault)
            self.struck.append(fault)
        return fault

    def _waiting_fault(self, member: Rank) -> Fault | None:
        # A warm-up begins after the rank was let into it.
        here = {member.phase} | ({Phase.WARMUP} if member.phase is Phase.CAPTURE else set())
        here -= {Phase.WARMUP} if member.phase is Phase.WARMUP else set()
        for fault in self.faults:
            at_size = fault.size is None or (member.key is not None and member.key.num_tokens == fault.size)
            in_time = fault.incarnation in (None, member.incarnation)
            if fault.rank == member.rank and fault.phase in here and at_size and in_time:
                return fault
        return None

    def _ask(self, member: Rank, question: Question) -> None:
        self._asked.add(member.rank)
        self._hand_out(self.session.handle(question, self.now))

    def _hand_out(self, answers: list[Delivery]) -> None:
        for answer in answers:
            self.verdicts.append((answer.rank, answer.verdict.kind))
            self._asked.discard(answer.rank)
            self.members[answer.rank].hear(answer.verdict)
