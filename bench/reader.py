# SPDX-License-Identifier: MIT
"""How soon a screen reader's voice speaks, and is silent: sd_lfmd, the daemon with the models of
this repository.

usage: dbus-run-session -- /usr/bin/python3 bench/reader.py BUILD [N]

Prints medians and the slowest of N (default 20), in milliseconds:
  echo     the server has sent a letter that was said before -> the first sound comes back to it
  word     the same of a word that was not said before; the model is in memory
  pause    the user's call, through the real speech-dispatcher -> the last sound at the sink of a
           PulseAudio
  silence  the same, of stop. The recording of the sink lags by some milliseconds, which are counted
           as well
"""
import os
import random
import statistics
import sys
import tempfile
import time

BUILD, N = os.path.abspath(sys.argv[1]), int((sys.argv[2:] + ["20"])[0])
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT + "/tests/clients")
sys.argv = [sys.argv[0], BUILD + "/clients/speech-dispatcher/sd_lfmd", BUILD + "/daemon/lfmd", ROOT]
from test_speech_dispatcher import Daemon, Module, Room, Server, speechd  # noqa: E402

WORDS = ("window button menu file edit view tools help print save close open search folder network "
         "volume calendar contacts letter morning table paper river summer winter garden kitchen "
         "bottle yellow orange").split()
SENTENCE = "this is a sentence that goes on and on. " * 20


def show(name, seconds):
    print("%-8s median %6.1f  slowest %6.1f" % (name, 1e3 * statistics.median(seconds),
                                                1e3 * max(seconds)), flush=True)


def first_sound(module, command, text):
    start = time.monotonic()
    module.begin(text, command)
    while module.event()[0] != "705 AUDIO":
        pass
    seconds = time.monotonic() - start
    module.send("STOP")
    module.events()
    return seconds


def silence(room, client, stop):
    start = len(room.sound)
    client.speak(SENTENCE)
    room.wait_loud(start)
    time.sleep(random.uniform(0.3, 1))
    asked = time.monotonic()
    stop()
    room.wait_quiet()
    last = room.loud_since(start)[-1]
    heard = next(at for length, at in room.times if length > last)
    client.resume()
    client.cancel()
    room.wait_quiet()
    return max(0, heard - asked)


def main():
    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(folder)
        module = Module(folder)
        module.init()
        module.say("hello")
        show("word", [first_sound(module, "SPEAK", word) for word in WORDS[:N]])
        for letter in "abcde":
            module.say(letter, "CHAR")
        show("echo", [first_sound(module, "CHAR", "abcde"[i % 5]) for i in range(N)])
        module.close()
        room, server = Room(folder), Server(folder)
        client = speechd.SSIPClient("bench")
        client.set_output_module("lfmd")
        show("silence", [silence(room, client, client.cancel) for _ in range(N)])
        show("pause", [silence(room, client, client.pause) for _ in range(min(N, 8))])
        client.close()
        server.close()
        daemon.stop()
        room.close()


main()
