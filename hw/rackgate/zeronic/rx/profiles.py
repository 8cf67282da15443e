# SPDX-License-Identifier: Apache-2.0
"""Which kind of transport a frame has."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.zeronic.abi import PROFILES
from rackgate.zeronic.messages import TCP_PROFILE
from rackgate.zeronic.records import ProfileUpdate, check_width
from rackgate.zeronic.rx.sums import TRANSPORT, header_beats

__all__ = ["ChosenProfile", "ProfileTable"]

#: Bytes before IPv4's protocol, and before the transport's destination port.
_PROTOCOL, _PORT = 23, TRANSPORT + 2
#: Bytes of a stream position.
_POSITION_SIZE = 4


class ChosenProfile(data.Struct):
    """The profile that a frame has, if ``any`` matches: its ``number``, and what it says.

    ``high``, ``low``: which 16 bits of a frame, by number, are the halves of the stream position; ``least``: bytes that
    the transport header must have for it to be in there. ``size``, ``checksum`` as in
    :class:`~rackgate.zeronic.messages.Profile`.
    """

    any: 1
    number: 2
    high: 6
    low: 6
    least: 9
    size: 8
    checksum: 2


class ProfileTable(wiring.Component):
    """Keep the profiles and compare each frame with all of them.

    A word a cycle, no stalls. What is ``chosen`` counts from 2 cycles after the word with the destination port until
    2 cycles after that of the next frame; of a frame that has none nothing is said. Reset: profile 0 is
    :data:`~rackgate.zeronic.messages.TCP_PROFILE`, the others are off; frames are not matched in half.

    Parameters
    ----------
    width:
        Bytes of a word: 8, 16 or 32.

    Members
    -------
    i:
        Words: ``data``, and number ``beat`` in the frame (:func:`~.sums.header_beats`).
    update:
        Profiles to set (:class:`~rackgate.zeronic.records.ProfileUpdate`), while no frame is under way. The lowest bit
        of ``position`` does not count.
    chosen:
        The lowest profile that matches.
    """

    i: stream.Interface
    update: stream.Interface

    def __init__(self, width: int = 8):
        self.width = check_width(width)
        self._beat_of_port = _PORT // self.width
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({
                "data": 8 * self.width, "beat": range(header_beats(self.width) + 1)}), always_ready=True)),
            "update": In(stream.Signature(ProfileUpdate, always_ready=True)),
            "chosen": Out(ChosenProfile),
        })
        self._profiles = [Signal(ProfileUpdate, name=f"profile_{k}", init={
            "protocol": TCP_PROFILE.protocol, "checksum": TCP_PROFILE.checksum, "position": TCP_PROFILE.position,
        } if k == 0 else None) for k in range(PROFILES)]
        self._places = [Signal(data.StructLayout({"high": 6, "low": 6, "least": 9}), name=f"places_{k}", init=(
            self._places_of(TCP_PROFILE.position)) if k == 0 else None) for k in range(PROFILES)]

    @staticmethod
    def _places_of(position):
        first = TRANSPORT // 2 + (position >> 1)
        return {"high": first, "low": first + 1, "least": position + _POSITION_SIZE}

    def elaborate(self, platform):
        m = Module()
        new, word = self.update.payload, self.i.payload
        is_protocol, is_port, is_port_there = Signal(PROFILES), Signal(PROFILES), Signal()
        protocol, port = self._bytes(_PROTOCOL, 1), self._bytes(_PORT, 2)
        m.d.sync += is_port_there.eq(self.i.valid & (word.beat == self._beat_of_port))
        for k, profile in enumerate(self._profiles):
            with m.If(self.update.valid & (new.profile == k)):
                m.d.sync += [profile.eq(new), *(self._places[k][name].eq(value)
                                                for name, value in self._places_of(new.position).items())]
            with m.If(self.i.valid & (word.beat == _PROTOCOL // self.width)):
                m.d.sync += is_protocol[k].eq((profile.protocol != 0) & (profile.protocol == protocol))
            with m.If(self.i.valid & (word.beat == self._beat_of_port)):
                m.d.sync += is_port[k].eq(((profile.port ^ port) & profile.mask) == 0)
        with m.If(is_port_there):
            m.d.sync += self.chosen.any.eq((is_protocol & is_port).any())
            for k in reversed(range(PROFILES)):
                with m.If(is_protocol[k] & is_port[k]):
                    m.d.sync += [
                        self.chosen.number.eq(k),
                        *(self.chosen[name].eq(self._places[k][name]) for name in ("high", "low", "least")),
                        *(self.chosen[name].eq(self._profiles[k][name]) for name in ("size", "checksum")),
                    ]
        return m

    def _bytes(self, place, size):
        """``size`` bytes of the word, big endian, from byte ``place`` of the frame on."""
        at = place % self.width
        return Cat(self.i.payload.data[8 * k:8 * k + 8] for k in reversed(range(at, at + size)))
