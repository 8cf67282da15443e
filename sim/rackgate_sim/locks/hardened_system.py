# SPDX-License-Identifier: Apache-2.0
"""One lock of the hardened protocol as a system to explore: its switch, its hosts, a network that misbehaves.

The switch is the pipeline's reference model, the hosts are the very participants that users run. A state has the
lock's word, every host, the messages under way, where each task is in its program, and how much harm the network may
still do. Steps of switch and hosts are remembered, so that each is computed once. A host has few states, which many of
the system's have in common: they have numbers, so that states are quickly compared.
"""

from typing import Any

from rackgate.fisslock.abi import Message, Mode, Type
from rackgate.fisslock.abi import State as LockState
from rackgate.fisslock.record import Role

from .hardened_state import HOLDING, LOCK, Global
from .hardened_steps import HardenedSteps

__all__ = ["HardenedSystem"]

X = Mode.EXCLUSIVE
_TASK_STATES = ("idle", "waiting", "holding", "done")


class HardenedSystem(HardenedSteps):
    """The system of a configuration, and what must be true of its states. Its parameters are those of the steps."""

    def exclusion(self, state: Global) -> str | None:
        """I1: a task that holds exclusively holds alone."""
        modes = [task.mode for task, (at, _) in zip(self.tasks, state.tasks, strict=True)
                 if at == HOLDING]
        return "two tasks hold the lock, one of them exclusively" if X in modes and len(modes) > 1 else None

    def one_agent(self, state: Global) -> str | None:
        """I2: at most one host knows itself to be the agent, and the switch knows it too.

        While it renews the epoch, the switch may be one epoch ahead.
        """
        at, agent, count, epoch = self.word(state.word)
        for place, number in enumerate(state.hosts):
            view = self.view(place, number)
            role, mine, mode, seen, known = view[:5]
            if role == Role.OPEN:
                renewed = view[9] and self.epochs_from(mine, epoch) == 1
                if at == LockState.FREE or agent != place + 1 or epoch != mine and not renewed:
                    return f"host {place + 1} is the agent of epoch {mine}, the switch has {agent} of {epoch}"
                if (mode == X) != (at == LockState.EXCLUSIVE):
                    return f"host {place + 1} and the switch disagree on the mode"
                if (known > count or seen >> count) and not renewed:  # I4
                    return f"host {place + 1} has seen more grants than the switch has made"
        return None

    def word_is_legal(self, state: Global) -> str | None:
        """I3: a free lock has no agent, no count and no holder; an exclusive one no count."""
        at, agent, count, _ = self.word(state.word)
        if at == LockState.FREE and (agent or count or any(where == HOLDING for where, _ in state.tasks)):
            return "the lock is free, but has an agent, a count or a holder"
        if at != LockState.FREE and not agent or at == LockState.EXCLUSIVE and count:
            return "the lock is held, but has no agent, or is exclusive and has a count"
        return None

    def holders_are_current(self, state: Global) -> str | None:
        """A task that holds exclusively does so in the switch's epoch, so tokens of exclusive holders differ and grow,
        and are larger than those of readers before them. One that holds since an earlier epoch is known to the agent,
        who thus does not end his agentship.
        """
        at, agent, _, epoch = self.word(state.word)
        for place, number in enumerate(state.hosts):
            for task, mode, since, attempt in self.view(place, number)[5]:
                gone = self.epochs_from(since, epoch)
                if (mode == X) != (at == LockState.EXCLUSIVE) or gone < 0 or gone and mode == X:
                    return f"task {task} holds since epoch {since}, the switch is in {epoch}"
                if gone:
                    known = self.view(agent - 1, state.hosts[agent - 1])
                    if known[0] != Role.OPEN or ((place + 1, task), attempt) not in known[10]:
                        return f"task {task} holds since epoch {since}, and the agent in {epoch} does not know"
        return None

    def bypasses_are_bounded(self, state: Global) -> str | None:
        """I7."""
        most = self.configuration.bypasses
        if most is not None and any(count > most for count, _ in state.passed):
            return f"more than {most} shared grants went past an exclusive request"
        return None

    @property
    def invariants(self) -> tuple[Any, ...]:
        """All of them."""
        return (self.exclusion, self.one_agent, self.word_is_legal, self.holders_are_current,
                self.bypasses_are_bounded)

    def good_end(self, state: Global) -> bool:
        """I5, I6: it is over, and the lock is free.

        A request that comes late, when its task is through, may be granted, and that grant be lost: the switch is left
        with an agent that knows nothing of it. The next request finds that out, so one is made then.
        """
        return self.is_over(state) and self.word(state.word)[0] == LockState.FREE

    def describe(self, state: Global) -> str:
        """A state in words, for traces."""
        at, agent, count, epoch = self.word(state.word)
        lines = [f"switch: {LockState(at).name} agent {agent} count {count} epoch {epoch}"]
        lines += [f"task {number}: {_TASK_STATES[at]}" for number, (at, _) in enumerate(state.tasks)]
        for place, number in enumerate(state.hosts):
            host = self.participants[place]
            host.thaw(self._frozen[number])
            lines.append(f"host {place + 1}: {host.records.get(LOCK)} armed {host.armed}")
        for link, messages in state.under_way:
            for message in messages:
                lines.append(f"{'to' if link.down else 'from'} host {link.host}: {describe(message)}")
        return "\n".join(lines)


def describe(message: bytes) -> str:
    """A message in words."""
    content = Message.from_bytes(message)
    return f"{Type(content.type).name} {content[1:]}"
