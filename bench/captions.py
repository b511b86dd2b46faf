# SPDX-License-Identifier: MIT
"""How soon a word is shown that was spoken: captions of recordings through a client's own pipe.

usage: scripts/with-daemon BUILD /usr/bin/python3 bench/captions.py LIST.jsonl [N]

LIST: objects {"sound": FILE, "text": WORDS}, one a line (models/eval/speech.jsonl). Plays each
recording in real time N times (default 3) and prints medians and the slowest, in milliseconds, of
sentences that are written down without an error:
  last word     the end of the speech -> the first partial text that has all of the words
  any word      the end of the word, by its share of the letters -> the first that has it, and
                those before it
  sentence      the end of the speech -> its transcript (600 ms of it are the silence that ends
                a turn)
A negative time: it was recognised before it was over.
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
FRAME_SECONDS = 0.01
LOUD = 0.05  # of the loudest 10 ms: speech


def level(samples):
    return sum(map(abs, samples)) / max(len(samples), 1)


class Recording:
    def __init__(self, path, text):
        with wave.open(path) as file:
            self.rate = file.getframerate()
            self.samples = array.array("h", file.readframes(file.getnframes()))
        self.frame = int(self.rate * FRAME_SECONDS)
        self.words = text.split()
        levels = [
            level(self.samples[i:i + self.frame]) for i in range(0, len(self.samples), self.frame)
        ]
        loud = [i for i, one in enumerate(levels) if one > LOUD * max(levels)]
        self.begin, self.end = loud[0] * FRAME_SECONDS, (loud[-1] + 1) * FRAME_SECONDS

    def ends(self):
        """Of each word, in seconds: an estimate, but for the last."""
        letters = [len(word) for word in self.words]
        return [
            self.begin + (self.end - self.begin) * sum(letters[:i + 1]) / sum(letters)
            for i in range(len(letters))
        ]


def caption(manager, bus, recording):
    """(events, time of the first sample): events have the time they came in `at`."""
    session = dbus.Interface(
        bus.get_object(NAME, manager.CreateSession(dbus.Dictionary({}, signature="sv"))),
        NAME + ".Session")
    sound = dbus.Dictionary({"rate": dbus.UInt32(recording.rate)}, signature="sv")
    microphone, loudspeaker = [fd.take() for fd in session.OpenAudio(sound)]
    os.close(loudspeaker)
    stream = os.fdopen(
        session.StartListening(dbus.Dictionary({"mode": "transcribe"}, signature="sv")).take())
    events = []

    def read():
        for line in stream:
            events.append(dict(json.loads(line), at=time.monotonic()))

    reader = threading.Thread(target=read)
    reader.start()
    silence = array.array("h", bytes(2 * recording.rate))
    samples = silence + recording.samples + silence
    begin = time.monotonic()
    for i in range(0, len(samples), recording.frame):
        time.sleep(max(0, begin + (i + recording.frame) / recording.rate - time.monotonic()))
        os.write(microphone, samples[i:i + recording.frame].tobytes())
    os.close(microphone)
    reader.join()
    session.Close()
    return events, begin + 1


def report(name, seconds):
    print("%-10s %4d: median %5.0f ms, slowest %5.0f ms" % (
        name, len(seconds), 1000 * statistics.median(seconds), 1000 * max(seconds)))


def main():
    path, n = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    bus = dbus.SessionBus()
    manager = dbus.Interface(bus.get_object(NAME, PATH), NAME + ".Manager")
    last, every, sentence, n_wrong = [], [], [], 0
    with open(path) as file:
        items = [json.loads(line) for line in file]
    recordings = [
        Recording(os.path.join(os.path.dirname(path), item["sound"]), item["text"])
        for item in items
    ]
    for recording in recordings * n:
        events, start = caption(manager, bus, recording)
        transcripts = [e for e in events if e["event"] == "transcript"]
        if [e["text"].split() for e in transcripts] != [recording.words]:
            n_wrong += 1
            continue
        shown = [((e["text"] + e["tail"]).split(), e["at"]) for e in events
                 if e["event"] == "partial"]
        shown.append((recording.words, transcripts[0]["at"]))
        delays = [
            next(at for words, at in shown
                 if words[:i + 1] == recording.words[:i + 1]) - start - end
            for i, end in enumerate(recording.ends())
        ]
        every += delays
        last.append(delays[-1])
        sentence.append(transcripts[0]["at"] - start - recording.end)
    print("%d sentences, %d of them written down with errors and left out" %
          (len(recordings) * n, n_wrong))
    if every:
        report("last word", last)
        report("any word", every)
        report("sentence", sentence)


main()
