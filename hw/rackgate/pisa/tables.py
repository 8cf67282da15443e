# SPDX-License-Identifier: Apache-2.0
"""Match-action stages whose entries the control plane writes while packets flow."""

from functools import reduce
from operator import or_

from amaranth.hdl import Array, Assert, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rackgate.pisa.declare import Key, Table
from rackgate.pisa.entries import BANKS, WAYS, EntryFormat, TableImage, hash_rows, key_hash
from rackgate.pisa.layout import value_in
from rackgate.pisa.lower import first_of, lower
from rackgate.pisa.matchaction import apply_actions

__all__ = ["EntriesSignature", "RuntimeTable", "runtime_table"]


def EntriesSignature(table: Table) -> wiring.Signature:
    """Access to a table's entries, from the side that asks.

    ``request`` stays high, with ``write``, ``place`` and ``word`` (:class:`~.entries.EntryFormat`), until ``done``,
    which is high for a cycle; after that of a read, ``found`` is what stands in the place. ``ready`` is low after reset
    until all places are empty; a request waits for it, and for a cycle in which no packet comes. ``place`` must be one
    that the table has.
    """
    image = TableImage(table)
    return wiring.Signature({
        "request": Out(1), "write": Out(1), "place": Out(range(image.capacity)), "word": Out(image.format.width),
        "done": In(1), "found": In(image.format.width), "ready": In(1),
    })


class RuntimeTable(wiring.Component):
    """A :class:`~.declare.Table` that is filled at run time, one packet a cycle, no stalls.

    Latency 5 cycles for hash tables, 3 for the others. An entry is written between two packets: each sees the old one
    or the new one. Reset empties the table: registers at once, block RAM a row a cycle, ``entries.ready`` being low;
    no packet may come before.

    Parameters
    ----------
    table:
        The declaration.
    i_layout, o_layout:
        What of a packet comes in and goes out, :func:`~.layout.carried_layout`.

    Members
    -------
    i, o:
        Packets, never stalled.
    entries:
        See :func:`EntriesSignature`.
    """

    def __init__(self, table: Table, i_layout: data.StructLayout, o_layout: data.StructLayout):
        self.table = table
        self.format = EntryFormat(table)
        self.latency = 5 if table.kind == Key.EXACT else 3
        super().__init__({
            "i": In(stream.Signature(i_layout, always_ready=True)),
            "o": Out(stream.Signature(o_layout, always_ready=True)),
            "entries": In(EntriesSignature(table)),
        })

    def elaborate(self, platform):
        m = Module()
        at, known = value_in(self.i.payload), {}
        keys = [lower(key, at, known) for key in self.table.keys]
        find = {Key.EXACT: self._hash, Key.INDEX: self._index, Key.TERNARY: self._ternary}[self.table.kind]
        hit, word = find(m, keys, known)

        # What of the packet the actions need waits until its entry is known.
        packet, applies, valid = self.i.payload, lower(self.table.when, at, known), self.i.valid
        for number in range(self.latency - 1):
            later = [Signal.like(value, name=f"{name}_{number}")
                     for name, value in (("packet", packet), ("applies", applies), ("valid", valid))]
            m.d.sync += [new.eq(old) for new, old in zip(later, (packet, applies, valid), strict=True)]
            packet, applies, valid = later
        m.d.sync += self.o.valid.eq(valid)
        actions = []
        for number, action in enumerate(self.table.all_actions):
            taken = hit & (self._action(word) == number) if number < len(self.table.actions) else 0
            actions.append((action, applies & (taken | ~hit if action is self.table.default else taken)))
        apply_actions(m, packet, self.o.payload, actions, self._arguments(word))
        return m

    # What an entry says

    def _action(self, word):
        return word[1:1 + self.format.action_width]

    def _is_valid(self, word):
        return word[0] & (self._action(word) < len(self.table.actions))

    def _key(self, word):
        return word[self.format.key_low:self.format.key_low + self.format.key_width]

    def _mask(self, word):
        return word[self.format.mask_low:self.format.mask_low + self.format.mask_width]

    def _arguments(self, word):
        values = {}
        for action in self.table.actions:
            low = self.format.arguments_low
            for parameter in action.parameters.fields.values() if action.parameters else ():
                values[id(parameter)] = word[low:low + parameter.width]
                low += parameter.width
        return values

    # The three kinds

    def _hash(self, m, keys, known):
        """Rows from the key's hash (0), words out of RAM (1, 2), comparison (3)."""
        rows = hash_rows(self.table)
        row_bits = ceil_log2(rows)
        hashed = lower(key_hash(self.table), value_in(self.i.payload), known)
        now, addresses = Signal(self.format.key_width), [Signal(row_bits, name=f"row_{k}") for k in range(BANKS)]
        m.d.sync += [now.eq(Cat(keys)), addresses[0].eq(hashed[:row_bits]), addresses[1].eq(hashed[32 - row_bits:])]
        is_used = Signal()
        m.d.sync += is_used.eq(self.i.valid)
        words = self._rams(m, addresses, is_used, rows, WAYS)
        for number in range(2):
            later = Signal.like(now, name=f"key_{number}")
            m.d.sync += later.eq(now)
            now = later
        return self._chosen(m, first_of([self._is_valid(word) & (self._key(word) == now) for word in words]), words)

    def _index(self, m, keys, known):
        """The word out of RAM (0, 1)."""
        word, = self._rams(m, [keys[0]], self.i.valid, self.table.size, 1)
        return self._is_valid(word), word

    def _ternary(self, m, keys, known):
        """Which entries match (0), the first of them (1)."""
        entries = Array(Signal(self.format.width, name=f"entry_{k}") for k in range(self.table.size))
        port, key = self.entries, Cat(keys)
        m.d.comb += [port.ready.eq(1), port.done.eq(port.request & ~self.i.valid)]
        with m.If(port.done):
            m.d.sync += port.found.eq(entries[port.place])
            with m.If(port.write):
                m.d.sync += entries[port.place].eq(port.word)
        matches, kept = Signal(self.table.size), [Signal.like(word, name=f"kept_{k}") for k, word in enumerate(entries)]
        m.d.sync += [
            matches.eq(Cat(self._is_valid(word) & (((key ^ self._key(word)) & self._mask(word)) == 0)
                           for word in entries)),
            # What matched is what counts, even if it is overwritten in the next cycle.
            *(later.eq(word) for later, word in zip(kept, entries, strict=True)),
        ]
        return self._chosen(m, first_of(list(matches)), kept)

    def _chosen(self, m, hits, words):
        """Register whether one of ``hits`` (of which at most one is 1) is set, and its word."""
        hit, chosen = Signal(), Signal(self.format.width)
        m.d.sync += [
            hit.eq(Cat(hits).any()),
            chosen.eq(reduce(or_, (Mux(mine, word, 0) for mine, word in zip(hits, words, strict=True)))),
        ]
        return hit, chosen

    def _rams(self, m, addresses, is_used, rows, ways) -> list[Value]:
        """A block RAM for each bank and way, read at the bank's address. Returns their words, 2 cycles later.

        The control plane uses the ports in a cycle in which ``is_used`` is low; the port's outputs are registered.
        """
        port, scrubbed = self.entries, Signal(range(rows + 1))
        row_bits, way_bits, busy = ceil_log2(rows), ceil_log2(ways), Signal(3)
        row, way, bank = (port.place[way_bits:way_bits + row_bits], port.place[:way_bits],
                          port.place[way_bits + row_bits:])
        starts = Signal()
        m.d.comb += [
            port.ready.eq(scrubbed == rows),
            starts.eq(port.request & port.ready & ~is_used & ~busy.any()),
            port.done.eq(Mux(port.write, starts, busy[2])),
        ]
        m.d.sync += busy.eq(Cat(starts & ~port.write, busy[:2]))  # a read's word: in RAM's output, in ours, found
        with m.If(~port.ready):
            m.d.sync += scrubbed.eq(scrubbed + 1)
        words = []
        for number, address in enumerate(addresses):
            for place in range(ways):
                name = f"ram_{number}_{place}"
                m.submodules[name] = memory = Memory(shape=self.format.width, depth=rows, init=[])
                write, read = memory.write_port(), memory.read_port()
                word = Signal(self.format.width, name=f"word_{number}_{place}")
                is_mine = (way == place if ways > 1 else 1) & (bank == number if len(addresses) > 1 else 1)
                m.d.comb += [
                    write.addr.eq(Mux(port.ready, row, scrubbed)),
                    write.data.eq(Mux(port.ready, port.word, 0)),
                    write.en.eq(~port.ready | starts & port.write & is_mine),
                    read.addr.eq(Mux(is_used, address, row)),
                ]
                m.d.sync += word.eq(read.data)
                with m.If(busy[1] & is_mine):
                    m.d.sync += port.found.eq(word)
                words.append(word)
        m.d.sync += Assert(port.ready | ~is_used, f"a packet comes to table {self.table.name} before it is empty")
        return words


def runtime_table(table: Table, i_layout: data.StructLayout, o_layout: data.StructLayout) -> RuntimeTable:
    """The component of a table, as :class:`~.pipeline.PipelineCore` asks for it."""
    return RuntimeTable(table, i_layout, o_layout)
