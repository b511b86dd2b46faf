# SPDX-License-Identifier: MIT
"""The real speech-dispatcher with sd_lfmd as its only module and a PulseAudio of the test's own, spoken
to by spd-say and by the client module that Orca uses; the real daemon with the speaking model of this
repository.

usage: dbus-run-session -- /usr/bin/python3 test_speech_dispatcher.py SD_LFMD DAEMON SOURCE_ROOT
"""
import array
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest

MODULE, DAEMON, ROOT = sys.argv[1:4]
sys.argv = [sys.argv[0], DAEMON, ROOT] + sys.argv[4:]  # as test_bus.py takes them
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "ipc"))
from test_bus import Daemon, wait_until  # noqa: E402

RATE = 24000
VOICE = "lfmd-talk-q8_0/US_female"
SPEECHD = all(shutil.which(name) for name in ("speech-dispatcher", "spd-say", "pulseaudio", "parec"))
try:
    import speechd
except ImportError:
    speechd = None


def run(*command, **more):
    return subprocess.run(command, check=True, capture_output=True, text=True, **more).stdout


class Room:
    """A loudspeaker, and what comes out of it."""

    def __init__(self, folder):
        runtime = folder + "/runtime"
        os.mkdir(runtime, 0o700)
        os.environ.update(XDG_RUNTIME_DIR=runtime, HOME=folder)
        os.environ.pop("PULSE_SERVER", None)
        self.log = open(folder + "/pulse", "w")
        self.server = subprocess.Popen(
            ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no",
             "--disable-shm=yes", "-L", "module-native-protocol-unix", "-L",
             "module-null-sink sink_name=spk rate=%d channels=1" % RATE], stderr=self.log)
        while subprocess.run(["pactl", "info"], capture_output=True).returncode:
            if self.server.poll() is not None:
                raise RuntimeError("pulseaudio ended: %d" % self.server.returncode)
            time.sleep(0.02)
        self.recorder = subprocess.Popen(
            ["parec", "-d", "spk.monitor", "--format=s16ne", "--rate=%d" % RATE, "--channels=1",
             "--latency-msec=5"], stdout=subprocess.PIPE)
        self.sound, self.times = array.array("h"), []
        self.thread = threading.Thread(target=self.record)
        self.thread.start()

    def record(self):
        while data := os.read(self.recorder.stdout.fileno(), 480):
            self.sound.frombytes(data[:len(data) & ~1])
            self.times.append((len(self.sound), time.monotonic()))

    def loud_since(self, start, level=1000):
        return [i for i in range(start, len(self.sound)) if abs(self.sound[i]) > level]

    def wait_loud(self, start):
        at = start
        while True:
            end = len(self.sound)
            if any(abs(x) > 1000 for x in self.sound[at:end]):
                return
            at = end
            time.sleep(0.005)

    def close(self):
        self.recorder.terminate()
        self.recorder.wait()
        self.thread.join()
        self.recorder.stdout.close()
        self.server.terminate()
        self.server.wait()
        self.log.close()


class Server:
    """speech-dispatcher with a configuration of its own."""

    def __init__(self, folder, module_conf=""):
        self.folder = folder
        conf = folder + "/speechd"
        os.makedirs(conf + "/modules")
        os.makedirs(folder + "/logs")
        with open(conf + "/speechd.conf", "w") as file:
            file.write('LogLevel 5\nDefaultVolume 100\nSymbolsPreproc "char"\n'
                       'AudioOutputMethod "pulse"\nAddModule "lfmd" "%s" "lfmd.conf"\n'
                       'DefaultModule lfmd\n' % MODULE)
        shutil.copy(ROOT + "/clients/speech-dispatcher/lfmd.conf", conf + "/modules/lfmd.conf")
        with open(conf + "/modules/lfmd.conf", "a") as file:
            file.write(module_conf)
        self.socket = folder + "/speechd.sock"
        os.environ.update(SPEECHD_ADDRESS="unix_socket:" + self.socket)
        self.output = open(folder + "/logs/output", "w")
        self.process = subprocess.Popen(
            ["speech-dispatcher", "-s", "-C", conf, "-S", self.socket, "-L", folder + "/logs", "-t",
             "0", "-P", folder + "/speechd.pid", "-l", "5", "-m", os.path.dirname(MODULE)],
            stdout=self.output, stderr=self.output)
        while not os.path.exists(self.socket):
            if self.process.poll() is not None:
                raise RuntimeError(self.log())
            time.sleep(0.02)

    def log(self):
        text = ""
        for name in sorted(os.listdir(self.folder + "/logs")):
            with open(self.folder + "/logs/" + name, errors="replace") as file:
                text += "--- %s\n%s" % (name, file.read())
        return text

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.output.close()


if __name__ == "__main__" and len(sys.argv) > 3 and sys.argv[3] == "try":
    folder = tempfile.mkdtemp()
    room = Room(folder)
    daemon = Daemon(folder)
    server = Server(folder)
    try:
        exec(open(sys.argv[4]).read())
    finally:
        server.close()
        if "-v" in sys.argv:
            print(server.log())
        daemon.stop()
        room.close()
