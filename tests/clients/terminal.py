# SPDX-License-Identifier: MIT
"""A program in a terminal, for the tests of lfmctl."""
import fcntl
import os
import pty
import select
import struct
import termios

# seconds; nothing here waits for its end unless it fails
PATIENCE = int(os.environ.get("PATIENCE", 120))


class Terminal:
    """A program in a terminal of its own."""

    def __init__(self, *command, environment):
        self.text = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(command[0], list(command), environment)

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def send(self, text):
        os.write(self.fd, text.encode())

    def read(self):
        if not select.select([self.fd], [], [], PATIENCE)[0]:
            raise AssertionError("silence after: " + repr(self.text))
        try:
            got = os.read(self.fd, 65536)
        except OSError:  # the other side is closed
            got = b""
        self.text += got.decode(errors="replace")
        return got

    def expect(self, *words):
        """Read on until the words have come, in this order; what came before them is forgotten."""
        for word in words:
            while word not in self.text:
                if not self.read():
                    raise AssertionError("%r did not come: %r" % (word, self.text))
            self.text = self.text.split(word, 1)[1]
        return self

    def status(self):
        """Wait for the end."""
        while self.read():
            pass
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
