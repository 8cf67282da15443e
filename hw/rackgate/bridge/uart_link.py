# SPDX-License-Identifier: Apache-2.0
"""The bridge's link over a UART."""

import operator

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.bridge.abi import MESSAGE_WORDS
from rackgate.bridge.slip import FrameReceiver, FrameSender
from rackgate.bridge.uart import UartReceiver, UartTransmitter
from rackgate.stream.packet import PacketSignature
from rackgate.stream.queue import Queue

__all__ = ["UartLink"]


class UartLink(wiring.Component):
    """Carry messages in frames (:mod:`rackgate.bridge.framing`) over a UART, both ways at once.

    A UART cannot be held up. ``words`` words of requests may wait; a frame for which there is no room is dropped, and
    the host sends it again. What does not begin or end as a frame, and a byte without its stop bit, is dropped with the
    frame that it is in; the next frame is as ever.

    Reset empties the link. A frame that is under way then is dropped, in or out.

    Parameters
    ----------
    divisor:
        Clock cycles of a bit (:func:`rackgate.bridge.framing.uart_divisor`), at least 4.
    words:
        Words of requests that may wait, at least a message: 368.

    Members
    -------
    rx, tx:
        The pins.
    o:
        Requests, to the bridge.
    i:
        Answers, from the bridge.
    errors:
        Frames that were dropped; wraps.
    """

    def __init__(self, divisor: int, *, words: int = 512):
        self._receiver, self._transmitter = UartReceiver(divisor), UartTransmitter(divisor)
        self.divisor, self.words = self._receiver.divisor, operator.index(words)
        if self.words < MESSAGE_WORDS:
            raise ValueError(f"words must be at least a message, {MESSAGE_WORDS}, not {words}")
        super().__init__({
            "rx": In(1, init=1), "tx": Out(1, init=1), "i": In(PacketSignature(4)), "o": Out(PacketSignature(4)),
            "errors": Out(32),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver, m.submodules.transmitter = receiver, transmitter = self._receiver, self._transmitter
        m.submodules.frames_in, m.submodules.frames_out = frames_in, frames_out = FrameReceiver(), FrameSender()
        m.submodules.queue = queue = Queue(self.o.payload.shape(), depth=self.words)
        wiring.connect(m, frames_in.o, queue.i)
        wiring.connect(m, queue.o, wiring.flipped(self.o))
        wiring.connect(m, wiring.flipped(self.i), frames_out.i)
        wiring.connect(m, frames_out.o, transmitter.i)
        m.d.comb += [
            receiver.rx.eq(self.rx), self.tx.eq(transmitter.tx),
            frames_in.byte.eq(receiver.byte), frames_in.strobe.eq(receiver.strobe),
            frames_in.damaged.eq(receiver.damaged),
        ]
        with m.If(frames_in.dropped):
            m.d.sync += self.errors.eq(self.errors + 1)
        return m
