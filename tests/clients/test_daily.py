# SPDX-License-Identifier: MIT
"""lfmctl as people use it: a real daemon, a real terminal, a real server to pull from.

usage: dbus-run-session -- /usr/bin/python3 test_daily.py LFMCTL DAEMON FETCH DECODER SOURCE_ROOT
"""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from terminal import Terminal as terminal_of

LFMCTL, DAEMON, FETCH, DECODER, ROOT = sys.argv[1:6]
MODEL = "lfmd-core-q8_0"
SINGLE, TILED = ROOT + "/tests/data/vision/single.png", ROOT + "/tests/data/vision/tiled.png"
told = []  # to systemd
PATIENCE = 120  # seconds; nothing here waits for its end unless it fails


def setUpModule():
    global home, server, daemon, environment
    home = tempfile.mkdtemp()
    published = home + "/published"
    os.mkdir(published)
    # Any GGUF file serves as one that is published; the one with Q8_0 in its name comes slowly.
    for name in "LFM2-350M-Q4_0", "LFM2-350M-Q8_0":
        shutil.copy("%s/models/%s.gguf" % (ROOT, MODEL), "%s/%s.gguf" % (published, name))
    server = subprocess.Popen([sys.executable, ROOT + "/tests/fetch/server.py", home + "/requests",
                               published],
                              stdout=subprocess.PIPE)
    port = int(server.stdout.readline())
    with open(home + "/lfmd.conf", "w") as file:
        file.write("[models]\ndirectories = %s/models\ndefault = lfmd-core\n"
                   "mirror = http://127.0.0.1:%d\n" % (ROOT, port))
    environment = dict(os.environ, XDG_STATE_HOME=home + "/state", XDG_DATA_HOME=home + "/data",
                       HOME=home, TERM="xterm", LFMD_FETCH=FETCH, LFMD_IMAGE=DECODER,
                       PATH=os.path.dirname(LFMCTL) + ":" + os.environ["PATH"])
    environment.pop("NO_COLOR", None)
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(home + "/notify")
    threading.Thread(target=listen, args=[notify], daemon=True).start()
    with open(home + "/log", "w") as log:
        daemon = subprocess.Popen([DAEMON, "--config", home + "/lfmd.conf"], stderr=log,
                                  env=dict(environment, NOTIFY_SOCKET=home + "/notify"))
    while run("status").returncode != 0:
        if daemon.poll() is not None:
            raise RuntimeError(open(home + "/log").read())
        time.sleep(0.05)


def listen(notify):
    while True:
        told.append(notify.recv(4096).decode())


def tearDownModule():
    for process in daemon, server:
        process.terminate()
        process.wait()
    server.stdout.close()
    shutil.rmtree(home)


def run(*arguments, stdin=""):
    return subprocess.run([LFMCTL, *arguments], input=stdin, capture_output=True, text=True,
                          env=environment, timeout=PATIENCE)


def json_lines(text):
    return [json.loads(line) for line in text.splitlines()]


def Terminal(*command, **more):
    return terminal_of(*command, environment=dict(environment, **more))


def chat(*arguments, **more):
    return Terminal(LFMCTL, "chat", *arguments, **more).expect("/help lists", "> ")


class Asking(unittest.TestCase):
    def test_the_answer_alone_is_on_stdout(self):
        result = run("ask", "--stats", "hello")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(len(result.stdout.splitlines()), 1)
        self.assertIn("first token after", result.stderr)
        self.assertEqual(run("ask", "--quiet", "hello").stderr, "")

    def test_standard_input_is_the_question_or_goes_below_it(self):
        self.assertEqual(run("ask", stdin="hello\n").stdout, run("ask", "hello").stdout)
        self.assertEqual(run("ask", "-", stdin="hello").stdout, run("ask", "hello").stdout)
        self.assertEqual(run("ask", stdin="hi").stdout, run("ask", "hi").stdout)
        self.assertEqual(run("ask", stdin="").returncode, 2)

    def test_an_answer_that_cannot_be_written_is_a_failure(self):
        with open("/dev/full", "w") as full:
            result = subprocess.run([LFMCTL, "ask", "hello"], stdout=full, stderr=subprocess.PIPE,
                                    text=True, stdin=subprocess.DEVNULL, env=environment)
        self.assertEqual(result.returncode, 1)
        self.assertIn("could not be written", result.stderr)
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "w") as broken:
            result = subprocess.run([LFMCTL, "models"], stdout=broken, stderr=subprocess.PIPE,
                                    text=True, env=environment)
        self.assertEqual((result.returncode, result.stderr), (1, ""))

    def test_json_is_one_event_a_line_and_ends_with_done(self):
        events = json_lines(run("ask", "--json", "hello").stdout)
        self.assertEqual([events[0]["event"], events[-1]["event"]], ["start", "done"])
        self.assertGreater(events[-1]["usage"]["completion_tokens"], 0)

    def test_lists_are_json_too(self):
        self.assertEqual(json_lines(run("status", "--json").stdout)[0]["DefaultModelId"], MODEL)
        self.assertEqual(json_lines(run("models", "--json").stdout)[0]["Id"], MODEL)
        run("ask", "hello")
        self.assertEqual(json_lines(run("ps", "--json").stdout)[0]["Id"], MODEL)

    def test_the_list_of_models_says_what_they_are_for(self):
        rows = {row.split()[0]: row for row in run("models").stdout.splitlines()}
        for name, uses in (("lfmd-core-q8_0", " chat  "), ("lfmd-see-q8_0", " chat, images  "),
                           ("lfm2.5-audio-1.5b", " chat, speech  "),
                           ("lfm2-colbert-350m", " retrieval  ")):
            self.assertIn(uses, rows[name])

    def test_exit_statuses_are_the_documented_ones(self):
        for status, arguments in [
                (0, ["models", "unload", MODEL]), (1, ["sessions", "remove", "nosuch"]),
                (2, ["models", "nosuch", MODEL]), (2, ["pull"]),
                (4, ["ask", "-m", "nosuch", "hello"]),
                (4, ["ask", "-m", "lfm2-1.2b", "hello"]), (4, ["pull", "nosuch"]),
                (4, ["models", "verify", "nosuch"]), (5, ["models", "remove", "lfmd-core"]),
                (0, ["models", "load", "lfmd-core"]), (0, ["ask", "-m", "lfmd-core", "hello"])]:
            result = run(*arguments)
            self.assertEqual(result.returncode, status, "%s: %s" % (arguments, result.stderr))
            self.assertEqual(result.stderr == "", status == 0)

    def test_a_kept_conversation_goes_on_and_is_removed(self):
        run("ask", "--keep", "--title", "a title", "hello")
        session = json_lines(run("sessions", "--json").stdout)[0]
        self.assertEqual((session["title"], session["turns"]), ("a title", 1))
        self.assertEqual(run("ask", "-S", session["id"], "hello again").returncode, 0)
        shown = run("sessions", "show", session["id"]).stdout
        self.assertIn("hello again", shown)
        self.assertEqual(run("sessions", "remove", session["id"]).returncode, 0)
        self.assertEqual(run("sessions").stdout, "")


def open_files(pid):
    folder = "/proc/%d/fd/" % pid
    return [os.readlink(folder + fd) for fd in os.listdir(folder) if os.path.lexists(folder + fd)]


class Looking(unittest.TestCase):
    def test_a_question_about_pictures_is_answered(self):
        for arguments, stdin in [(["--image", SINGLE, "what is this?"], ""),
                                 (["-i", SINGLE, "-i", TILED], "which is older?"),
                                 (["-i", TILED, "--detail", "low", "--max-encode-ms", "5000",
                                   "what?"], "")]:
            result = run("ask", "--stats", *arguments, stdin=stdin)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertNotEqual(result.stdout.strip(), "")
            self.assertRegex(result.stderr, r"picture 1, \d+x\d+: .* \d+ tokens")

    def test_a_picture_may_come_on_standard_input(self):
        with open(SINGLE, "rb") as file:
            direct = subprocess.run([LFMCTL, "ask", "-i", "-", "what is this?"], stdin=file,
                                    capture_output=True,
                                    text=True, env=environment, timeout=PATIENCE)
            file.seek(0)
            piped = subprocess.run([LFMCTL, "ask", "-i", "-", "what is this?"], input=file.read(),
                                   capture_output=True, env=environment, timeout=PATIENCE)
        self.assertEqual((direct.returncode, piped.returncode), (0, 0), direct.stderr)
        self.assertEqual(direct.stdout, run("ask", "-i", SINGLE, "what is this?").stdout)
        self.assertEqual(direct.stdout, piped.stdout.decode())

    def test_what_cannot_be_a_picture_is_said_before_anything_is_asked(self):
        for path, words in (home + "/absent.png", "cannot be read"), (home, "is a folder"):
            result = run("ask", "-i", path, "what?")
            self.assertEqual((result.returncode, result.stdout), (1, ""))
            self.assertIn(words, result.stderr)
        self.assertEqual(run("ask", "-i", SINGLE).returncode, 2)
        self.assertEqual(run("ask", "-i", ROOT + "/README.md", "what?").returncode, 1)
        self.assertIn("min_tiles", run("ask", "-i", SINGLE, "--min-tiles", "200", "what?").stderr)

    def test_plans_are_a_table_or_json(self):
        rows = run("image", "plan", SINGLE, TILED).stdout.splitlines()
        self.assertEqual(rows[0].split(),
                         ["SIZE", "VIEW", "TILES", "VIEWS", "TOKENS", "TIME", "FILE"])
        self.assertEqual([row.split()[-1] for row in rows[1:]], [SINGLE, TILED])
        [plan] = json_lines(run("image", "plan", "--json", "--detail", "low", TILED).stdout)
        self.assertEqual((plan["file"], plan["views"], plan["detail"]), (TILED, 1, "low"))
        result = run("image", "plan", home, SINGLE)  # one that fails keeps no other back
        self.assertEqual(result.returncode, 1)
        self.assertIn(SINGLE, result.stdout)
        text = ROOT + "/README.md"
        lines = json_lines(run("image", "plan", "--json", SINGLE, text).stdout)
        self.assertEqual([line["file"] for line in lines], [SINGLE, text])
        self.assertEqual(lines[1]["name"], "UnsupportedFormat")

    def test_a_named_pipe_is_waited_for(self):
        path = home + "/pipe"
        os.mkfifo(path)
        waiting = subprocess.Popen([LFMCTL, "image", "plan", path], stdout=subprocess.PIPE,
                                   text=True, env=environment)
        with open(path, "wb") as pipe, open(SINGLE, "rb") as file:
            pipe.write(file.read())
        self.assertIn(path, waiting.communicate(timeout=PATIENCE)[0])
        self.assertEqual(waiting.returncode, 0)
        terminal = Terminal(LFMCTL, "describe", path)
        while path not in open_files(terminal.pid):
            time.sleep(0.01)
        terminal.send("\x03")
        self.assertEqual(terminal.status(), 130)

    def test_a_picture_is_described_in_words_or_json(self):
        [first] = json_lines(run("describe", "--json", SINGLE).stdout)
        self.assertEqual((first["event"], first["file"]), ("description", SINGLE))
        self.assertIn(first["short"], run("describe", SINGLE).stdout)
        both = run("describe", SINGLE, TILED).stdout
        self.assertLess(both.index(SINGLE), both.index(TILED))
        self.assertEqual(run("describe", ROOT + "/README.md").returncode, 1)
        terminal = Terminal(LFMCTL, "describe", ROOT + "/tests/data/vision/wide.png")
        terminal.send("\x03")
        self.assertIn(terminal.status(), (0, 130))

    def test_models_that_see_are_marked(self):
        self.assertRegex(run("models").stdout, r"lfmd-\S+ .* chat, images ")

    def test_a_chat_takes_pictures(self):
        terminal = chat("--stats")
        terminal.send("/im\t")
        terminal.expect("/im", "age ")
        terminal.send(SINGLE[:-4] + "\t")
        terminal.expect(".png")
        terminal.send("\r")
        terminal.expect("1 picture goes", "> ")
        terminal.send("what is this?\r")
        terminal.expect("picture 1, ", "first token after", "> ")
        terminal.send("and this?\r")
        terminal.expect("first token after", "> ")
        terminal.send("/image /nosuch\r")
        terminal.expect("cannot be read", "> ")
        terminal.send("/quit\r")
        self.assertEqual(terminal.status(), 0)
        script = run("chat", stdin="/image /nosuch\nwhat is this?\n")
        self.assertEqual((script.returncode, script.stdout), (1, ""))

    def test_pictures_of_a_kept_conversation_are_shown_as_such(self):
        run("ask", "--keep", "-i", SINGLE, "what is this?")
        session = json_lines(run("sessions", "--json").stdout)[0]["id"]
        self.assertRegex(run("sessions", "show", session).stdout,
                         r"\[picture, \d+x\d+\] what is this\?")
        self.assertEqual(run("sessions", "remove", session).returncode, 0)


class Chatting(unittest.TestCase):
    def leave(self, terminal):
        terminal.send("\x04")
        self.assertEqual(terminal.status(), 0)

    def test_a_question_is_answered_and_control_d_leaves(self):
        terminal = chat(NO_COLOR="1")
        terminal.send("hello\r")
        terminal.expect("hello", "\n", "> ")
        self.leave(terminal)

    def test_control_c_drops_lines_and_leaves_an_empty_one_when_it_comes_twice(self):
        terminal = chat()
        for word in "first", "second", "third":
            terminal.send(word)
            terminal.expect(word)
            terminal.send("\x03")
            terminal.expect("^C", "> ")
        terminal.send("\x03")
        terminal.expect("again", "> ")
        terminal.send("\x03")
        self.assertEqual(terminal.status(), 0)

    def test_what_is_pasted_is_one_question(self):
        terminal = chat("--stats")
        terminal.send("\x1b[200~one\rtwo\tthree\x07\r\r\x1b[201~")
        terminal.expect("one", "two")
        terminal.send(" four\r")
        terminal.expect("first token after", "> ")
        self.leave(terminal)
        with open(home + "/state/lfmd/lfmctl_history") as file:
            self.assertIn("one\\012two\\011three\\040four\n", file.read())

    def test_questions_may_have_several_lines(self):
        terminal = chat("--stats")
        for keys, shown in [('one \\\r', "  "), ("two\r", "first token after")]:
            terminal.send(keys)
            terminal.expect(keys[:3], shown)
        terminal.expect("> ")
        for keys, shown in [('"""one\r', ". "), ('two"""\r', "first token after")]:
            terminal.send(keys)
            terminal.expect(keys[:3], shown)
        terminal.expect("> ")
        terminal.send("one\x1b\r")
        terminal.expect("one", "\n")
        terminal.send("three\r")
        terminal.expect("three", "first token after", "> ")
        self.leave(terminal)
        with open(home + "/state/lfmd/lfmctl_history") as file:
            lines = file.read().splitlines()
        self.assertEqual(lines[-3:], ["one\\040\\012two", "one\\012two", "one\\012three"])

    def test_commands_are_completed_and_understood(self):
        terminal = chat()
        terminal.send("/mo\t")
        terminal.expect("/mo", "del ")
        terminal.send("lfmd-c\t")
        terminal.expect("lfmd-c", MODEL[6:])
        terminal.send("\r")
        terminal.expect(MODEL, "> ")
        terminal.send("/nosuch command\r")
        terminal.expect("no command '/nosuch'", "> ")
        terminal.send("/model nosuch\r")
        terminal.expect("no model 'nosuch'", "> ")
        terminal.send("/stats\r")
        terminal.expect("> ")
        terminal.send("hello\r")
        terminal.expect("first token after", "> ")
        terminal.send("/bye\r")
        self.assertEqual(terminal.status(), 0)

    def test_the_line_survives_another_window_and_signals_end_the_program(self):
        terminal = chat()
        terminal.send("hel")
        terminal.expect("hel")
        terminal.resize(24, 30)
        terminal.expect("> ", "hel")
        os.kill(terminal.pid, signal.SIGTERM)
        self.assertEqual(terminal.status(), 0)

    def test_a_terminal_that_knows_nothing_gets_no_sequences(self):
        terminal = Terminal(LFMCTL, "chat", TERM="dumb")
        terminal.send("hello\r")
        terminal.expect("> ")
        while "\n> " not in terminal.text:
            self.assertNotIn("\x1b", terminal.text)
            terminal.read()
        self.leave(terminal)

    def test_without_a_terminal_each_line_is_a_question(self):
        result = run("chat", stdin="hello\nhello\n")
        self.assertEqual(result.returncode, 0)
        self.assertEqual(len(result.stdout.splitlines()), 2)
        events = json_lines(run("chat", "--json", stdin="hello\nhello\n").stdout)
        self.assertEqual([e["turn"] for e in events if e["event"] == "done"], [1, 2])


class Trying(unittest.TestCase):
    def test_control_c_is_for_the_program_beside_a_private_daemon_and_its_bus(self):
        build = os.path.dirname(os.path.dirname(os.path.abspath(DAEMON)))
        terminal = Terminal(ROOT + "/scripts/with-daemon", build, "sh", "-c",
                            'echo "at=$DBUS_SESSION_BUS_ADDRESS."; exec "$0" chat --stats', LFMCTL)
        terminal.expect("at=unix:path=")
        while "," not in terminal.text:
            terminal.read()
        bus = terminal.text.split(",")[0]
        terminal.expect("/help lists", "> ")
        terminal.send("\x03")
        terminal.expect("> ")
        terminal.send("hello\r")
        terminal.expect("first token after", "> ")
        self.assertTrue(os.path.exists(bus))
        terminal.send("/quit\r")
        self.assertEqual(terminal.status(), 0)
        while os.path.exists(bus):  # it goes after the program's end
            time.sleep(0.01)


class Pulling(unittest.TestCase):
    def test_a_model_is_pulled_used_verified_and_removed(self):
        result = run("pull", "lfm2-350m", "--json")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        states = json_lines(result.stdout)
        shown = [state["DownloadedBytes"] for state in states]
        self.assertEqual(shown, sorted(shown))
        self.assertEqual(states[-1]["DownloadState"], "done")
        while not any("lfm2-350m is being fetched (0 %)" in line for line in told):
            time.sleep(0.01)
        self.assertEqual(run("models", "verify", "lfm2-350m").stdout, "lfm2-350m is intact.\n")
        self.assertEqual(run("ask", "-m", "lfm2-350m", "hello").returncode, 0)
        path = home + "/data/lfmd/models/LFM2-350M-Q4_0.gguf"
        with open(path, "r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\xaa")
        self.assertEqual(run("models", "verify", "lfm2-350m").returncode, 1)
        self.assertEqual(run("models", "remove", "lfm2-350m").returncode, 0)
        self.assertFalse(os.path.exists(path))

    def test_control_c_stops_a_pull_and_the_next_goes_on(self):
        terminal = Terminal(LFMCTL, "pull", "lfm2-350m:q8_0").expect("MB of")
        terminal.send("\x03")
        terminal.expect("goes on from here")
        self.assertEqual(terminal.status(), 130)
        part = home + "/data/lfmd/models/LFM2-350M-Q8_0.gguf.part"
        self.assertGreater(os.path.getsize(part), 0)
        # Two at a time share one download.
        pulls = [Terminal(LFMCTL, "pull", "lfm2-350m:q8_0") for _ in range(2)]
        for pull in pulls:
            pull.expect("is installed")
            self.assertEqual(pull.status(), 0)
        with open(home + "/requests") as file:
            asked = [line.split()[1] for line in file if "Q8_0" in line]
        self.assertEqual(len(asked), 2)
        self.assertRegex(asked[1], "bytes=[1-9]")


@unittest.skipUnless(shutil.which("bash"), "there is no bash here")
class Completing(unittest.TestCase):
    def complete(self, *words):
        script = '. "$1"; COMP_LINE=$2 COMP_POINT=${#2}; _lfmctl; printf "%s\\n" "${COMPREPLY[@]}"'
        result = subprocess.run(["bash", "-c", script, "bash",
                                 ROOT + "/data/completions/lfmctl.bash",
                                 " ".join(["lfmctl", *words])], capture_output=True, text=True,
                                env=environment)
        self.assertEqual(result.stderr, "")
        return result.stdout.split()

    def test_bash_completes_verbs_options_and_ids(self):
        self.assertEqual(self.complete("st"), ["status"])
        self.assertEqual(self.complete("ask", "--max-to"), ["--max-tokens"])
        self.assertEqual(self.complete("ask", "--model", "lfmd-c"), [MODEL])
        self.assertEqual(self.complete("models", "ver"), ["verify"])
        self.assertEqual(self.complete("models", "load", "lfmd-c"), [MODEL])
        self.assertEqual(self.complete("ask", "--color=n"), ["never"])
        self.assertEqual(self.complete("pull", "lfm2-700m:q8"), ["q8_0"])  # ":" ends a word in bash
        self.assertIn("lfm2.5-1.2b-instruct", self.complete("pull", "lfm2.5-1.2b"))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
