# SPDX-License-Identifier: Apache-2.0
"""The other side of streams under test: `python zeronic_peer.py PORT` sends back what it gets, 4 KiB at a time."""

import sys

from rackgate_host.zeronic.endpoint import Endpoint
from rackgate_host.zeronic.errors import StreamClosed

SIZE = 4096


def main() -> None:
    with Endpoint() as endpoint, endpoint.listen(int(sys.argv[1])) as listener:
        print("listening", flush=True)
        with listener.accept(timeout=60) as connection:
            array = endpoint.allocate(SIZE)
            while True:
                try:
                    connection.post_receive(array).wait(60)
                    connection.post_send(array).wait(60)
                except StreamClosed:
                    break
            connection.shutdown(10)


if __name__ == "__main__":
    main()
