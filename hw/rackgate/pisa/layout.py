# SPDX-License-Identifier: Apache-2.0
"""What a packet looks like inside the gateware of a pipeline."""

import operator
from collections.abc import Callable, Iterable, Mapping

from amaranth.hdl import Const, Value
from amaranth.lib import data

from .declare import Pipeline
from .expr import Field

__all__ = ["MOST_SLOT_BITS", "carried_layout", "control_layout", "fill", "name_of", "packet_layout", "phv_layout",
           "value_in"]

#: Most bits of a payload's slot number.
MOST_SLOT_BITS = 16


def name_of(item: Field) -> str:
    """A field's name in layouts: ``owner__field``."""
    return f"{item.owner.name}__{item.name}"


def control_layout(pipeline: Pipeline) -> data.StructLayout:
    """An access of the control plane to a register, which goes through the pipeline as a packet does.

    Members
    -------
    valid:
        It is one, and no packet: all fields outside this part mean nothing.
    write:
        The word becomes ``data``.
    register:
        Number of the register in :attr:`Pipeline.registers`.
    index:
        Which word. One that the register does not have is read as 0 and not written; so with ``register``.
    data:
        The word, the first field in its lowest bits: what is written, and on the way out of a read what was read.
    """
    registers = pipeline.registers
    return data.StructLayout({
        "valid": 1,
        "write": 1,
        "register": max(1, (len(registers) - 1).bit_length()),
        "index": max([1, *((register.depth - 1).bit_length() for register in registers)]),
        "data": max([1, *(register.width for register in registers)]),
    })


def phv_layout(pipeline: Pipeline, *, slot_bits: int = 4) -> data.StructLayout:
    """The packet header vector: fields, payload, control.

    Parameters
    ----------
    pipeline:
        Every field of its :attr:`Pipeline.phv` is a member, by the name ``owner__field``.
    slot_bits:
        Bits of the number of the slot that keeps a packet's payload, 1 to :data:`MOST_SLOT_BITS`.

    Members
    -------
    payload_slot:
        Where the payload lies; the pipeline does not look at it.
    has_payload:
        The packet, or the copy, has the payload.
    owns_slot:
        The slot is the packet's. Of all that comes of a packet exactly one, the last, owns its slot when it comes out;
        who gets it gives the slot back, after writing the payload if the copy has it.
    control:
        See :func:`control_layout`.
    """
    slot_bits = operator.index(slot_bits)
    if not 1 <= slot_bits <= MOST_SLOT_BITS:
        raise ValueError(f"slot_bits must be 1 to {MOST_SLOT_BITS}, not {slot_bits}")
    return data.StructLayout({
        **{name_of(item): item.width for item in pipeline.phv},
        "payload_slot": slot_bits,
        "has_payload": 1,
        "owns_slot": 1,
        "control": control_layout(pipeline),
    })


def carried_layout(fields: Iterable[Field]) -> data.StructLayout:
    """What goes from stage to stage: some fields, and ``is_control``, set for an access of the control plane."""
    widths = {name_of(item): item.width for item in fields}
    return data.StructLayout({**{name: widths[name] for name in sorted(widths)}, "is_control": 1})


def packet_layout(fields: Iterable[Field], extras: Mapping[str, int]) -> data.StructLayout:
    """What goes from a row of stages to the next: as :func:`carried_layout`, with members that are no fields."""
    return data.StructLayout({**dict(carried_layout(fields).members), **extras})


def fill(target: data.View, *sources: data.View) -> list:
    """Assign each member of ``target`` from the last of ``sources`` that has it, or 0."""
    statements = []
    for name, _ in target.shape():
        holders = [source for source in sources if name in {other for other, _ in source.shape()}]
        statements.append(Value.cast(target[name]).eq(holders[-1][name] if holders else 0))
    return statements


def value_in(view: data.View, fields: Iterable[Field] | None = None) -> Callable[[Field], Value]:
    """A function from a field to its value in ``view``; fields that the view's layout does not have are 0.

    With ``fields`` only those are taken from the view.
    """
    names = {name for name, _ in view.shape()}
    if fields is not None:
        names &= {name_of(item) for item in fields}

    def value_of(item: Field) -> Value:
        name = name_of(item)
        return view[name] if name in names else Const(0, item.width)

    return value_of
