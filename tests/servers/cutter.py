"""A proxy that cuts connections after so many bytes: what a bad line does to a transfer."""

import contextlib
import re
import socket
import threading
from collections.abc import Iterator


class Cutter:
    """Relays a port of the loopback; cuts the connection each time that a mark is reached, then relays on.

    Attributes:
        port: where it listens.
        downloaded: bytes that the server has sent, in all.
        uploaded: bytes that the client has sent, in all.
        down_marks: counts of downloaded bytes at which the line is cut, ascending.
        up_marks: the same of uploaded bytes.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.downloaded = self.uploaded = 0
        self.down_marks: list[int] = []
        self.up_marks: list[int] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                pair = (client, server)
                threading.Thread(target=self._relay, args=(client, server, pair, True), daemon=True).start()
                threading.Thread(target=self._relay, args=(server, client, pair, False), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket, pair: tuple[socket.socket, ...], up: bool) -> None:  # noqa: FBT001
        with contextlib.suppress(OSError):
            while data := source.recv(16384):
                if self._is_cut(len(data), up=up):
                    break
                sink.sendall(data)
        for end in pair:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _is_cut(self, count: int, *, up: bool) -> bool:
        with self._lock:
            if up:
                self.uploaded += count
                total, marks = self.uploaded, self.up_marks
            else:
                self.downloaded += count
                total, marks = self.downloaded, self.down_marks
            if marks and total >= marks[0]:
                marks.pop(0)
                return True
            return False


@contextlib.contextmanager
def cutter(address: str) -> Iterator[Cutter]:
    """A proxy in front of an address such as http://127.0.0.1:9000/acme or localhost:9000."""
    found = Cutter(int(re.findall(r":(\d+)", address)[0]))
    yield found
    found.close()
