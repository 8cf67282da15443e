# SPDX-License-Identifier: Apache-2.0
"""CMD: enabling, disabling, draining, aborting and resetting the device and its queues."""

import operator
from contextlib import contextmanager

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rackgate.iaa.abi import GROUPS, QUEUES, REGISTERS, Command, CommandError, DeviceState
from rackgate.iaa.settings import QueueSettings

__all__ = ["Commands"]

_CMD = data.StructLayout({"operand": 20, "command": 5, "reserved": 6, "request_interrupt": 1})
_CMDSTS = data.StructLayout({"error": 8, "reserved": 23, "active": 1})
_MAX_TRANSFER_SHIFT = next(field for field in REGISTERS["GENCAP_LO"].fields if field.name == "MAX_TRANSFER_SHIFT")
_MAX_SHIFT = (REGISTERS["GENCAP_LO"].reset & _MAX_TRANSFER_SHIFT.mask) >> _MAX_TRANSFER_SHIFT.lsb


class Commands(wiring.Component):
    """Carry out commands, one at a time, and keep the states of device and queues.

    A command begins in the cycle after ``written``; ``status`` says ACTIVE until it is done. What each does and the
    order of the checks: ``abi.Command``, ``abi.CommandError``. A refused command changes nothing. Draining closes the
    queues and waits until they have neither work nor anything running; aborting raises their ``abort`` meanwhile.
    RESET_DEVICE raises ``stop``, waits for ``stopped``, then strobes ``restart``; it may be written at any time, and
    ends a command that waits for queues to drain. Reset disables everything.

    Parameters
    ----------
    queues:
        Number of queues, 1 to 8.
    engines:
        Number of engines, 1 to 8.

    Members
    -------
    written, command:
        Strobe, and the register CMD from then on.
    status, device:
        CMDSTS, and the DeviceState.
    done:
        Strobe: a command with REQUEST_INTERRUPT is done.
    settings:
        Of each queue.
    members, engine_masks:
        Masks of the queues and of the engines of each group.
    is_open, is_draining, abort:
        Bit per queue: it is enabled and takes descriptors; it is being drained; its descriptors are aborted.
    has_work, running:
        Bit per queue: see :class:`~rackgate.iaa.dispatch.Dispatch`.
    place, place_queue, placed, fits:
        ``start``, ``queue``, ``done`` and ``fits`` of :class:`~rackgate.iaa.regions.Regions`.
    clear:
        Strobe per queue: it is about to be enabled, and must be empty.
    stop, stopped:
        Quiet the device; it is quiet.
    restart:
        Strobe: reset everything but this block, registers too.
    """

    def __init__(self, *, queues: int = 4, engines: int = 1):
        self.queues = operator.index(queues)
        self.engines = operator.index(engines)
        if not 1 <= self.queues <= QUEUES:
            raise ValueError(f"queues must be 1 to {QUEUES}, not {queues}")
        if not 1 <= self.engines <= 8:
            raise ValueError(f"engines must be 1 to 8, not {engines}")
        super().__init__({
            "written": In(1),
            "command": In(32),
            "status": Out(32),
            "device": Out(2),
            "done": Out(1),
            "settings": In(QueueSettings).array(self.queues),
            "members": In(self.queues).array(GROUPS),
            "engine_masks": In(self.engines).array(GROUPS),
            "is_open": Out(self.queues),
            "is_draining": Out(self.queues),
            "abort": Out(self.queues),
            "has_work": In(self.queues),
            "running": In(self.queues),
            "place": Out(1),
            "place_queue": Out(range(self.queues)),
            "placed": In(1),
            "fits": In(1),
            "clear": Out(self.queues),
            "stop": Out(1),
            "stopped": In(1),
            "restart": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        now, status, mask = Signal(_CMD), Signal(_CMDSTS), Signal(self.queues)
        is_enabled, is_aborting, is_reopening = Signal(), Signal(), Signal()
        has_engine = [Cat(self.members[group][queue] & self.engine_masks[group].any() for group in range(GROUPS)).any()
                      for queue in range(self.queues)]
        is_all = now.command.matches(Command.DISABLE_DEVICE, Command.DRAIN_ALL, Command.ABORT_ALL)
        wanted, is_reset_wanted = data.View(_CMD, self.command), Signal()
        with m.If(self.written & (wanted.command == Command.RESET_DEVICE)):
            m.d.sync += is_reset_wanted.eq(1)
        m.d.comb += [
            self.status.eq(status),
            self.device.eq(Mux(is_enabled, Mux(status.active & is_all, DeviceState.DRAINING, DeviceState.ENABLED),
                               DeviceState.DISABLED)),
            is_aborting.eq(now.command.matches(Command.ABORT_ALL, Command.ABORT_WQ, Command.RESET_WQ)),
            is_reopening.eq(now.command.matches(Command.DRAIN_ALL, Command.ABORT_ALL, Command.DRAIN_WQ,
                                                Command.ABORT_WQ)),
            self.place_queue.eq(now.operand),
        ]
        facts = self._look(m, now, has_engine)
        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.written):
                    m.d.sync += [now.eq(self.command), status.eq(0), status.active.eq(1)]
                    m.next = "LOOK"
                with m.If(is_reset_wanted):
                    m.next = "STOP"
            with m.State("LOOK"):
                m.next = "CHECK"
            with m.State("CHECK"):
                self._check(m, now, status, mask, is_enabled, facts)
            with m.State("CLOSE"):
                m.d.sync += [self.is_open.eq(self.is_open & ~mask), self.is_draining.eq(mask),
                             self.abort.eq(Mux(is_aborting, mask, 0))]
                m.next = "DRAIN"
            with m.State("DRAIN"):
                with m.If(((self.has_work | self.running) & mask) == 0):
                    m.d.sync += [self.is_draining.eq(0), self.abort.eq(0)]
                    with m.If(is_reopening):
                        m.d.sync += self.is_open.eq(self.is_open | mask)
                    with m.If(now.command == Command.DISABLE_DEVICE):
                        m.d.sync += is_enabled.eq(0)
                    m.next = "FINISH"
                with m.If(is_reset_wanted):
                    m.next = "STOP"
            with m.State("PLACE"):
                m.d.comb += self.place.eq(1)
                m.next = "PLACED"
            with m.State("PLACED"):
                with m.If(self.placed):
                    self._check_queue(m, status, Array(self.settings)[self.place_queue],
                                      Array(has_engine)[self.place_queue])
            with m.State("OPEN"):
                m.d.comb += self.clear.eq(1 << self.place_queue)
                m.d.sync += self.is_open.eq(self.is_open | self.clear)
                m.next = "FINISH"
            with m.State("STOP"):
                m.d.comb += self.stop.eq(1)
                m.d.sync += [status.eq(0), status.active.eq(1), now.request_interrupt.eq(wanted.request_interrupt)]
                with m.If(self.stopped):
                    m.d.comb += self.restart.eq(1)
                    m.d.sync += [is_enabled.eq(0), self.is_open.eq(0), self.is_draining.eq(0), self.abort.eq(0),
                                 is_reset_wanted.eq(0)]
                    m.next = "FINISH"
            with m.State("FINISH"):
                m.d.comb += self.done.eq(now.request_interrupt)
                m.d.sync += status.active.eq(0)
                m.next = "IDLE"
        return m

    def _look(self, m, now, has_engine):
        """What the checks need to know, in registers."""
        is_named, is_closed, is_beyond, is_open, has_group = Signal(), Signal(), Signal(), Signal(), Signal()
        named = now.operand[:self.queues]  # by a command for several
        m.d.sync += [
            is_named.eq(named.any() & ~now.operand[self.queues:].any()),
            is_closed.eq((named & ~self.is_open).any() & (now.command != Command.RESET_WQ)),
            is_beyond.eq(now.operand >= self.queues),
            is_open.eq(Array(self.is_open)[self.place_queue]),
            has_group.eq(Cat(has_engine).any()),
        ]
        return is_named, is_closed, is_beyond, is_open, has_group

    def _check(self, m, now, status, mask, is_enabled, facts):
        """Refuse a command, or begin it."""
        is_named, is_closed, is_beyond, is_open, has_group = facts
        all_queues = (Command.DISABLE_DEVICE, Command.DRAIN_ALL, Command.ABORT_ALL)
        some_queues = (Command.DRAIN_WQ, Command.ABORT_WQ, Command.DISABLE_WQ, Command.RESET_WQ)
        with m.Switch(now.command):
            with m.Case(Command.ENABLE_DEVICE):
                with _refusals(m, status, (is_enabled, CommandError.DEVICE_ENABLED),
                               (~has_group, CommandError.NO_GROUPS)):
                    m.d.sync += is_enabled.eq(1)
                    m.next = "FINISH"
            with m.Case(*all_queues):
                with _refusals(m, status, (~is_enabled, CommandError.DEVICE_DISABLED)):
                    m.d.sync += mask.eq(self.is_open)
                    m.next = "CLOSE"
            with m.Case(Command.RESET_DEVICE):
                m.next = "IDLE"  # which knows that a reset is wanted
            with m.Case(Command.ENABLE_WQ):
                with _refusals(m, status, (~is_enabled, CommandError.DEVICE_NOT_ENABLED),
                               (is_beyond, CommandError.BAD_QUEUE), (is_open, CommandError.QUEUE_ENABLED)):
                    m.next = "PLACE"
            with m.Case(*some_queues):
                with _refusals(m, status, (~is_enabled, CommandError.QUEUE_NOT_ENABLED),
                               (~is_named, CommandError.BAD_QUEUE), (is_closed, CommandError.QUEUE_NOT_ENABLED)):
                    m.d.sync += mask.eq(now.operand)
                    m.next = "CLOSE"
            with m.Default():
                m.d.sync += status.error.eq(CommandError.UNKNOWN_COMMAND)
                m.next = "FINISH"

    def _check_queue(self, m, status, settings, has_engine):
        """Refuse a queue's settings, or enable it."""
        is_bad_mode = ~settings.dedicated & ((settings.threshold == 0) | (settings.threshold > settings.size))
        with _refusals(m, status, (~has_engine, CommandError.QUEUE_IN_NO_GROUP),
                       (~self.fits, CommandError.BAD_QUEUE_SIZE),
                       (settings.priority == 0, CommandError.BAD_QUEUE_PRIORITY),
                       (is_bad_mode, CommandError.BAD_QUEUE_MODE),
                       (settings.max_transfer_shift > _MAX_SHIFT, CommandError.BAD_TRANSFER_SIZE)):
            m.next = "OPEN"


@contextmanager
def _refusals(m, status, *checks):
    """End the command with the error of the first check that is true; if none is, do the body."""
    is_refused = Cat(check for check, _ in checks).any()
    with m.If(is_refused):
        for check, error in reversed(checks):
            with m.If(check):
                m.d.sync += status.error.eq(error)
        m.next = "FINISH"
    with m.Else():
        yield
