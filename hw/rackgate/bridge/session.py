# SPDX-License-Identifier: Apache-2.0
"""Which message may be executed, and which is answered how."""

import operator

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.bridge import abi

__all__ = ["Header", "Session", "Verdict"]


class Verdict(enum.Enum, shape=3):
    """What is to be done with a message."""

    STRAY = 0  # drop it
    EXECUTE = 1  # execute it and answer with what comes of it
    REPEAT = 2  # answer with the response that is kept
    OPENED = 3
    WRONG_SESSION = 4  # refuse it
    WRONG_VERSION = 5  # refuse it


class Header(data.Struct):
    """What a message says before its body, and of it what OPEN says: the words that it has, and its first."""

    magic: 16
    protocol: 8
    kind: 8
    session: 32
    sequence: 32
    body_words: 9
    previous: 32


class Session(wiring.Component):
    """Judge messages by session and sequence (:mod:`rackgate.bridge.abi`), so that each request is executed once.

    A verdict comes 2 cycles after its header, and the header must stay until then; the next is taken when the verdict
    has been. With EXECUTE the request counts as executed, and the response to the request ``window`` before it as no
    longer kept. ``i.ready`` depends on no input. Reset: no session is open.

    Parameters
    ----------
    window:
        Responses that are kept: 1, 2, 4 or 8.

    Members
    -------
    i:
        Headers (:class:`Header`) of messages with the right magic.
    o:
        Verdicts.
    open_session:
        The session that is open, 0 for none: with a verdict, as it is behind the message.
    slot:
        Where the response is kept, or to be kept; with a verdict.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, window: int = abi.WINDOW):
        self.window = operator.index(window)
        if self.window not in (1, 2, 4, 8):
            raise ValueError(f"window must be 1, 2, 4 or 8, not {window}")
        super().__init__({
            "i": In(stream.Signature(Header)), "o": Out(stream.Signature(Verdict)),
            "open_session": Out(32), "slot": Out(range(self.window)),
        })
        # State is made here, not in elaborate, so that a proof can state invariants about it.
        self._expected = Signal(32)
        self._kept = Signal(range(self.window + 1))  # responses

    def elaborate(self, platform):
        m = Module()
        header, verdict = self.i.payload, Signal(Verdict)
        age = Signal(32)  # how many requests ago it was expected
        # All comparisons first, then what follows from them.
        known = {name: Signal(name=f"is_{name}") for name in (
            "request", "opening", "usable", "ours", "open", "previous", "expected", "kept")}
        m.d.comb += age.eq(self._expected - header.sequence)
        for name, fact in (
            ("request", header.kind == abi.Kind.REQUEST),
            ("opening", header.kind == abi.Kind.OPEN),
            ("usable", (header.session != abi.NO_SESSION) & (header.body_words == 1)),  # for OPEN
            ("ours", header.protocol == abi.PROTOCOL),
            ("open", (header.session == self.open_session) & (header.session != abi.NO_SESSION)),
            ("previous", header.previous == self.open_session),
            ("expected", age == 0),
            ("kept", (age != 0) & (age <= self._kept)),
        ):
            m.d.sync += known[name].eq(fact)
        with m.If((known["request"] | known["opening"]) & ~known["ours"]):
            m.d.comb += verdict.eq(Verdict.WRONG_VERSION)
        with m.Elif(known["request"]):
            m.d.comb += verdict.eq(Mux(~known["open"], Verdict.WRONG_SESSION, Mux(
                known["expected"], Verdict.EXECUTE, Mux(known["kept"], Verdict.REPEAT, Verdict.STRAY))))
        with m.Elif(known["opening"] & known["usable"]):
            m.d.comb += verdict.eq(Mux(known["open"] | known["previous"], Verdict.OPENED, Verdict.WRONG_SESSION))

        with m.FSM():
            with m.State("COMPARE"):
                with m.If(self.i.valid):
                    m.next = "JUDGE"
            with m.State("JUDGE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [self.o.payload.eq(verdict), self.slot.eq(header.sequence)]
                self._change(m, verdict, known["open"], header.session)
                m.next = "TELL"
            with m.State("TELL"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "COMPARE"
        return m

    def _change(self, m, verdict, is_open, session):
        """What a verdict changes."""
        with m.If(verdict == Verdict.EXECUTE):
            m.d.sync += [
                self._expected.eq(self._expected + 1),
                self._kept.eq(Mux(self._kept == self.window, self.window, self._kept + 1)),
            ]
        with m.If((verdict == Verdict.OPENED) & ~is_open):
            m.d.sync += [self.open_session.eq(session), self._expected.eq(0), self._kept.eq(0)]
