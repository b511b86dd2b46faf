# SPDX-License-Identifier: MIT
"""Pictures on the bus: real descriptors, good and bad, to a real daemon with a tiny pair of models.

usage: dbus-run-session -- /usr/bin/python3 test_images.py DAEMON DECODER SOURCE_ROOT
"""
import fcntl
import json
import os
import socket
import sys
import tempfile
import threading
import unittest

import dbus
import dbus.lowlevel

DAEMON, DECODER, ROOT = sys.argv[1:4]
sys.argv = [sys.argv[0], DAEMON, ROOT]  # as test_bus.py takes them
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from test_bus import ERROR, NAME, PATH, Client, Daemon, lines, vardict, wait_until  # noqa: E402

PICTURES = ROOT + "/tests/data/vision/"
SINGLE, TILED = PICTURES + "single.png", PICTURES + "tiled.png"
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
MODEL = "tiny_text_f32"
os.environ["LFMD_IMAGE"] = DECODER


def content(name):
    with open(name, "rb") as file:
        return file.read()


def memfd(data, seals=SEALS):
    fd = os.memfd_create("picture", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    if seals:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def image(fd, close=True, **settings):
    """A part; the message has a descriptor of its own."""
    part = vardict(type="image", fd=dbus.types.UnixFd(fd), **settings)
    if close:
        os.close(fd)
    return part


def numbers(**settings):
    return {key: dbus.UInt32(value) for key, value in settings.items()}


def parts(*parts_or_text):
    return dbus.Array([vardict(type="text",
                               text=p) if isinstance(p, str) else p for p in parts_or_text],
                      signature="a{sv}")


def look(session, *parts_or_text, **options):
    """The events of a question of a few tokens."""
    options.setdefault("max_tokens", dbus.UInt32(4))
    fd, _ = session.Ask(parts(*parts_or_text), vardict(**options))
    return lines(fd)


def only(events, kind):
    return [e for e in events if e["event"] == kind]


def looked(events):
    """Whether a view was encoded in this turn."""
    return any(e["event"] == "progress" and e["stage"] == "image" for e in events)


class Images(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        os.mkdir(self.folder.name + "/blind")
        os.symlink(ROOT + "/models/lfmd-core-q8_0.gguf", self.folder.name + "/blind/blind.gguf")
        self.daemon = self.start()
        self.client = Client()

    def start(self, default=MODEL):
        home = self.folder.name
        return Daemon(home, "default = %s\n" % default,
                      "%s/tests/data/vision:%s/blind" % (ROOT, home))

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

    def failed(self, name, words, events):
        self.assertEqual((events[-1]["event"], events[-1].get("name")), ("error", name), events)
        self.assertIn(words, events[-1]["message"])

    def seen(self, events, **expected):
        """The one picture of a turn that went well."""
        self.assertEqual(events[-1]["event"], "done", events)
        [event] = only(events, "image")
        self.assertEqual({key: event[key] for key in expected}, expected)
        return event

    def plan(self, fd, **options):
        plan = self.client.manager.PlanImage(dbus.types.UnixFd(fd), vardict(**options))
        os.close(fd)
        return plan

    # --- descriptors

    def test_files_and_memfds_are_looked_at(self):
        session = self.client.session()
        for fd in (os.open(SINGLE, os.O_RDONLY), memfd(content(SINGLE)), memfd(content(SINGLE), 0)):
            events = look(session, image(fd), "what is this?")
            self.seen(events, image=1, cols=1, rows=1)
            self.assertGreater(events[-1]["usage"]["image_tokens"], 0)

    def test_what_is_no_picture_that_stays_is_refused(self):
        session = self.client.session()
        reading, writing = os.pipe()
        os.close(writing)
        left, right = socket.socketpair()
        for fd in (reading, os.open(self.folder.name, os.O_RDONLY),
                   os.open("/dev/null", os.O_RDONLY),
                   os.open(SINGLE, os.O_PATH), os.dup(left.fileno()),
                   os.open(self.folder.name + "/new", os.O_WRONLY | os.O_CREAT)):
            events = look(session, image(fd), "what is this?")
            self.assertEqual((events[-1]["event"], events[-1].get("name")),
                             ("error", "InvalidArgument"), events)
        left.close()
        right.close()
        self.failed("UnsupportedFormat", "",
                    look(session, image(memfd(b"no picture at all")), "what?"))
        self.failed("InvalidArgument", "empty", look(session, image(memfd(b"")), "what?"))
        self.seen(look(session, image(os.open(SINGLE, os.O_RDONLY)), "and this?"), image=1)

    def test_a_file_that_shrinks_meanwhile_harms_nobody(self):
        session = self.client.session()
        for _ in range(10):
            name = self.folder.name + "/shrinking.png"
            with open(name, "wb") as file:
                file.write(content(TILED))
            fd, _ = session.Ask(parts(image(os.open(name, os.O_RDONLY)), "what?"),
                                vardict(max_tokens=dbus.UInt32(1)))
            os.truncate(name, 100)
            self.assertIn(lines(fd)[-1]["event"], ("done", "error"))

    def test_descriptors_are_given_back(self):
        session = self.client.session()
        look(session, image(os.open(SINGLE, os.O_RDONLY)), "what?")
        session.Close()
        before = self.daemon.descriptors()
        for _ in range(5):
            session = self.client.session()
            look(session, image(os.open(SINGLE, os.O_RDONLY)), image(memfd(b"bad")), "what?")
            look(session, image(os.open(SINGLE, os.O_RDONLY)), "what?")
            session.Close()
        self.client.session().Close()
        wait_until(lambda: self.daemon.descriptors() <= before)

    # --- questions

    def test_pictures_and_text_may_alternate(self):
        session = self.client.session()
        events = look(session, image(os.open(SINGLE, os.O_RDONLY)), "is older than",
                      image(os.open(TILED, os.O_RDONLY)), "isn't it?")
        self.assertEqual(events[-1]["event"], "done", events)
        self.assertEqual([e["image"] for e in only(events, "image")], [1, 2])
        self.assertEqual([p["type"] for p in json.loads(session.History())[0]["content"]],
                         ["image", "text", "image", "text"])

    def test_views_are_told_one_by_one(self):
        events = look(self.client.session(), image(os.open(TILED, os.O_RDONLY)), "what?")
        event = self.seen(events, cached=False)
        steps = [e["done"] for e in only(events, "progress") if e["stage"] == "image"]
        self.assertEqual(steps, sorted(steps))
        self.assertEqual(steps[-1], event["views"])

    def test_the_same_picture_again_is_not_encoded_again(self):
        self.seen(look(self.client.session(), image(os.open(TILED, os.O_RDONLY)), "what?"),
                  cached=False)
        self.seen(look(self.client.session(), image(memfd(content(TILED))), "what else?"),
                  cached=True)

    def test_a_question_that_follows_reads_nothing_again(self):
        session = self.client.session()
        first = look(session, image(os.open(TILED, os.O_RDONLY)), "what?")
        second = look(session, "and what else?")
        self.assertGreaterEqual(second[-1]["usage"]["cached_tokens"],
                                first[-1]["usage"]["prompt_tokens"])
        self.assertTrue(looked(first))
        self.assertFalse(looked(second))

    def test_two_sessions_look_at_the_same_time(self):
        results = {}

        def one(name):
            client = Client()
            results[name] = look(client.session(), image(os.open(name, os.O_RDONLY)), "what?")
            client.close()

        threads = [threading.Thread(target=one, args=[name]) for name in (SINGLE, TILED)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for events in results.values():
            self.seen(events, image=1)

    def test_closing_the_stream_ends_the_looking(self):
        session = self.client.session()
        for _ in range(5):
            fd, _ = session.Ask(parts(image(os.open(TILED, os.O_RDONLY)), "what?"), vardict())
            os.close(fd.take())
        self.seen(look(session, image(os.open(SINGLE, os.O_RDONLY)), "what?"), image=1)

    def test_a_model_without_an_eye_says_which_one_sees(self):
        session = self.client.session(model="blind")
        self.refused("InvalidArgument", MODEL, look, session, image(os.open(SINGLE, os.O_RDONLY)),
                     "what?")
        self.assertEqual(look(session, "hello")[-1]["event"], "done")

    def test_without_a_model_named_one_that_sees_is_taken(self):
        self.assertEqual(self.daemon.stop(), 0)
        self.daemon = self.start("blind")
        session = self.client.session()
        self.seen(look(session, image(os.open(SINGLE, os.O_RDONLY)), "what?"), image=1)
        self.assertEqual(look(self.client.session(), "hello")[0]["model"], "blind")

    def test_a_kept_conversation_has_its_pictures_after_a_restart(self):
        session = self.client.session(keep=True)
        look(session, image(os.open(SINGLE, os.O_RDONLY)), "what?")
        [entry] = self.client.manager.ListSessions()
        self.assertEqual(self.daemon.stop(), 0)
        self.daemon.start()
        path = self.client.manager.OpenSession(str(entry["id"]), vardict())
        events = look(self.client.at(path, NAME + ".Session"), "and what else?")
        self.assertEqual(events[-1]["event"], "done", events)
        self.assertTrue(looked(events))

    # --- settings

    def test_settings_are_read_strictly(self):
        session = self.client.session()
        for words, settings in (
                ("'foo'", dict(foo="x")), ("detail", dict(detail="much")),
                ("'detail' must be of D-Bus type s", dict(detail=dbus.UInt32(1))),
                ("max_image_tokens", numbers(max_image_tokens=0)),
                ("max_image_tokens", numbers(max_image_tokens=100000)),
                ("min_image_tokens", numbers(min_image_tokens=200, max_image_tokens=100)),
                ("max_tiles", numbers(max_tiles=101)), ("min_tiles", numbers(min_tiles=1)),
                ("max_encode_ms", numbers(max_encode_ms=3600001)),
                ("'tiling' must be of D-Bus type b", dict(tiling="no"))):
            self.refused("InvalidArgument", words, look, session,
                         image(os.open(SINGLE, os.O_RDONLY), **settings), "what?")
            if "foo" not in settings:
                self.refused("InvalidArgument", words, self.client.session,
                             image=vardict(**settings))
        self.refused("InvalidArgument", "'foo'", self.client.session, image=vardict(foo=1))
        self.refused("InvalidArgument", "'fd'", look, session, vardict(type="image"), "what?")
        self.refused("InvalidArgument", "takes no 'text'", look, session,
                     image(os.open(SINGLE, os.O_RDONLY), text="x"))
        self.refused("InvalidArgument", "takes no settings of a picture", look, session,
                     vardict(type="text", text="x", detail="low"))
        self.refused("InvalidArgument", "takes no 'fd'", look, session,
                     vardict(type="text", text="x", fd=dbus.types.UnixFd(0)))

    def test_settings_of_a_part_go_over_those_of_the_session(self):
        session = self.client.session(image=vardict(tiling=False))
        self.seen(look(session, image(os.open(TILED, os.O_RDONLY)), "what?"), cols=1, rows=1)
        event = self.seen(look(self.client.session(image=vardict(detail="low")),
                               image(os.open(TILED, os.O_RDONLY)), "what?"), detail="low", cols=1)
        self.assertLessEqual(event["tokens"], 64)
        self.seen(look(session, image(os.open(TILED, os.O_RDONLY), detail="high"), "what?"),
                  detail="high")

    # --- plans

    def test_a_plan_is_what_is_done(self):
        for settings in {}, {"detail": "low"}, numbers(max_image_tokens=20):
            plan = self.plan(os.open(TILED, os.O_RDONLY), **settings)
            event = self.seen(look(self.client.session(),
                                   image(os.open(TILED, os.O_RDONLY), **settings), "what?"))
            self.assertEqual((plan["cols"], plan["rows"], plan["views"], plan["image_tokens"]),
                             (event["cols"], event["rows"], event["views"], event["tokens"]))
            self.assertEqual((plan["width"], plan["height"]), (event["width"], event["height"]))

    def test_a_plan_tells_the_time_when_the_speed_is_known(self):
        look(self.client.session(), image(os.open(SINGLE, os.O_RDONLY)), "what?")
        self.assertIn("predicted_ms", self.plan(os.open(TILED, os.O_RDONLY)))

    def test_plans_of_what_is_no_picture_are_refused(self):
        plan = self.client.manager.PlanImage
        self.refused("UnsupportedFormat", "", plan, dbus.types.UnixFd(memfd(b"no")), vardict())
        self.refused("InvalidArgument", "'foo'", plan, dbus.types.UnixFd(memfd(b"no")),
                     vardict(foo=1))
        self.refused("ModelNotFound", "nobody", plan, dbus.types.UnixFd(memfd(b"no")),
                     vardict(model="nobody"))
        self.refused("InvalidArgument", MODEL, plan, dbus.types.UnixFd(memfd(b"no")),
                     vardict(model="blind"))

    # --- descriptions

    def describe(self, fd, **options):
        stream = self.client.manager.Describe(dbus.types.UnixFd(fd), vardict(**options))
        os.close(fd)
        return lines(stream)

    def test_a_picture_is_described_once(self):
        first = self.describe(os.open(SINGLE, os.O_RDONLY))
        self.assertEqual(first[-1]["event"], "description", first)
        self.assertEqual([(e["part"], e["text"]) for e in only(first, "part")],
                         [(part, first[-1][part]) for part in ("short", "long")])
        self.assertIn(first[-1]["unsure"], (True, False))
        self.assertEqual(only(first, "part")[0]["unsure"], first[-1]["unsure"])
        self.assertFalse(first[-1]["cached"])
        second = self.describe(memfd(content(SINGLE)))
        self.assertTrue(second[-1]["cached"], second)
        for key in "short", "long", "text", "model":
            self.assertIsInstance(first[-1][key], str)
            self.assertEqual(first[-1][key], second[-1][key])

    def test_descriptions_of_what_is_no_picture_end_with_an_error(self):
        self.failed("UnsupportedFormat", "", self.describe(memfd(b"no picture")))
        self.refused("InvalidArgument", MODEL, self.describe, os.open(SINGLE, os.O_RDONLY),
                     model="blind")

    def test_closing_the_stream_of_a_description_ends_it(self):
        for _ in range(5):
            stream = self.client.manager.Describe(dbus.types.UnixFd(memfd(content(TILED))),
                                                  vardict())
            os.close(stream.take())
        leaving = Client()
        leaving.manager.Describe(dbus.types.UnixFd(memfd(content(TILED))), vardict())
        call = dbus.lowlevel.MethodCallMessage(NAME, PATH, NAME + ".Manager", "PlanImage")
        call.append(dbus.types.UnixFd(memfd(content(TILED))), vardict(), signature="ha{sv}")
        leaving.bus.send_message(call)
        leaving.bus.flush()
        leaving.close()
        self.assertEqual(self.describe(os.open(SINGLE, os.O_RDONLY))[-1]["event"], "description")

    def test_eight_pictures_at_once_are_a_program_s_limit(self):
        streams = [self.client.manager.Describe(dbus.types.UnixFd(memfd(content(TILED))), vardict())
                   for _ in range(8)]
        self.refused("Busy", "8", self.client.manager.Describe, dbus.types.UnixFd(memfd(b"")),
                     vardict())
        for stream in streams:
            os.close(stream.take())

        def has_room_again():
            try:
                return self.describe(os.open(SINGLE, os.O_RDONLY))[-1]["event"] == "description"
            except dbus.DBusException as error:
                if not error.get_dbus_name().endswith(".Busy"):
                    raise
                return False

        wait_until(has_room_again)

    def test_what_models_can_is_a_property(self):
        for name, sees, talks in ((MODEL, True, False), ("blind", False, False),
                                  ("lfm2.5-vl-450m", True, False),
                                  ("lfm2.5-audio-1.5b", False, True)):
            path = self.client.manager.FindModel(name)
            for property, has in ("Vision", sees), ("Hears", talks), ("Speaks", talks):
                self.assertEqual(bool(self.client.get(path, "Model", property)), has, name)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
