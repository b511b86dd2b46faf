# SPDX-License-Identifier: MIT
"""What an assistant can do on the desktop, through `lfmctl tools` and conversations: files of the user, MCP
servers good and bad, PulseAudio, a real player (cmus), a real notification service (dunst), the clipboard of
a real X server, a terminal at which one is asked.

usage: dbus-run-session -- /usr/bin/python3 test_tools.py LFMCTL DAEMON SOURCE_ROOT [TEST...]
"""
import json
import os
import pty
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import wave

LFMCTL, DAEMON, ROOT = sys.argv[1:4]
HERE = os.path.dirname(os.path.abspath(__file__))
PATIENCE = 60
BUILT_IN = ["set_alarm", "set_timer", "list_timers", "cancel_timer", "set_volume", "get_volume", "open_app", "open_file",
            "add_note", "list_notes", "read_note", "remove_note", "calculate", "get_time", "media_control", "now_playing",
            "copy_text", "read_clipboard"]


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
        for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "DISPLAY", "WAYLAND_DISPLAY"):
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
        return subprocess.run([LFMCTL, "tools", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
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
        self.assertEqual(harmless, {"list_timers", "get_volume", "calculate", "get_time", "now_playing"})
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
                         [("add_note", "allowed", True, True), ("remove_note", "refused", False, False)])
        self.assertEqual(self.tools("undo").returncode, 0)
        self.assertEqual(self.result("list_notes"), [])
        self.assertEqual(self.tools("undo").returncode, 1)
        self.assertIn("(can be undone)", self.tools("run", "add_note", '{"text": "two"}') and self.tools("log").stdout)

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
        lines = ["rubbish", "[]", "{}", '{"id": 5, "undo": {}}', '{"id": "11111111", "tool": "add_note", "undo": 7}',
                 '{"id": "22222222", "tool": "add_note", "undo": {"name": "../../../x"}, "ok": true}',
                 '{"id": "33333333", "tool": "set_volume", "undo": {"level": 1e99, "sink": []}, "ok": true}',
                 '{"id": "44444444", "tool": "media_control", "undo": {"player": "x y", "method": "Quit"}, "ok": true}',
                 '{"id": "55555555", "tool": "none", "undo": {}, "ok": true}', "[" * 10000, "x" * 70000]
        with open(state + "tools.log", "a") as file:
            file.write("\n".join(lines) + "\n")
        self.assertTrue(any(record.get("tool") == "add_note" and record.get("undoable") for record in self.log()))
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
                   {"city": {"type": "string"}, "unit": {"type": "string"}, "days": {"type": "integer"}},
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
        self.ready("slow", ["./slow.sh"], script="#!/bin/sh\nsleep 1000 & echo $! >\"$HOME/pid\"; sleep 1000\n",
                   timeout_seconds=1)
        self.assertEqual(self.error("slow"), "it took longer than 1 s")
        with open(self.home + "/pid") as file:
            pid = int(file.read())  # what it had started has gone with it
        wait_for(lambda: has_ended(pid), "its end")
        self.ready("yes", ["yes"])
        self.assertEqual(self.error("yes"), "it prints more than 64 KB")
        self.ready("fail", ["./fail.sh"], script="#!/bin/sh\necho partly; printf 'no\\033[31m such city' >&2; exit 3\n")
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

    def test_another_command_under_the_same_name_is_another_tool(self):
        self.ready("hello", ["echo", "one"])
        self.assertEqual(self.result("hello"), "one")
        self.tool("hello", ["echo", "two"])
        self.assertEqual(self.error("hello"), "not allowed")

    def test_files_that_are_wrong_are_told_and_left_out(self):
        folder = self.config + "/tools/"
        good = {"description": "d", "command": ["true"]}
        wrong = {
            "a": ("", "is no JSON"), "b": ("{", "is no JSON: it ends"), "c": ("[]", "holds no JSON object"),
            "d": (dict(good, comand=[]), "nothing is known of 'comand'"),
            "e": (dict(good, command="rm -rf ~"), "command must be a list of texts"),
            "f": (dict(good, command=[]), "command must be a list"),
            "g": (dict(good, command=["{program}"]), "which program is run cannot be an argument"),
            "h": (dict(good, timeout_seconds=0), "timeout_seconds must be"),
            "i": (dict(good, env={"A": 1}), "env must be"), "j": (dict(good, name="a b"), "the name must be"),
            "k": (dict(good, name="set_volume"), "there is a tool set_volume already"),
            "l": (dict(good, parameters={"type": "array"}), "not of type object"),
            "m": (dict(good, description=5), "description must be"),
            "n": ('{"description": "d", "command": ["true"]} more', "is no JSON"),
            "o": ('{"description": "\udcff", "command": ["true"]}', "is no JSON"),
            "p": ("x" * 70000, "no file of at most 64 KB"), "q": ('{"a": ' * 60 + "1" + "}" * 60, "is no JSON"),
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

    def test_changed_files_harm_nobody(self):
        chance = random.Random(1)
        text = json.dumps({"name": "x", "description": "d", "timeout_seconds": 5, "env": {"A": "b"},
                           "command": ["true", "{a}"], "parameters": {"type": "object", "required": ["a"], "properties": {
                               "a": {"type": "string", "maxLength": 3, "enum": ["x"], "anyOf": [{"$ref": "#/x"}]}}}})
        for batch in range(10):
            for number in range(60):
                data = bytearray(text.encode())
                for _ in range(chance.randint(1, 4)):
                    at = chance.randrange(len(data))
                    data[at:at + chance.choice((0, 1, 1, 3))] = chance.choice(
                        (b"", b"{", b"]", b'"', b"\\u0000", b"\xff", b"1e999", b"null", b":", b"9" * 30, b"[" * 40))
                os.makedirs(self.config + "/tools", exist_ok=True)
                with open(self.config + "/tools/m%d.json" % number, "wb") as file:
                    file.write(data)
            tools, _ = self.listed()
            self.assertLessEqual(set(BUILT_IN), set(tools))


class Mcp(Case):
    def servers(self, **servers):
        write(self.config + "/mcp.json", {"mcpServers": servers})

    def server(self, how="", **more):
        return dict({"command": sys.executable, "args": [HERE + "/mcp_server.py"] + ([how] if how else []),
                     "timeout_seconds": 30}, **more)

    def bad(self, how, **more):
        """What is said of a server, and that nothing of it is offered."""
        self.servers(bad=self.server(how, timeout_seconds=2, **more))
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
        self.assertEqual([name for name in tools if name not in BUILT_IN], ["test_add", "test_who_am_i"])
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
        self.assertIn("The MCP server bad does not answer; it says: ready for you.", self.bad("hangs"))
        self.assertIn("has ended with 1; it says: ready for you the disk is on fire.", self.bad("dies"))
        self.assertIn("sends without end what nobody has asked for", self.bad("floods"))
        self.assertIn("sends a line of more than 1 MB", self.bad("never ends a line"))
        self.assertIn("speaks MCP '1999-01-01', which is not known here", self.bad("is old"))
        self.assertIn("has no tools", self.bad("has no tools"))
        self.assertIn("gives no list of tools", self.bad("lists nothing"))
        self.assertIn("has closed its output", self.bad("closes"))
        self.assertIn("cannot be started", self.bad("", command="/nowhere/server"))
        self.servers(bad={"url": "https://example.org/mcp"})
        self.assertIn("has no command; only servers over stdio", self.listed()[1])

    def test_others_are_there_all_the_same(self):
        self.servers(one=self.server("hangs", timeout_seconds=1), two=self.server(), three=self.server("dies"))
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
        self.assertEqual([name for name in tools if name not in BUILT_IN], ["odd____x", "odd_ok", "odd_self"])
        self.assertEqual(tools["odd_self"]["description"], "?[31m?red")
        self.assertIn("There are two tools odd_ok", problems)
        self.assertIn("tool big: The parameters take", problems)
        self.servers(odd=self.server("lists without end"))
        self.assertEqual(len([name for name in self.listed()[0] if name.startswith("odd_")]), 16)

    def test_a_call_that_goes_wrong_says_how(self):
        self.assertEqual(self.call_error("hangs in a call"), "the MCP server bad does not answer; it says: ready for you")
        self.assertEqual(self.call_error("dies in a call"),
                         "the MCP server bad has ended by signal 9; it says: ready for you")
        self.assertIn("sends a line of more than 1 MB", self.call_error("answers in too long a line"))
        self.assertIn("refuses: not today", self.call_error("refuses"))
        self.assertIn("refuses: no result", self.call_error("answers with text"))
        self.assertEqual(self.call_error("fails"), "no such number")

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
        found = subprocess.run(["pgrep", "-f", HERE + "/mcp_server.py"], capture_output=True, text=True).stdout.split()
        wait_for(lambda: all(map(has_ended, found)), "the end of the servers")

    def test_a_wrong_file_is_told(self):
        for text, expected in (("{", "is no JSON"), ("[]", "holds no JSON object"), ("{}", 'has no object "mcpServers"'),
                               ({"mcpServers": {"a b": {"command": "x"}}}, "must be made of at most 32 letters"),
                               ({"mcpServers": {"a": 5}}, "has no command"),
                               ({"mcpServers": {"a": {"command": "x", "args": "y"}}}, "args must be a list of texts"),
                               ({"mcpServers": {"a": {"command": "x", "timeout_seconds": "soon"}}}, "whole number"),
                               ({"mcpServers": {"a%d" % i: {"command": "true"} for i in range(17)}}, "more than 16")):
            write(self.config + "/mcp.json", text)
            self.assertIn(expected, self.listed()[1])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
