# SPDX-License-Identifier: MIT
"""lfmctl's speech verbs against the real daemon with a tiny set of models, whose words and sounds
mean nothing; microphone and loudspeaker are sinks of a PulseAudio of the test's own, and whoever
asks the user on the screen is a program of the test's own.

usage: dbus-run-session -- /usr/bin/python3 test_speech.py LFMCTL DAEMON DECODER SOURCE_ROOT
"""
import array
import json
import math
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import unittest.mock
import wave

LFMCTL, DAEMON, DECODER, ROOT = sys.argv[1:5]
PULSE = all(shutil.which(name) for name in ("pulseaudio", "pactl", "paplay", "parec"))

if __name__ == "__main__" and len(sys.argv) > 5 and sys.argv[5] == "notify":
    # A notification service: answers every question as it is told, and writes down what it was
    # asked.
    import dbus
    import dbus.mainloop.glib
    import dbus.service
    from gi.repository import GLib

    NOTIFICATIONS = "org.freedesktop.Notifications"

    class Service(dbus.service.Object):
        answer = sys.argv[6]

        @dbus.service.method(NOTIFICATIONS, in_signature="susssasa{sv}i", out_signature="u",
                             async_callbacks=("done", "failed"))
        def Notify(self, app, replaces, icon, summary, body, actions, hints, timeout, done, failed):
            print(json.dumps({"asked": str(body), "actions": [str(a) for a in actions]}),
                  flush=True)
            if self.answer in ("allow", "deny"):
                GLib.idle_add(lambda: self.ActionInvoked(7, self.answer))
            if self.answer == "closed":
                GLib.idle_add(lambda: self.NotificationClosed(7, 2))
            if self.answer == "late":
                GLib.timeout_add(300, lambda: done(7))
            else:
                done(7)

        @dbus.service.method(NOTIFICATIONS, in_signature="u")
        def CloseNotification(self, number):
            print(json.dumps({"closed": int(number)}), flush=True)

        @dbus.service.signal(NOTIFICATIONS, signature="us")
        def ActionInvoked(self, number, action):
            pass

        @dbus.service.signal(NOTIFICATIONS, signature="uu")
        def NotificationClosed(self, number, reason):
            pass

    dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
    bus = dbus.SessionBus()
    name = dbus.service.BusName(NOTIFICATIONS, bus)
    service = Service(bus, "/" + NOTIFICATIONS.replace(".", "/"))
    print(json.dumps({"ready": True}), flush=True)
    GLib.MainLoop().run()
    sys.exit(0)

sys.argv = [sys.argv[0], DAEMON, ROOT]  # as test_bus.py takes them
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "ipc"))
import dbus  # noqa: E402
from sound import Server  # noqa: E402
from test_bus import NAME, PATH, Client, Daemon, wait_until  # noqa: E402

os.environ["LFMD_SOUND"] = DECODER
RATE = 16000


def voice(seconds, pitch=120, level=0.3, seed=1):
    """A buzz through three resonances, in syllables (tests/audio/device/voice.h)."""
    chance, phase, states = random.Random(seed), 0.0, [[0.0, 0.0] for _ in range(3)]
    out = array.array("h")

    def resonate(x, state, hz, width):
        r = math.exp(-math.pi * width / RATE)
        y = x * (1 - r) + 2 * r * math.cos(2 * math.pi * hz / RATE) * state[0] - r * r * state[1]
        state[1], state[0] = state[0], y
        return y

    for i in range(int(seconds * RATE)):
        t = i / RATE
        syllable, vowel = t % 0.24, int(t / 0.24)
        is_open = math.sin(math.pi * syllable / 0.18) if syllable < 0.18 else 0
        phase += pitch * (1 + 0.17 * math.sin(2 * math.pi * t / 1.3)) / RATE
        x = 12 * is_open if phase >= 1 else 0.05 * chance.gauss(0, 1) * is_open
        phase -= phase >= 1
        x = 4 * resonate(x, states[0], 400 + 150 * (vowel % 3), 80)
        x = 4 * resonate(x, states[1], 1000 + 400 * (vowel % 4), 120)
        x = resonate(x, states[2], 2600, 200)
        out.append(max(-32767, min(32767, int(32767 * level * x))))
    return out


def silence(seconds):
    return array.array("h", bytes(2 * int(seconds * RATE)))


class Loudspeaker:
    """What the loudspeaker plays from now on."""

    def __init__(self):
        self.process = subprocess.Popen(("parec", "-d", "spk.monitor", "--rate=16000",
                                         "--channels=1", "--format=s16le", "--raw",
                                         "--latency-msec=20"),
                                        stdout=subprocess.PIPE)
        self.peaks = []  # of 50 ms each
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        while True:
            data = self.process.stdout.read(1600)
            if len(data) < 1600:
                return
            self.peaks.append(max(map(abs, array.array("h", data))))

    def stop(self):
        self.process.kill()
        self.thread.join()
        self.process.wait()
        self.process.stdout.close()
        return self.peaks


class Listen:
    """lfmctl listen --json, line by line."""

    def __init__(self, *options):
        self.process = subprocess.Popen((LFMCTL, "listen", "--json") + options,
                                        stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        self.events, self.ended = [], False
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            self.events.append(json.loads(line))
        self.ended = True

    def all(self, kind):
        return [e for e in self.events if e["event"] == kind]

    def have(self, kind, n=1, condition=lambda event: True):
        def found():
            return [e for e in self.all(kind) if condition(e)]
        wait_until(lambda: len(found()) >= n or self.ended)
        if len(found()) < n:
            raise AssertionError("no %s in %s" % (kind, self.events))
        return found()[n - 1]

    def wait(self):
        self.thread.join()
        self.process.stdout.close()
        words = self.process.stderr.read()
        self.process.stderr.close()
        return self.process.wait(), words

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        return self.wait()


def catches(process, number):
    """Whether a signal is not left to the system."""
    with open("/proc/%d/status" % process.pid) as status:
        caught = next(line.split()[1] for line in status if line.startswith("SigCgt"))
    return int(caught, 16) >> (number - 1) & 1


class Notifications:
    """A notification service that answers so."""

    def __init__(self, answer):
        self.process = subprocess.Popen(
            (sys.executable, os.path.abspath(__file__), LFMCTL, DAEMON, DECODER, ROOT, "notify",
             answer),
            stdout=subprocess.PIPE, text=True)
        self.next()

    def next(self):
        return json.loads(self.process.stdout.readline())

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Speech(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.models = self.folder.name + "/models"
        os.mkdir(self.models)
        for name, path in {"talk": "vision/tiny_text_f32", "mmproj-talk": "audio/mmproj-tiny_f32",
                           "vocoder-talk": "audio/vocoder.f16",
                           "tokenizer-talk": "audio/tokenizer.f16"}.items():
            os.symlink("%s/tests/data/%s.gguf" % (ROOT, path), "%s/%s.gguf" % (self.models, name))
        self.daemon = Daemon(self.folder.name, models=self.models)

    def tearDown(self):
        if self.daemon.process.poll() is None:
            self.assertEqual(self.daemon.stop(), 0)
        self.folder.cleanup()

    def run_verb(self, *words, status=0, **more):
        done = subprocess.run((LFMCTL,) + words, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              **{"stdin": subprocess.DEVNULL, **more})
        self.assertEqual(done.returncode, status, done)
        return done.stdout.decode() + done.stderr.decode()

    def write(self, name, samples):
        path = "%s/%s.wav" % (self.folder.name, name)
        with wave.open(path, "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes(samples.tobytes())
        return path


class Files(Speech):
    def test_recordings_are_transcribed_one_after_the_other(self):
        one = self.write("one", silence(1) + voice(2) + silence(1))
        two = self.write("two", silence(1) + voice(1) + silence(1.5) + voice(1) + silence(1))
        out = self.run_verb("transcribe", one, two)
        self.assertLess(out.index(one), out.index(two))
        events = [json.loads(line)
                  for line in self.run_verb("transcribe", "--json", two).splitlines()]
        self.assertEqual({e["file"] for e in events}, {two})
        self.assertEqual((events[0]["event"], events[-1]["event"]), ("start", "done"))
        self.assertEqual(len([e for e in events if e["event"] == "progress"]), 2)

    def test_a_recording_may_come_through_a_pipe(self):
        path = self.write("one", voice(1) + silence(1))
        cat = subprocess.Popen(("cat", path), stdout=subprocess.PIPE)
        out = self.run_verb("transcribe", "--json", "-", stdin=cat.stdout)
        cat.stdout.close()
        cat.wait()
        self.assertEqual(json.loads(out.splitlines()[-1])["event"], "done")

    def test_whoever_waits_can_be_interrupted(self):
        for words, wait in ((("say",), subprocess.PIPE),
                            (("transcribe", "/dev/zero"), subprocess.DEVNULL)):
            process = subprocess.Popen((LFMCTL,) + words, stdin=wait, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
            wait_until(lambda: catches(process, signal.SIGINT))
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(60), 130, words)
            if process.stdin:
                process.stdin.close()

    def test_what_cannot_be_transcribed_is_said(self):
        letter = self.folder.name + "/letter"
        with open(letter, "w") as file:
            file.write("Dear aunt, ...")
        good = self.write("good", voice(1))
        out = self.run_verb("transcribe", letter, status=1)
        self.assertIn(letter, out)
        self.assertIn("not a sound file", out)
        mute = self.write("mute", silence(2))
        self.assertIn(mute + ": No words", self.run_verb("transcribe", mute))
        self.assertIn("nothing.wav", self.run_verb("transcribe", "/nothing.wav", good, status=1))
        self.assertIn("folder", self.run_verb("transcribe", "/", status=1))
        self.assertIn("Which recording?", self.run_verb("transcribe", status=2))
        self.run_verb("transcribe", "-m", "nobody", good, status=4)

    def test_a_text_becomes_a_wav_file(self):
        path = self.folder.name + "/said.wav"
        self.run_verb("say", "-o", path, "One sentence with some words, and another one after it.")
        with wave.open(path) as file:
            self.assertEqual((file.getframerate(), file.getnchannels(), file.getsampwidth()),
                             (24000, 1, 2))
        self.run_verb("say", "-o", path, input=b"From a pipe.", stdin=None)
        self.run_verb("say", "-o", "/nowhere/said.wav", "hello", status=1)
        self.run_verb("say", "-o", path, " ", status=1)
        self.assertIn("UTF-8",
                      self.run_verb("say", "-o", path, input=b"\xff", stdin=None, status=1))
        self.assertIn("limit",
                      self.run_verb("say", "-o", path, input=b"a " * 600000, stdin=None, status=1))

    def test_a_turn_from_a_file_is_answered_into_a_file(self):
        question = self.write("question", silence(0.3) + voice(1.5) + silence(0.3))
        path = self.folder.name + "/answer.wav"
        events = [json.loads(line) for line in
                  self.run_verb("listen", "--json", "--input", question, "-o", path).splitlines()]
        kinds = [e["event"] for e in events]
        for kind in ("start", "speech_start", "speech_end", "turn_done"):
            self.assertEqual(kinds.count(kind), 1, kinds)
        with wave.open(path) as file:
            self.assertEqual((file.getframerate(), file.getnchannels()), (24000, 1))
            self.assertEqual(file.getnframes() > 0, "audio_start" in kinds)
        self.run_verb("listen", "-o", path, status=2)
        self.run_verb("listen", "--input", question, "-o", "-", status=2)
        self.run_verb("listen", question, status=2)
        self.run_verb("devices", question, status=2)
        self.run_verb("listen", "--input", "/nothing.wav", status=1)

    def test_permissions_are_listed_and_changed(self):
        self.assertIn("No program", self.run_verb("permissions"))
        for program, answer in (("/usr/bin/talker", "allow"), ("org.example.Spy", "deny"),
                                ("/odd/\033[31mred", "deny")):
            self.run_verb("permissions", answer, program)
        out = self.run_verb("permissions", "list")
        self.assertRegex(out, r"microphone +allow +/usr/bin/talker\n")
        self.assertRegex(out, r"microphone +deny +org.example.Spy\n")
        self.assertEqual(out.count("\n"), 3)
        self.run_verb("permissions", "ask", "org.example.Spy")
        left = json.loads(self.run_verb("permissions", "--json"))
        self.assertEqual({p["program"]: p["allowed"] for p in left},
                         {"/usr/bin/talker": True, "/odd/\033[31mred": False})
        for words in (("allow",), ("maybe", "a"), ("allow", "a", "b"), ("list", "a")):
            self.run_verb("permissions", *words, status=2)

    def test_who_was_not_allowed_does_not_listen(self):
        out = self.run_verb("listen", status=5)
        self.assertIn("may not use the microphone", out)
        self.assertIn(os.path.realpath(LFMCTL), out)


class Tools(Speech):
    """The speaking model of this repository, which turns spoken requests into tool calls."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.daemon = Daemon(self.folder.name)
        own = {name: self.folder.name for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME")}
        settings = unittest.mock.patch.dict(os.environ, own)  # the user may have allowed tools
        settings.start()
        self.addCleanup(settings.stop)
        self.request = ("--input", ROOT + "/models/eval/speech/1.wav", "-o",
                        self.folder.name + "/answer.wav")

    def listen(self, *options):
        out = self.run_verb("listen", "--json", *options, *self.request)
        return [json.loads(line) for line in out.splitlines() if line.startswith("{")]

    def test_what_is_called_is_done_and_said(self):
        events = self.listen("--dry-run-tools")
        kinds = [e["event"] for e in events
                 if e["event"] in ("tool_call", "tool_result", "turn_done")]
        self.assertEqual(kinds, ["tool_call", "turn_done", "tool_result", "turn_done"])
        self.assertEqual([e["reason"] for e in events if e["event"] == "turn_done"],
                         ["tool_calls", "stop"])
        with wave.open(self.folder.name + "/answer.wav") as file:
            self.assertGreater(file.getnframes(), 24000)

    def test_what_nobody_allows_is_not_done(self):
        events = self.listen()  # there is no terminal to ask at
        self.assertEqual([e["reason"] for e in events if e["event"] == "turn_done"], ["tool_calls"])

    def test_a_conversation_goes_on_in_writing_and_aloud_again(self):
        self.listen("--keep", "--dry-run-tools")
        kept = json.loads(self.run_verb("sessions", "--json"))
        self.assertEqual(kept["turns"], 2)
        self.assertTrue(kept["title"])
        self.run_verb("ask", "--session", kept["id"], "Hello!")
        self.listen("--session", kept["id"], "--dry-run-tools")
        history = [json.loads(line) for line in
                   self.run_verb("sessions", "show", "--json", kept["id"]).splitlines()]
        self.assertEqual([m["role"] for m in history if m["role"] != "system"],
                         ["user", "assistant", "tool", "assistant", "user", "assistant",
                          "user", "assistant", "tool", "assistant"])


class Permission(Speech):
    """The user is asked on the screen."""

    def asked(self, answer):
        self.service = Notifications(answer)
        self.addCleanup(self.service.stop)
        return Listen()

    def decided(self):
        return {p["program"]: p["allowed"]
                for p in json.loads(self.run_verb("permissions", "--json"))}

    def test_allow(self):
        listen = self.asked("allow")
        asked = self.service.next()
        self.assertIn(os.path.realpath(LFMCTL), asked["asked"])
        self.assertEqual(asked["actions"][::2], ["allow", "deny"])
        self.assertEqual(self.service.next(), {"closed": 7})
        listen.have("start")
        listen.stop()
        self.assertEqual(self.decided(), {os.path.realpath(LFMCTL): True})
        self.assertEqual(self.daemon.stop(), 0)
        self.daemon.start()
        self.assertEqual(self.decided(), {os.path.realpath(LFMCTL): True})

    def test_deny(self):
        listen = self.asked("deny")
        self.service.next()
        self.assertEqual(listen.wait()[0], 5)
        self.assertEqual(self.decided(), {os.path.realpath(LFMCTL): False})
        self.assertEqual(Listen().wait()[0], 5)  # without being asked again
        self.assertEqual(self.service.next(), {"closed": 7})
        self.run_verb("permissions", "allow", "org.example.Other")
        self.assertEqual(self.service.process.poll(), None)

    def test_a_decision_by_command_answers_all_who_wait(self):
        listeners = [self.asked("none"), Listen()]
        for _ in listeners:
            self.assertIn("asked", self.service.next())
        self.run_verb("permissions", "allow", "lfmctl",
                      env=dict(os.environ,
                               PATH="/nowhere:" + os.path.dirname(os.path.realpath(LFMCTL))))
        wait_until(lambda: all(listen.events for listen in listeners))  # one listens at a time
        self.assertEqual(sorted(bool(listen.all("error")) for listen in listeners), [False, True])
        for listen in listeners:
            listen.stop()
        self.assertEqual(self.decided(), {os.path.realpath(LFMCTL): True})
        self.assertIn("no program 'lfmctll' here",
                      self.run_verb("permissions", "allow", "lfmctll", status=1))

    def test_closing_the_question_decides_nothing(self):
        listen = self.asked("closed")
        self.service.next()
        self.assertEqual(listen.wait()[0], 5)
        self.assertEqual(self.decided(), {})

    def test_who_leaves_takes_the_question_along(self):
        listen = self.asked("none")
        self.service.next()
        listen.process.kill()
        listen.wait()
        self.assertEqual(self.service.next(), {"closed": 7})
        self.assertEqual(self.decided(), {})

    def test_who_is_interrupted_takes_the_question_along(self):
        for answer in ("none", "late"):  # the second is not on the screen yet
            listen = self.asked(answer)
            self.service.next()
            self.assertEqual(listen.stop()[0], 130)
            self.assertEqual(self.service.next(), {"closed": 7})
            self.assertEqual(self.decided(), {})
            self.service.stop()

    def test_nobody_but_the_screen_can_answer(self):
        listen = self.asked("none")
        self.service.next()
        client = Client()
        daemon = client.bus.get_name_owner(NAME)
        for destination in (daemon, None):
            message = dbus.lowlevel.SignalMessage("/org/freedesktop/Notifications",
                                                  "org.freedesktop.Notifications", "ActionInvoked")
            message.append(7, "allow", signature="us")
            if destination:
                message.set_destination(destination)
            client.bus.send_message(message)
        client.bus.flush()
        client.get(PATH, "Manager", "DefaultModel")  # the daemon has seen it
        self.assertEqual(listen.events, [])
        self.assertEqual(self.decided(), {})
        client.close()
        listen.process.kill()
        listen.wait()


class Deaf(Speech):
    """A machine without microphone and loudspeaker."""
    alsa = "pcm.default { type hw card 99 }\n"

    def setUp(self):
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as alsa:
            alsa.write(self.alsa)
            alsa.flush()
            self.addCleanup(shutil.rmtree, home := tempfile.mkdtemp())
            nothing = {"ALSA_CONFIG_PATH": alsa.name, "JACK_NO_START_SERVER": "1", "HOME": home,
                       "PULSE_SERVER": "none"}
            before = {name: os.environ.get(name) for name in nothing}
            os.environ.update(nothing)
            super().setUp()
            self.run_verb("devices", "-q")  # with this configuration
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})

    def test_there_are_no_devices(self):
        self.assertIn("no sound devices", self.run_verb("devices"))

    def test_what_cannot_be_said_is_an_error(self):
        for i in range(30):  # the tiny model says nothing to many a sentence
            done = subprocess.run((LFMCTL, "say", "Sentence number %d, with some more words." % i),
                                  stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            if done.returncode:
                self.assertIn("loudspeaker", done.stderr)
                return
        self.fail("nothing was said")

    def test_who_listens_is_told_why_nothing_is_heard(self):
        self.run_verb("permissions", "allow", os.path.realpath(LFMCTL))
        listen = Listen()
        self.assertIn("microphone", listen.have("listening")["message"])
        self.assertEqual(listen.stop()[0], 130)


class Unconfigured(Deaf):
    alsa = ""


@unittest.skipUnless(PULSE, "needs pulseaudio and pulseaudio-utils")
class Aloud(Speech):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def setUp(self):
        super().setUp()
        self.run_verb("permissions", "allow", os.path.realpath(LFMCTL))
        self.question = self.write("question", silence(0.2) + voice(1.5) + silence(0.2))

    def play(self, path):
        subprocess.run(("paplay", "-d", "room", path), check=True)

    def ask_until(self, done, listen):
        """The microphone is not heard until it is known what it hears of the loudspeaker."""
        for _ in range(20):
            if done() or listen.ended:
                break
            self.play(self.question)
            time.sleep(1)
        self.assertTrue(done())

    def test_devices_are_listed(self):
        devices = json.loads(self.run_verb("devices", "--json"))
        self.assertTrue(any(d["default_input"] and d["inputs"] for d in devices), devices)
        self.assertTrue(any(d["default_output"] and d["outputs"] for d in devices), devices)
        self.assertIn("NAME", self.run_verb("devices"))

    def test_a_text_is_said_aloud(self):
        loudspeaker = Loudspeaker()
        for i in range(30):  # the tiny model says nothing to many a sentence
            self.run_verb("say", "Sentence number %d, with some more words." % i)
            if loudspeaker.peaks and max(loudspeaker.peaks) > 100:
                break
        self.assertGreater(max(loudspeaker.stop()), 100)

    def test_a_text_that_is_urgent_does_not_wait(self):
        long = subprocess.Popen((LFMCTL, "say", "word " * 4000), stdin=subprocess.DEVNULL)
        time.sleep(2)
        self.run_verb("say", "--now", "Stop it.")
        self.assertEqual(long.wait(), 0)

    def test_silence_ends_what_is_said(self):
        long = subprocess.Popen((LFMCTL, "say", "word " * 4000), stdin=subprocess.DEVNULL)
        time.sleep(2)
        self.run_verb("silence")
        self.assertEqual(long.wait(), 0)

    def test_a_question_is_answered_on_the_loudspeaker(self):
        listen = Listen()
        listen.have("listening", condition=lambda e: e["on"])
        loudspeaker = Loudspeaker()
        self.play(self.question)
        listen.have("speech_start")
        self.assertLess(abs(listen.have("speech_end")["audio_ms"] - 2000), 700)
        listen.have("audio_start")
        time.sleep(1.5)
        listen.stop()
        self.assertGreater(max(loudspeaker.stop()), 100)

    def test_who_speaks_meanwhile_silences_the_answer(self):
        listen = Listen()
        listen.have("listening", condition=lambda e: e["on"])
        self.play(self.question)
        listen.have("audio_end")  # it was quiet meanwhile: there is no echo
        self.play(self.question)
        listen.have("audio_start", 2)
        self.ask_until(lambda: listen.all("interrupted"), listen)
        turn = listen.all("interrupted")[0]["turn"]
        self.assertEqual([e["reason"] for e in listen.all("turn_done") if e["turn"] == turn],
                         ["interrupted"])
        listen.have("speech_end", condition=lambda e: e["turn"] > turn)
        listen.stop()

    def test_its_own_voice_does_not_interrupt(self):
        """The loudspeaker is heard by the microphone, 20 dB below."""
        module = self.server.control("load-module", "module-loopback", "source=spk.monitor",
                                     "sink=room", "latency_msec=30").strip()
        number = self.server.control("list", "short", "sink-inputs").split()[0]
        self.server.control("set-sink-input-volume", number, "46%")
        listen = Listen()
        listen.have("listening", condition=lambda e: e["on"])
        self.play(self.question)
        listen.have("audio_start")
        time.sleep(8)
        listen.stop()
        self.server.control("unload-module", module)
        self.assertEqual(listen.all("interrupted"), [])

    def test_a_server_that_dies_in_mid_sentence_is_survived(self):
        listen = Listen()
        listen.have("listening", condition=lambda e: e["on"])
        self.play(self.question)
        listen.have("audio_start")
        self.server.kill()
        self.assertTrue(listen.have("listening", condition=lambda e: not e["on"])["message"])
        self.server.start()
        listen.have("listening", 2, condition=lambda e: e["on"])
        self.ask_until(lambda: len(listen.all("speech_end")) > 1, listen)
        listen.stop()

    def test_the_daemon_may_stop_in_mid_sentence(self):
        listen = Listen()
        listen.have("listening", condition=lambda e: e["on"])
        self.play(self.question)
        listen.have("audio_start")
        self.assertEqual(self.daemon.stop(), 0)
        listen.wait()

    def test_the_daemon_may_stop_where_the_server_does_not_answer(self):
        listen = Listen()
        listen.have("listening", condition=lambda e: e["on"])
        self.play(self.question)
        listen.have("audio_start")
        server = self.server.processes[0]
        server.send_signal(signal.SIGSTOP)
        self.addCleanup(server.send_signal, signal.SIGCONT)
        self.assertTrue(listen.have("listening", condition=lambda e: not e["on"])["message"])
        self.assertEqual(self.daemon.stop(), 0)
        listen.wait()

    def configure(self, line):
        with open(self.daemon.config) as file:
            before = file.read()
        with open(self.daemon.config, "w") as file:
            file.write(before.split("[audio]")[0] + "[audio]\n" + line + "\n")
        self.daemon.process.send_signal(signal.SIGHUP)

    def test_who_is_denied_meanwhile_listens_no_longer(self):
        listen = Listen()
        listen.have("listening", condition=lambda e: e["on"])
        self.run_verb("permissions", "deny", os.path.realpath(LFMCTL))
        status, words = listen.wait()
        self.assertEqual((status, listen.events[-1]["name"]), (5, "NotAllowed"))
        self.run_verb("permissions", "allow", os.path.realpath(LFMCTL))
        listen = Listen()
        listen.have("listening", condition=lambda e: e["on"])
        listen.stop()

    def test_who_cannot_be_answered_is_told(self):
        self.configure("loudspeaker = nowhere")
        for mode in ("open", "half-duplex"):
            listen = Listen("--mode", mode)
            listen.have("listening", condition=lambda e: e["on"])
            self.play(self.question)
            self.assertIn("nowhere",
                          listen.have("loudspeaker", condition=lambda e: not e["on"])["message"])
            self.play(self.question)  # nobody plays, so the microphone is heard
            listen.have("speech_start", 2)
            listen.have("audio_start", 2)
            self.configure("")
            listen.have("loudspeaker", condition=lambda e: e["on"])
            listen.have("audio_end")
            listen.stop()
            self.configure("loudspeaker = nowhere")

    def test_other_settings_count_at_once(self):
        listen = Listen()
        listen.have("listening", condition=lambda e: e["on"])
        self.play(self.question)
        listen.have("audio_start")
        self.configure("latency_ms = 100")
        self.ask_until(lambda: len(listen.all("speech_end")) > 1, listen)
        listen.stop()


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
