# SPDX-License-Identifier: Apache-2.0
"""The packet streams of a device on a simulated board, which come and go at the board's Ethernet port."""

__all__ = ["plug"]


def plug(device, board, received=bytes):
    """Have packets of ``device`` come and go at the pins of ``board``; ``received`` is done to those that come.

    Frames at the port have at least 60 bytes.
    """
    device.transport.push = lambda stream, packet: board.send(packet)
    device.transport.pop = lambda stream: received(board.frames.popleft()) if board.frames else None
    return device
