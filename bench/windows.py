# SPDX-License-Identifier: MIT
"""How soon the windows are there, and what the clients hold in memory when nobody uses them.

usage: dbus-run-session -- /usr/bin/python3 bench/windows.py BUILD [N]

On a screen of its own (Xvfb), with the daemon and the models of this repository. Prints of each
client, as the median of N starts (default 5):
  ms   from its start to the first picture of the window on the screen; keys are taken from then on
  MB   5 s later: resident, and of that its own (not shared with other programs)
"""
import mmap
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time

BUILD, N = os.path.abspath(sys.argv[1]), int((sys.argv[2:] + ["5"])[0])
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT + "/tests/ipc")
sys.argv = [sys.argv[0], BUILD + "/daemon/lfmd", ROOT]  # as test_bus.py takes them
from test_bus import Daemon  # noqa: E402

IDLE = 5  # seconds
CLIENTS = {"lfm-assistant": ["assistant/lfm-assistant"], "lfm-captions": ["captions/lfm-captions"],
           "lfm-describe": ["describe/lfm-describe", "--silent", ROOT + "/models/demo.png"],
           "lfm-ask": ["ask-window/lfm-ask", ROOT + "/models/demo.png"],
           "lfm-wyoming": ["wyoming/lfm-wyoming", "--uri", "tcp://127.0.0.1:0"],
           "sd_lfmd": ["speech-dispatcher/sd_lfmd"]}


class Screen:
    """Xvfb keeps it in a file in xwd's format."""

    def __init__(self, folder):
        self.process = subprocess.Popen(["Xvfb", "-displayfd", "1", "-screen", "0", "1000x800x24",
                                         "-fbdir", folder, "-nolisten", "tcp"],
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        os.environ["DISPLAY"] = ":" + self.process.stdout.readline().decode().strip()
        with open(folder + "/Xvfb_screen0", "rb") as file:
            self.pixels = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        header = struct.unpack(">25I", self.pixels[:100])
        # in the bar of a window's title
        self.at = header[0] + 12 * header[19] + header[12] * 20 + 4 * 200

    def is_dark(self):
        return not any(self.pixels[self.at:self.at + 3])


def memory(pid):
    kb = {}
    with open("/proc/%d/smaps_rollup" % pid) as file:
        for line in file:
            words = line.split()
            if words[0].startswith(("Rss", "Private")):
                kb[words[0]] = int(words[1])
    return kb["Rss:"] / 1024, (kb["Private_Clean:"] + kb["Private_Dirty:"]) / 1024


def start(screen, words):
    begun = time.monotonic()
    process = subprocess.Popen([BUILD + "/clients/" + words[0]] + words[1:], stdin=subprocess.PIPE,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if words[0].startswith("speech"):
        process.stdin.write(b"INIT\n")
        process.stdin.flush()
    while screen.is_dark() and words[0].split("/")[0] not in ("wyoming", "speech-dispatcher"):
        if process.poll() is not None:
            raise RuntimeError("%s has ended" % words[0])
        time.sleep(0.0005)
    shown = time.monotonic() - begun
    time.sleep(IDLE)
    kept = memory(process.pid)
    process.terminate()
    process.wait()
    process.stdin.close()
    while not screen.is_dark():
        time.sleep(0.01)
    return 1e3 * shown, *kept


def main():
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(HOME=folder, XDG_CONFIG_HOME=folder, GDK_BACKEND="x11",
                          GSETTINGS_BACKEND="memory", LC_ALL="C.UTF-8", XDG_RUNTIME_DIR=folder)
        screen, daemon = Screen(folder), Daemon(folder)
        for name, words in CLIENTS.items():
            ms, resident, own = map(statistics.median,
                                    zip(*(start(screen, words) for _ in range(N))))
            print("%-14s %s  %5.1f MB, own %5.1f MB" %
                  (name, "%4.0f ms" % ms if ms > 5 else "       ", resident, own),
                  flush=True)
        daemon.stop()
        screen.process.terminate()
        screen.process.wait()


main()
