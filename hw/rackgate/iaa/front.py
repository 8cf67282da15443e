# SPDX-License-Identifier: Apache-2.0
"""What stands in front of the engines: registers, portals, work queues, commands, errors."""

import operator
from collections.abc import Mapping

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.axi.bus import AXI4LiteSignature
from rackgate.axi.lite_decoder import LiteDecoder
from rackgate.csr.bank import Bank
from rackgate.iaa.abi import (
    GROUPS,
    PORTAL_SIZE,
    PORTALS,
    QUEUES,
    REGISTERS,
    InterruptCause,
    QueueState,
    queue_register,
)
from rackgate.iaa.commands import Commands
from rackgate.iaa.dispatch import Dispatch
from rackgate.iaa.errors import Errors
from rackgate.iaa.portal import Portal
from rackgate.iaa.queues import Queues
from rackgate.iaa.regions import Regions
from rackgate.iaa.settings import QueueSettings, settings_from
from rackgate.iaa.work import ErrorReport, Work

__all__ = ["Front"]

class Front(wiring.Component):
    """Take descriptors from software and hand them to the lanes; carry out commands; tell errors.

    What software sees is described in :mod:`rackgate.iaa.abi`. A descriptor is offered to a lane 14 cycles after
    ``csr`` took its last word, if nothing else waits. Lanes: see :class:`~rackgate.iaa.dispatch.Dispatch`.

    The front serves the registers of queues and groups, GENSTS, CMD, CMDSTS, SWERR, INTCAUSE and IRQ_ENABLE itself. The
    others are ports of ``bank`` (:class:`~rackgate.csr.bank.Bank`) for the device around the front to connect.

    RESET_DEVICE raises ``stop``. The device then lets its memory transactions end, without beginning others, and
    answers with ``stopped``; in that cycle ``restart`` is high: everything outside is to be reset with it, as the
    front's parts and registers are.

    Parameters
    ----------
    engines:
        Number of engines: 1, 2, 4 or 8.
    queues:
        Number of work queues, 1 to 8.
    entries:
        Descriptors that the queues hold together, 2 to 1024.
    contexts:
        Lanes of an engine, 1 to 8.
    reporters:
        Streams of errors; one a lane if not given.
    values:
        Values of other CONST registers by name: PARAM_WINDOW, PARAM_LANES, BUILD_LO, BUILD_HI.

    Members
    -------
    csr:
        AXI4-Lite target, 16 address bits.
    work:
        One stream a lane. Lane ``n`` is of engine ``n // contexts``.
    retired:
        Bit per lane, a strobe: done with its descriptor.
    abort:
        Bit per queue: end what runs of it soon, with Status.ABORTED.
    error:
        Errors for SWERR: array of streams.
    irq_set:
        Bits to set in INTCAUSE besides the front's own.
    irq:
        Level interrupt.
    stop, stopped, restart:
        As said.
    is_busy:
        A descriptor is queued or with a lane.
    """

    def __init__(self, *, engines: int = 1, queues: int = 4, entries: int = 64, contexts: int = 2,
                 reporters: int | None = None, values: Mapping[str, int] | None = None):
        self.engines = operator.index(engines)
        if self.engines not in (1, 2, 4, 8):
            raise ValueError(f"engines must be 1, 2, 4 or 8, not {engines}")
        self._dispatch = Dispatch(engines=engines, contexts=contexts, queues=queues, entries=entries)
        self._queues = Queues(queues, entries=entries)
        self.queues, self.entries, self.contexts = self._queues.queues, self._queues.entries, self._dispatch.contexts
        self.lanes = self._dispatch.lanes
        self._errors = Errors(self.lanes if reporters is None else reporters, queues=self.queues)
        self.reporters = self._errors.reporters
        self.bank = Bank(REGISTERS, absent=_absent(self.queues), values={
            "PARAM_ENGINES": self.engines, "PARAM_QUEUES": self.queues, "PARAM_ENTRIES": self.entries,
            "PARAM_CONTEXTS": self.contexts, "ENGCAP": self.engines,
            "WQCAP_LO": self.entries | self.queues << 16 | 1 << 24,  # a queue's registers take 2**(5 + 1) bytes
            **(values or {}),
        })
        super().__init__({
            "csr": In(AXI4LiteSignature(addr_width=16)),
            "work": Out(stream.Signature(Work)).array(self.lanes),
            "retired": In(self.lanes),
            "abort": Out(self.queues),
            "error": In(stream.Signature(ErrorReport)).array(self.reporters),
            "irq_set": In(32),
            "irq": Out(1),
            "stop": Out(1),
            "stopped": In(1),
            "restart": Out(1),
            "is_busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        queues, dispatch, errors, bank = self._queues, self._dispatch, self._errors, self.bank
        decoder = LiteDecoder([(0, 1 << bank.addr_width), (PORTALS, QUEUES * PORTAL_SIZE)])
        portal, regions = Portal(self.queues), Regions(self.queues, entries=self.entries)
        commands = Commands(queues=self.queues, engines=self.engines)
        # The buses and the command under way outlive a restart.
        for name, part in (("bank", bank), ("decoder", decoder), ("portal", portal), ("commands", commands)):
            m.submodules[name] = part
        for name, part in (("queues", queues), ("regions", regions), ("dispatch", dispatch), ("errors", errors)):
            m.submodules[name] = ResetInserter(self.restart)(part)
        wiring.connect(m, wiring.flipped(self.csr), decoder.i)
        wiring.connect(m, decoder.o_0, bank.bus)
        wiring.connect(m, decoder.o_1, portal.bus)
        wiring.connect(m, portal.overflow, errors.overflow)
        for theirs, ours in (*zip(dispatch.o, self.work, strict=True), *zip(errors.i, self.error, strict=True)):
            wiring.connect(m, theirs, wiring.flipped(ours))
        self._settle(m, regions, dispatch, commands, portal)
        self._move(m, regions, dispatch, commands, portal)
        self._show(m, commands, errors, dispatch)
        return m

    def _settle(self, m, regions, dispatch, commands, portal):
        """Settings of queues and groups, to who needs them."""
        bank = self.bank
        for queue in range(self.queues):
            settings = Signal(QueueSettings, name=f"settings_{queue}")
            m.d.comb += [
                *settings_from(bank, queue, settings),
                commands.settings[queue].eq(settings),
                dispatch.settings[queue].eq(settings),
                regions.size[queue].eq(settings.size),
                self._queues.threshold[queue].eq(settings.threshold),
                portal.is_dedicated[queue].eq(settings.dedicated),
            ]
        for group in range(GROUPS):
            members, masks = getattr(bank, f"grp{group}_wqs"), getattr(bank, f"grp{group}_engines")
            m.d.comb += [part.members[group].eq(members) for part in (commands, dispatch)]
            m.d.comb += [part.engine_masks[group].eq(masks) for part in (commands, dispatch)]

    def _move(self, m, regions, dispatch, commands, portal):
        """What becomes of a descriptor, and the commands that change it."""
        queues = self._queues
        for name in ("stage", "queue", "word", "value", "put"):
            m.d.comb += getattr(queues, name).eq(getattr(portal, name))
        for name in ("take", "take_queue", "read_entry", "read_word"):
            m.d.comb += getattr(queues, name).eq(getattr(dispatch, name))
        for name in ("is_full", "is_limited"):
            m.d.comb += getattr(portal, name).eq(getattr(queues, name))
        m.d.comb += [
            portal.is_open.eq(commands.is_open),
            dispatch.has_work.eq(queues.has_work),
            dispatch.data.eq(queues.data),
            dispatch.abort.eq(commands.abort),
            dispatch.retired.eq(self.retired),
            commands.has_work.eq(queues.has_work),
            commands.running.eq(dispatch.running),
            commands.written.eq(self.bank.cmd_written),
            commands.command.eq(self.bank.cmd),
            commands.placed.eq(regions.done),
            commands.fits.eq(regions.fits),
            regions.start.eq(commands.place),
            regions.queue.eq(commands.place_queue),
            regions.is_open.eq(commands.is_open),
            queues.clear.eq(commands.clear),
            commands.stopped.eq(self.stopped),
            self.stop.eq(commands.stop),
            self.restart.eq(commands.restart),
            self.abort.eq(commands.abort),
            self.is_busy.eq((queues.has_work | dispatch.running).any()),
        ]
        for queue in range(self.queues):
            m.d.comb += [
                dispatch.head[queue].eq(queues.head[queue]),
                queues.first[queue].eq(regions.first[queue]),
                queues.last[queue].eq(regions.last[queue]),
            ]

    def _show(self, m, commands, errors, dispatch):
        """Registers that tell software what goes on, and the interrupt."""
        bank, is_low = self.bank, Signal(self.queues)
        causes = Signal(32)
        m.d.comb += [
            bank.gensts.eq(commands.device),
            bank.cmdsts.eq(commands.status),
            bank.swerr0_set.eq(errors.set),
            bank.swerr0_clear.eq(errors.clear),
            errors.swerr0.eq(bank.swerr0),
            bank.swerr1.eq(errors.swerr1),
            bank.swerr_address_lo.eq(errors.address[:32]),
            bank.swerr_address_hi.eq(errors.address[32:]),
            bank.intcause_set.eq(causes | self.irq_set),
            bank.clear.eq(self.restart),
        ]
        for cause, is_raised in ((InterruptCause.SOFTWARE_ERROR, errors.raised),
                                 (InterruptCause.COMMAND_DONE, commands.done),
                                 (InterruptCause.OCCUPANCY, is_low.any())):
            m.d.comb += causes[cause.bit_length() - 1].eq(is_raised)
        for queue in range(self.queues):
            occupancy = self._queues.occupancy[queue]
            state = Mux(commands.is_draining[queue], QueueState.DRAINING,
                        Mux(commands.is_open[queue], QueueState.ENABLED, QueueState.DISABLED))
            settings = dispatch.settings[queue]
            m.d.comb += [
                getattr(bank, queue_register(queue, "STATE").lower()).eq(Cat(occupancy | Const(0, 30), state)),
                # The descriptor that is taken is the one that brings the occupancy below the limit.
                is_low[queue].eq(dispatch.take & (dispatch.take_queue == queue) & settings.limit_enable
                                 & (occupancy == settings.limit)),
            ]
        m.d.sync += self.irq.eq((bank.intcause & bank.irq_enable).any())


def _absent(queues):
    """Registers of queues that there are not."""
    return [name for number in range(queues, QUEUES) for name in REGISTERS
            if name.startswith(queue_register(number, ""))]
