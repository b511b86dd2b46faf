# SPDX-License-Identifier: MIT
"""The real daemon with the model of this repository, on a private bus, asked by an independent
client.

usage: dbus-run-session -- /usr/bin/python3 test_bus.py DAEMON SOURCE_ROOT
"""
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import xml.etree.ElementTree as ET

import dbus

DAEMON, ROOT = sys.argv[1], sys.argv[2]
NAME, PATH = "org.lfmd.Assistant1", "/org/lfmd/Assistant1"
ERROR = NAME + ".Error."
SANITIZED = (b"__asan_init" in open(DAEMON, "rb").read() or
             b"__tsan_init" in open(DAEMON, "rb").read())


def vardict(**entries):
    return dbus.Dictionary(entries, signature="sv")


def text(words):
    return dbus.Array([vardict(type="text", text=words)], signature="a{sv}")


class Daemon:
    """One daemon with a home of its own; another start of it finds the same state."""

    def __init__(self, home, config="", models=ROOT + "/models"):
        self.home = home
        self.config = os.path.join(home, "lfmd.conf")
        with open(self.config, "w") as file:
            file.write("[models]\ndirectories = %s\n%s" % (models, config))
        self.start()

    def start(self, **more):
        environment = dict(os.environ, XDG_STATE_HOME=self.home + "/state",
                           XDG_DATA_HOME=self.home + "/data", **more)
        with open(self.home + "/log", "a") as log:
            self.process = subprocess.Popen([DAEMON, "--config", self.config], env=environment,
                                            stderr=log)
        self.wait_for_owner(True)

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        status = self.process.wait()
        self.wait_for_owner(False)
        return status

    def wait_for_owner(self, wanted):
        """The bus may notice later than we that the daemon has come or gone."""
        bus = dbus.bus.BusConnection(dbus.bus.BusConnection.TYPE_SESSION)
        while bus.name_has_owner(NAME) != wanted:
            if wanted and self.process.poll() is not None:
                raise RuntimeError(self.log())
            time.sleep(0.01)
        bus.close()

    def log(self):
        with open(self.home + "/log") as log:
            return log.read()

    def descriptors(self):
        return len(os.listdir("/proc/%d/fd" % self.process.pid))

    def resident_kb(self):
        with open("/proc/%d/status" % self.process.pid) as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


class Client:
    """One connection: to the daemon, one program."""

    def __init__(self, address=dbus.bus.BusConnection.TYPE_SESSION):
        self.bus = dbus.bus.BusConnection(address)

    def at(self, path, interface):
        return dbus.Interface(self.bus.get_object(NAME, path, introspect=False), interface)

    @property
    def manager(self):
        return self.at(PATH, NAME + ".Manager")

    def get(self, path, interface, name):
        return self.at(path, "org.freedesktop.DBus.Properties").Get(NAME + "." + interface, name)

    def model(self):
        path = self.get(PATH, "Manager", "DefaultModel")
        return path, self.at(path, NAME + ".Model")

    def session(self, **options):
        return self.at(self.manager.CreateSession(vardict(**options)), NAME + ".Session")

    def close(self):
        self.bus.close()


def wait_until(condition):
    """For what comes by itself; the test's own time limit ends it when it does not."""
    while not condition():
        time.sleep(0.01)


ENDLESS = '{"type": "string", "minLength": 50000}'  # a format whose answer ends with the context


def lines(fd):
    with os.fdopen(fd.take(), "rb") as stream:
        return [json.loads(line) for line in stream]


def ask(session, words, **options):
    fd, _ = session.Ask(text(words), vardict(**options))
    return lines(fd)


class Bus(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.daemon = Daemon(self.folder.name)
        self.client = Client()

    def tearDown(self):
        self.client.close()
        if self.daemon.process.poll() is None:
            self.assertEqual(self.daemon.stop(), 0)
        self.folder.cleanup()

    def refused(self, name, words, function, *arguments):
        with self.assertRaises(dbus.DBusException) as caught:
            function(*arguments)
        self.assertEqual(caught.exception.get_dbus_name(), ERROR + name)
        self.assertIn(words, caught.exception.get_dbus_message())

    def test_a_question_streams_events_until_done(self):
        events = ask(self.client.session(), "set a timer for ten minutes")
        self.assertEqual(events[0]["event"], "start")
        self.assertEqual(events[-1]["event"], "done")
        self.assertEqual([e["turn"] for e in events], [1] * len(events))

    def test_introspection_equals_the_shipped_interfaces(self):
        def shape(interface):
            members = set()
            for member in interface:
                if member.tag == "annotation":
                    continue
                arguments = tuple((a.get("name"), a.get("type"), a.get("direction"))
                                  for a in member.findall("arg"))
                notes = tuple(sorted((a.get("name"), a.get("value"))
                                     for a in member.findall("annotation")
                                     if a.get("name").endswith("EmitsChangedSignal")))
                members.add((member.tag, member.get("name"), member.get("type"),
                             member.get("access"), arguments, notes))
            return members

        shipped = {i.get("name"): shape(i)
                   for i in ET.parse(ROOT + "/ipc/org.lfmd.Assistant1.xml").iter("interface")}
        session = self.client.manager.CreateSession(vardict())
        model = self.client.get(PATH, "Manager", "DefaultModel")
        live = {}
        for path in (PATH, session, model):
            said = self.client.at(path, "org.freedesktop.DBus.Introspectable").Introspect()
            for interface in ET.fromstring(said).iter("interface"):
                if interface.get("name").startswith(NAME):
                    live[interface.get("name")] = shape(interface)
        self.assertEqual(set(live), set(shipped))
        for name in shipped:
            self.assertEqual(live[name], shipped[name], name)

    def test_only_the_owner_sees_and_calls_a_session(self):
        path = self.client.manager.CreateSession(vardict())
        other = Client()
        stranger = other.at(path, NAME + ".Session")
        for call in (stranger.History, stranger.Close,
                     lambda: other.at(path, "org.freedesktop.DBus.Properties").GetAll(
                         NAME + ".Session"),
                     lambda: stranger.Ask(text("hello"), vardict())):
            self.refused("NotAllowed", "belongs to another program", call)
        objects = lambda c: c.at(PATH, "org.freedesktop.DBus.ObjectManager").GetManagedObjects()
        self.assertIn(path, objects(self.client))
        self.assertNotIn(path, objects(other))
        other.close()

    def test_options_are_read_strictly(self):
        create = self.client.manager.CreateSession
        self.refused("InvalidArgument", "'foo'", create, vardict(foo=1))
        # cut in the middle of a character, the sentence could not be sent
        self.refused("InvalidArgument", "xxx", create, vardict(**{"x" * 63 + "\u00e9": 1}))
        self.refused("InvalidArgument", "'keep'", create, vardict(keep="yes"))
        self.refused("InvalidArgument", "'priority'", create, vardict(priority="high"))
        self.refused("InvalidArgument", "'heat'", create,
                     vardict(sampling=vardict(heat=dbus.Double(1))))
        session = self.client.session()
        self.refused("InvalidArgument", "'tools'", session.Ask, text("x"), vardict(tools="x"))
        part = dbus.Array([vardict(type="picture", text="x")], signature="a{sv}")
        self.refused("InvalidArgument", "picture", session.Ask, part, vardict())

    def test_one_program_has_sixteen_sessions_and_closing_makes_room(self):
        sessions = [self.client.session() for _ in range(16)]
        self.refused("Busy", "16", self.client.manager.CreateSession, vardict())
        sessions[0].Close()
        self.client.session()

    def test_a_client_that_leaves_has_its_sessions_closed(self):
        leaving = Client()
        path = leaving.manager.CreateSession(vardict())
        leaving.close()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                self.client.at(path, NAME + ".Session").History()
            except dbus.DBusException as error:
                if error.get_dbus_name() != ERROR + "NotAllowed":
                    return
            time.sleep(0.01)
        self.fail("The session is still there.")

    def test_closing_the_session_ends_the_stream_with_a_last_line(self):
        session = self.client.session()
        fd, _ = session.Ask(text("hello"), vardict())
        session.Close()
        self.assertIn(lines(fd)[-1]["event"], ("error", "done"))

    def test_closing_the_reading_end_cancels_and_leaks_nothing(self):
        session = self.client.session()
        ask(session, "hello")
        before = self.daemon.descriptors()
        for _ in range(15):  # 16 may wait in a session
            fd, _ = session.Ask(text("hello"), vardict())
            os.close(fd.take())
        ask(session, "hello")
        self.assertLessEqual(self.daemon.descriptors(), before)

    def test_a_kept_session_is_there_after_a_restart(self):
        session = self.client.session(keep=True)
        self.assertEqual(ask(session, "hello")[-1]["event"], "done")
        history = session.History()
        [entry] = self.client.manager.ListSessions()
        self.assertEqual(self.daemon.stop(), 0)
        self.daemon.start()
        path = self.client.manager.OpenSession(str(entry["id"]), vardict())
        self.assertEqual(json.loads(self.client.at(path, NAME + ".Session").History()),
                         json.loads(history))

    def test_a_kept_session_moves_to_who_opens_it_unless_it_answers(self):
        path = self.client.manager.CreateSession(vardict(keep=True))
        session = self.client.at(path, NAME + ".Session")
        ask(session, "hello")
        [entry] = self.client.manager.ListSessions()
        other = Client()
        fd, turn = session.Ask(text("hello"), vardict(format=ENDLESS))
        self.refused("Busy", "answering another program", other.manager.OpenSession,
                     str(entry["id"]), vardict())
        session.Cancel(turn)
        self.assertEqual(lines(fd)[-1]["reason"], "cancelled")
        self.assertEqual(other.manager.OpenSession(str(entry["id"]), vardict()), path)
        self.refused("NotAllowed", "belongs to another program", session.History)
        self.assertEqual(ask(other.at(path, NAME + ".Session"), "hello")[-1]["event"], "done")
        mine = self.client.manager.CreateSession(vardict())
        self.refused("Busy", "open already", other.manager.OpenSession,
                     str(self.client.get(mine, "Session", "Id")), vardict())
        other.close()

    def test_signals_of_a_session_go_to_its_owner_alone(self):
        monitor = subprocess.Popen(["dbus-monitor", "--session", "--profile"],
                                   stdout=subprocess.PIPE, text=True)
        monitor.stdout.readline()  # it watches
        path = self.client.manager.CreateSession(vardict())
        ask(self.client.at(path, NAME + ".Session"), "hello")
        members = set()
        for line in monitor.stdout:
            kind, *_, destination, where, interface, member = line.rstrip("\n").split("\t")
            if kind == "sig" and (where == path or member.startswith("Interfaces")):
                self.assertEqual(destination, self.client.bus.get_unique_name())
                members.add(member)
            if member == "TurnFinished":
                break
        monitor.terminate()
        monitor.communicate()
        self.assertEqual(members, {"InterfacesAdded", "PropertiesChanged", "TurnStarted",
                                   "TurnFinished"})

    def test_an_unread_stream_holds_up_nobody_and_loses_nothing(self):
        # 4096 tokens are more lines than pipe and buffer hold; a sanitizer takes minutes for them
        slow = self.client.session(context=dbus.UInt32(512 if SANITIZED else 4096))
        quick = self.client.session()
        fd, _ = slow.Ask(text("hello"), vardict(format=ENDLESS))
        self.assertEqual(ask(quick, "hello")[-1]["event"], "done")
        events = lines(fd)
        self.assertEqual(events[-1]["reason"], "length")
        said = "".join(e["text"] for e in events if e["event"] == "text")
        history = json.loads(slow.History())
        self.assertEqual(history[-1]["content"], said)

    def test_one_program_has_sixty_four_turns(self):
        sessions = [self.client.session(context=dbus.UInt32(8192)) for _ in range(5)]
        unread = [sessions[i % 5].Ask(text("hello"), vardict(format=ENDLESS))[0].take()
                  for i in range(64)]
        self.refused("Busy", "64", sessions[4].Ask, text("hello"), vardict())
        for fd in unread:
            os.close(fd)

    def test_another_file_of_the_same_name_is_told(self):
        folder = self.folder.name + "/data/lfmd/models"
        os.makedirs(folder)

        def put(sha256):
            with open(folder + "/mine.gguf.sha256", "w") as note:
                note.write(sha256 + "  mine.gguf\n")
            shutil.copy(ROOT + "/models/lfmd-core-q8_0.gguf", folder + "/new")
            os.rename(folder + "/new", folder + "/mine.gguf")
            self.client.manager.Rescan()
            self.assertEqual(self.client.get(PATH + "/models/mine", "Model", "Sha256"), sha256)

        put("a" * 64)
        monitor = subprocess.Popen(
            ["dbus-monitor", "--session", "type='signal',path='%s/models/mine'" % PATH],
            stdout=subprocess.PIPE, text=True)
        monitor.stdout.readline()  # it watches
        put("b" * 64)
        said = ""
        while "b" * 64 not in said:
            said = monitor.stdout.readline()
        monitor.terminate()
        monitor.communicate()

    def test_a_model_is_found_by_a_short_name(self):
        path, _ = self.client.model()
        self.assertEqual(self.client.manager.FindModel("lfmd-core"), path)
        session = self.client.manager.CreateSession(vardict(model="lfmd-core"))
        self.assertEqual(self.client.get(session, "Session", "Model"), path)
        absent = self.client.manager.FindModel("LFM2-350M")
        self.assertEqual(self.client.get(absent, "Model", "Id"), "lfm2-350m")
        self.refused("ModelNotFound", "'nonsense'", self.client.manager.FindModel, "nonsense")

    def test_keep_alive_is_told_and_kept(self):
        path, model = self.client.model()
        expires = lambda: self.client.get(path, "Model", "ExpiresTimestamp")
        model.Load()
        now = time.time() * 1e6
        self.assertTrue(now < expires() <= now + 300e6)
        self.assertGreater(self.client.get(path, "Model", "MemoryBytes"), 1000000)
        ask(self.client.session(keep_alive=dbus.Int64(-1)), "hello")
        wait_until(lambda: expires() == 2**63 - 1)
        ask(self.client.session(keep_alive=dbus.Int64(0)), "hello")
        wait_until(lambda: not self.client.get(path, "Model", "Loaded"))
        self.assertEqual((expires(), self.client.get(path, "Model", "MemoryBytes")), (0, 0))

    def test_what_does_not_fit_is_refused_with_the_figures(self):
        with open(self.daemon.config, "a") as file:
            file.write("[engine]\nmemory_max = 1M\nprefix_cache = 0\n")
        self.client.manager.Reload()
        _, model = self.client.model()
        self.refused("NoMemory", "the limit of the configuration is 1.0 MB", model.Load)
        last = ask(self.client.session(), "hello")[-1]
        self.assertEqual((last["event"], last["name"]), ("error", "NoMemory"))

    def test_what_is_said_is_not_in_the_log(self):
        session = self.client.session(keep=True, system="plugh", title="frobozz")
        ask(session, "xyzzy")
        session.Close()
        self.assertEqual(self.daemon.stop(), 0)
        self.assertIn("session was closed", self.daemon.log())
        for word in ("plugh", "frobozz", "xyzzy", ROOT):
            self.assertNotIn(word, self.daemon.log())

    def test_a_thousand_sessions_leave_nothing_behind(self):
        def cycle(n):
            for _ in range(n):
                self.client.session().Close()

        def grows():
            """Where the engine's thread comes late, closed sessions pile up: not with every
            batch."""
            resident = self.daemon.resident_kb()
            cycle(200)
            return self.daemon.resident_kb() - resident > 20

        descriptors = self.daemon.descriptors()
        cycle(200)
        self.assertLessEqual(self.daemon.descriptors(), descriptors)
        if not SANITIZED:
            self.assertFalse(all(grows() for _ in range(10)))

    @unittest.skipIf(SANITIZED, "a sanitizer's memory is not the program's")
    def test_without_a_model_it_is_below_ten_megabytes(self):
        self.client.manager.ListSessions()
        self.assertLess(self.daemon.resident_kb(), 10 * 1000)

    def test_a_wrong_configuration_ends_with_78_and_says_the_line(self):
        bad = os.path.join(self.folder.name, "bad.conf")
        with open(bad, "w") as file:
            file.write("[engine]\nthreads = many\n")
        run = subprocess.run([DAEMON, "--config", bad], stderr=subprocess.PIPE, text=True)
        self.assertEqual(run.returncode, 78)
        self.assertIn("bad.conf:2: The value of 'threads'", run.stderr)

    def test_reload_keeps_the_old_configuration_when_the_new_one_is_wrong(self):
        self.client.manager.Reload()
        with open(self.daemon.config, "a") as file:
            file.write("[daemon]\nidle_exit = soon\n")
        self.refused("InvalidArgument", "idle_exit", self.client.manager.Reload)
        self.client.session()

    def test_systemd_is_told_what_happens(self):
        self.assertEqual(self.daemon.stop(), 0)
        said = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        said.bind(self.folder.name + "/notify")
        self.daemon.start(NOTIFY_SOCKET=self.folder.name + "/notify", WATCHDOG_USEC="300000")

        def wait_for(*words):
            message = ""
            while not all(word in message for word in words):
                message = said.recv(4096).decode()

        wait_for("READY=1")
        wait_for("STATUS=Serving %s." % NAME)
        wait_for("WATCHDOG=1")
        _, model = self.client.model()
        model.Load()
        wait_for("STATUS=Serving %s: lfmd-core-q8_0 is being loaded." % NAME)
        wait_for("STATUS=Serving %s: lfmd-core-q8_0 is in memory." % NAME)
        model.Unload()
        wait_for("STATUS=Serving %s." % NAME)
        self.daemon.process.send_signal(signal.SIGHUP)
        wait_for("RELOADING=1", "MONOTONIC_USEC=")
        wait_for("READY=1")
        self.daemon.process.send_signal(signal.SIGTERM)
        wait_for("STOPPING=1", "EXTEND_TIMEOUT_USEC=")
        self.assertEqual(self.daemon.process.wait(), 0)
        said.close()

    def test_a_file_name_is_no_message_to_systemd(self):
        os.makedirs(self.folder.name + "/data/lfmd/models")
        shutil.copy(ROOT + "/models/lfmd-core-q8_0.gguf",
                    self.folder.name + "/data/lfmd/models/a\nSTOPPING=1.gguf")
        self.assertEqual(self.daemon.stop(), 0)
        said = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        said.bind(self.folder.name + "/notify")
        self.daemon.start(NOTIFY_SOCKET=self.folder.name + "/notify")
        path = self.client.manager.FindModel("a\nSTOPPING=1")
        self.client.at(path, NAME + ".Model").Load()
        message = ""
        while "in memory" not in message:
            message = said.recv(4096).decode()
            self.assertNotIn("\nSTOPPING", message)
        said.close()

    def test_it_leaves_when_nobody_needs_it(self):
        with open(self.daemon.config, "a") as file:
            file.write("[daemon]\nidle_exit = 1s\n")
        self.client.manager.Reload()
        self.assertEqual(self.daemon.process.wait(timeout=120), 0)

    def test_a_second_daemon_says_that_the_name_is_taken(self):
        run = subprocess.run([DAEMON, "--config", self.daemon.config], stderr=subprocess.PIPE,
                             text=True)
        self.assertEqual(run.returncode, 1)
        self.assertIn("is lfmd running already?", run.stderr)

    def test_a_killed_daemon_has_every_turn_that_was_reported(self):
        moments = random.SystemRandom()
        session = self.client.session(keep=True)
        reported = ["question 0"]
        self.assertEqual(ask(session, reported[0])[-1]["event"], "done")
        [entry] = self.client.manager.ListSessions()
        for _ in range(12):
            asker = Asker(session, reported)
            asker.start()
            asker.wait_for(len(reported) + moments.randrange(3))
            time.sleep(moments.uniform(0, 0.03))
            self.daemon.stop(signal.SIGKILL)
            asker.join()
            self.daemon.start()
            path = self.client.manager.OpenSession(str(entry["id"]), vardict())
            session = self.client.at(path, NAME + ".Session")
            history = [(m["role"], m["content"]) for m in json.loads(session.History())]
            questions = [content for role, content in history if role == "user"]
            self.assertEqual(questions[:len(reported)], reported)
            # the one that was being reported may be there too
            self.assertLessEqual(len(questions), len(reported) + 1)
            self.assertEqual([role for role, _ in history], ["user", "assistant"] * len(questions))
            reported = questions


class Activation(unittest.TestCase):
    """The bus starts the daemon; here a bus of its own, whose folder of services is ours."""

    def test_the_bus_starts_it_again_after_it_has_left(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(folder + "/lfmd.conf", "w") as file:
                file.write("[daemon]\nidle_exit = 1\n")
            with open(folder + "/%s.service" % NAME, "w") as file:
                file.write("[D-BUS Service]\nName=%s\nExec=%s --config %s/lfmd.conf\n"
                           % (NAME, DAEMON, folder))
            with open(folder + "/bus.conf", "w") as file:
                file.write("<busconfig><type>session</type><listen>unix:dir=%s</listen>"
                           "<servicedir>%s</servicedir><policy context='default'>"
                           "<allow send_destination='*' eavesdrop='true'/>"
                           "<allow eavesdrop='true'/><allow own='*'/></policy></busconfig>"
                           % (folder, folder))
            broker = subprocess.Popen(
                ["dbus-daemon", "--nofork", "--print-address",
                 "--config-file=" + folder + "/bus.conf"],
                env=dict(os.environ, XDG_STATE_HOME=folder, XDG_DATA_HOME=folder),
                stdout=subprocess.PIPE, text=True)
            self.addCleanup(broker.communicate)
            self.addCleanup(broker.terminate)
            client = Client(broker.stdout.readline().strip())
            for _ in range(2):
                self.assertTrue(client.get(PATH, "Manager", "Version"))
                wait_until(lambda: not client.bus.name_has_owner(NAME))
            client.close()


class Asker(threading.Thread):
    """Asks one question after the other until the daemon is gone; notes those that were done."""

    def __init__(self, session, reported):
        super().__init__()
        self.session, self.reported = session, reported
        self.progress = threading.Condition()
        self.gone = False

    def run(self):
        try:
            while True:
                words = "question %d" % len(self.reported)
                fd, _ = self.session.Ask(text(words), vardict(max_tokens=dbus.UInt32(4)))
                with os.fdopen(fd.take(), "rb") as stream:
                    whole = [json.loads(line) for line in stream if line.endswith(b"\n")]
                if not whole or whole[-1]["event"] != "done":
                    break
                with self.progress:
                    self.reported.append(words)
                    self.progress.notify()
        except dbus.DBusException:
            pass
        with self.progress:
            self.gone = True
            self.progress.notify()

    def wait_for(self, n):
        with self.progress:
            self.progress.wait_for(lambda: self.gone or len(self.reported) >= n)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
