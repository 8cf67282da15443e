# SPDX-License-Identifier: Apache-2.0
"""One node's engine: programs, calls and completions."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from rackgate.arith.abi import ElementType
from rackgate.collective.abi import (
    COMMUNICATORS,
    CONTEXTS,
    NODES,
    Cause,
    Completion,
    ConfigSpace,
    Control,
    Scenario,
    Status,
)
from rackgate.collective.isa import MAX_PROGRAM
from rackgate.collective.link.abi import LINK_SESSIONS
from rackgate.collective.packets.abi import Probe, Probed
from rackgate.collective.programs.program import Program
from rackgate.collective.programs.shipped import CREDITS, programs

from ..device import DEFAULT_TIMEOUT_CYCLES, Device
from ..errors import DeviceFault, UsageError
from ..world import World
from .errors import CollectiveTimeout
from .requests import Kind, Request
from .unexpected import Unexpected

__all__ = ["DEFAULT_TIMEOUT", "Engine", "Opened"]

#: Cycles without progress after which a call fails, unless asked otherwise.
DEFAULT_TIMEOUT = 1 << 20

_ABORT_CYCLES = 1 << 20
_FLOATS_CONVERT = 1 << 31


class Opened(NamedTuple):
    """A communicator that is open."""

    nodes: tuple[int, ...]
    credits: int


class Engine:
    """The engine of one node, as communicators use it.

    Calls begin in the order of their making, as far as nothing is in their way (see :class:`.requests.Claim`). At
    most four are under way: a send, a receive, a collective, and either a second collective or one that ends by
    itself. So none of them can keep the others from going on, and a message that is in the way of others can be taken
    out of the receive buffers (:mod:`.unexpected`).

    Programs are written to the device when they are first called.

    Parameters
    ----------
    device:
        A device of kind ``collective``, reset and set up by this.
    world:
        Whose time line it has.
    node:
        Its number, 0 to 15.
    timeout:
        Cycles without progress after which a call fails; 0: never.
    shipped:
        Programs by scenario; by default those of :mod:`rackgate.collective.programs.shipped`.

    Raises
    ------
    UsageError
        The device is of another kind, or has a driver already.
    """

    def __init__(self, device: Device, world: World, node: int, *, timeout: int = DEFAULT_TIMEOUT,
                 shipped: Mapping[Scenario, Program] | None = None):
        if device.name != "collective":
            raise UsageError(f"{device.url} is no collective engine but {device.name}")
        if device.driver is not None:
            raise UsageError(f"{device.url} has a driver already")
        if not 0 <= node < NODES:
            raise ValueError(f"node must be 0 to {NODES - 1}, not {node}")
        if not 0 <= timeout < 1 << 32:
            raise ValueError(f"timeout must be 0 to 2**32 - 1 cycles, not {timeout}")
        self.device, self.world, self.node, self.timeout = device, world, node, timeout
        parameters = device.parameters
        self.width, self.segment, self.slots = (parameters[name] for name in ("width", "segment", "slots"))
        self._types = parameters["types"]
        self._programs: dict[int, Program] = dict(programs(width=self.width) if shipped is None else shipped)
        self._frugal: dict[int, int] = {}  # scenarios of the programs for few credits, by those of the others
        #: Scenarios of the collectives that users have loaded, by name.
        self.names: dict[str, int] = {}
        self._session = 0
        self._start()
        device.driver = self
        self._forget()
        self.unexpected = Unexpected(self)
        world.pollers.append(self.poll)
        world.alarms.append(self.unexpected.alarm)

    def _start(self) -> None:
        """Reset the engine, and begin a session of its link: what the last one left on the network is not taken."""
        regs = self.device.regs
        regs.CONTROL.write(reset=1)
        self.device.wait_register("CONTROL", Control.RESET, 0)  # it lets bus transfers under way end first
        self._session = self._session % LINK_SESSIONS + 1
        regs.NODE.value = self.node
        regs.LINK_SESSION.value = self._session  # from here on frames are taken
        regs.TIMEOUT.value = self.timeout
        regs.IRQ_ENABLE.value = 1
        regs.CONTROL.value = int(Control.ENABLE)

    def _forget(self) -> None:
        self._loaded: set[int] = set()
        self._next_word = 0
        self._number = 0
        #: Registers are being written or read that belong together.
        self.is_accessed = False
        #: Communicators by number.
        self.communicators: dict[int, Opened] = {}
        #: Calls that have not begun.
        self.waiting: list[Request] = []
        self._running: dict[int, Request] = {}
        self.free_slots = self.slots
        self.free_ids = (1 << COMMUNICATORS) - 1

    def reset(self) -> None:
        """Give up all calls and communicators, and begin anew. All nodes of a network must be reset together."""
        error = DeviceFault(f"node {self.node} was reset")
        for request in [*self.waiting, *self._running.values()]:
            request.give_up(error)
        self._start()
        self._forget()
        self.unexpected.forget()

    # Types and programs

    def supports(self, element: ElementType, *, is_reduced: bool = False, is_compressed: bool = False) -> bool:
        """Whether the engine was built to reduce, or compress, such elements."""
        return ((not is_reduced or bool(self._types >> element & 1))
                and (not is_compressed or element == ElementType.FLOAT32 and bool(self._types & _FLOATS_CONVERT)))

    def program(self, scenario: int) -> Program:
        """The program of a scenario. Raises :class:`UsageError` if there is none."""
        if scenario not in self._programs:
            raise UsageError(f"node {self.node} has no program for scenario {scenario}")
        return self._programs[scenario]

    def variant(self, scenario: int, credits: int) -> int:
        """The scenario to call in place of a shipped one on a communicator with so many credits."""
        if credits >= CREDITS or scenario >= Scenario.USER:
            return scenario
        if scenario not in self._frugal:
            other = programs(width=self.width, credits=1)[Scenario(scenario)]
            is_same = other.words == self.program(scenario).words
            self._frugal[scenario] = scenario if is_same else self.load(other)
        return self._frugal[scenario]

    def load(self, program: Program) -> int:
        """Make a program callable: its scenario. Raises :class:`UsageError` if all numbers are taken."""
        for scenario in range(Scenario.USER, Scenario.NOP):
            if scenario not in self._programs:
                self._programs[scenario] = program
                return scenario
        raise UsageError(f"node {self.node} has no scenario left: {Scenario.NOP - Scenario.USER} programs are loaded")

    def replace(self, scenario: int, program: Program) -> None:
        """Put another program in a scenario's place. The words of the old one stay taken until a reset."""
        self._programs[scenario] = program
        self._loaded.discard(scenario)

    def _ensure(self, scenario: int) -> None:
        """Have a scenario's program in the device."""
        if scenario in self._loaded:
            return
        program, at = self.program(scenario), self._next_word
        if at + len(program.words) > min(MAX_PROGRAM, self.device.parameters["program"]):
            raise UsageError(f"program {program.name} has {len(program.words)} words: of the program memory's "
                             f"{self.device.parameters['program']} {at} are taken")
        self.configure(ConfigSpace.PROGRAM + at, program.placed(at))
        self.configure(ConfigSpace.ENTRY + scenario, [program.entry_word(at)])
        self._next_word = at + len(program.words)
        self._loaded.add(scenario)

    def configure(self, address: int, words: Sequence[int]) -> None:
        """Write words of :class:`rackgate.collective.abi.ConfigSpace`."""
        self.device.regs.CONFIG_ADDRESS.value = address
        data = self.device.regs.CONFIG_DATA
        for word in words:
            data.value = word

    # Communicators

    def open(self, number: int, rank: int, nodes: Sequence[int], credits: int, eager: int) -> None:
        """Write a communicator; it must be free here (see ``free_ids`` and ``free_slots``).

        Messages of more than ``eager`` packets ask before they are sent, with 0 none.
        """
        base = ConfigSpace.COMMUNICATOR + 32 * number
        with self._accessing():
            self.configure(base + 16, nodes)
            self.configure(base, [len(nodes) | rank << 8 | 1 << 31, credits | eager << 8])
        self.communicators[number] = Opened(tuple(nodes), credits)
        self.free_ids &= ~(1 << number)
        self.free_slots -= credits * len(nodes)

    def close(self, number: int, size: int, credits: int) -> None:
        """Forget a communicator. No call on it may be under way."""
        with self._accessing():
            self.configure(ConfigSpace.COMMUNICATOR + 32 * number, [0])
        self.unexpected.close(number)
        self.communicators.pop(number, None)
        self.free_ids |= 1 << number
        self.free_slots += credits * size

    # Calls

    def submit(self, request: Request) -> None:
        """Let a call begin as soon as it can."""
        with self._accessing():
            if request.kind is not Kind.RECEIVE or not self.unexpected.claim(request):
                self.queue(request)
            self._pump()

    def queue(self, request: Request) -> None:
        """Let a call begin at the next occasion."""
        self.waiting.append(request)

    @property
    def is_busy(self) -> bool:
        """Whether calls are under way, or wait."""
        return bool(self.waiting or self._running)

    def probe(self, probe: Probe) -> Probed | None:
        """The oldest message that nobody has received, if there is one that the probe asks for."""
        with self._accessing():
            return self.unexpected.probe(probe)

    @contextmanager
    def probing(self) -> Iterator[None]:
        """Within it a rank waits for a message, so that others may be in its way."""
        self.unexpected.probes += 1
        try:
            yield
        finally:
            self.unexpected.probes -= 1

    @contextmanager
    def _accessing(self) -> Iterator[None]:
        """Within it :meth:`poll` does nothing: what is written in several words must not be written between them.

        A rank may lose its turn at any register access, where an access takes time.
        """
        before, self.is_accessed = self.is_accessed, True
        try:
            yield
        finally:
            self.is_accessed = before

    def _pump(self) -> None:
        """Let calls begin that can."""
        ahead: list[Request] = list(self._running.values())
        waiting: list[Request] = []
        for request in self.waiting:
            is_free = not any(other.claim is not None and request.claim is not None
                              and other.claim.excludes(request.claim) for other in ahead)
            if is_free and self.has_place(request.kind):
                self.begin(request)
            else:
                waiting.append(request)
            ahead.append(request)
        self.waiting = waiting

    def has_place(self, kind: Kind) -> bool:
        """Whether a call of that kind may begin, for all that the engine's contexts allow."""
        kinds = [request.kind for request in self._running.values()]
        if kind is Kind.LOCAL:
            return len(kinds) < CONTEXTS
        if kind is not Kind.COLLECTIVE and kind in kinds:
            return False
        kept = sum(other not in (kind, *kinds) for other in (Kind.SEND, Kind.RECEIVE, Kind.COLLECTIVE))
        return CONTEXTS - len(kinds) > kept

    def begin(self, request: Request) -> None:
        """Make a call."""
        self._ensure(request.call.scenario)
        while self._number in self._running:
            self._number = self._number + 1 & 0xFFFF
        self._running[self._number] = request
        call = request.call._replace(id=self._number)
        self._number = self._number + 1 & 0xFFFF
        word = self.device.regs.CALL_WORD
        for value in call.words():
            word.value = value

    def poll(self) -> None:
        """Take completions, as an interrupt handler would."""
        if self.is_accessed:
            return
        is_due = self.unexpected.alarm() is not None
        with self._accessing():
            if self.device.irq:
                self._take_completions()
                self._pump()
            elif is_due:
                self.unexpected.look()

    def _take_completions(self) -> None:
        regs = self.device.regs
        regs.IRQ_STATUS.value = 1
        while regs.COMPLETIONS.value:
            words = tuple(regs[f"COMPLETION_{k}"].value for k in range(4))
            regs.COMPLETION_POP.value = 0
            completion = Completion.from_words(words)
            request = self._running.pop(completion.id, None)
            if request is None:
                raise DeviceFault(f"{self.device.url}: a call with id {completion.id} has ended that was not made")
            request.complete(completion)
            self.unexpected.progress(request.kind)

    def glance(self, request: Request) -> None:
        """Give others a turn, and let a little time pass."""
        self.world.wait(lambda: request.is_over, cycles=256)

    def wait(self, request: Request, cycles: int | None) -> None:
        """Wait until a request is over. What takes too long is aborted, and fails."""
        limit = DEFAULT_TIMEOUT_CYCLES if cycles is None else cycles
        if self.world.wait(lambda: request.is_over, cycles=limit):
            return
        error = CollectiveTimeout(f"node {self.node}: {request.what}: it has not ended after {limit} cycles",
                                  rank=self.node, operation=request.what.split()[0], status=Status.TIMEOUT,
                                  cause=Cause.NONE)
        if request in self.waiting:
            self.waiting.remove(request)
            request.give_up(error)
            return
        if self.unexpected.withdraw(request):
            request.give_up(error)
        number = next((number for number, other in self._running.items() if other is request), None)
        if number is not None:
            self.device.regs.ABORT.value = number
            if not self.world.wait(lambda: request.is_over, cycles=_ABORT_CYCLES):
                del self._running[number]
                request.give_up(DeviceFault(f"{self.device.url}: {request.what} does not even end when it is "
                                            f"aborted\n{self.device.state()}"))
                return
        raise error
