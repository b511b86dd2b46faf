# SPDX-License-Identifier: MIT
"""lfm-wyoming with the real daemon and the models of this repository, spoken to byte by byte as the
protocol has it, and with the Python package "wyoming", which is what Home Assistant uses.

usage: dbus-run-session -- /usr/bin/python3 test_wyoming.py LFM_WYOMING DAEMON DECODER SOURCE_ROOT
       dbus-run-session -- /usr/bin/python3 test_wyoming.py LFM_WYOMING DAEMON DECODER SOURCE_ROOT
       package FOLDER

The second form fetches the package into FOLDER, once; where that cannot be done it says why and
ends with 77, which is a skipped test.
"""
import audioop
import json
import os
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import unittest
import wave

BRIDGE, DAEMON, DECODER, ROOT = sys.argv[1:5]
MODE, PACKAGE = (sys.argv[5:7] + [None, None])[:2]
TESTS = sys.argv[6:] if MODE == "only" else []
VERSION = "1.10.2"
sys.argv = [sys.argv[0], DAEMON, ROOT]  # as test_bus.py takes them
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "ipc"))
from test_bus import Daemon, wait_until  # noqa: E402

os.environ["LFMD_SOUND"] = DECODER
INTENTS = ROOT + "/data/home-assistant.json"


class Bridge:
    """lfm-wyoming, listening at a free port and at a socket."""

    def __init__(self, folder, *options):
        self.path = folder + "/socket"
        where = ("--uri", "tcp://127.0.0.1:0", "--uri", "unix://" + self.path)
        self.process = subprocess.Popen((BRIDGE,) + where + options, stderr=subprocess.PIPE,
                                        text=True)
        self.port = int(re.search(r"tcp://127\.0\.0\.1:(\d+)$",
                                  self.process.stderr.readline()).group(1))
        assert self.process.stderr.readline() == "Listening on unix://%s\n" % self.path

    def stop(self):
        self.process.terminate()
        rest = self.process.stderr.read()
        self.process.stderr.close()
        return self.process.wait(), rest


class Peer:
    """A program that is connected."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self.socket.connect(address if isinstance(address, str) else ("127.0.0.1", address))
        self.file = self.socket.makefile("rb")

    def send(self, kind, data=None, payload=b"", inline=None):
        head = {"type": kind, "version": VERSION}
        body = json.dumps(data, ensure_ascii=False).encode() if data is not None else b""
        if inline is not None:
            head["data"] = inline
        if body:
            head["data_length"] = len(body)
        if payload:
            head["payload_length"] = len(payload)
        self.socket.sendall(json.dumps(head).encode() + b"\n" + body + payload)

    def read(self):
        """(type, data, payload), or None at the end."""
        line = self.file.readline()
        if not line:
            return None
        head = json.loads(line)
        data = head.get("data", {})
        if head.get("data_length"):
            data.update(json.loads(self.file.read(head["data_length"])))
        return head["type"], data, self.file.read(head.get("payload_length", 0))

    def until(self, *kinds):
        """All events up to the first of one of these kinds."""
        events = []
        while not events or events[-1][0] not in kinds:
            event = self.read()
            if event is None:
                raise AssertionError("the end, after %s" % events)
            events.append(event)
        return events

    def close(self):
        self.file.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Case(unittest.TestCase):
    options = ()

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.daemon = Daemon(self.folder.name)
        self.bridge = Bridge(self.folder.name, *self.options)

    def tearDown(self):
        status, rest = self.bridge.stop()
        self.assertEqual((status, rest), (0, ""))
        self.assertFalse(os.path.exists(self.bridge.path))
        if self.daemon.process.poll() is None:
            self.assertEqual(self.daemon.stop(), 0)
        self.folder.cleanup()

    def peer(self):
        return Peer(self.bridge.port)

    def refused(self, peer, code, words):
        """An error, and then the end."""
        data = peer.until("error")[-1][1]
        self.assertEqual(data["code"], code, data)
        self.assertRegex(data["text"], words)
        self.assertIsNone(peer.read())

    def alive(self):
        with self.peer() as peer:
            peer.send("ping", {"text": "still there?"})
            self.assertEqual(peer.read()[:2], ("pong", {"text": "still there?"}))


def sound(rate=16000, width=2, channels=1):
    """The recording of the README's demo, in another format."""
    with wave.open(ROOT + "/models/demo.wav") as file:
        samples = file.readframes(file.getnframes())
        samples, _ = audioop.ratecv(samples, 2, 1, file.getframerate(), rate, None)
    samples = audioop.lin2lin(samples, 2, width)
    if width == 1:
        samples = audioop.bias(samples, 1, 128)
    return audioop.tostereo(samples, width, 1, 1) if channels == 2 else samples


def say(peer, samples, piece=2000, start=True, **form):
    form = {"rate": 16000, "width": 2, "channels": 1, **form}
    if start:
        peer.send("audio-start", form)
    for at in range(0, len(samples), piece):
        peer.send("audio-chunk", form, samples[at:at + piece])
    peer.send("audio-stop", {"timestamp": None})


class Served(Case):
    def test_what_is_there_is_told(self):
        with Peer(self.bridge.path) as peer:
            peer.send("describe")
            kind, info, _ = peer.read()
        self.assertEqual(kind, "info")
        for domain, models in ("asr", "models"), ("tts", "voices"), ("handle", "models"):
            program, = info[domain]
            for artifact in [program] + program[models]:
                self.assertTrue(artifact["name"] and artifact["description"] and
                                artifact["installed"])
                self.assertEqual(set(artifact["attribution"]), {"name", "url"})
            self.assertTrue(all(model["languages"] == ["en"] for model in program[models]))
        self.assertEqual(info["asr"][0]["models"][0]["name"], "lfmd-talk-q8_0")
        self.assertEqual(info["tts"][0]["voices"][0]["name"], "lfmd-talk-q8_0")
        self.assertIn("lfmd-core-q8_0", [model["name"] for model in info["handle"][0]["models"]])
        self.assertEqual([info[domain] for domain in ("intent", "wake", "mic", "snd")], [[]] * 4)

    def test_speech_becomes_text_in_every_format(self):
        with self.peer() as peer:
            for form in ({}, {"rate": 48000, "channels": 2}, {"width": 4},
                         {"rate": 22050, "width": 3}):
                peer.send("transcribe", {"language": "en", "name": None})
                say(peer, sound(**form), 4008, **form)
                events = peer.until("transcript-stop", "error")
                self.assertEqual([e[0] for e in events],
                                 ["transcript-start", "transcript-chunk", "transcript",
                                  "transcript-stop"], events)
                self.assertEqual(events[1][1]["text"], events[2][1]["text"])
                self.assertEqual(events[2][1]["text"], "who are you")
            # Eight bits are enough to be taken, not to be understood; nothing comes before the
            # first chunk.
            say(peer, sound(8000, 1), start=False, rate=8000, width=1)
            self.assertEqual(peer.until("transcript-stop", "error")[-1][0], "transcript-stop")
            say(peer, b"")
            self.assertEqual([e[:2] for e in peer.until("transcript-stop", "error")],
                             [("transcript-start", {}), ("transcript", {"text": ""}),
                              ("transcript-stop", {})])

    def heard(self, events):
        """Seconds of sound that are between its start and its stop."""
        self.assertEqual((events[0][0], events[-1][0]), ("audio-start", "audio-stop"), events[-1])
        form = {"rate": 24000, "width": 2, "channels": 1}
        n = 0
        for kind, data, payload in events[:-1]:
            self.assertEqual(data, {**form, "timestamp": n * 1000 // 24000})
            self.assertEqual(kind == "audio-chunk", len(payload) > 0)
            self.assertEqual(len(payload) % 2, 0)
            n += len(payload) // 2
        self.assertEqual(events[-1][1], {"timestamp": n * 1000 // 24000})
        return n / 24000

    def test_text_becomes_speech(self):
        with self.peer() as peer:
            lengths = []
            for words in "hello", "dinner is ready and the table is laid":
                peer.send("synthesize", {"text": words, "voice": {"name": "lfmd-talk"}})
                lengths.append(self.heard(peer.until("audio-stop", "error")))
            self.assertGreater(lengths[0], 0.2)
            self.assertGreater(lengths[1], lengths[0])
            peer.send("synthesize", {"text": "..."})
            self.assertEqual(self.heard(peer.until("audio-stop", "error")), 0)

    def test_text_that_comes_in_pieces_is_spoken_as_it_comes(self):
        with self.peer() as peer:
            peer.send("synthesize-start", {"voice": {"language": "en"}})
            for piece in "Good mor", "ning. The time is", " ten":
                peer.send("synthesize-chunk", {"text": piece})
            events = [peer.read(), peer.read()]  # the first sentence, before the second is whole
            self.assertEqual([e[0] for e in events], ["audio-start", "audio-chunk"])
            peer.send("synthesize-chunk", {"text": ". "})
            # for servers that know no pieces
            peer.send("synthesize", {"text": "Good morning. The time is ten. "})
            peer.send("synthesize-stop")
            events += peer.until("audio-stop", "error")
            self.assertGreater(self.heard(events), 0.5)
            self.assertEqual(peer.read(), ("synthesize-stopped", {}, b""))

    def test_a_sentence_is_answered_as_the_answer_comes(self):
        with self.peer() as peer:
            context = {"conversation_id": "kitchen", "more": [1]}
            peer.send("transcript", {"text": "who are you", "context": context})
            events = peer.until("handled-stop", "error")
        self.assertEqual(events[0][:2], ("handled-start", {"context": context}))
        answer = "".join(data["text"] for kind, data, _ in events if kind == "handled-chunk")
        self.assertIn("lfmd", answer)
        self.assertEqual(events[-2][:2], ("handled", {"text": answer, "context": context}))

    def test_a_conversation_goes_on_over_connections(self):
        with subprocess.Popen(("dbus-monitor", "member=CreateSession"), stdout=subprocess.PIPE,
                              text=True) as monitor:
            while "NameLost" not in monitor.stdout.readline():
                pass  # it is a monitor from then on
            for context in ({"conversation_id": "a"}, {"conversation_id": "a"},
                            {"conversation_id": "b"}, None):
                with self.peer() as peer:
                    peer.send("transcript", {"text": "hello", "context": context})
                    self.assertEqual(peer.until("handled-stop", "error")[-2][0], "handled")
            monitor.terminate()
            self.assertEqual(monitor.stdout.read().count("member=CreateSession"), 3)

    def test_what_nobody_said_is_not_handled(self):
        with self.peer() as peer:
            peer.send("transcript", {"text": " ... "})
            self.assertEqual(peer.read()[:2], ("not-handled", {}))
            peer.send("recognize", {"text": "set a timer for ten minutes"})
            self.assertEqual(peer.read()[:2], ("not-recognized", {}))
            # the model calls a tool that is not there
            peer.send("transcript", {"text": "set a timer for ten minutes"})
            self.assertEqual(peer.read()[0], "not-handled")


class Intents(Case):
    options = ("--intents", INTENTS)

    def test_a_request_becomes_an_intent(self):
        with self.peer() as peer:
            peer.send("describe")
            info = peer.read()[1]
            self.assertEqual(info["intent"][0]["models"], info["handle"][0]["models"])
            self.assertFalse(info["handle"][0]["supports_handled_streaming"])
            peer.send("transcript",
                      {"text": "set a timer for ten minutes", "context": {"conversation_id": "x"}})
            self.assertEqual(peer.read()[:2],
                             ("intent", {"name": "HassStartTimer",
                                         "context": {"conversation_id": "x"},
                                         "entities": [{"name": "minutes", "value": 10}]}))
            peer.send("recognize", {"text": "set the volume to 30 percent"})
            self.assertEqual(peer.read()[:2],
                             ("intent", {"name": "HassSetVolume",
                                         "entities": [{"name": "volume_level", "value": 30}]}))
            peer.send("recognize", {"text": "who are you"})
            self.assertEqual(peer.read()[0], "not-recognized")
            peer.send("transcript", {"text": "who are you"})
            self.assertEqual(peer.read()[0], "handled")


class Hostile(Case):
    def test_what_is_no_event_is_refused(self):
        lines = {
            b"GET / HTTP/1.1\r\n\r\n": "not JSON",
            b"[1]\n": "no object",
            b"{}\n": "'type'",
            b'{"type": 5}\n': "'type'",
            b'{"type": "ping", "data": 5}\n': "'data'",
            b'{"type": "ping", "data_length": -1}\n': "-1",
            b'{"type": "ping", "data_length": 1.5}\n': "whole number",
            b'{"type": "ping", "data_length": 99999999999999999999}\n': "may be 0 to 2097152",
            b'{"type": "ping", "payload_length": 1048577}\n': "may be 0 to 1048576",
            b'{"type": "ping", "data_length": 3}\n{"a': "not JSON: it ends too early",
            b'{"type": "ping", "data_length": 4}\nnull': "not JSON",
            b'{"type": "\xff"}\n': "not JSON",
            b'{"type": "' + b"a" * 70000: "longer",
            b'{"type": "ping", "data": ' + b'{"a":' * 50 + b"1" + b"}" * 51 + b"\n": "nesting",
        }
        for line, words in lines.items():
            with self.subTest(line[:40]), self.peer() as peer:
                peer.socket.sendall(line)
                self.refused(peer, "InvalidArgument", words)
        self.alive()

    def test_what_cannot_be_done_is_said(self):
        form = {"rate": 16000, "width": 2, "channels": 1}
        cases = [
            ("InvalidArgument", "before audio-stop", [("audio-stop", {})]),
            ("InvalidArgument", "'rate'", [("audio-start", {**form, "rate": "16000"})]),
            ("InvalidArgument", "'channels'", [("audio-start", {**form, "channels": 0})]),
            ("InvalidArgument", "'width'", [("audio-start", {**form, "width": 8})]),
            ("InvalidArgument", "changes",
             [("audio-start", form), ("audio-chunk", {**form, "rate": 8000}, b"ab")]),
            ("InvalidArgument", "3 bytes", [("audio-chunk", form, b"abc")]),
            ("ModelNotFound", "nobody",
             [("transcribe", {"name": "nobody"}), ("audio-chunk", form, b"ab"), ("audio-stop",)]),
            ("ModelNotFound", "nobody",
             [("synthesize", {"text": "a", "voice": {"name": "nobody"}})]),
            ("InvalidArgument", "'text'", [("synthesize", {"text": 5})]),
            ("UnsupportedFormat", "ssml",
             [("synthesize", {"text": "<speak/>", "text_format": "ssml"})]),
            ("InvalidArgument", "synthesize-start", [("synthesize-chunk", {"text": "a"})]),
            ("InvalidArgument", "synthesize-start", [("synthesize-stop",)]),
            ("InvalidArgument", "'text'", [("transcript",)]),
            ("InvalidArgument", "128 bytes",
             [("transcript", {"text": "a", "context": {"conversation_id": "x" * 129}})]),
        ]
        for code, words, events in cases:
            with self.subTest(events), self.peer() as peer:
                for event in events:
                    peer.send(*event)
                self.refused(peer, code, words)
        self.alive()

    def test_what_is_unknown_is_dropped(self):
        with self.peer() as peer:
            peer.send("select-program", {"name": "lfmd"})
            peer.send("detect", {"names": ["x"]}, b"bytes", inline={"a": 1})
            peer.send("ping", inline={"text": "inline"})
            self.assertEqual(peer.read()[:2], ("pong", {"text": "inline"}))
            peer.send("ping", {"text": "after"}, inline={"text": "before"})
            self.assertEqual(peer.read()[:2], ("pong", {"text": "after"}))

    def test_events_come_in_any_pieces(self):
        with self.peer() as peer:
            for byte in (b'{"type": "ping", "data_length": 16}\n'
                         b'{"text": "gr\xc3\xbc"}{"type": "ping"}\n'):
                peer.socket.sendall(bytes([byte]))
            self.assertEqual(peer.read()[:2], ("pong", {"text": "grü"}))
            self.assertEqual(peer.read()[:2], ("pong", {"text": None}))

    def test_one_that_closes_its_side_gets_its_answer(self):
        with self.peer() as peer:
            peer.send("synthesize", {"text": "hello"})
            peer.socket.shutdown(socket.SHUT_WR)
            self.assertEqual(peer.until("audio-stop", "error")[-1][0], "audio-stop")
            self.assertIsNone(peer.read())

    def test_those_that_leave_amid_cost_nothing(self):
        before = len(os.listdir("/proc/%d/fd" % self.bridge.process.pid))
        for i in range(12):  # the daemon serves eight calls of one program
            peer = Peer(self.bridge.port if i % 2 else self.bridge.path)
            if i % 4 < 2:
                peer.send("synthesize", {"text": "one sentence after the other. " * 40})
                peer.read()
            else:
                peer.send("transcript",
                          {"text": "hello", "context": {"conversation_id": "x%d" % i}})
            if i % 3 == 0:  # reset
                peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
        with self.peer() as peer:
            peer.send("synthesize", {"text": "hello"})
            self.assertEqual(peer.until("audio-stop", "error")[-1][0], "audio-stop")
        wait_until(lambda: len(os.listdir("/proc/%d/fd" % self.bridge.process.pid)) == before)

    def test_one_that_reads_nothing_does_not_fill_the_memory(self):
        with self.peer() as peer:
            peer.send("synthesize",
                      {"text": "one two three four five six seven eight nine ten. " * 60})
            peer.read()
            self.alive()
            with open("/proc/%d/status" % self.bridge.process.pid) as file:
                kb = int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))
            if not self.sanitized():
                self.assertLess(kb, 16000)
            self.assertEqual(peer.until("audio-stop", "error")[-1][0], "audio-stop")

    def sanitized(self):
        with open(BRIDGE, "rb") as file:
            return b"__asan_init" in file.read()

    def test_so_many_at_a_time_and_no_more(self):
        peers = [self.peer() for _ in range(8)]
        for peer in peers:
            peer.send("ping")
            self.assertEqual(peer.read()[0], "pong")
        with self.peer() as late:
            self.refused(late, "Busy", "connected already")
        peers.pop().close()
        for peer in peers:
            peer.send("ping")
            self.assertEqual(peer.read()[0], "pong")

        def is_let_in():
            with self.peer() as peer:
                peer.send("ping")
                return peer.read()[0] == "pong"

        wait_until(is_let_in)
        for peer in peers:
            peer.close()


class Trouble(Case):
    def test_a_daemon_that_is_not_there_is_missed_until_it_comes(self):
        self.daemon.stop()
        for event in (("describe",), ("transcript", {"text": "hello"}),
                      ("synthesize", {"text": "hello"})):
            with self.peer() as peer:
                peer.send(*event)
                self.refused(peer, "Io", "lfmd cannot be reached")
        self.daemon.start()
        with self.peer() as peer:
            peer.send("transcript", {"text": "hello"})
            self.assertEqual(peer.until("handled-stop", "error")[-2][0], "handled")

    def test_a_daemon_that_dies_is_told_and_its_successor_taken(self):
        context = {"conversation_id": "long"}
        with self.peer() as peer:
            peer.send("transcript", {"text": "hello", "context": context})
            peer.until("handled-stop")
            os.kill(self.daemon.process.pid, signal.SIGSTOP)
            peer.send("transcript", {"text": "hello", "context": context})
            self.daemon.stop(signal.SIGKILL)
            self.daemon.start()
            # It had not got the question yet, or it had: then the answer is lost.
            last = peer.until("handled-stop", "error")[-1]
            self.assertTrue(last[0] == "handled-stop" or last[1]["code"] == "Io", last)
        with self.peer() as peer:
            peer.send("transcript", {"text": "hello", "context": context})
            self.assertEqual(peer.until("handled-stop", "error")[-2][0], "handled")


class Start(unittest.TestCase):
    def run_bridge(self, *options):
        return subprocess.run((BRIDGE,) + options, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True)

    def test_what_it_cannot_start_with_is_said(self):
        for uri, words in {"10300": "tcp://HOST:PORT", "tcp://localhost": "tcp://HOST:PORT",
                           "tcp://127.0.0.1:": "HOST:PORT",
                           "http://localhost:80": "tcp://HOST:PORT",
                           "tcp://127.0.0.1:x": "no address",
                           "tcp://203.0.113.1:0": "203.0.113.1:0",
                           "unix://relative": "begins with /",
                           "unix:///nowhere/socket": "/nowhere/socket",
                           "unix:///" + 110 * "a": "107"}.items():
            done = self.run_bridge("--uri", uri)
            self.assertEqual(done.returncode, 1)
            self.assertIn(words, done.stderr)
        for words in ("--wrong",), ("file",), ("--uri",):
            self.assertEqual(self.run_bridge(*words).returncode, 2)
        self.assertIn("JSON array", self.run_bridge("--intents", ROOT + "/README.md").stderr)
        self.assertIn("--uri", self.run_bridge("--help").stdout)

    def test_a_socket_is_the_users_own_and_never_taken_from_another(self):
        with tempfile.TemporaryDirectory() as folder:
            bridge = Bridge(folder)
            self.assertEqual(stat.S_IMODE(os.stat(bridge.path).st_mode), 0o600)
            self.assertIn("in use", self.run_bridge("--uri", "unix://" + bridge.path).stderr)
            bridge.process.kill()
            bridge.stop()
            self.assertTrue(os.path.exists(bridge.path))  # nobody's any more
            self.assertEqual(Bridge(folder).stop(), (0, ""))
            with open(bridge.path, "w"):
                pass
            self.assertIn("in use", self.run_bridge("--uri", "unix://" + bridge.path).stderr)
            self.assertTrue(os.path.exists(bridge.path))

    def test_an_address_that_others_reach_is_warned_about(self):
        process = subprocess.Popen((BRIDGE, "--uri", "tcp://0.0.0.0:0"), stderr=subprocess.PIPE,
                                   text=True)
        process.stderr.readline()
        self.assertIn("no password", process.stderr.readline())
        process.terminate()
        process.wait()
        process.stderr.close()


class Package(Case):
    """Home Assistant's own client."""

    options = ("--intents", INTENTS)

    def test_it_is_served(self):
        import asyncio
        asyncio.run(self.conversation())

    async def conversation(self):
        from wyoming import asr, audio, client, handle, info, intent, ping, tts

        uri = "tcp://127.0.0.1:%d" % self.bridge.port
        async with client.AsyncClient.from_uri(uri) as peer:
            async def read(*kinds):
                while True:
                    event = await peer.read_event()
                    self.assertIsNotNone(event)
                    self.assertNotEqual(event.type, "error", event)
                    for kind in kinds:
                        if kind.is_type(event.type):
                            return kind.from_event(event)

            await peer.write_event(info.Describe().event())
            told = await read(info.Info)
            self.assertEqual(told.asr[0].models[0].languages, ["en"])
            self.assertTrue(told.tts[0].supports_synthesize_streaming)
            await peer.write_event(ping.Ping(text="a").event())
            self.assertEqual((await read(ping.Pong)).text, "a")

            await peer.write_event(asr.Transcribe(language="en").event())
            with wave.open(ROOT + "/models/demo.wav") as file:
                for chunk in audio.wav_to_chunks(file, 1024, start_event=True, stop_event=True):
                    await peer.write_event(chunk.event())
            self.assertEqual((await read(asr.Transcript)).text, "who are you")
            await read(asr.TranscriptStop)

            voice = tts.SynthesizeVoice(name=told.tts[0].voices[0].name)
            await peer.write_event(tts.SynthesizeStart(voice=voice).event())
            await peer.write_event(tts.SynthesizeChunk("Hello there. And ").event())
            await peer.write_event(tts.SynthesizeChunk("good bye").event())
            await peer.write_event(tts.SynthesizeStop().event())
            start, n = await read(audio.AudioStart), 0
            while True:
                heard = await read(audio.AudioChunk, audio.AudioStop)
                if isinstance(heard, audio.AudioStop):
                    break
                n += heard.samples
            self.assertGreater(n, start.rate // 2)
            await read(tts.SynthesizeStopped)

            await peer.write_event(asr.Transcript("set a timer for ten minutes").event())
            got = await read(intent.Intent)
            self.assertEqual((got.name, got.entities),
                             ("HassStartTimer", [intent.Entity("minutes", 10)]))
            await peer.write_event(asr.Transcript("who are you").event())
            self.assertIn("lfmd", (await read(handle.Handled)).text)


def fetch_package():
    if not os.path.isdir(PACKAGE + "/wyoming"):
        done = subprocess.run((sys.executable, "-m", "pip", "install", "--quiet", "--no-deps",
                               "--retries", "1", "--timeout", "10", "--target", PACKAGE,
                               "wyoming==" + VERSION),
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            print("The package wyoming %s could not be had:\n%s" % (VERSION, done.stdout))
            sys.exit(77)
    sys.path.insert(0, PACKAGE)


if __name__ == "__main__":
    if MODE == "package":
        fetch_package()
        unittest.main(argv=[sys.argv[0], "-v", "Package"])
    else:
        del Package
        unittest.main(argv=[sys.argv[0], "-v"] + TESTS)
