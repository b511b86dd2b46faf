# SPDX-License-Identifier: MIT
"""What is said, as text while it is said: StartListening with the mode "transcribe", through a
client's own pipe, with the models of this repository and the recordings that they are measured
with.

usage: dbus-run-session -- /usr/bin/python3 test_captions.py DAEMON SOURCE_ROOT
"""
import array
import json
import os
import sys
import tempfile
import threading
import time
import unittest
import wave

import dbus

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from test_bus import (ERROR, NAME, PATH, ROOT, SANITIZED, Client, Daemon, vardict,  # noqa: E402
                      wait_until)

RATE = 16000
FRAME = 320  # samples of 20 ms
# of word errors, over the published ones: what is cut live begins and ends a little elsewhere
TOLERANCE = 0.15


def silence(seconds):
    return bytes(2 * int(seconds * RATE))


def recordings():
    """(text, samples) of each."""
    with open(ROOT + "/models/eval/speech.jsonl") as file:
        for line in file:
            item = json.loads(line)
            with wave.open("%s/models/eval/%s" % (ROOT, item["sound"])) as sound:
                yield item["text"], sound.readframes(sound.getnframes())


def word_errors(wanted, found):
    row = list(range(len(found) + 1))
    for i, a in enumerate(wanted, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(found, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]


class Captions:
    """A session that is written down; its microphone is a pipe of ours."""

    def __init__(self, client, **options):
        self.session = client.session()
        self.microphone, loudspeaker = [fd.take() for fd in self.session.OpenAudio(vardict())]
        os.close(loudspeaker)  # there is nothing to hear
        self.stream = self.session.StartListening(vardict(mode="transcribe", **options)).take()
        self.events = []
        self.thread = threading.Thread(target=self.read_events)
        self.thread.start()

    def read_events(self):
        with os.fdopen(self.stream, "rb") as stream:
            for line in stream:
                self.events.append(json.loads(line))

    def all(self, kind):
        return [e for e in self.events if e["event"] == kind]

    def say(self, data, real_time=False):
        for i in range(0, len(data), 2 * FRAME):
            os.write(self.microphone, data[i:i + 2 * FRAME])
            if real_time:
                time.sleep(FRAME / RATE)

    def hang_up(self):
        os.close(self.microphone)
        self.thread.join()


class Speech(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.daemon = Daemon(self.folder.name)
        self.client = Client()

    def tearDown(self):
        self.client.close()
        self.assertEqual(self.daemon.stop(), 0)
        self.folder.cleanup()

    def refused(self, name, words, function, *arguments):
        with self.assertRaises(dbus.DBusException) as caught:
            function(*arguments)
        self.assertEqual(caught.exception.get_dbus_name(), ERROR + name)
        self.assertIn(words, caught.exception.get_dbus_message())

    def in_order(self, captions):
        """Each turn has one transcript, after its end; what is partial comes before."""
        ended, transcripts = [], []
        for event in captions.events:
            if event["event"] == "speech_end":
                ended.append(event["turn"])
            elif event["event"] == "transcript":
                transcripts.append(event["turn"])
                self.assertIn(event["turn"], ended)
            elif event["event"] == "partial":
                self.assertNotIn(event["turn"], transcripts)
                self.assertTrue(event["text"] or event["tail"])
        self.assertEqual(transcripts, list(range(1, len(transcripts) + 1)))
        self.assertEqual(ended, transcripts)
        self.assertEqual(captions.events[0]["event"], "start")
        self.assertEqual((captions.events[-1]["event"], captions.events[-1]["reason"]),
                         ("done", "stop"))

    def test_recordings_are_written_down_as_their_text_says(self):
        with open(ROOT + "/models/lfmd-talk.json") as file:
            published = json.load(file)["hearing"]["word_errors"] / 100
        captions = Captions(self.client)
        texts = []
        for text, samples in recordings():
            captions.say(silence(0.5) + samples + silence(1))
            texts.append(text)
        captions.hang_up()
        self.in_order(captions)
        heard = " ".join(e["text"] for e in captions.all("transcript"))
        wanted = " ".join(texts)
        rate = word_errors(wanted.split(), heard.split()) / len(wanted.split())
        print("%.0f %% word errors: %r, heard as %r" % (100 * rate, wanted, heard))
        self.assertLessEqual(rate, published + TOLERANCE)

    def test_words_come_while_they_are_spoken(self):
        captions = Captions(self.client)
        text, samples = max(recordings(), key=lambda item: len(item[0]))
        captions.say(silence(0.5) + samples + silence(1), real_time=True)
        captions.hang_up()
        self.in_order(captions)
        kinds = [e["event"] for e in captions.events]
        self.assertLess(kinds.index("partial"), kinds.index("speech_end"))
        partials, final = captions.all("partial"), captions.all("transcript")[0]["text"]
        self.assertGreater(len(partials), 2)
        # What two drafts agreed about is what stands at last, but for its last words.
        agreed = [e["text"] for e in partials if e["text"]]
        self.assertTrue(agreed, partials)
        self.assertTrue(any(final.startswith(words) for words in agreed), (agreed, final))

    def test_who_stops_in_the_middle_of_a_word_gets_what_was_said(self):
        captions = Captions(self.client)
        _, samples = max(recordings(), key=lambda item: len(item[0]))
        captions.say(silence(0.5) + samples[:len(samples) * 3 // 4], real_time=True)
        wait_until(lambda: captions.all("partial"))
        captions.session.StopListening()
        captions.thread.join()
        self.in_order(captions)
        self.assertTrue(captions.all("transcript")[0]["text"])
        self.assertFalse(captions.all("listening")[-1]["on"])
        # Its pipe is gone: the microphone is meant.
        self.refused("NotAllowed", "may not use the microphone", captions.session.StartListening,
                     vardict(mode="transcribe"))

    def test_minutes_of_turns_as_fast_as_the_pipe_takes_them_lose_nothing(self):
        captions = Captions(self.client)
        turns = b"".join(silence(0.3) + samples + silence(0.8) for _, samples in recordings())
        rounds = 8 if SANITIZED else 40
        for i in range(rounds):
            captions.say(turns)
            if i == rounds // 4:
                before = self.daemon.resident_kb()
        after = self.daemon.resident_kb()
        captions.hang_up()
        self.in_order(captions)
        self.assertGreaterEqual(len(captions.all("transcript")), rounds * 6)
        self.assertEqual(captions.all("xrun"), [])
        if not SANITIZED:
            self.assertLess(after, before + 4096)

    def test_who_never_pauses_is_cut_at_a_breath(self):
        captions = Captions(self.client, hangover_ms=dbus.UInt32(2000))
        for _ in range(4):
            captions.say(b"".join(samples + silence(0.1) for _, samples in recordings()))
        captions.say(silence(3))
        captions.hang_up()
        self.in_order(captions)
        lengths = [e["audio_ms"] for e in captions.all("speech_end")]
        self.assertGreater(len(lengths), 2)
        self.assertLessEqual(max(lengths), 21000)

    def test_noise_and_odd_bytes_do_no_harm(self):
        captions = Captions(self.client)
        captions.say(os.urandom(2 * RATE * 3 + 1))
        captions.hang_up()
        self.in_order(captions)

    def test_who_closes_the_stream_is_done(self):
        session = self.client.session()
        microphone, loudspeaker = [fd.take() for fd in session.OpenAudio(vardict())]
        stream = session.StartListening(vardict(mode="transcribe")).take()
        os.read(stream, 1)
        os.close(stream)
        try:
            while True:  # until nobody hears it
                os.write(microphone, silence(0.1))
        except BrokenPipeError:
            pass
        os.close(microphone)
        os.close(loudspeaker)

    def test_what_makes_no_sense_or_is_not_allowed_is_refused(self):
        session = self.client.session()
        self.refused("InvalidArgument", "'source'", session.StartListening,
                     vardict(mode="transcribe", source="radio"))
        self.refused("InvalidArgument", "'monitor'", session.StartListening,
                     vardict(source="monitor"))
        self.refused("NotAllowed", "may not use the microphone", session.StartListening,
                     vardict(mode="transcribe", source="monitor"))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
