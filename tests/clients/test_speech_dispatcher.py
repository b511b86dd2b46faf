# SPDX-License-Identifier: MIT
"""The real speech-dispatcher with sd_lfmd as its only module and a PulseAudio of the test's own,
spoken to by spd-say and by the client module that Orca uses; the real daemon with the speaking
model of this repository.

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

MODULE, DAEMON, ROOT = map(os.path.abspath, sys.argv[1:4])
sys.argv = [sys.argv[0], DAEMON, ROOT] + sys.argv[4:]  # as test_bus.py takes them
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "ipc"))
from test_bus import Daemon, wait_until  # noqa: E402

RATE = 24000
VOICE = "lfmd-talk-q8_0/US_female"
SPEECHD = all(shutil.which(name) for name in ("speech-dispatcher", "spd-say", "pulseaudio",
                                              "parec"))
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

    def wait_quiet(self):
        """Silence of 0.3 s."""
        while len(self.sound) < RATE or self.loud_since(len(self.sound) - RATE * 3 // 10):
            time.sleep(0.02)

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


class Module:
    """sd_lfmd itself, with the test in the server's place."""

    def __init__(self, folder, configuration=None):
        self.debug = folder + "/debug"
        command = [MODULE] + ([configuration] if configuration else [])
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)

    def send(self, *lines):
        self.process.stdin.write(("\n".join(lines) + "\n").encode())
        self.process.stdin.flush()

    def line(self):
        return self.process.stdout.readline().decode(errors="replace").rstrip("\n")

    def ask(self, *lines):
        """The answer, with the lines before its last."""
        self.send(*lines)
        return self.answer()

    def answer(self):
        answer = [self.line()]
        while answer[-1][3:4] == "-":
            answer.append(self.line())
        return answer

    def init(self):
        return self.ask("INIT")[-1]

    def set(self, **settings):
        if self.ask("SET") != ["203 OK RECEIVING SETTINGS"]:
            raise AssertionError("SET")
        return self.ask(*["%s=%s" % pair for pair in settings.items()], ".")

    def begin(self, text, command="SPEAK"):
        if self.ask(command) != ["202 OK RECEIVING MESSAGE"]:
            raise AssertionError(command)
        return self.ask(text, ".")

    def event(self):
        """("701 BEGIN", ""), ("700 INDEX MARK", name), ("705 AUDIO", samples), ..."""
        first = self.process.stdout.readline()
        if not first.startswith(b"705-"):
            first = first.decode().rstrip("\n")
            return (self.line(), first[4:]) if first[3] == "-" else (first, "")
        block = first
        while b"705-AUDIO\0" not in block:
            block += self.process.stdout.readline()
        head, data = block.split(b"705-AUDIO\0")
        if self.line() != "705 AUDIO":
            raise AssertionError("an audio block does not end")
        raw, i = bytearray(), 0
        data = data[:-1]
        while i < len(data):
            raw.append(data[i + 1] ^ 0x20 if data[i] == 0x7D else data[i])
            i += 2 if data[i] == 0x7D else 1
        samples = array.array("h", bytes(raw))
        if b"705-num_samples=%d\n" % len(samples) not in head:
            raise AssertionError((head, len(samples)))
        return "705 AUDIO", samples

    def events(self):
        """Until the end; the sound as one, and what else came with the samples before it."""
        sound, told = array.array("h"), []
        while True:
            kind, what = self.event()
            if kind == "705 AUDIO":
                sound.extend(what)
            else:
                told.append((kind, what, len(sound)))
            if kind in ("702 END", "703 STOP", "704 PAUSE", ""):
                return sound, told

    def say(self, text, command="SPEAK"):
        answer = self.begin(text, command)
        if answer != ["200 OK SPEAKING"]:
            raise AssertionError(answer)
        return self.events()

    def written(self, text, command="SPEAK", **settings):
        """What the daemon gets to say."""
        self.set(**settings)
        if self.ask("DEBUG ON " + self.debug) != ["200 OK DEBUGGING ON"]:
            raise AssertionError("DEBUG")
        self.begin(text, command)
        self.send("STOP")
        self.events()
        self.ask("DEBUG OFF")
        with open(self.debug) as file:
            said = [line[5:].rstrip("\n") for line in file if line.startswith("say: ")]
        os.unlink(self.debug)
        return said[-1]

    def close(self):
        self.process.stdin.close()
        status = self.process.wait()
        self.process.stdout.close()
        errors = self.process.stderr.read().decode()
        self.process.stderr.close()
        return status, errors


def named(character):
    return '<say-as interpret-as="characters">%s</say-as>' % character


class Protocol(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.daemon = Daemon(self.folder.name)
        self.module = Module(self.folder.name)

    def tearDown(self):
        self.module.close()
        if self.daemon.process.poll() is None:
            self.assertEqual(self.daemon.stop(), 0)
        self.folder.cleanup()

    def test_the_server_s_greetings(self):
        m = self.module
        self.assertEqual(m.ask("SPEAK"), ["300 ERR UNKNOWN COMMAND"])
        self.assertEqual(m.init(), "299 OK LOADED SUCCESSFULLY")
        self.assertEqual(m.ask("AUDIO"), ["207 OK RECEIVING AUDIO SETTINGS"])
        self.assertEqual(m.ask("audio_output_method=server", "."), ["203 OK AUDIO INITIALIZED"])
        m.ask("AUDIO")
        self.assertEqual(m.ask("audio_output_method=pulse", ".")[-1], "300 MODULE ERROR")
        m.ask("LOGLEVEL")
        self.assertEqual(m.ask("log_level=4", "."), ["203 OK LOGLEVEL SET"])
        voices = ["200-%s\ten-US\tnone" % VOICE, "200 OK VOICE LIST SENT"]
        for arguments in ("", " en", " en-US", " EN none"):
            self.assertEqual(m.ask("LIST VOICES" + arguments), voices)
        for arguments in (" fr", " en-GB", " e", " en child"):
            self.assertEqual(m.ask("LIST VOICES" + arguments), ["304 CANT LIST VOICES"])
        self.assertEqual(m.ask("NONSENSE"), ["300 ERR UNKNOWN COMMAND"])
        self.assertEqual(m.ask("DEBUG ON /nowhere/at/all"), ["303 CANT OPEN CUSTOM DEBUG FILE"])
        self.assertEqual(m.ask("QUIT"), ["210 OK QUIT"])
        self.assertEqual(m.close(), (0, ""))
        self.module = Module(self.folder.name)

    def test_settings_are_checked(self):
        m = self.module
        good = ["203 OK SETTINGS RECEIVED"]
        self.assertEqual(m.set(rate="-100", pitch="100", pitch_range="0", volume="0",
                               punctuation_mode="most", spelling_mode="on", cap_let_recogn="icon",
                               voice="female1", language="c", synthesis_voice="NULL"), good)
        for name, value in (("rate", "101"), ("pitch", "x"), ("volume", ""), ("colour", "1"),
                            ("punctuation_mode", "a"), ("spelling_mode", "2"),
                            ("cap_let_recogn", "all")):
            self.assertEqual(m.set(**{name: value}), ["303 ERROR INVALID PARAMETER OR VALUE"])
        m.ask("SET")
        self.assertEqual(m.ask("nonsense", "."), ["302 ERROR BAD SYNTAX"])

    def test_sound_and_marks_come_in_order(self):
        self.module.init()
        sound, told = self.module.say(
            '<speak>hello.<mark name="__spd_0"/> hello<mark name="end"/></speak>')
        self.assertEqual([t[:2] for t in told], [("701 BEGIN", ""), ("700 INDEX MARK", "__spd_0"),
                                                 ("700 INDEX MARK", "end"), ("702 END", "")])
        self.assertEqual(told[0][2], 0)
        self.assertEqual(2 * told[1][2], told[2][2])
        self.assertEqual(told[2][2], len(sound))
        self.assertGreater(max(sound), 3000)

    def test_a_mark_cannot_speak_for_the_module(self):
        self.module.init()
        _, told = self.module.say('<speak>hello<mark name="a&#10;703 STOP\nb"/> hello</speak>')
        self.assertEqual([t[:2] for t in told],
                         [("701 BEGIN", ""), ("700 INDEX MARK", "a 703 STOP b"),
                          ("702 END", "")])

    def test_rate_pitch_and_volume(self):
        m = self.module
        m.init()
        plain, _ = m.say("good morning to you")
        m.set(rate=100)
        self.assertAlmostEqual(len(m.say("good morning to you")[0]), len(plain) / 4, delta=2400)
        m.set(rate=-100)
        self.assertAlmostEqual(len(m.say("good morning to you")[0]), len(plain) * 3, delta=7200)
        m.set(rate=0, volume=-50)
        self.assertAlmostEqual(max(m.say("good morning to you")[0]), max(plain) / 4, delta=100)
        m.set(volume=-100)
        self.assertEqual(max(m.say("good morning to you")[0]), 0)
        m.set(volume=100, pitch=100)
        self.assertNotEqual(m.say("good morning to you")[0], plain)

    def test_what_the_settings_ask_for_is_written_out(self):
        m = self.module
        m.init()
        quiet = {"punctuation_mode": "none", "spelling_mode": "off", "cap_let_recogn": "none"}
        text = '<speak>I, you &amp; C:\\x<mark name="a"/>.</speak>'
        self.assertEqual(m.written(text, **quiet), text)
        self.assertEqual(
            m.written(text, **{**quiet, "punctuation_mode": "all"}),
            '<speak>I %s,  you  %s  C %s:  %s x<mark name="a"/> %s. </speak>'
            % tuple(named(c) for c in (",", "&amp;", ":", "\\", ".")))
        self.assertEqual(
            m.written(text, **{**quiet, "punctuation_mode": "some"}),
            '<speak>I, you  %s  C: %s x<mark name="a"/>.</speak>' % (named("&amp;"), named("\\")))
        self.assertEqual(m.written("(a) b", **{**quiet, "punctuation_mode": "most"}),
                         " %s a %s  b" % (named("("), named(")")))
        self.assertEqual(m.written("<s>ab</s>c", **{**quiet, "spelling_mode": "on"}),
                         "<s>%s</s>%s" % (named("ab"), named("c")))
        self.assertEqual(m.written("An iPad, \u00c9t\u00e9",
                                   **{**quiet, "cap_let_recogn": "spell"}),
                         "capital An iPad, capital \u00c9t\u00e9")
        self.assertEqual(m.written("A", "CHAR", **{**quiet, "cap_let_recogn": "spell"}),
                         "capital " + named("A"))
        self.assertEqual(m.written("a", "CHAR", **quiet), named("a"))
        self.assertEqual(m.written("space", "CHAR", **quiet), named(" "))
        self.assertEqual(m.written("<", "CHAR", **quiet), named("&lt;"))
        for key, said in (("Control_L", "left control"), ("shift_a", "shift %s " % named("a")),
                          ("ctrl+alt+del", "control alt delete "), ("KP_Enter", "keypad Enter "),
                          ("F1", "F1 "), ("a", named("a") + " "), ("_", named("_")),
                          ("Return", "return"), ("Page_Down", "Page Down ")):
            self.assertEqual(m.written(key, "KEY", **quiet), said)
        self.assertEqual(m.written("bell", "SOUND_ICON", **quiet), "bell")

    def test_sound_icons_are_the_server_s(self):
        icons = self.folder.name + "/icons"
        os.mkdir(icons)
        for name in ("bell", "capital"):
            open(icons + "/" + name, "w").close()
        conf = self.folder.name + "/icons.conf"
        with open(conf, "w") as file:
            file.write('LfmdSoundIconFolder "%s"\nLfmdRateMax 99\nNonsense 1\n' % icons)
        m = Module(self.folder.name, conf)
        m.init()
        self.assertEqual([t[:2] for t in m.say("bell", "SOUND_ICON")[1]],
                         [("701 BEGIN", ""), ("706 ICON", icons + "/bell"), ("702 END", "")])
        m.set(cap_let_recogn="icon")
        self.assertEqual([t[:2] for t in m.say("A", "CHAR")[1]],
                         [("701 BEGIN", ""), ("706 ICON", icons + "/capital"), ("702 END", "")])
        status, errors = m.close()
        self.assertEqual(status, 0)
        self.assertIn("line 2: LfmdRateMax must be a number from 1 to 8", errors)
        self.assertIn("Nonsense", errors)

    def test_stop_and_pause_end_it_and_nothing_follows(self):
        m = self.module
        m.init()
        m.send("STOP", "PAUSE")  # while it is silent: no answer
        for command, events in (("STOP", [("703 STOP", "")]),
                                ("PAUSE", [("700 INDEX MARK", "__spd_-1"), ("704 PAUSE", "")])):
            self.assertEqual(m.begin("this is a sentence that goes on. " * 500),
                             ["200 OK SPEAKING"])
            self.assertEqual(m.event(), ("701 BEGIN", ""))
            self.assertEqual(m.event()[0], "705 AUDIO")
            m.send(command)
            self.assertEqual([told[:2] for told in m.events()[1]], events)
            self.assertEqual(m.ask("NONSENSE"), ["300 ERR UNKNOWN COMMAND"])
        m.begin('hello<mark name="__spd_0"/>' + "this is a sentence that goes on. " * 500)
        while m.event() != ("700 INDEX MARK", "__spd_0"):
            pass
        m.event()
        m.send("PAUSE")
        self.assertEqual(m.events()[1][0][:2], ("700 INDEX MARK", "__spd_0"))
        self.assertGreater(len(m.say("hello")[0]), 4800)

    def test_messages_that_cannot_be_said(self):
        m = self.module
        m.init()
        self.assertEqual(m.begin(""), ["301 ERROR CANT SPEAK"])
        self.assertEqual(m.begin("a\nb", "CHAR"), ["305 DATA MORE THAN ONE LINE"])
        self.assertEqual(m.begin("\udce9".encode("utf-8", "surrogateescape").decode("latin-1")),
                         ["200 OK SPEAKING"])  # e with an accent, in two bytes
        m.events()
        m.ask("SPEAK")
        m.process.stdin.write(b"\xff\xfe\n.\n")
        m.process.stdin.flush()
        self.assertEqual(m.answer(), ["301 ERROR CANT SPEAK"])
        self.assertEqual(m.written("..dot\n..\n.\u00e9"), ".dot")  # as far as the log has a line
        self.assertEqual(m.say("   ")[1][-1][0], "702 END")  # nothing to be said is no accident
        self.assertIn("There is no text to be spoken", m.close()[1])
        self.module = Module(self.folder.name)

    def test_a_daemon_that_dies_is_survived(self):
        m = self.module
        m.init()
        m.begin("this is a sentence that goes on. " * 500)
        self.assertEqual(m.event(), ("701 BEGIN", ""))
        m.event()
        self.daemon.process.kill()
        self.daemon.process.wait()
        self.assertEqual(m.events()[1][-1][0], "702 END")
        self.daemon.wait_for_owner(False)
        self.assertEqual(m.say("hello")[1][-1][0], "702 END")
        self.daemon.start()
        self.assertGreater(len(m.say("hello")[0]), 4800)
        self.assertIn("org.lfmd.Speech.Provider", m.close()[1])
        self.module = Module(self.folder.name)

    def test_without_voices_it_does_not_load(self):
        self.daemon.stop()
        os.mkdir(self.folder.name + "/empty")
        self.daemon = Daemon(self.folder.name, models=self.folder.name + "/empty")
        answer = self.module.ask("INIT")
        self.assertEqual(answer[-1], "399 ERR CANT INIT MODULE")
        self.assertIn("lfmctl pull", answer[0])


@unittest.skipUnless(SPEECHD and speechd,
                     "speech-dispatcher, pulseaudio or python3-speechd is absent")
class Reader(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.room = Room(cls.folder.name)
        cls.addClassCleanup(cls.room.close)
        daemon = Daemon(cls.folder.name)
        cls.addClassCleanup(daemon.stop)
        server = Server(cls.folder.name)
        cls.addClassCleanup(server.close)
        cls.client = speechd.SSIPClient("test")
        cls.addClassCleanup(cls.client.close)
        cls.client.set_output_module("lfmd")

    def heard(self, say, *arguments):
        """Seconds of sound, once it has been said to the end, and the marks."""
        told, ended = [], threading.Event()

        def callback(kind, index_mark=None):
            told.append(index_mark or kind)
            if kind in (speechd.CallbackType.END, speechd.CallbackType.CANCEL):
                ended.set()
        start = len(self.room.sound)
        say(*arguments, callback=callback)
        ended.wait()
        self.room.wait_loud(start)
        self.room.wait_quiet()
        return len(self.room.loud_since(start)) / RATE, told

    def test_spd_say_is_heard(self):
        self.assertIn(VOICE, run("spd-say", "-o", "lfmd", "-L"))
        self.assertIn("lfmd", run("spd-say", "-O").split())
        for options in ((), ("-r", "100", "-p", "50", "-y", VOICE), ("-m", "all"), ("-s",),
                        ("-x",)):
            start = len(self.room.sound)
            run("spd-say", "-w", *options, "good morning")
            self.room.wait_loud(start)

    def test_messages_of_all_kinds_are_heard_to_their_ends(self):
        end = speechd.CallbackType.END
        for say, what in ((self.client.speak, "hello there"), (self.client.char, "b"),
                          (self.client.char, "?"), (self.client.key, "shift_a"),
                          (self.client.sound_icon, "bell")):
            start = len(self.room.sound)
            if say == self.client.speak:
                seconds, told = self.heard(say, what)
                self.assertEqual(told[-1], end)  # the client may miss the beginning
                self.assertGreater(seconds, 0.2)
            else:
                say(what)
                self.room.wait_loud(start)
                self.room.wait_quiet()

    def test_a_faster_voice_is_shorter(self):
        plain, _ = self.heard(self.client.speak, "good morning to you")
        self.client.set_rate(100)
        fast, _ = self.heard(self.client.speak, "good morning to you")
        self.client.set_rate(0)
        self.assertLess(fast, 0.6 * plain)

    def test_marks_are_told_in_order(self):
        self.client.set_data_mode(speechd.DataMode.SSML)
        _, told = self.heard(self.client.speak,
                             '<speak>one<mark name="a"/> two <mark name="b"/> three</speak>')
        self.client.set_data_mode(speechd.DataMode.TEXT)
        self.assertEqual([mark for mark in told if mark in ("a", "b")], ["a", "b"])

    def test_stop_is_obeyed(self):
        start = len(self.room.sound)
        told = []
        self.client.speak("this is a sentence that goes on and on. " * 100,
                          callback=lambda kind, index_mark=None: told.append(kind))
        self.room.wait_loud(start)
        self.client.stop()
        wait_until(lambda: speechd.CallbackType.CANCEL in told)
        self.room.wait_quiet()

    def test_a_paused_text_goes_on_where_it_was(self):
        start = len(self.room.sound)
        told = []
        self.client.speak("one is the first. two is the second. three is the third. four is last.",
                          callback=lambda kind, index_mark=None: told.append(kind))
        self.room.wait_loud(start)
        self.client.pause()
        wait_until(lambda: speechd.CallbackType.PAUSE in told)
        self.room.wait_quiet()
        paused = len(self.room.sound)
        self.client.resume()
        wait_until(lambda: speechd.CallbackType.END in told)
        self.room.wait_loud(paused)
        self.room.wait_quiet()


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
