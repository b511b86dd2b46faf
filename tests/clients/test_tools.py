# SPDX-License-Identifier: MIT
"""What an assistant can do on the desktop, through `lfmctl tools` and conversations: files of the
user, MCP servers good and bad, PulseAudio, a real player (cmus), a real notification service
(dunst), the clipboard of a real X server, a terminal at which one is asked.

usage: dbus-run-session -- /usr/bin/python3 test_tools.py LFMCTL DAEMON SOURCE_ROOT [TEST...]
"""
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

import sound
from terminal import Terminal

LFMCTL, DAEMON, ROOT = sys.argv[1:4]
HERE = os.path.dirname(os.path.abspath(__file__))
# seconds; nothing here waits for its end unless it fails
PATIENCE = int(os.environ.get("PATIENCE", 60))
BUILT_IN = ["set_alarm", "set_timer", "list_timers", "cancel_timer", "set_volume", "get_volume",
            "open_app", "open_file", "add_note", "list_notes", "read_note", "remove_note",
            "calculate", "get_time", "media_control", "now_playing", "copy_text", "read_clipboard"]


def wait_for(condition, what):
    end = time.monotonic() + PATIENCE
    while True:
        got = condition()
        if got:
            return got
        if time.monotonic() > end:
            raise AssertionError("waited in vain for " + what)
        time.sleep(0.02)


def has_ended(pid):
    try:
        with open("/proc/%s/stat" % pid) as file:
            return ") Z " in file.read()
    except OSError:
        return True


def write(path, text, mode=0o600):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text if isinstance(text, str) else json.dumps(text))
    os.chmod(path, mode)


class Case(unittest.TestCase):
    def setUp(self):
        self.home = tempfile.mkdtemp()
        for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "DISPLAY",
                     "WAYLAND_DISPLAY"):
            os.environ.pop(name, None)
        os.makedirs(self.home + "/run", mode=0o700)
        os.environ.update(HOME=self.home, XDG_RUNTIME_DIR=self.home + "/run", LC_ALL="C.UTF-8")
        self.config = self.home + "/.config/lfmd"
        self.processes = []

    def tearDown(self):
        for process in reversed(self.processes):
            process.terminate()
            process.wait()
            if process.stdout:
                process.stdout.close()
        shutil.rmtree(self.home)

    def start(self, *command, **more):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, **more)
        self.processes.append(process)
        return process

    def tools(self, *arguments):
        """Without a terminal: what is not allowed for good is refused."""
        return subprocess.run([LFMCTL, "tools", *arguments], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True,
                              timeout=PATIENCE, start_new_session=True)

    def listed(self):
        got = self.tools("list", "--json")
        self.assertEqual(got.returncode, 0, got.stderr)
        return {tool["name"]: tool for tool in map(json.loads, got.stdout.splitlines())}, got.stderr

    def allow(self, *names):
        for name in names:
            got = self.tools("allow", name)
            self.assertEqual(got.returncode, 0, got.stderr)

    def run_tool(self, tool, /, **arguments):
        got = self.tools("run", "--json", tool, json.dumps(arguments))
        self.assertIn(got.returncode, (0, 1), got.stderr)
        return json.loads(got.stdout)

    def result(self, tool, /, **arguments):
        got = self.run_tool(tool, **arguments)
        self.assertNotIn("error", got)
        return got.get("result", got)

    def error(self, tool, /, **arguments):
        return self.run_tool(tool, **arguments)["error"]

    def log(self):
        return list(map(json.loads, self.tools("log", "--json").stdout.splitlines()))


class Store(Case):
    def test_all_are_listed_and_only_harmless_ones_run_unasked(self):
        tools, problems = self.listed()
        self.assertEqual(list(tools), BUILT_IN)
        self.assertEqual(problems, "")
        harmless = {name for name, tool in tools.items() if tool["consent"] == "not asked"}
        self.assertEqual(harmless,
                         {"list_timers", "get_volume", "calculate", "get_time", "now_playing"})
        for tool in tools.values():
            self.assertEqual(tool["parameters"]["type"], "object")
        self.assertEqual(self.error("add_note", text="x"), "not allowed")
        self.assertFalse(os.path.exists(self.home + "/.local/share/lfmd/notes"))

    def test_what_is_allowed_is_kept_until_it_is_revoked(self):
        self.allow("add_note", "list_notes")
        self.assertEqual(self.listed()[0]["add_note"]["consent"], "allowed")
        self.assertEqual(self.run_tool("add_note", text="Müsli kaufen"), {"ok": True})
        notes = self.result("list_notes")
        self.assertRegex(notes[0], r"^\d{4}-\d\d-\d\d Müsli kaufen.txt$")
        with open(self.home + "/.local/share/lfmd/notes/" + notes[0]) as file:
            self.assertEqual(file.read(), "Müsli kaufen\n")
        self.assertEqual(self.tools("revoke", "add_note").returncode, 0)
        self.assertEqual(self.error("add_note", text="x"), "not allowed")
        self.assertEqual(self.tools("revoke", "--all").returncode, 0)
        self.assertEqual(self.error("list_notes"), "not allowed")
        self.assertEqual(self.tools("allow", "nothing").returncode, 1)
        for path in ("", "/tools.log", "/tools-allowed.json"):
            self.assertEqual(os.stat(self.home + "/.local/state/lfmd" + path).st_mode & 0o077, 0)

    def test_the_log_says_what_was_done_and_undone(self):
        self.allow("add_note", "list_notes")
        self.run_tool("add_note", text="one")
        self.error("remove_note", name="one")
        self.assertEqual([(r["tool"], r["decision"], r["ok"], r["undoable"]) for r in self.log()],
                         [("add_note", "allowed", True, True),
                          ("remove_note", "refused", False, False)])
        self.assertEqual(self.tools("undo").returncode, 0)
        self.assertEqual(self.result("list_notes"), [])
        self.assertEqual(self.tools("undo").returncode, 1)
        self.assertIn("(can be undone)",
                      self.tools("run", "add_note", '{"text": "two"}') and self.tools("log").stdout)

    def test_damaged_files_are_survived(self):
        state = self.home + "/.local/state/lfmd/"
        self.allow("add_note")
        write(state + "tools-allowed.json", '{"add_note": ')
        self.assertEqual(self.error("add_note", text="x"), "not allowed")
        for text in ("{}", "[]", '{"add_note": true}', '{"add_note": "0"}', "\0\0", "x" * 300000):
            write(state + "tools-allowed.json", text)
            self.assertEqual(self.error("add_note", text="x"), "not allowed")
        self.allow("add_note")
        self.run_tool("add_note", text="x")
        lines = ["rubbish", "[]", "{}", '{"id": 5, "undo": {}}',
                 '{"id": "11111111", "tool": "add_note", "undo": 7}',
                 '{"id": "22222222", "tool": "add_note", "undo": {"name": "../../../x"}, '
                 '"ok": true}',
                 '{"id": "33333333", "tool": "set_volume", "undo": {"level": 1e99, "sink": []}, '
                 '"ok": true}',
                 '{"id": "44444444", "tool": "media_control", '
                 '"undo": {"player": "x y", "method": "Quit"}, "ok": true}',
                 '{"id": "55555555", "tool": "none", "undo": {}, "ok": true}', "[" * 10000,
                 "x" * 70000]
        with open(state + "tools.log", "a") as file:
            file.write("\n".join(lines) + "\n")
        self.assertTrue(any(record.get("tool") == "add_note" and record.get("undoable")
                            for record in self.log()))
        self.assertEqual(self.tools("log").returncode, 0)
        for number in range(1, 6):
            self.assertEqual(self.tools("undo", str(number) * 8).returncode, 1)

    def test_the_log_does_not_grow_without_end(self):
        state = self.home + "/.local/state/lfmd/"
        self.run_tool("get_time")
        line = json.dumps({"id": "0", "tool": "get_time", "sentence": "x" * 1000}) + "\n"
        write(state + "tools.log", line * 1040)
        self.run_tool("get_time")
        self.assertLess(os.path.getsize(state + "tools.log"), 2000)
        self.assertEqual(len(self.log()), 50)
        self.assertEqual(len(self.tools("log", "--all").stdout.splitlines()), 1041)


class UserTools(Case):
    def tool(self, name, command, properties=None, script=None, mode=0o600, **more):
        folder = self.config + "/tools"
        if script:
            write(folder + "/" + command[0], script, 0o700)
        write(folder + "/%s.json" % name, dict({
            "description": name, "command": command,
            "parameters": {"type": "object", "properties": properties or {}}}, **more), mode)

    def ready(self, *arguments, **more):
        self.tool(*arguments, **more)
        self.allow(arguments[0])

    def test_arguments_come_as_words_and_as_json(self):
        self.ready("show", ["./show.sh", "--city={city}", "{unit}", "{days}", "{literal}", "end"],
                   {"city": {"type": "string"}, "unit": {"type": "string"},
                    "days": {"type": "integer"}},
                   script='#!/bin/sh\nfor word; do printf "<%s>" "$word"; done; cat\n')
        got = self.result("show", city="$(touch x); `id` 'q' \"", days=-3)
        words, _, rest = got.partition("{\"")
        self.assertEqual(words, "<--city=$(touch x); `id` 'q' \"><-3><{literal}><end>")
        self.assertEqual(json.loads("{\"" + rest), {"city": "$(touch x); `id` 'q' \"", "days": -3})
        self.assertFalse(os.path.exists(self.home + "/x"))

    def test_what_the_model_says_becomes_no_option(self):
        self.ready("find", ["printf", "%s", "{what}"], {"what": {"type": "string"}})
        self.assertEqual(self.error("find", what="--version"), "an argument must not begin with -")
        self.ready("find2", ["printf", "--", "<{what}>%s", "{what}"], {"what": {"type": "string"}})
        self.assertEqual(self.result("find2", what="--version"), "<--version>--version")
        self.ready("find3", ["printf", "%s", "{a}{b}", "{a}-c"],
                   {"a": {"type": "string"}, "b": {"type": "string"}})
        for how in ({"a": "", "b": "-v"}, {"b": "-v"}, {"a": "-v", "b": ""}, {"a": "", "b": "x"}):
            self.assertEqual(self.error("find3", **how), "an argument must not begin with -", how)
        self.assertEqual(self.result("find3", a="x", b="-v"), "x-vx-c")

    def test_arguments_are_held_to_the_schema(self):
        self.ready("roll", ["echo", "{n}"], {"n": {"type": "integer", "minimum": 1, "maximum": 6}})
        self.assertEqual(self.result("roll", n=6), "6")
        self.assertEqual(self.error("roll", n=7), "n must be at most 6")
        self.assertEqual(self.error("roll", n="6"), "n must be of type integer")
        self.assertEqual(self.error("roll", m=1), "there is no parameter m")

    def test_the_environment_is_clean(self):
        os.environ["SECRET"] = "password"
        self.addCleanup(os.environ.pop, "SECRET")
        self.ready("env", ["env"], env={"MINE": "yes", "LANG": "C"})
        got = dict(line.split("=", 1) for line in self.result("env").splitlines())
        self.assertEqual((got["MINE"], got["LANG"], got["HOME"]), ("yes", "C", self.home))
        self.assertNotIn("SECRET", got)

    def test_json_is_handed_on_as_it_is(self):
        self.ready("weather", ["echo", '{"degrees": 3, "sky": ["grey"]}'])
        self.assertEqual(self.result("weather"), {"degrees": 3, "sky": ["grey"]})
        self.ready("quiet", ["true"])
        self.assertEqual(self.run_tool("quiet"), {"ok": True})

    def test_time_output_and_failure_have_limits(self):
        self.ready("slow", ["./slow.sh"],
                   script="#!/bin/sh\nsleep 1000 & echo $! >\"$HOME/pid\"; sleep 1000\n",
                   timeout_seconds=1)
        self.assertEqual(self.error("slow"), "it took longer than 1 s")
        with open(self.home + "/pid") as file:
            pid = int(file.read())  # what it had started has gone with it
        wait_for(lambda: has_ended(pid), "its end")
        self.ready("yes", ["yes"])
        self.assertEqual(self.error("yes"), "it prints more than 64 KB")
        self.ready("fail", ["./fail.sh"],
                   script="#!/bin/sh\necho partly; printf 'no\\033[31m such city' >&2; exit 3\n")
        self.assertEqual(self.error("fail"), "it ended with 3: no?[31m such city")
        self.ready("dead", ["./dead.sh"], script="#!/bin/sh\nkill -9 $$\n")
        self.assertEqual(self.error("dead"), "it ended by signal 9")
        self.ready("gone", ["/nowhere/gone"])
        self.assertIn("/nowhere/gone", self.error("gone"))
        self.ready("deaf", ["./deaf.sh"], script="#!/bin/sh\nexec <&-; sleep 0.2; echo well\n",
                   properties={"text": {"type": "string"}})
        self.assertEqual(self.result("deaf", text="x" * 60000), "well")

    def test_what_it_leaves_behind_holds_nobody_up(self):
        self.ready("leave", ["./leave.sh"], script="#!/bin/sh\nsleep 1000 &\necho done\n")
        before = time.monotonic()
        self.assertEqual(self.result("leave"), "done")
        self.assertLess(time.monotonic() - before, PATIENCE)

    def test_at_a_terminal_one_is_shown_what_would_be_run(self):
        self.tool("show", ["echo", "--city={city}", "{unit}"],
                  {"city": {"type": "string"}, "unit": {"type": "string"}})
        terminal = Terminal(LFMCTL, "tools", "run", "show", json.dumps({"city": "a 'b' \x1b[31m"}),
                            environment=dict(os.environ, TERM="xterm", NO_COLOR="1"))
        terminal.expect("Run show?", "  echo '--city=a '\\''b'\\'' ?[31m'", "city: a 'b' ?[31m",
                        "tools/show.json)", "[y/n/a] ")
        terminal.send("x")  # is no answer
        terminal.send("y")
        terminal.expect("yes", "show is done.", "--city=a 'b' ?[31m")
        self.assertEqual(terminal.status(), 0)

    def test_another_command_under_the_same_name_is_another_tool(self):
        self.ready("hello", ["echo", "one"])
        self.assertEqual(self.result("hello"), "one")
        self.tool("hello", ["echo", "two"])
        self.assertEqual(self.error("hello"), "not allowed")

    def test_files_that_are_wrong_are_told_and_left_out(self):
        folder = self.config + "/tools/"
        good = {"description": "d", "command": ["true"]}
        wrong = {
            "a": ("", "is no JSON"), "b": ("{", "is no JSON: it ends"),
            "c": ("[]", "holds no JSON object"),
            "d": (dict(good, comand=[]), "nothing is known of 'comand'"),
            "e": (dict(good, command="rm -rf ~"), "command must be a list of texts"),
            "f": (dict(good, command=[]), "command must be a list"),
            "g": (dict(good, command=["{program}"]), "which program is run cannot be an argument"),
            "h": (dict(good, timeout_seconds=0), "timeout_seconds must be"),
            "i": (dict(good, env={"A": 1}), "env must be"),
            "j": (dict(good, name="a b"), "the name must be"),
            "k": (dict(good, name="set_volume"), "there is a tool set_volume already"),
            "l": (dict(good, parameters={"type": "array"}), "not of type object"),
            "m": (dict(good, description=5), "description must be"),
            "n": ('{"description": "d", "command": ["true"]} more', "is no JSON"),
            "o": ('{"description": "\udcff", "command": ["true"]}', "is no JSON"),
            "p": ("x" * 70000, "no file of at most 64 KB"),
            "q": ('{"a": ' * 60 + "1" + "}" * 60, "is no JSON"),
        }
        for name, (text, _) in wrong.items():
            os.makedirs(folder, exist_ok=True)
            with open(folder + name + ".json", "w", errors="surrogateescape") as file:
                file.write(text if isinstance(text, str) else json.dumps(text))
        write(folder + "r.json", good, 0o666)
        os.mkdir(folder + "s.json")
        os.mkfifo(folder + "t.json")
        os.symlink("/dev/zero", folder + "u.json")
        write(folder + "z.json", good)
        tools, problems = self.listed()
        self.assertEqual(set(tools), set(BUILT_IN) | {"z"})
        lines = dict(re.findall(r"lfmctl: '.*/(\w)\.json'(.*)", problems))
        for name, (_, expected) in wrong.items():
            self.assertIn(expected, lines[name])
        self.assertIn("can be written by others", lines["r"])
        self.assertEqual(set(lines), set(wrong) | set("rstu"))

    def test_a_folder_that_others_can_write_is_not_used(self):
        self.ready("hello", ["./hello.sh"], script="#!/bin/sh\necho hello\n")
        for mode in (0o777, 0o1777, 0o775):
            os.chmod(self.config + "/tools", mode)
            tools, problems = self.listed()
            self.assertNotIn("hello", tools)
            self.assertIn("/tools' can be written by others: its tools are not used.", problems)
        os.chmod(self.config + "/tools", 0o755)
        self.assertEqual(self.result("hello"), "hello")

    def test_changed_files_harm_nobody(self):
        chance = random.Random(1)
        text = json.dumps({"name": "x", "description": "d", "timeout_seconds": 5, "env": {"A": "b"},
                           "command": ["true", "{a}"],
                           "parameters": {"type": "object", "required": ["a"], "properties": {
                               "a": {"type": "string", "maxLength": 3, "enum": ["x"],
                                     "anyOf": [{"$ref": "#/x"}]}}}})
        for batch in range(10):
            for number in range(60):
                data = bytearray(text.encode())
                for _ in range(chance.randint(1, 4)):
                    at = chance.randrange(len(data))
                    data[at:at + chance.choice((0, 1, 1, 3))] = chance.choice(
                        (b"", b"{", b"]", b'"', b"\\u0000", b"\xff", b"1e999", b"null", b":",
                         b"9" * 30, b"[" * 40))
                os.makedirs(self.config + "/tools", exist_ok=True)
                with open(self.config + "/tools/m%d.json" % number, "wb") as file:
                    file.write(data)
            tools, _ = self.listed()
            self.assertLessEqual(set(BUILT_IN), set(tools))


class Mcp(Case):
    def servers(self, **servers):
        write(self.config + "/mcp.json", {"mcpServers": servers})

    def server(self, how="", **more):
        return dict({"command": sys.executable,
                     "args": [HERE + "/mcp_server.py"] + ([how] if how else []),
                     "timeout_seconds": 30}, **more)

    def bad(self, how, **more):
        """What is said of a server, and that nothing of it is offered."""
        self.servers(bad=self.server(how, **dict({"timeout_seconds": 2}, **more)))
        tools, problems = self.listed()
        self.assertFalse([name for name in tools if name.startswith("bad_")])
        return problems

    def call_error(self, how):
        self.servers(bad=self.server(how, timeout_seconds=2))
        self.allow("bad_add")
        return self.error("bad_add", a=1, b=2)

    def test_its_tools_are_listed_and_called(self):
        os.environ["SECRET"] = "password"
        self.addCleanup(os.environ.pop, "SECRET")
        self.servers(test=self.server(env={"MINE": "yes"}), off=self.server("dies", disabled=True))
        tools, problems = self.listed()
        self.assertEqual(problems, "")
        self.assertEqual([name for name in tools if name not in BUILT_IN],
                         ["test_add", "test_who_am_i"])
        self.assertEqual(tools["test_add"]["origin"], "MCP server test")
        self.assertEqual(self.error("test_add", a=1, b=2), "not allowed")
        self.allow("test_add", "test_who_am_i")
        self.assertEqual(self.result("test_add", a=1, b=2.5), "3.5")
        self.assertEqual(self.error("test_add", a=1), "b is missing")
        self.assertEqual(self.error("test_add", a=1, b="2"), "b must be of type number")
        environment = json.loads(self.result("test_who_am_i"))
        self.assertEqual(environment["MINE"], "yes")
        self.assertNotIn("SECRET", environment)

    def test_a_server_that_never_comes_up_is_told(self):
        self.assertIn("The MCP server bad does not answer; it says: ready for you.",
                      self.bad("hangs"))
        self.assertIn("has ended with 1; it says: ready for you the disk is on fire.",
                      self.bad("dies"))
        for how in "floods", "sends empty lines":
            self.assertIn("sends without end what nobody has asked for",
                          self.bad(how, timeout_seconds=60))
        self.assertIn("sends a line of more than 1 MB",
                      self.bad("never ends a line", timeout_seconds=60))
        self.assertIn("speaks MCP '1999-01-01', which is not known here", self.bad("is old"))
        self.assertIn("has no tools", self.bad("has no tools"))
        self.assertIn("gives no list of tools", self.bad("lists nothing"))
        self.assertIn("has closed its output", self.bad("closes"))
        self.assertIn("cannot be started", self.bad("", command="/nowhere/server"))
        self.servers(bad={"url": "https://example.org/mcp"})
        self.assertIn("has no command; only servers over stdio", self.listed()[1])

    def test_others_are_there_all_the_same(self):
        self.servers(one=self.server("hangs", timeout_seconds=1), two=self.server(),
                     three=self.server("dies"))
        tools, problems = self.listed()
        self.assertIn("two_add", tools)
        self.assertEqual(len(problems.splitlines()), 2)

    def test_rubbish_between_the_lines_is_skipped(self):
        self.servers(odd=self.server("speaks rubbish"))
        self.allow("odd_add")
        self.assertEqual(self.result("odd_add", a=1, b=2), "3")
        self.servers(odd=self.server("answers others"))
        self.allow("odd_add")
        self.assertEqual(self.result("odd_add", a=1, b=2), "3")

    def test_odd_tools_are_left_out(self):
        self.servers(odd=self.server("lists oddly"))
        tools, problems = self.listed()
        self.assertEqual([name for name in tools if name not in BUILT_IN],
                         ["odd____x", "odd_ok", "odd_self"])
        self.assertEqual(tools["odd_self"]["description"], "?[31m?red")
        self.assertIn("There are two tools odd_ok", problems)
        self.assertIn("tool big: The parameters take", problems)
        self.assertIn("tool dash: The parameter 'max-results' cannot be written", problems)
        self.servers(odd=self.server("lists without end"))
        self.assertEqual(len([name for name in self.listed()[0] if name.startswith("odd_")]), 16)

    def test_a_call_that_goes_wrong_says_how(self):
        self.assertEqual(self.call_error("hangs in a call"),
                         "the MCP server bad does not answer; it says: ready for you")
        self.assertEqual(self.call_error("dies in a call"),
                         "the MCP server bad has ended by signal 9; it says: ready for you")
        self.assertIn("sends a line of more than 1 MB",
                      self.call_error("answers in too long a line"))
        self.assertIn("refuses: not today", self.call_error("refuses"))
        self.assertIn("refuses: no result", self.call_error("answers with text"))
        self.assertEqual(self.call_error("fails"), "no such number")

    def test_complaints_are_read_at_our_own_pace(self):
        self.servers(odd=self.server("complains without end"))
        self.allow("odd_add")
        self.assertLess(int(self.result("odd_add", a=1, b=2)), 16 << 20)

    def test_odd_answers_become_text(self):
        self.servers(odd=self.server("answers oddly"))
        self.allow("odd_add")
        self.assertEqual(self.result("odd_add", a=1, b=2), "()\n()\n()\n(image)\n()\n(text)\n?bell")
        self.servers(odd=self.server("answers much"))
        self.allow("odd_add")
        self.assertLess(len(self.result("odd_add", a=1, b=2)), 20000)

    def test_a_tool_that_changes_must_be_allowed_again(self):
        self.servers(x=self.server("changes", env={"TAG": "1"}))
        self.allow("x_add")
        self.assertEqual(self.result("x_add", a=1, b=2), "3")
        self.servers(x=self.server("changes", env={"TAG": "2"}))
        self.assertEqual(self.error("x_add", a=1, b=2), "not allowed")

    def test_nothing_of_a_server_is_left(self):
        self.servers(test=self.server(), bad=self.server("hangs", timeout_seconds=1))
        self.listed()
        found = subprocess.run(["pgrep", "-f", HERE + "/mcp_server.py"], capture_output=True,
                               text=True).stdout.split()
        wait_for(lambda: all(map(has_ended, found)), "the end of the servers")

    def test_changed_answers_harm_nobody(self):
        for batch in range(4):
            servers = {"s%d" % number: self.server("changes bytes", timeout_seconds=1,
                                                   env={"SEED": "%d" % (12 * batch + number)})
                       for number in range(12)}
            self.servers(**servers)
            tools, _ = self.listed()
            self.assertLessEqual(set(BUILT_IN), set(tools))
            for name in [name for name in tools if name.endswith("_add")][:3]:
                self.allow(name)
                self.assertTrue({"result", "error", "ok"} & set(self.run_tool(name, a=1, b=2)))

    def test_a_wrong_file_is_told(self):
        for text, expected in (("{", "is no JSON"), ("[]", "holds no JSON object"),
                               ("{}", 'has no object "mcpServers"'),
                               ({"mcpServers": {"a b": {"command": "x"}}},
                                "must be made of at most 32 letters"),
                               ({"mcpServers": {"a": 5}}, "has no command"),
                               ({"mcpServers": {"a": {"command": "x", "args": "y"}}},
                                "args must be a list of texts"),
                               ({"mcpServers": {"a": {"command": "x", "timeout_seconds": "soon"}}},
                                "whole number"),
                               ({"mcpServers": {"a%d" % i: {"command": "true"} for i in range(17)}},
                                "more than 16")):
            write(self.config + "/mcp.json", text)
            self.assertIn(expected, self.listed()[1])


class Sound(Case):
    def pulse(self):
        server = sound.Server(self.home, silent=True)
        self.addCleanup(server.log.close)
        self.processes += server.processes
        return server.control

    def level(self, pactl):
        return [int(part) for part in re.findall(r"(\d+)%", pactl("get-sink-volume", "spk"))]

    def test_the_volume_is_told_set_and_set_back(self):
        pactl = self.pulse()
        self.allow("set_volume")
        pactl("set-sink-volume", "spk", "80%", "40%")
        pactl("set-sink-mute", "spk", "1")
        self.assertEqual(self.run_tool("get_volume"), {"result": 80, "muted": True})
        self.assertEqual(self.run_tool("set_volume", level=50), {"ok": True})
        self.assertEqual(self.level(pactl), [50, 25])  # the balance stays
        self.assertEqual(self.run_tool("get_volume"), {"result": 50})
        pactl("set-default-sink", "room")
        self.assertEqual(self.tools("undo").returncode, 0)
        self.assertEqual(self.level(pactl), [80, 40])
        self.assertIn("yes", pactl("get-sink-mute", "spk"))
        for level in (-1, 101, 10**15):
            self.assertEqual(self.error("set_volume", level=level),
                             "the volume is between 0 and 100")

    def test_a_sound_server_that_is_not_there_or_hangs_is_told(self):
        self.assertEqual(self.error("get_volume"), "no sound server")
        silent = socket.socket(socket.AF_UNIX)
        silent.bind(self.home + "/silent")
        silent.listen()
        os.environ["PULSE_SERVER"] = "unix:" + self.home + "/silent"
        self.addCleanup(os.environ.pop, "PULSE_SERVER")
        self.assertEqual(self.error("get_volume"), "the sound server does not answer")
        silent.close()


BAD_PLAYER = """
import sys, dbus, dbus.service, dbus.mainloop.glib
from gi.repository import GLib
dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
class Player(dbus.service.Object):
    @dbus.service.method("org.freedesktop.DBus.Properties", in_signature="s", out_signature="a{sv}")
    def GetAll(self, interface):
        return {"PlaybackStatus": "Playing", "CanPause": 7, "Metadata": dbus.Dictionary({
            "xesam:title": "\\x1b[31m" + "x" * 100000, "xesam:artist": dbus.Int32(3)},
            signature="sv")}
bus = dbus.SessionBus()
name = dbus.service.BusName("org.mpris.MediaPlayer2.bad", bus)
player = Player(bus, "/org/mpris/MediaPlayer2")
print("ready", flush=True)
GLib.MainLoop().run()
"""


@unittest.skipUnless(shutil.which("cmus"), "cmus is not installed")
class Player(Case):
    def setUp(self):
        super().setUp()
        # Nothing is heard; the two songs have names.
        write(self.home + "/.config/cmus/rc", "set output_plugin=pulse\n")
        server = sound.Server(self.home, silent=True)
        self.addCleanup(server.log.close)
        self.processes += server.processes
        for number, title in (1, "First"), (2, "Second"):
            self.song(self.home + "/%d.wav" % number, title)
        self.player = self.start("script", "-qfc", "TERM=xterm exec cmus", "/dev/null",
                                 stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        wait_for(lambda: self.status() is not None, "cmus")
        self.remote("player-play %s/1.wav" % self.home, "add -q %s/2.wav" % self.home)
        wait_for(lambda: self.status() == "playing", "music")

    def tearDown(self):
        self.remote("quit")
        self.player.stdin.close()
        super().tearDown()

    def song(self, path, title):
        def chunk(name, data):
            return name + len(data).to_bytes(4, "little") + data + b"\0" * (len(data) % 2)

        info = chunk(b"LIST", b"INFO" + chunk(b"INAM", title.encode()) + chunk(b"IART", b"Nobody"))
        body = b"WAVE" + chunk(b"fmt ", b"\1\0\1\0\x40\x1f\0\0\x80\x3e\0\0\2\0\x10\0") + info + \
            chunk(b"data", bytes(16000 * 60))
        with open(path, "wb") as file:
            file.write(chunk(b"RIFF", body))

    def remote(self, *commands):
        for command in commands:
            subprocess.run(["cmus-remote", "-C", command], capture_output=True)

    def status(self):
        got = subprocess.run(["cmus-remote", "-Q"], capture_output=True, text=True)
        return got.stdout.split()[1] if got.returncode == 0 else None

    def test_it_is_paused_goes_on_and_changes_songs(self):
        self.allow("media_control")
        first = self.result("now_playing")
        self.assertEqual((first["player"], first["state"]), ("cmus", "Playing"))
        self.assertRegex(first["playing"], "^(First|Second)")
        for action, status in [("pause", "paused"), ("play", "playing"), ("toggle", "paused"),
                               ("toggle", "playing")]:
            self.assertEqual(self.run_tool("media_control", action=action), {"ok": True})
            wait_for(lambda: self.status() == status, status)
        self.assertEqual(self.tools("undo").returncode, 0)
        wait_for(lambda: self.status() == "paused", "undone")
        self.assertEqual(self.error("media_control", action="pause"), "cmus is paused already")
        self.run_tool("media_control", action="next")
        wait_for(lambda: self.result("now_playing")["playing"] != first["playing"],
                 "the other song")
        self.assertIn("action must be one of", self.error("media_control", action="eject"))

    def test_players_that_lie_or_hang_harm_nobody(self):
        self.remote("player-pause")
        bad = self.start(sys.executable, "-c", BAD_PLAYER, stdout=subprocess.PIPE, text=True)
        bad.stdout.readline()
        got = self.result("now_playing")
        self.assertEqual(got["player"], "bad")
        self.assertEqual(got["playing"], "?[31m" + "x" * 195 + "…")
        self.allow("media_control")
        self.assertIn("bad does not: ", self.error("media_control", action="pause"))
        bad.send_signal(signal.SIGSTOP)
        self.assertEqual(self.result("now_playing")["player"], "cmus")
        bad.send_signal(signal.SIGCONT)


class NoPlayer(Case):
    def test_that_there_is_none_is_told(self):
        self.assertEqual(self.error("now_playing"), "no player is running")
        before = os.environ["DBUS_SESSION_BUS_ADDRESS"]
        os.environ["DBUS_SESSION_BUS_ADDRESS"] = "unix:path=/nowhere"
        try:
            self.assertIn("the session bus does not answer", self.error("now_playing"))
        finally:
            os.environ["DBUS_SESSION_BUS_ADDRESS"] = before


class Screen(Case):
    """On a screen (Xvfb). SHOTS=FOLDER in the environment keeps a picture of the notification."""

    def setUp(self):
        super().setUp()
        display = self.start("Xvfb", "-displayfd", "1", "-screen", "0", "800x600x24", "-nolisten",
                             "tcp", stdout=subprocess.PIPE)
        os.environ["DISPLAY"] = ":" + display.stdout.readline().decode().strip()

    @unittest.skipUnless(shutil.which("dunst"), "dunst is not installed")
    def test_the_end_of_a_timer_is_shown(self):
        shower = self.start("dunst", "-print", stdout=subprocess.PIPE, text=True)
        wait_for(lambda: "org.freedesktop.Notifications" in subprocess.run(
            ["busctl", "--user", "list"], capture_output=True, text=True).stdout, "dunst")
        self.allow("set_timer")
        got = self.tools("run", "set_timer", '{"seconds": 1}')
        self.assertEqual(got.returncode, 0)
        self.assertIn("The timer of 1 second is over.", got.stderr)
        shown = ""
        while "urgency" not in shown:
            shown += shower.stdout.readline()
        self.assertIn("summary: 'Timer: 1 second'", shown)
        self.assertIn("body: 'The timer of 1 second is over.'", shown)
        self.assertIn("urgency: CRITICAL", shown)
        if "SHOTS" in os.environ:
            time.sleep(1)
            subprocess.run(["import", "-window", "root", os.environ["SHOTS"] + "/timer.png"])

    def test_times_that_cannot_be_are_refused(self):
        self.allow("set_timer", "set_alarm", "cancel_timer")
        for arguments in ({}, {"seconds": 0}, {"hours": 200}, {"minutes": 10**18},
                          {"seconds": -5, "minutes": 1}):
            self.assertIn("error", self.run_tool("set_timer", **arguments))
        for text in "", "7", "24:00", "12:60", "ab:cd", "07:30pm", "-1:30", "07:30:00":
            self.assertEqual(self.error("set_alarm", time=text),
                             "the time must be of the form 07:30")
        self.assertEqual(self.error("cancel_timer", id=3), "there is no timer 3")

    def test_the_clipboard_is_written_and_read(self):
        self.allow("copy_text", "read_clipboard")
        self.assertEqual(self.error("read_clipboard"), "there is no text in the clipboard")
        self.assertEqual(self.run_tool("copy_text", text="Grüße\n-- $(id)"), {"ok": True})
        self.assertEqual(self.result("read_clipboard"), "Grüße\n-- $(id)")
        subprocess.run(["xclip", "-selection", "clipboard"], input=b"\x1b[31m\xffred" * 10000,
                       check=True, stdout=subprocess.DEVNULL)
        got = self.result("read_clipboard")
        self.assertLess(len(got), 20000)
        self.assertTrue(got.startswith("?[31m?red"))
        os.environ.pop("DISPLAY")
        self.assertIn("needs wl-clipboard or xclip, and a display", self.error("read_clipboard"))

    def test_apps_are_found_by_their_names(self):
        folder = self.home + "/.local/share/applications/"
        program = self.home + "/editor"
        write(program, '#!/bin/sh\necho "$# $1" > "$HOME/opened"; echo noise; echo noise >&2\n',
              0o700)
        entry = "[Desktop Entry]\nType=Application\nName=%s\nGenericName=%s\nExec=%s %%u\n%s"
        write(folder + "org.example.Quill.desktop", entry % ("Quill", "Feather pen", program, ""))
        write(folder + "hidden.desktop", entry % ("Hidden", "", program, "NoDisplay=true\n"))
        self.allow("open_app")
        for name in "Quill", "quill", "feather PEN", "editor", "Qui":
            self.assertEqual(self.run_tool("open_app", name=name), {"ok": True})
            wait_for(lambda: os.path.exists(self.home + "/opened"), "the program")
            os.unlink(self.home + "/opened")
        for name in "Hidden", "", "Quill; id", "no such":
            self.assertEqual(self.error("open_app", name=name), "no such app")

    def test_files_are_opened_with_what_opens_such_files(self):
        folder = self.home + "/.local/share/applications/"
        write(self.home + "/editor",
              '#!/bin/sh\necho "$1" > "$HOME/opened.new"; mv "$HOME/opened.new" "$HOME/opened"\n',
              0o700)
        write(folder + "quill.desktop",
              "[Desktop Entry]\nType=Application\nName=Quill\nExec=%s %%f\n"
              "MimeType=text/plain;inode/directory;\n" % (self.home + "/editor"))
        write(self.home + "/.config/mimeapps.list",
              "[Default Applications]\ntext/plain=quill.desktop\n"
              "inode/directory=quill.desktop\n")
        write(self.home + "/Letters/to $(id) you.txt", "Dear\n")
        self.allow("open_file")
        for path in ("Letters/to $(id) you.txt", "~/Letters/to $(id) you.txt",
                     self.home + "/Letters/../Letters", "."):
            self.assertEqual(self.run_tool("open_file", path=path), {"ok": True})
            wait_for(lambda: os.path.exists(self.home + "/opened"), "the program")
            with open(self.home + "/opened") as file:
                self.assertEqual(os.path.realpath(file.read().strip()),
                                 os.path.realpath(os.path.join(self.home, path.replace("~/", ""))))
            os.unlink(self.home + "/opened")
        shutil.copy("/bin/true", self.home + "/tool")
        os.mkfifo(self.home + "/pipe")
        for path, why in [("nothing", "there is no such file"),
                          ("https://example.org", "only files can be opened"),
                          ("tool", "it is a program; programs are opened by their names"),
                          (".local/share/applications/quill.desktop", "it is a program"),
                          ("pipe", "it is no ordinary file"),
                          ("/dev/null", "it is no ordinary file")]:
            self.assertIn(why, self.error("open_file", path=path))


class Conversations(Case):
    """With lfmd's own model, at a terminal."""

    def setUp(self):
        super().setUp()
        write(self.home + "/lfmd.conf",
              "[models]\ndirectories = %s/models\ndefault = lfmd-core\n" % ROOT)
        self.start(DAEMON, "--config", self.home + "/lfmd.conf")
        wait_for(lambda: subprocess.run([LFMCTL, "status"], capture_output=True).returncode == 0,
                 "the daemon")

    def at_terminal(self, *words):
        return Terminal(LFMCTL, *words, environment=dict(os.environ, TERM="xterm", NO_COLOR="1"))

    def notes(self):
        folder = self.home + "/.local/share/lfmd/notes"
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []

    def test_one_is_asked_and_it_is_done(self):
        terminal = self.at_terminal("ask", "Write a note: buy milk")
        terminal.expect("add_note(text=", "Write a note?", "text: buy milk", "[y/n/a] ")
        self.assertEqual(self.notes(), [])
        terminal.send("y")
        terminal.expect("yes", "Noted: ", "buy milk")
        self.assertEqual(terminal.status(), 0)
        self.assertEqual(len(self.notes()), 1)

    def test_no_is_no_and_the_model_hears_of_it(self):
        for key in "n", "\r", "\x1b":
            terminal = self.at_terminal("ask", "Write a note: buy milk")
            terminal.expect("[y/n/a] ").send(key)
            terminal.expect("no", "the user said no", "That did not work")
            self.assertEqual(terminal.status(), 0)
        terminal = self.at_terminal("ask", "Write a note: buy milk")
        terminal.expect("[y/n/a] ").send("\x03")
        self.assertEqual(terminal.status(), 130)
        self.assertEqual(self.notes(), [])

    def test_always_is_not_asked_again_also_without_a_terminal(self):
        without = subprocess.run([LFMCTL, "ask", "Write a note: buy milk"], capture_output=True,
                                 text=True, stdin=subprocess.DEVNULL, start_new_session=True)
        self.assertIn("lfmctl tools allow add_note", without.stderr)
        self.assertEqual(self.notes(), [])
        terminal = self.at_terminal("ask", "Write a note: buy milk")
        terminal.expect("[y/n/a] ").send("a")
        self.assertEqual(terminal.expect("always").status(), 0)
        without = subprocess.run([LFMCTL, "ask", "Write a note: buy milk"], capture_output=True,
                                 text=True, stdin=subprocess.DEVNULL, start_new_session=True)
        self.assertIn("Noted: buy milk.", without.stdout)
        self.assertEqual(len(self.notes()), 2)

    def test_a_timer_runs_while_one_chats_and_tells_its_end_at_the_prompt(self):
        terminal = self.at_terminal("chat")
        terminal.expect("> ").send("set a timer for two seconds\r")
        terminal.expect("set_timer(seconds=2)", "Start a timer?", "seconds: 2",
                        "[y/n/a] ").send("y")
        terminal.expect("I started a timer for 2 seconds.", "> ").send("what")
        terminal.expect("The timer of 2 seconds is over.", "> ", "what")
        terminal.send("\x03")
        terminal.expect("^C", "> ").send("\x04")
        self.assertEqual(terminal.status(), 0)

    def test_leaving_waits_for_timers_until_control_c(self):
        self.allow("set_timer")
        terminal = self.at_terminal("ask", "set a timer for ten minutes")
        terminal.expect("I started a timer for 10 minutes.", "waiting for 1 timer").send("\x03")
        self.assertEqual(terminal.status(), 130)

    def test_no_server_is_started_for_a_model_that_will_not_get_its_tools(self):
        write(self.config + "/mcp.json",
              {"mcpServers": {"x": {"command": "touch", "args": [self.home + "/started"]}}})
        subprocess.run([LFMCTL, "ask", "hello"], stdin=subprocess.DEVNULL, capture_output=True,
                       check=True)
        self.assertFalse(os.path.exists(self.home + "/started"))

    def test_sums_need_no_leave(self):
        got = subprocess.run([LFMCTL, "ask", "what is 12 times 12"], capture_output=True, text=True,
                             stdin=subprocess.DEVNULL)
        self.assertIn("144", got.stdout)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
