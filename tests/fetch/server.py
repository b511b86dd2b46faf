# SPDX-License-Identifier: MIT
"""A real HTTP server with the habits, good and bad, that a download meets.

usage: server.py LOG [FOLDER]

Prints its port; each request is a line "PATH RANGE IF-RANGE" in LOG. The file of most addresses is
FILE_BYTES long; byte i is (7 i + i / 256 + version) modulo 256. Below /LiquidAI/ it is a hub that
has the files of FOLDER; those with Q8_0 in their name come slowly.
"""
import hashlib
import http.server
import os
import re
import sys
import time

FILE_BYTES = 3 << 20
CUT = 1 << 20


def content(version):
    block = bytearray()
    for high in range(FILE_BYTES // 256):
        block += bytes((7 * low + high + version) & 255 for low in range(256))
    return bytes(block)


FILES = {0: content(0), 1: content(1)}
SHA256 = {v: hashlib.sha256(f).hexdigest() for v, f in FILES.items()}
seen = {}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, headers, body=b"", length=None, chunk=65536, pause=0.0):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        if length is not False:
            self.send_header("Content-Length", str(len(body) if length is None else length))
        self.send_header("Connection", "close")
        self.end_headers()
        for i in range(0, len(body), chunk):
            self.wfile.write(body[i:i + chunk])
            if pause:
                time.sleep(pause)
        self.close_connection = True

    def ranged(self, version=0, cut=None, pause=0.0, extra=None, data=None):
        """The file, or the range that was asked for; with `cut`, at most so many bytes of it."""
        etag = '"v%d"' % version
        data, start, status = data or FILES[version], 0, 200
        headers = {"ETag": etag, "Accept-Ranges": "bytes", **(extra or {})}
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and self.headers.get("If-Range", etag) == etag:
            start, status = int(asked[1]), 206
            if start >= len(data):
                return self.answer(416, {"Content-Range": "bytes */%d" % len(data)})
            headers["Content-Range"] = "bytes %d-%d/%d" % (start, len(data) - 1, len(data))
        body = data[start:]
        self.answer(status, headers, body[:cut], length=len(body), pause=pause)

    def do_GET(self):
        path = self.path.split("?")[0]
        seen[path] = seen.get(path, 0) + 1
        with open(sys.argv[1], "a") as log:
            log.write("%s %s %s\n" % (path, self.headers.get("Range", "-"),
                                      self.headers.get("If-Range", "-")))
        try:
            self.serve(path)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def serve(self, path):
        here = "http://127.0.0.1:%d" % self.server.server_port
        linked = {"X-Linked-Etag": '"%s"' % SHA256[0], "X-Linked-Size": str(FILE_BYTES)}
        if path.startswith("/LiquidAI/"):
            name = os.path.join(sys.argv[2], os.path.basename(path))
            if not os.path.exists(name):
                return self.answer(404, {}, b"nothing here")
            with open(name, "rb") as file:
                data = file.read()
            self.ranged(data=data, pause=0.05 if "Q8_0" in name else 0, extra={
                "X-Linked-Etag": '"%s"' % hashlib.sha256(data).hexdigest(),
                "X-Linked-Size": str(len(data))})
        elif path == "/file.gguf":
            self.ranged()
        elif path == "/plain.gguf":  # knows neither ranges nor ETags
            self.answer(200, {}, FILES[0])
        elif path == "/plain-cut-once.gguf":
            first = seen[path] == 1
            self.answer(200, {}, FILES[0][:CUT if first else None], length=FILE_BYTES)
        elif path == "/cut.gguf":  # every connection breaks after a while
            self.ranged(cut=CUT)
        elif path == "/cut-linked.gguf":
            self.ranged(cut=CUT, extra=linked)
        elif path == "/dead.gguf":  # breaks once, then brings nothing more
            self.ranged(cut=CUT if seen[path] == 1 else 0)
        elif path == "/changed.gguf":  # breaks, then has another file
            self.ranged(0, cut=CUT) if seen[path] == 1 else self.ranged(1)
        elif path == "/slow.gguf":
            self.ranged(pause=0.05)
        elif path == "/stall.gguf":
            self.answer(200, {"ETag": '"v0"'}, FILES[0][:CUT], length=FILE_BYTES, chunk=CUT,
                        pause=8)
        elif path == "/hub.gguf":  # like a model hub: hash and size, then another address
            self.answer(302, {**linked, "Location": "/file.gguf"})
        elif path == "/hub-wrong.gguf":
            self.answer(302, {"X-Linked-Etag": '"%s"' % SHA256[1], "Location": "/file.gguf"})
        elif path == "/hub-wrong-size.gguf":
            self.answer(302, {"X-Linked-Size": "12", "Location": "/file.gguf"})
        elif path == "/to-network.gguf":
            self.answer(302, {"Location": "http://192.0.2.1/file.gguf"})
        elif path == "/to-disk.gguf":
            self.answer(302, {"Location": "file:///etc/passwd"})
        elif path == "/to-other-host.gguf":
            self.answer(302, {"Location": here.replace("127.0.0.1", "localhost") + "/file.gguf"})
        elif path == "/circle.gguf":
            self.answer(302, {"Location": "/circle.gguf"})
        elif path == "/liar.gguf":  # promises more than it has
            self.answer(200, {}, FILES[0], length=2 * FILE_BYTES)
        elif path == "/huge.gguf":
            self.answer(200, {}, b"GGUF", length=1 << 50)
        elif path == "/unsaid.gguf":  # no length at all
            self.answer(200, {}, FILES[0], length=False)
        elif path == "/wrong-range.gguf":  # the first answer breaks, the second is from elsewhere
            if seen[path] == 1:
                self.ranged(cut=CUT)
            elif seen[path] == 2:
                self.answer(206, {"ETag": '"v0"', "Content-Range": "bytes 5-9/%d" % FILE_BYTES},
                            FILES[0][5:10])
            else:
                self.ranged()
        elif path == "/headers.gguf":
            self.send_response(200)
            self.flush_headers()
            while True:
                self.wfile.write(b"X-Filler: " + b"x" * 1000 + b"\r\n")
        elif path == "/continue.gguf":  # an answer that never begins
            while True:
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
        elif path == "/gzip.gguf":
            self.answer(200, {"Content-Encoding": "gzip"}, FILES[0])
        elif path == "/busy-once.gguf":
            self.answer(503, {}, b"later") if seen[path] == 1 else self.ranged()
        elif path == "/private.gguf":
            self.answer(403, {}, b"no")
        else:
            self.answer(404, {}, b"nothing here")


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_port, flush=True)
server.serve_forever()
