# SPDX-License-Identifier: MIT
"""A sound server for tests: PulseAudio with virtual devices."""
import os
import shutil
import subprocess
import tempfile
import time


class Server:
    """PulseAudio: what is played to "room" is heard by "mic"; "spk" is the loudspeaker. home:
    there, with the environment as it is; None: in a home of its own, which becomes that of this
    process too. silent: nobody will listen to it."""

    def __init__(self, home=None, silent=False):
        self.silent = silent
        self.is_ours = home is None
        self.folder = home or tempfile.mkdtemp()
        if self.is_ours:
            os.chmod(self.folder, 0o700)
            os.environ.update(XDG_RUNTIME_DIR=self.folder, HOME=self.folder)
        os.environ.pop("PULSE_SERVER", None)
        with open(self.folder + "/.asoundrc", "w") as file:
            file.write('pcm.!default { type pulse hint { show on description "Pulse" } }\n'
                       "ctl.!default { type pulse }\n")
        self.log = open(self.folder + "/log", "w")
        self.start()

    def spawn(self, *words):
        return subprocess.Popen(words, stdout=self.log, stderr=self.log)

    def start(self):
        self.processes = [self.spawn(
            "pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1",
            "--disable-shm=yes", "--log-target=stderr", "-L", "module-native-protocol-unix",
            "-L", "module-null-sink sink_name=spk rate=48000 channels=2",
            "-L", "module-null-sink sink_name=room rate=48000 channels=2",
            "-L", "module-remap-source source_name=mic master=room.monitor")]
        while subprocess.run(("pactl", "info"), stdout=self.log, stderr=self.log).returncode != 0:
            time.sleep(0.05)
        self.control("set-default-sink", "spk")
        self.control("set-default-source", "mic")
        if self.silent:
            return
        for source in ("mic", "spk.monitor"):  # a null sink that nobody records loses two seconds
            self.processes.append(self.spawn("parec", "--latency-msec=20", "-d", source, "--raw",
                                             "/dev/null"))
        time.sleep(2.5)

    def control(self, *words):
        return subprocess.run(("pactl",) + words, check=True, stdout=subprocess.PIPE,
                              text=True).stdout

    def play(self, path, sink="room"):
        """A WAV file; returns when it is over."""
        subprocess.run(("paplay", "-d", sink, path), check=True)

    def kill(self):
        for process in reversed(self.processes):
            process.kill()
            process.wait()

    def stop(self):
        self.kill()
        self.log.close()
        if self.is_ours:
            shutil.rmtree(self.folder)
