# SPDX-License-Identifier: Apache-2.0
"""The papers and their headlines: the one place in which published figures of the report stand.

Every figure names where it was published. Figures of this project never stand here: they come from records.
"""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["HEADLINES", "LOSS_CURVE", "LOSS_SOURCE", "PAPERS", "Headline", "Paper"]


@dataclass(frozen=True)
class Paper:
    """A paper: its system's name, its title, who wrote it and where it was published."""

    system: str
    title: str
    authors: str
    venue: str


@dataclass(frozen=True)
class Headline:
    """A published figure, and what measures ours.

    Attributes
    ----------
    key:
        Name in ``--json``, and in the table of our figures.
    paper:
        Key of the paper.
    claim:
        What is claimed, as a phrase.
    figure:
        The published figure with its unit, to be read; "no figure" where the claim has none.
    value:
        The same as a number, if ours is the same measure and may be compared with it; of a range the lower end, and
        ``upper`` the other.
    place:
        Abstract, section or table.
    conditions:
        Of the publication.
    command:
        What measures ours; empty if nothing here can.
    beyond:
        Why nothing here can.
    """

    key: str
    paper: str
    claim: str
    figure: str
    place: str
    conditions: str
    command: str = ""
    value: float | None = None
    upper: float | None = None
    less_is_better: bool = False
    beyond: str = ""


PAPERS: Mapping[str, Paper] = {
    "sabre": Paper("Sabre", "Sabre: Hardware-Accelerated Snapshot Compression for Serverless MicroVMs",
                   "Lazarev, Gohil, Tsai, Anderson, Chitlur, Zhang, Delimitrou", "OSDI 2024"),
    "fisslock": Paper("FissLock", "Fast and Scalable In-network Lock Management Using Lock Fission",
                      "Zhang and others", "OSDI 2024"),
    "accl": Paper("ACCL+", "ACCL+: an FPGA-Based Collective Engine for Distributed Applications",
                  "He and others", "OSDI 2024"),
    "zeronic": Paper("ZeroNIC", "High-throughput and Flexible Host Networking for Accelerated Computing",
                     "Skiadopoulos and others", "OSDI 2024"),
}

_IAA = "Intel IAA of a Sapphire Rapids processor, Firecracker microVMs"
_TOFINO = "Tofino switch, 8 hosts on 100 Gb/s ports, DPDK; against NetLock on the same"
_CONNECTX = "two hosts with EPYC 7502, 100 Gb/s, one flow, MTU 9000; TCP of a ConnectX-6 beside it"

HEADLINES: tuple[Headline, ...] = (
    Headline("sabre-ratio", "sabre", "How much smaller snapshots become, at best", "4.5 times", "abstract", _IAA,
             "rackgate bench sabre", 4.5),
    Headline("sabre-restore", "sabre", "Time saved when memory is restored, at best", "55 %", "abstract",
             f"{_IAA}; against the same restore without compression", "rackgate bench sabre", 55.0),
    Headline("fisslock-median", "fisslock", "Median time to a grant, cut from NetLock's by", "43.0 to 79.1 %",
             "abstract", f"{_TOFINO}; microbenchmarks", "rackgate bench locks", 43.0, 79.1),
    Headline("fisslock-tatp", "fisslock", "TATP transactions a second, over NetLock's", "1.76 times", "abstract",
             _TOFINO, "rackgate bench locks", 1.76),
    Headline("fisslock-tpcc", "fisslock", "TPC-C transactions a second, over NetLock's", "2.28 times", "abstract",
             _TOFINO, "rackgate bench locks", 2.28),
    Headline("fisslock-locks", "fisslock", "Locks that one switch decides on", "more than 1 million", "abstract",
             _TOFINO, "rackgate bench locks", 1e6),
    Headline("accl-bound", "accl", "Collectives against software MPI over RDMA",
             "no figure: 'significant advantages', 'competitive'", "abstract",
             "cluster of Alveo FPGAs on 100 Gb/s; for FPGA and for CPU applications",
             "rackgate bench collectives"),
    Headline("accl-programs", "accl", "New collectives without a new bitstream", "no figure", "abstract",
             "firmware of a soft processor, compiled and loaded", "rackgate bench collectives"),
    Headline("accl-nop", "accl", "A call that does nothing", "235 cycles",
             "logs in the authors' issue tracker (#198, #202), not the paper",
             "940 ns on Alveo U55C at 250 MHz", "rackgate bench collectives", 235.0, less_is_better=True),
    Headline("zeronic-wire", "zeronic", "How much of the wire one TCP flow fills", "96.37 of 100 Gb/s", "Table 2",
             _CONNECTX, "rackgate bench zeronic"),
    Headline("zeronic-cpu", "zeronic", "Processor time of a byte with TCP, by that with ZeroNIC", "5.36 times",
             "Table 2 (123.70 % of a hyperthread at 43.89 Gb/s, 50.70 % at 96.37)", f"{_CONNECTX}; of the receiver",
             "rackgate bench zeronic"),
    Headline("zeronic-copies", "zeronic", "Payload that a processor copies, sent and received", "none", "abstract",
             "buffers of processors and GPUs", "rackgate bench zeronic", 0.0, less_is_better=True),
    Headline("zeronic-redis", "zeronic", "Redis SET, requests a second, over TCP's", "3.71 times", "evaluation",
             "4 clients with 10 requests each, 1 KB to 1 MB, average", "rackgate bench zeronic"),
    Headline("zeronic-nccl", "zeronic", "NCCL broadcast of large messages, over unsplit", "2.66 times", "evaluation",
             "two nodes with a GPU each", beyond="needs GPUs behind the NIC"),
)

#: Speed of one flow by loss at the receiver, in parts of that without: 38.59 Gb/s between two GPUs (Table 3).
LOSS_CURVE: Mapping[float, float] = {0.001: 38.5 / 38.59, 0.01: 37.5 / 38.59, 0.02: 31.5 / 38.59, 0.04: 7.5 / 38.59,
                                     0.1: 0.5 / 38.59}
LOSS_SOURCE = "ZeroNIC's own curve is read by eye off its figure 12, one flow between two GPUs"
