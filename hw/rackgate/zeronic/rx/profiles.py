# SPDX-License-Identifier: Apache-2.0
"""Which kind of transport a frame has."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.zeronic.abi import PROFILES
from rackgate.zeronic.messages import TCP_PROFILE, ChecksumKind
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
    the transport header must have for it to be in there. ``size``: bytes of the header, unless ``is_tcp``: it says so
    itself. ``has_sum``: there is a checksum; ``is_udp``: as UDP has it.
    """

    any: 1
    number: 2
    high: 6
    low: 6
    least: 9
    size: 8
    is_tcp: 1
    has_sum: 1
    is_udp: 1


def _meaning(profile):
    """What a profile says, from a :class:`~rackgate.zeronic.messages.Profile` or its like in hardware."""
    first = TRANSPORT // 2 + (profile.position >> 1)
    return {"high": first, "low": first + 1, "least": profile.position + _POSITION_SIZE, "size": profile.size,
            "is_tcp": profile.size == 0, "has_sum": profile.checksum != ChecksumKind.NONE,
            "is_udp": profile.checksum == ChecksumKind.UDP}


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
        self._keys, self._meanings = [], []
        for number in range(PROFILES):
            profile = TCP_PROFILE if number == 0 else TCP_PROFILE._replace(protocol=0)
            self._keys.append(Signal(data.StructLayout({"protocol": 8, "port": 16, "mask": 16}), name=f"key_{number}",
                                     init={name: getattr(profile, name) for name in ("protocol", "port", "mask")}))
            self._meanings.append(Signal(ChosenProfile, name=f"meaning_{number}",
                                         init={"number": number, **_meaning(profile)}))

    def elaborate(self, platform):
        m = Module()
        new, word = self.update.payload, self.i.payload
        is_protocol, is_port, is_port_there = Signal(PROFILES), Signal(PROFILES), Signal()
        protocol, port = self._bytes(_PROTOCOL, 1), self._bytes(_PORT, 2)
        m.d.sync += is_port_there.eq(self.i.valid & (word.beat == self._beat_of_port))
        for k, (key, meaning) in enumerate(zip(self._keys, self._meanings, strict=True)):
            with m.If(self.update.valid & (new.profile == k)):
                m.d.sync += [
                    *(key[name].eq(getattr(new, name)) for name in ("protocol", "port", "mask")),
                    *(getattr(meaning, name).eq(value) for name, value in _meaning(new).items()),
                ]
            with m.If(self.i.valid & (word.beat == _PROTOCOL // self.width)):
                m.d.sync += is_protocol[k].eq((key.protocol != 0) & (key.protocol == protocol))
            with m.If(self.i.valid & (word.beat == self._beat_of_port)):
                m.d.sync += is_port[k].eq(((key.port ^ port) & key.mask) == 0)
        with m.If(is_port_there):
            m.d.sync += self.chosen.any.eq((is_protocol & is_port).any())
            for k, meaning in reversed(list(enumerate(self._meanings))):
                with m.If(is_protocol[k] & is_port[k]):
                    m.d.sync += [self.chosen.eq(meaning), self.chosen.any.eq(1)]
        return m

    def _bytes(self, place, size):
        """``size`` bytes of the word, big endian, from byte ``place`` of the frame on."""
        at = place % self.width
        return Cat(self.i.payload.data[8 * k:8 * k + 8] for k in reversed(range(at, at + size)))
