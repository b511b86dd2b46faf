# SPDX-License-Identifier: MIT
"""Speech on the bus: recordings, texts and a conversation through a client's own pipes, to a real
daemon with a tiny set of models, whose words and sounds mean nothing.

usage: dbus-run-session -- /usr/bin/python3 test_voice.py DAEMON DECODER SOURCE_ROOT
"""
import array
import glob
import json
import math
import os
import random
import sys
import tempfile
import threading
import time
import unittest
import wave

import dbus

DAEMON, DECODER, ROOT = sys.argv[1:4]
sys.argv = [sys.argv[0], DAEMON, ROOT]  # as test_bus.py takes them
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from test_bus import (ERROR, NAME, SANITIZED, Client, Daemon, ask, lines, vardict,  # noqa: E402
                      wait_until)

os.environ["LFMD_SOUND"] = DECODER
RATE_IN, RATE_OUT = 16000, 24000
FRAME = 320  # samples of 20 ms


def tone(seconds, hz=220, level=8000):
    """Something like a voice: harmonics that swell and fade."""
    n = int(seconds * RATE_IN)
    return array.array("h", [int(level * math.sin(math.pi * i / n) *
                                 sum(math.sin(2 * math.pi * hz * k * i / RATE_IN) / k
                                     for k in (1, 2, 3, 5)) / 2)
                             for i in range(n)])


def silence(seconds):
    return array.array("h", bytes(2 * int(seconds * RATE_IN)))


def speech(*parts):
    out = array.array("h")
    for part in parts:
        out.extend(part)
    return out


def only(events, kind):
    return [e for e in events if e["event"] == kind]


class Talk:
    """A listening session whose microphone and loudspeaker are pipes of ours, in real time."""

    def __init__(self, client, keep=False, **options):
        self.session = client.session(keep=keep)
        self.microphone, self.loudspeaker = [fd.take() for fd in self.session.OpenAudio(vardict())]
        self.stream = self.session.StartListening(vardict(**options)).take()
        self.events, self.played, self.levels = [], 0, []
        self.threads = [threading.Thread(target=f) for f in (self.read_events, self.play)]
        for thread in self.threads:
            thread.start()

    def read_events(self):
        with os.fdopen(self.stream, "rb") as stream:
            for line in stream:
                self.events.append(json.loads(line))

    def play(self):
        while True:
            data = os.read(self.loudspeaker, 2 * RATE_OUT // 50)
            if not data:
                return
            self.played += len(data) // 2
            self.levels.append(max(map(abs, array.array("h", data[:len(data) // 2 * 2]))))
            time.sleep(len(data) / 2 / RATE_OUT)

    def say(self, samples):
        """As fast as a microphone would."""
        for i in range(0, len(samples), FRAME):
            os.write(self.microphone, samples[i:i + FRAME].tobytes())
            time.sleep(FRAME / RATE_IN)

    def have(self, kind, n=1):
        wait_until(lambda: len(only(self.events, kind)) >= n or
                   self.events and self.events[-1]["event"] in ("done", "error"))
        found = only(self.events, kind)
        if len(found) < n:
            raise AssertionError("no %s in %s" % (kind, self.events))
        return found[n - 1]

    def stop(self):
        if not self.events or self.events[-1]["event"] not in ("done", "error"):
            self.session.StopListening()
        for thread in self.threads:
            thread.join()
        os.close(self.microphone)
        os.close(self.loudspeaker)
        late = [e for e in self.events if not e.get("usec")]
        if late:
            raise AssertionError("without a time: %s" % late)


class Spoken:
    """A daemon with one model that talks, and what every one of them must do."""
    files = {"vocoder-talk": "audio/vocoder.f16", "tokenizer-talk": "audio/tokenizer.f16"}

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        models = self.folder.name + "/models"
        os.mkdir(models)
        for name, path in {"talk": "vision/tiny_text_f32", "mmproj-talk": "audio/mmproj-tiny_f32",
                           **self.files}.items():
            os.symlink("%s/tests/data/%s.gguf" % (ROOT, path), "%s/%s.gguf" % (models, name))
        self.daemon = Daemon(self.folder.name, models=models)
        self.client = Client()

    def tearDown(self):
        self.client.close()
        if self.daemon.process.poll() is None:
            self.assertEqual(self.daemon.stop(), 0)
        self.folder.cleanup()

    def refused(self, name, words, function, *arguments, **options):
        with self.assertRaises(dbus.DBusException) as caught:
            function(*arguments, **options)
        self.assertEqual(caught.exception.get_dbus_name(), ERROR + name)
        self.assertIn(words, caught.exception.get_dbus_message())

    def recording(self, samples, rate=RATE_IN, channels=1):
        path = self.folder.name + "/recording"
        with wave.open(path, "wb") as file:
            file.setparams((channels, 2, rate, 0, "NONE", ""))
            file.writeframes(samples.tobytes())
        return open(path, "rb")

    def transcribe(self, file, **options):
        with file:
            return lines(self.client.manager.Transcribe(dbus.types.UnixFd(file),
                                                        vardict(**options)))

    def no_more_than(self, resident_kb):
        if not SANITIZED:  # they keep what was freed
            self.assertLess(self.daemon.resident_kb(), resident_kb)

    def failed(self, name, words, events):
        self.assertEqual((events[-1]["event"], events[-1].get("name")), ("error", name), events)
        self.assertIn(words, events[-1]["message"])

    def spoken(self, text, **options):
        with os.fdopen(self.client.manager.Speak(text, vardict(**options)).take(), "rb") as stream:
            return stream.read()

    def test_a_text_becomes_sound(self):
        """The tiny model says nothing to many a sentence, but not to all of them."""
        sounds = [self.spoken("Sentence number %d, with some more words." % i) for i in range(30)]
        self.assertEqual({len(sound) % 2 for sound in sounds}, {0})
        self.assertGreater(max(map(len, sounds)), 0)

    def test_a_turn_is_answered_when_it_has_ended(self):
        talk = Talk(self.client, hangover_ms=dbus.UInt32(600))
        talk.say(speech(silence(0.5), tone(1.5), silence(1.2)))
        start, end = talk.have("speech_start"), talk.have("speech_end")
        self.assertEqual((start["turn"], end["turn"]), (1, 1))
        self.assertLess(abs(end["audio_ms"] - 1800), 500)
        self.assertLess(abs((end["usec"] - start["usec"]) / 1e6 - 2.0), 1.0)
        talk.have("audio_start")
        talk.stop()
        self.assertEqual(talk.events[-1]["event"], "done")
        self.assertGreater(talk.played, 0)

    def test_speech_interrupts(self):
        talk = Talk(self.client)
        talk.say(speech(silence(0.5), tone(1), silence(1)))
        talk.have("audio_start")
        onset = time.monotonic()
        talk.say(tone(1, level=12000))
        interrupted = talk.have("interrupted")
        self.assertEqual(interrupted["turn"], 1)
        self.assertLess(interrupted["usec"] / 1e6 - onset, 0.9)
        self.assertEqual(talk.have("turn_done")["reason"], "interrupted")
        talk.say(silence(1.5))
        self.assertEqual(talk.have("speech_end", 2)["turn"], 2)
        talk.have("audio_start", 2)
        talk.stop()


class Voice(Spoken, unittest.TestCase):
    # --- recordings

    def test_a_recording_is_cut_at_its_pauses(self):
        events = self.transcribe(self.recording(speech(
            silence(1), tone(1.5), silence(1.2), tone(2, 180), silence(1))))
        self.assertEqual((events[0]["event"], events[-1]["event"]), ("start", "done"), events)
        times = [(e["done_ms"], e["total_ms"]) for e in only(events, "progress")]
        self.assertEqual(len(times), 2, events)
        self.assertEqual({total for _, total in times}, {6700})
        self.assertLess(abs(times[0][0] - 2500), 500)
        self.assertLess(abs(times[1][0] - 5700), 500)
        for event in only(events, "segment"):
            self.assertLess(event["start_ms"], event["end_ms"])

    def test_silence_has_no_segments(self):
        events = self.transcribe(self.recording(silence(3)))
        self.assertEqual(events[-1]["text"], "")
        self.assertEqual(only(events, "segment") + only(events, "partial"), [])

    def test_the_place_in_the_file_does_not_matter(self):
        file = self.recording(speech(tone(1), silence(1)))
        file.seek(20000)
        self.assertEqual(self.transcribe(file)[-1]["event"], "done")

    def test_a_long_recording_takes_no_more_memory(self):
        minute = speech(*[part for _ in range(20) for part in (tone(2), silence(1))])
        self.transcribe(self.recording(minute))
        before = self.daemon.resident_kb()
        long = array.array("h")
        for _ in range(5):
            long.extend(minute)
        events = self.transcribe(self.recording(long))
        self.assertEqual(len(only(events, "progress")), 100)
        self.no_more_than(before + 8192)

    def test_what_is_no_recording_is_refused(self):
        transcribe = self.client.manager.Transcribe
        reading, writing = os.pipe()
        for fd in (reading, os.open("/", os.O_RDONLY), os.open("/dev/null", os.O_RDONLY),
                   os.open(DAEMON, os.O_PATH)):
            self.refused("InvalidArgument", "recording", transcribe, dbus.types.UnixFd(fd),
                         vardict())
            os.close(fd)
        os.close(writing)
        empty = self.recording(silence(0))
        self.assertEqual(self.transcribe(empty)[-1]["event"], "done")
        self.refused("InvalidArgument", "'foo'", transcribe, dbus.types.UnixFd(0), vardict(foo=1))
        self.refused("ModelNotFound", "nobody", transcribe, dbus.types.UnixFd(0),
                     vardict(model="nobody"))

    def test_damaged_files_get_a_sentence(self):
        with self.recording(speech(tone(1), silence(1))) as file:
            whole = file.read()
        chance = random.Random(1)
        for i in range(40):
            data = bytearray(whole[:chance.randrange(1, len(whole))] if i % 2 else whole)
            for _ in range(chance.randrange(8)):
                data[chance.randrange(min(len(data), 64))] = chance.randrange(256)
            path = self.folder.name + "/damaged"
            with open(path, "wb") as file:
                file.write(data)
            events = self.transcribe(open(path, "rb"))
            self.assertIn(events[-1]["event"], ("done", "error"))
            if events[-1]["event"] == "error":
                self.assertIn(events[-1]["name"], ("UnsupportedFormat", "InvalidArgument"), events)
        with open(path, "wb") as file:
            file.write(b"This is a letter to my aunt.")
        self.failed("UnsupportedFormat", "not a sound file", self.transcribe(open(path, "rb")))

    def test_a_closed_stream_ends_the_work(self):
        with self.recording(speech(*[tone(2)] * 30)) as file:
            fd = self.client.manager.Transcribe(dbus.types.UnixFd(file), vardict()).take()
        os.close(fd)
        before = self.daemon.descriptors()
        self.assertEqual(self.transcribe(self.recording(tone(1)))[-1]["event"], "done")
        wait_until(lambda: self.daemon.descriptors() <= before)

    # --- texts

    def test_texts_that_cannot_be_spoken_are_refused(self):
        speak = self.client.manager.Speak
        self.refused("InvalidArgument", "no text", speak, "", vardict())
        self.refused("InvalidArgument", "no text", speak, " \n\t", vardict())
        self.refused("InvalidArgument", "limit", speak, "a" * ((1 << 20) + 1), vardict())
        self.refused("ModelNotFound", "nobody", speak, "hello", vardict(model="nobody"))
        self.refused("InvalidArgument", "'priority'", speak, "hello", vardict(priority="high"))

    def test_a_slow_listener_holds_the_work(self):
        fd = self.client.manager.Speak("word " * 4000, vardict()).take()
        time.sleep(1)
        before = self.daemon.resident_kb()
        time.sleep(1)
        self.no_more_than(before + 4096)
        self.assertGreater(len(os.read(fd, 1 << 20)), 0)
        os.close(fd)
        self.assertEqual(self.transcribe(self.recording(tone(1)))[-1]["event"], "done")

    def test_one_client_has_only_so_many(self):
        streams = [self.client.manager.Speak("word " * 4000, vardict()).take()]
        with self.recording(speech(*[tone(2)] * 30)) as file:
            for _ in range(7):
                streams.append(self.client.manager.Transcribe(dbus.types.UnixFd(file),
                                                              vardict()).take())
            self.refused("Busy", "at most 8", self.client.manager.Transcribe,
                         dbus.types.UnixFd(file), vardict())
        for fd in streams:
            os.close(fd)

    # --- conversations

    def test_a_pause_is_no_end(self):
        talk = Talk(self.client, hangover_ms=dbus.UInt32(1000))
        talk.say(speech(silence(0.5), tone(1), silence(0.5), tone(1), silence(0.5), tone(1),
                        silence(2)))
        talk.have("speech_end")
        talk.stop()
        self.assertEqual(len(only(talk.events, "speech_end")), 1, talk.events)

    def test_what_may_be_speech_turns_the_answer_down(self):
        talk = Talk(self.client)
        talk.say(speech(silence(0.5), tone(1), silence(1)))
        talk.have("audio_start")
        talk.say(speech(silence(0.3), tone(0.15, level=12000), silence(0.8)))
        talk.stop()
        self.assertEqual(only(talk.events, "interrupted"), [])
        usual = sorted(talk.levels)[len(talk.levels) // 2]
        self.assertLess(min(talk.levels[5:]), usual / 2)  # at first it fades in
        self.assertGreater(talk.levels[-1], usual / 2)

    def test_half_duplex_is_deaf_while_it_speaks(self):
        talk = Talk(self.client, mode="half-duplex")
        talk.say(speech(silence(0.5), tone(1), silence(1)))
        talk.have("audio_start")
        if not only(talk.events, "audio_end"):
            talk.say(tone(0.4, level=12000))
        talk.stop()
        self.assertEqual(only(talk.events, "interrupted"), [])

    def test_push_to_talk_begins_and_ends_by_command(self):
        talk = Talk(self.client, mode="push")
        talk.have("listening")
        talk.say(tone(0.5))
        self.assertEqual(only(talk.events, "speech_start"), [])
        talk.session.Press()
        talk.say(tone(1))
        talk.session.EndOfTurn()  # nothing more comes from the microphone
        talk.have("audio_start")
        talk.session.Interrupt()
        talk.have("interrupted")
        talk.stop()

    def test_nobody_speaks(self):
        talk = Talk(self.client, max_wait_ms=dbus.UInt32(500))
        talk.say(silence(1))
        talk.have("waited")
        talk.stop()

    def test_noise_and_odd_bytes_do_no_harm(self):
        talk = Talk(self.client)
        chance = random.Random(2)
        for _ in range(50):
            os.write(talk.microphone, chance.randbytes(chance.randrange(1, 4000)))
        talk.stop()
        self.assertEqual(talk.events[-1]["event"], "done")

    def test_a_closed_microphone_ends_the_conversation(self):
        talk = Talk(self.client)
        talk.have("listening")
        os.close(talk.microphone)
        talk.have("done")
        talk.microphone = os.open("/dev/null", os.O_WRONLY)
        talk.stop()

    def test_a_client_that_vanishes_leaves_nothing(self):
        other = Client()
        session = other.session()
        session.OpenAudio(vardict())
        stream = session.StartListening(vardict()).take()
        other.close()
        with os.fdopen(stream, "rb") as file:
            file.read()
        self.assertEqual(self.transcribe(self.recording(tone(1)))[-1]["event"], "done")

    def test_calls_out_of_order_are_refused(self):
        session = self.client.session()
        self.refused("NotAllowed", "lfmctl permissions allow", session.StartListening, vardict())
        for call in (session.StopListening, session.Press, session.EndOfTurn, session.Interrupt):
            self.refused("InvalidArgument", "does not listen", call)
        self.refused("InvalidArgument", "'rate'", session.OpenAudio, vardict(rate=dbus.UInt32(7)))
        session.OpenAudio(vardict())
        self.refused("InvalidArgument", "'mode'", session.StartListening, vardict(mode="loud"))
        self.refused("InvalidArgument", "'hangover_ms'", session.StartListening,
                     vardict(hangover_ms=dbus.UInt32(1 << 31)))
        stream = session.StartListening(vardict()).take()
        session.OpenAudio(vardict())
        self.refused("Busy", "already", session.StartListening, vardict())
        session.Close()
        os.close(stream)

    def test_ten_minutes_as_fast_as_pipes_take_them(self):
        """Speech and silence in turn; the loudspeaker is read by nobody in particular."""
        session = self.client.session()
        microphone, loudspeaker = [fd.take() for fd in session.OpenAudio(vardict())]
        events = []

        def read_events(stream=session.StartListening(vardict()).take()):
            with os.fdopen(stream, "rb") as file:
                events.extend(json.loads(line)["event"] for line in file)

        def play():
            while os.read(loudspeaker, 65536):
                pass

        threads = [threading.Thread(target=f) for f in (read_events, play)]
        for thread in threads:
            thread.start()
        part = speech(tone(1.5), silence(1.5)).tobytes()
        for i in range(200):
            for at in range(0, len(part), 65536):
                os.write(microphone, part[at:at + 65536])
            time.sleep(0.02)  # or turns pass by before anybody looks
            if i == 60:
                before = self.daemon.resident_kb()
        self.no_more_than(before + 8192)
        session.StopListening()
        for thread in threads:
            thread.join()
        os.close(microphone)
        os.close(loudspeaker)
        self.assertEqual(events[-1], "done")
        self.assertGreater(events.count("speech_end"), 150)
        self.assertGreater(events.count("turn_done"), 0)

    # --- who may listen

    def permissions(self):
        return {str(p["program"]): bool(p["allowed"])
                for p in self.client.manager.ListPermissions()}

    def test_programs_are_remembered_up_to_a_number(self):
        manager = self.client.manager
        for i in range(1024):
            manager.SetPermission("microphone", "/usr/bin/%d\n\033" % i, ["allow", "deny"][i % 2])
        self.refused("Busy", "1024", manager.SetPermission, "microphone", "another", "allow")
        manager.SetPermission("microphone", "/usr/bin/7\n\033", "allow")
        manager.SetPermission("microphone", "/usr/bin/8\n\033", "ask")
        manager.SetPermission("microphone", "another", "deny")
        for name, words in (("", "1 to 511"), ("a" * 512, "1 to 511")):
            self.refused("InvalidArgument", words, manager.SetPermission, "microphone", name,
                         "allow")
        self.refused("InvalidArgument", "", manager.SetPermission, "camera", "a", "allow")
        self.refused("InvalidArgument", "", manager.SetPermission, "microphone", "a", "maybe")
        found = self.permissions()
        self.assertEqual(len(found), 1024)
        self.assertTrue(found["/usr/bin/7\n\033"])
        self.assertFalse(found["another"])
        self.assertEqual(self.daemon.stop(), 0)
        self.daemon.start()
        self.assertEqual(self.permissions(), found)

    def test_a_damaged_file_allows_nothing(self):
        self.client.manager.SetPermission("microphone", "good", "allow")
        path, = glob.glob(self.folder.name + "/**/permissions.json", recursive=True)
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        with open(path, "rb") as file:
            whole = file.read()
        bad = [whole[:n] for n in range(0, len(whole) - 1, 7)]
        bad += [b"[]", b"null", b'{"microphone": 5}', b'{"microphone": ["good"]}', b"[" * 100000,
                b'{"microphone": {"a": "true", "b": 1, "c": null, "\xff": true, "%s": true}}' %
                (b"x" * 512),
                whole + b" " * (1 << 20)]
        for data in bad:
            self.assertEqual(self.daemon.stop(), 0)
            with open(path, "wb") as file:
                file.write(data)
            self.daemon.start()
            self.assertEqual(self.permissions(), {}, data[:80])
        self.assertEqual(self.daemon.stop(), 0)
        with open(path, "wb") as file:
            file.write(
                b'{"microphone": {"a": 1, "good": true, "bad": false}, "camera": {"c": true}}')
        self.daemon.start()
        self.assertEqual(self.permissions(), {"good": True, "bad": False})

    def test_nothing_is_silenced_where_nothing_is_said(self):
        self.client.manager.Silence()
        self.refused("InvalidArgument", "'output'", self.client.manager.Speak, "hello",
                     vardict(output="loud"))
        self.refused("InvalidArgument", "'when'", self.client.manager.Speak, "hello",
                     vardict(output="device", when="soon"))

    def test_a_session_that_listens_does_not_move(self):
        talk = Talk(self.client, keep=True)
        talk.have("listening")
        talk.say(speech(silence(0.5), tone(1), silence(1)))
        talk.have("turn_done")
        id, = [str(kept["id"]) for kept in self.client.manager.ListSessions()]
        other = Client()
        self.refused("Busy", "listens for another", other.manager.OpenSession, id, vardict())
        talk.stop()
        path = other.manager.OpenSession(id, vardict())
        self.assertEqual(len(json.loads(other.at(path, NAME + ".Session").History())), 2)
        other.close()

    # --- when it may leave

    def test_it_stays_while_somebody_listens(self):
        with open(self.daemon.config, "a") as file:
            file.write("[daemon]\nidle_exit = 1s\n[engine]\nkeep_alive = 0s\n")
        self.client.manager.Reload()
        talk = Talk(self.client)
        talk.have("listening")
        time.sleep(3)  # nothing is said, and nobody calls
        self.assertIsNone(self.daemon.process.poll())
        talk.say(speech(silence(0.3), tone(1), silence(1)))
        talk.have("turn_done")
        talk.stop()
        talk.session.Close()
        self.client.close()
        self.assertEqual(self.daemon.process.wait(timeout=120), 0)

    def test_text_goes_on_beside_a_conversation(self):
        talk = Talk(self.client)
        talk.say(speech(silence(0.5), tone(1), silence(1)))
        session = self.client.session()
        fd, _ = session.Ask(dbus.Array([vardict(type="text", text="hello")], signature="a{sv}"),
                            vardict(max_tokens=dbus.UInt32(8)))
        self.assertEqual(lines(fd)[-1]["event"], "done")
        talk.have("audio_start")
        talk.stop()


def results(session, **texts):
    """The lines of an Ask of results."""
    parts = [vardict(type="tool_result", id=id, text=text) for id, text in texts.items()]
    return lines(session.Ask(dbus.Array(parts, signature="a{sv}"), vardict())[0])


class Tools(unittest.TestCase):
    """The speaking model of this repository, which turns spoken requests into tool calls."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.daemon = Daemon(self.folder.name)
        self.client = Client()
        self.talk = Talk(self.client, transcripts=True)
        self.session = self.talk.session

    def tearDown(self):
        self.talk.stop()
        self.client.close()
        self.assertEqual(self.daemon.stop(), 0)
        self.folder.cleanup()

    def call(self, clip):
        """The call that comes of a request, once its turn is over. 0 and 1 are about the volume."""
        n = len(only(self.talk.events, "turn_done"))
        request = array.array("h")
        with wave.open("%s/models/eval/speech/%d.wav" % (ROOT, clip)) as file:
            request.frombytes(file.readframes(file.getnframes()))
        self.talk.say(speech(silence(0.3), request, silence(1)))
        self.assertEqual(self.talk.have("turn_done", n + 1)["reason"], "tool_calls")
        return only(self.talk.events, "tool_call")[-1]

    def history(self):
        return json.loads(self.session.History())

    def test_results_are_answered_aloud(self):
        call = self.call(1)
        # Which level it has understood is the model's business.
        self.assertEqual((call["name"], list(call["arguments"])), ("set_volume", ["level"]))
        said = self.talk.played
        ended, = results(self.session, **{call["id"]: '{"ok": true}'})
        self.assertEqual((ended["event"], ended["reason"]), ("done", "spoken"))
        self.assertEqual(self.talk.have("turn_done", 2)["reason"], "stop")
        answer = "".join(e["text"] for e in only(self.talk.events, "text"))
        self.assertIn("volume", answer)
        self.assertEqual({e["turn"] for e in only(self.talk.events, "text")}, {call["turn"]})
        self.assertGreater(self.talk.played, said)
        user, called, result, reply = self.history()
        self.assertEqual({m["spoken"] for m in (user, called, result, reply)}, {True})
        self.assertEqual(user["content"], only(self.talk.events, "transcript")[0]["text"])
        self.assertEqual(called["tool_calls"][0]["id"], call["id"])
        self.assertEqual((result["role"], result["content"]), ("tool", '{"ok": true}'))
        self.assertEqual(reply["content"], answer)

    def test_results_may_be_spoken_over(self):
        call = self.call(1)
        results(self.session, **{call["id"]: '{"ok": true}'})
        self.talk.have("audio_start")
        self.talk.session.Interrupt()
        self.assertEqual(self.talk.have("turn_done", 2)["reason"], "interrupted")
        told = "".join(e["text"] for e in only(self.talk.events, "text"))
        self.assertTrue(told.startswith(self.history()[-1]["content"]))

    def test_results_may_come_after_other_turns(self):
        call = self.call(1)
        other = self.call(0)
        ended, = results(self.session, **{call["id"]: '{"ok": true}'})
        self.assertEqual(ended["reason"], "spoken")
        self.assertEqual(self.talk.have("turn_done", 3)["reason"], "stop")
        answer = "".join(e["text"] for e in only(self.talk.events, "text"))
        self.assertIn("volume", answer)
        self.assertEqual([m["role"] for m in self.history()],
                         ["user", "assistant"] * 2 + ["tool", "assistant"])
        self.assertEqual(results(self.session, **{call["id"]: "{}"})[-1]["name"], "InvalidArgument")
        self.assertEqual(results(self.session, **{other["id"]: "{}"})[-1]["reason"], "spoken")
        self.talk.have("turn_done", 4)

    def test_results_wait_until_the_user_has_spoken(self):
        call = self.call(1)
        speaks = threading.Thread(target=self.talk.say, args=(speech(tone(1.5), silence(1)),))
        speaks.start()
        self.talk.have("speech_start", 2)
        results(self.session, **{call["id"]: '{"ok": true}'})
        speaks.join()
        self.assertNotEqual(self.talk.have("turn_done", 3)["reason"], "interrupted")
        self.assertEqual([m["role"] for m in self.history()],
                         ["user", "assistant"] * 2 + ["tool", "assistant"])

    def test_a_turn_is_done_after_its_words(self):
        self.call(1)
        told = [e["usec"] for e in self.talk.events if e["event"] in ("transcript", "turn_done")]
        self.assertEqual(told, sorted(told))

    def test_nobody_has_to_answer_a_call(self):
        self.call(1)
        call = self.call(0)
        self.assertEqual([m["role"] for m in self.history()], ["user", "assistant"] * 2)
        events = ask(self.session, "Hello!")
        self.assertEqual(events[-1]["reason"], "stop")
        self.assertEqual([m.get("spoken") for m in self.history()], [True] * 4 + [None] * 2)
        self.assertIn(call["id"], json.dumps(self.history()))

    def test_what_is_no_result_is_refused(self):
        call = self.call(1)
        for texts, name, words in (({"call_9_0": "{}"}, "InvalidArgument", "'call_9_0'"),
                                   ({call["id"]: "word " * 5000}, "ContextFull", "context holds")):
            events = results(self.session, **texts)
            self.assertEqual((events[-1]["event"], events[-1].get("name")), ("error", name), events)
            self.assertIn(words, events[-1]["message"])
        self.assertEqual(results(self.session, **{call["id"]: "{}"})[-1]["reason"], "spoken")
        self.talk.have("turn_done", 2)
        self.assertEqual(results(self.session, **{call["id"]: "{}"})[-1]["name"], "InvalidArgument")

    def test_without_who_listens_results_are_answered_in_writing(self):
        call = self.call(1)
        self.talk.stop()
        events = results(self.session, **{call["id"]: '{"ok": true}'})
        self.assertEqual(events[-1]["reason"], "stop")
        self.assertIn("volume", "".join(e["text"] for e in only(events, "text")))
        self.assertNotIn("spoken", self.history()[-1])
        self.talk = Talk(self.client)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
