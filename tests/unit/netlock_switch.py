# SPDX-License-Identifier: Apache-2.0
"""NetLock's switch, configured, for tests that speak in messages."""

from rackgate.netlock.abi import PORT, Message, Op
from rackgate.netlock.pipeline import LOCAL, PARTITIONS, SERVER, lock, pipeline
from rackgate.netlock.placement import uniform
from rackgate_sim.locks.messages import MessageSwitch

SERVER_HOST = 9


def configure(model, slices, server=SERVER_HOST):
    """Write a placement, and one server for all locks, as the control plane does."""
    for number in range(PARTITIONS):
        model.tables["servers"].insert(number, SERVER, host=server)
    for one in slices:
        for name, fields in one.registers.items():
            model.write(name, one.index, **fields)
        model.tables["locks"].insert(one.lock, LOCAL, index=one.index)


class Bench:
    """A switch with locks of numbers 0 and up. Each call returns what leaves, as (host, to client, message)."""

    def __init__(self, locks=2, slots=3, hosts=(1, 2, 3, 4, SERVER_HOST)):
        self.switch = MessageSwitch(pipeline(locks=locks, slots=slots), lock, hosts)
        configure(self.switch.model, uniform(range(locks), slots))
        self.passes = 0

    def send(self, op, mode=0, client=1, task=0, lock=0, timestamp=0, flags=0):
        content = Message(op, mode, client, task, lock, timestamp, flags).pack()
        self.passes = 0

        def count(_packet):
            self.passes += 1

        return [(host, to_client, Message.unpack(message))
                for host, to_client, message in self.switch.send(content, PORT, client, count)]

    def acquire(self, mode, client, task=0, **more):
        return self.send(Op.ACQUIRE, mode, client, task, **more)

    def release(self, mode, client, task=0, **more):
        return self.send(Op.RELEASE, mode, client, task, **more)

    def read(self, name, index=0):
        return self.switch.model.read(name, index)

    def queued(self, index=0):
        bounds = self.read("bounds", index)
        return bounds["right"] - bounds["left"] + 1 - self.read("spaces", index)["empty"]
