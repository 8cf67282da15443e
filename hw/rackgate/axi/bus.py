# SPDX-License-Identifier: Apache-2.0
"""AXI4 and AXI4-Lite as signatures of five streams (ARM IHI 0022)."""

import operator

from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["AXI4LiteSignature", "AXI4Signature", "Burst", "Response"]


class Burst(enum.Enum, shape=2):
    """AxBURST encodings (IHI 0022 A3.4.1)."""

    FIXED = 0
    INCR = 1
    WRAP = 2


class Response(enum.Enum, shape=2):
    """RRESP and BRESP encodings (IHI 0022 A3.4.4)."""

    OKAY = 0
    EXOKAY = 1
    SLVERR = 2
    DECERR = 3


class AXI4Signature(wiring.Signature):
    """AXI4 as the initiator sees it: five streams ``aw``, ``w``, ``b``, ``ar``, ``r``.

    Our initiators send INCR bursts of full-width beats that never cross a 4 KiB boundary.

    Parameters
    ----------
    addr_width:
        Address bits, 12 to 64.
    data_width:
        Data bits: 32, 64, 128, 256 or 512.
    id_width:
        Transaction id bits, at least 1.
    """

    def __init__(self, *, addr_width: int = 40, data_width: int = 64, id_width: int = 4):
        self.addr_width = operator.index(addr_width)
        self.data_width = operator.index(data_width)
        self.id_width = operator.index(id_width)
        if not 12 <= self.addr_width <= 64:
            raise ValueError(f"addr_width must be 12 to 64, not {addr_width}")
        if self.data_width not in (32, 64, 128, 256, 512):
            raise ValueError(f"data_width must be 32, 64, 128, 256 or 512, not {data_width}")
        if self.id_width < 1:
            raise ValueError(f"id_width must be at least 1, not {id_width}")
        address = data.StructLayout({"addr": self.addr_width, "id": self.id_width, "len": 8, "size": 3, "burst": Burst})
        write = data.StructLayout({"data": self.data_width, "strb": self.data_width // 8, "last": 1})
        done = data.StructLayout({"id": self.id_width, "resp": Response})
        read = data.StructLayout({"data": self.data_width, "id": self.id_width, "resp": Response, "last": 1})
        super().__init__({
            "aw": Out(stream.Signature(address)),
            "w": Out(stream.Signature(write)),
            "b": In(stream.Signature(done)),
            "ar": Out(stream.Signature(address)),
            "r": In(stream.Signature(read)),
        })

    def __eq__(self, other):
        return (isinstance(other, AXI4Signature) and self.addr_width == other.addr_width
                and self.data_width == other.data_width and self.id_width == other.id_width)

    def __repr__(self):
        return f"AXI4Signature(addr_width={self.addr_width}, data_width={self.data_width}, id_width={self.id_width})"


class AXI4LiteSignature(wiring.Signature):
    """AXI4-Lite as the initiator sees it, 32-bit data.

    Parameters
    ----------
    addr_width:
        Address bits, 3 to 64.
    """

    def __init__(self, *, addr_width: int = 12):
        self.addr_width = operator.index(addr_width)
        if not 3 <= self.addr_width <= 64:
            raise ValueError(f"addr_width must be 3 to 64, not {addr_width}")
        address = data.StructLayout({"addr": self.addr_width})
        write = data.StructLayout({"data": 32, "strb": 4})
        super().__init__({
            "aw": Out(stream.Signature(address)),
            "w": Out(stream.Signature(write)),
            "b": In(stream.Signature(data.StructLayout({"resp": Response}))),
            "ar": Out(stream.Signature(address)),
            "r": In(stream.Signature(data.StructLayout({"data": 32, "resp": Response}))),
        })

    def __eq__(self, other):
        return isinstance(other, AXI4LiteSignature) and self.addr_width == other.addr_width

    def __repr__(self):
        return f"AXI4LiteSignature(addr_width={self.addr_width})"
