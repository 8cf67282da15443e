# SPDX-License-Identifier: Apache-2.0
"""Hosts of the hardened protocol around a switch, with a clock of their own, for tests."""

from rackgate.fisslock.abi import AGENT_PORT, Message, State
from rackgate.fisslock.effects import Send
from rackgate.fisslock.hardened import lock, pipeline
from rackgate.fisslock.participant import HardenedParticipant
from rackgate_sim.locks.messages import MessageSwitch

__all__ = ["HOSTS", "World"]

HOSTS = (1, 2, 3)


class World:
    """Hosts and a switch; messages are delivered in order, unless ``lose`` says that one is not."""

    def __init__(self, hosts=HOSTS, word=36, locks=8, **options):
        self.switch = MessageSwitch(pipeline(locks, word), lock, hosts)
        self.hosts = {host: HardenedParticipant(host, hosts, **options) for host in hosts}
        self.now = 0.0
        self.up, self.down, self.told, self.sent = [], [], [], []
        self.lose = lambda message: False

    def gather(self, host):
        for effect in self.hosts[host].take():
            if isinstance(effect, Send):
                self.sent.append(Message.from_bytes(effect.payload))
                self.up.append(effect.payload)
            else:
                self.told.append((host, effect))

    def call(self, host, what, *arguments, **options):
        getattr(self.hosts[host], what)(*arguments, now=self.now, **options)
        self.gather(host)

    def settle(self):
        while self.up or self.down:
            if self.up:
                message = self.up.pop(0)
                if not self.lose(Message.from_bytes(message)):
                    self.down += self.switch.send(message, AGENT_PORT)
            else:
                left = self.down.pop(0)
                if not self.lose(Message.from_bytes(left.message)):
                    self.hosts[left.host].receive(left.message, left.to_client, self.now)
                    self.gather(left.host)

    def run(self, seconds):
        end = self.now + seconds
        self.settle()
        while True:
            due = [(host.deadline, number) for number, host in self.hosts.items() if host.deadline is not None]
            if not due or min(due)[0] > end:
                self.now = end
                return
            self.now, number = min(due)
            self.hosts[number].tick(self.now)
            self.gather(number)
            self.settle()

    def do(self, host, what, *arguments, **options):
        self.call(host, what, *arguments, **options)
        self.settle()
        told, self.told = self.told, []
        return told

    def word(self, number=0):
        return tuple(self.switch.model.read("locks", number).values())

    def is_over(self, number=0):
        return self.word(number)[0] == State.FREE and all(host.idle for host in self.hosts.values())
