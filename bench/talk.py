# SPDX-License-Identifier: MIT
"""How quickly a conversation answers, and falls silent when somebody speaks, through a client's own
pipes.

usage: scripts/with-daemon BUILD /usr/bin/python3 bench/talk.py RECORDING.wav [N]

RECORDING: 16-bit mono, a question of some seconds. Plays it in real time N times (default 10),
waits for the answer, then speaks into it. Prints medians and the slowest, in milliseconds:
  first_sound   the turn was seen to have ended -> the first sample was handed out
  first_sound_at_once  the same where the turn ends by command, so that nothing of it was done ahead
  ducked        the first loud 10 ms of the second question -> what is read of the loudspeaker is
                turned down (85 ms lie in the pipe); where it plays evenly, as random weights do
  interrupt     the same -> the answer was cut off
"""
import array
import json
import os
import statistics
import sys
import threading
import time
import wave

import dbus

NAME, PATH = "org.lfmd.Assistant1", "/org/lfmd/Assistant1"
LOUD = 500  # of a sample, on the average of 10 ms


def level(samples):
    return sum(map(abs, samples)) / len(samples)


class Talk:
    def __init__(self, bus, rate, **options):
        manager = dbus.Interface(bus.get_object(NAME, PATH), NAME + ".Manager")
        path = manager.CreateSession(dbus.Dictionary({}, signature="sv"))
        self.session = dbus.Interface(bus.get_object(NAME, path), NAME + ".Session")
        sound = dbus.Dictionary({"rate": dbus.UInt32(rate)}, signature="sv")
        self.rate, self.events, self.levels = rate, [], []
        self.microphone, self.loudspeaker = [fd.take() for fd in self.session.OpenAudio(sound)]
        self.stream = self.session.StartListening(dbus.Dictionary(options, signature="sv")).take()
        for function in (self.read, self.play):
            threading.Thread(target=function, daemon=True).start()

    def read(self):
        with os.fdopen(self.stream) as stream:
            for line in stream:
                self.events.append(json.loads(line))

    def play(self):
        while data := os.read(self.loudspeaker, 480):
            self.levels.append((time.monotonic(), level(array.array("h", data))))
            time.sleep(len(data) / 2 / 24000)

    def find(self, kind):
        return next((e for e in self.events if e["event"] == kind), None)

    def say(self, samples, until=None):
        """As fast as a microphone would; ends early with an event of this kind."""
        begin, frame = time.monotonic(), self.rate // 100
        for i in range(0, len(samples), frame):
            os.write(self.microphone, samples[i:i + frame].tobytes())
            time.sleep(max(0, begin + (i + frame) / self.rate - time.monotonic()))
            if until and self.find(until):
                return

    def ducked(self, begin):
        before = statistics.median(value for at, value in self.levels if begin - 0.2 < at < begin)
        return [at for at, value in self.levels if at >= begin and value < before / 2][:1]


def main():
    with wave.open(sys.argv[1]) as file:
        rate = file.getframerate()
        question = array.array("h", file.readframes(file.getnframes()))
    frame = rate // 100
    onset = next(i for i in range(0, len(question), frame) if level(question[i:i + frame]) > LOUD)
    silence = array.array("h", bytes(2 * 5 * rate))
    found = {"first_sound": [], "first_sound_at_once": [], "ducked": [], "interrupt": []}
    for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 10):
        talk = Talk(dbus.bus.BusConnection(dbus.bus.BusConnection.TYPE_SESSION), rate)
        while not talk.find("listening"):
            time.sleep(0.01)
        talk.say(question)
        talk.say(silence, "audio_start")
        if start := talk.find("audio_start"):
            found["first_sound"].append(start["after_ms"])
            time.sleep(0.3)
            begin = time.monotonic()
            talk.say(question[onset:], "interrupted")
            if cut := talk.find("interrupted"):
                found["interrupt"].append(cut["usec"] / 1e3 - begin * 1e3)
                found["ducked"] += [(at - begin) * 1e3 for at in talk.ducked(begin)]
        talk.session.Close()
        talk = Talk(dbus.bus.BusConnection(dbus.bus.BusConnection.TYPE_SESSION), rate, mode="push")
        while not talk.find("listening"):
            time.sleep(0.01)
        talk.session.Press()
        talk.say(question)
        talk.session.EndOfTurn()
        talk.say(silence, "audio_start")
        if start := talk.find("audio_start"):
            found["first_sound_at_once"].append(start["after_ms"])
        talk.session.Close()
    for name, values in found.items():
        if values:
            print(json.dumps({"what": name, "n": len(values),
                              "median_ms": round(statistics.median(values)),
                              "slowest_ms": round(max(values))}))


if __name__ == "__main__":
    main()
