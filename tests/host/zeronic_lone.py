# SPDX-License-Identifier: Apache-2.0
"""One simulated host whose peer is the test: it writes each frame of the wire by hand, good or not."""

import dataclasses
import json
import os
import random
import select
import socket
import subprocess
import sys
import time

from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from rackgate_host.zeronic.hosts import Hosts, HostsConfig

A, B = "10.77.0.1", "10.77.0.2"


class LoneHost:
    """Host b, and the end of its wire."""

    def __init__(self, directory, device="model:zeronic"):
        directory.mkdir(parents=True, exist_ok=True)
        self.hosts = Hosts(directory)
        near, self.wire = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        told, tell = os.pipe()
        config = dataclasses.replace(HostsConfig(device).of_host("b", directory), wire=near.fileno(), ready=tell,
                                     parent=os.getpid())
        self.process = subprocess.Popen([sys.executable, "-m", "rackgate_host.zeronic.daemon", config.to_json()],
                                        pass_fds=[near.fileno(), tell])
        near.close()
        os.close(tell)
        with os.fdopen(told, "rb") as pipe:
            assert json.loads(pipe.read()) == {}

    def receive(self, seconds=10.0):
        """The next frame of the host, or None."""
        if not select.select([self.wire], [], [], seconds)[0]:
            return None
        return Ether(self.wire.recv(1 << 16))

    def close(self):
        self.wire.close()
        self.process.terminate()
        self.process.wait(20)


class Peer:
    """A connection of A to a port of the host, as its peer sees it. Positions count bytes of data."""

    def __init__(self, host, port, sport, isn, timestamps=True, window=60000):
        self.host, self.port, self.sport, self.isn, self.window = host, port, sport, isn, window
        self.timestamps = timestamps
        self.clock = 1000  # of the timestamps that are sent
        self.echo = 0
        self.received = b""
        self.irs = None
        self.acked = 0  # positions that the host has acknowledged
        self.last = None
        self.rng = random.Random(sport)

    def frame(self, position, payload=b"", flags="PA", clock=None, ip=None, ack=None, **fields):
        """A frame whose first byte of data is at ``position``."""
        options = fields.pop("options", [])
        if self.timestamps:
            options = [*options, ("NOP", None), ("NOP", None),
                       ("Timestamp", (self.clock if clock is None else clock, self.echo))]
        number = (0 if self.irs is None else self.irs + 1 + len(self.received)) if ack is None else ack
        tcp = TCP(sport=self.sport, dport=self.port, seq=(self.isn + 1 + position) % (1 << 32),
                  ack=number % (1 << 32), flags=flags, window=self.window, options=options, **fields)
        return Ether(dst="02:00:00:00:77:02", src="02:00:00:00:77:01") / IP(
            src=A, dst=B, id=self.rng.getrandbits(16), **(ip or {})) / tcp / payload

    def send(self, *arguments, **fields):
        self.push(self.frame(*arguments, **fields))

    def push(self, frame):
        self.host.wire.send(bytes(frame))

    def connect(self, syns=1):
        """Shake hands; the SYN is sent so many times."""
        for _ in range(syns):
            self.send(-1, flags="S", ack=0, options=[("MSS", 1460), ("SAckOK", b"")])
        while self.irs is None:
            answer = self.take()
            assert answer is not None, "no SYN-ACK comes"
        self.send(0, flags="A")
        return self

    def take(self, seconds=10.0):
        """The next frame of the host for this connection: in-order data is kept, what is acknowledged noted."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            frame = self.host.receive(left)
            if frame is None or TCP not in frame or frame[TCP].dport != self.sport:
                continue
            tcp = frame[TCP]
            assert bytes(frame) == bytes(_recomputed(frame)), "a checksum is wrong"
            payload = bytes(tcp.payload)[:frame[IP].len - 20 - 4 * tcp.dataofs]
            self.echo = next((value[0] for name, value in tcp.options if name == "Timestamp"), self.echo)
            if "S" in tcp.flags:
                self.irs = tcp.seq
            elif payload and (tcp.seq - self.irs - 1) % (1 << 32) == len(self.received):
                self.received += payload
            if "A" in tcp.flags and "R" not in tcp.flags:
                self.acked = (tcp.ack - self.isn - 1) % (1 << 32)
            self.last = tcp
            return frame
        return None

    def until(self, event, what, seconds=20.0):
        """Take frames until ``event()`` holds."""
        end = time.monotonic() + seconds
        while not event():
            assert time.monotonic() < end, f"not within {seconds} s: {what}"
            self.take(0.2)

    def until_acked(self, position):
        self.until(lambda: self.acked == position, f"acknowledgement of {position} bytes")


def _recomputed(frame):
    again = Ether(bytes(frame))
    del again[IP].chksum, again[TCP].chksum
    return again
