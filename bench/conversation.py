# SPDX-License-Identifier: MIT
"""A long conversation through microphone and loudspeaker: what it costs in memory, and in sound.

usage: dbus-run-session -- /usr/bin/python3 bench/conversation.py BUILD RECORDING.wav
           [MINUTES [LOAD]]

RECORDING: a question of some seconds. It is played to the microphone again and again, for 30
minutes or MINUTES, beside LOAD busy loops (default 0); every fifth one talks over the answer to the
one before. The daemon serves the models of this repository to `lfmctl listen`; microphone and
loudspeaker are sinks of a PulseAudio of the program's own, and nothing of the loudspeaker gets to
the microphone. Prints a line of JSON every minute, one for each stream when it is closed
(bench/callbacks.c; what the devices lost is "overflows" and "underflows"), and a last one:
  overruns, underruns  blocks of sound that were lost, as the daemon counts them
  not_asked            turns that were heard and interrupted an answer while no question was played
  events_lost          events that a turn lacks, and turns that are lacking
  busy                 the part of the processors' time that was used, by anybody
"""
import json
import os
import subprocess
import sys
import tempfile
import time

BUILD, QUESTION = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
MINUTES, LOAD = [float(word) for word in (sys.argv[3:] + ["30", "0"][len(sys.argv) - 3:])]
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT + "/tests/clients")
sys.argv = [sys.argv[0], BUILD + "/clients/lfmctl", BUILD + "/daemon/lfmd",
            BUILD + "/audio/decode/lfmd-sound", ROOT]  # as test_speech.py takes them
from test_speech import LFMCTL, Daemon, Listen, Server  # noqa: E402

PATIENCE = 30  # seconds for an answer


def show(**values):
    print(json.dumps(values), flush=True)


def used():
    """Jiffies of all processors: used, and all."""
    with open("/proc/stat") as file:
        times = [int(word) for word in file.readline().split()[1:9]]
    return sum(times) - times[3] - times[4], sum(times)


def until(condition, seconds):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)


def converse(listen, daemon, played):
    minute, begin = 1, time.monotonic()

    def is_answered(turn):
        return any(e["event"] in ("audio_start", "turn_done") and e["turn"] >= turn
                   for e in listen.events[-100:] if "turn" in e)

    while time.monotonic() < begin + 60 * MINUTES and not listen.ended:
        turn = len(listen.all("speech_start")) + 1
        start = time.monotonic()
        subprocess.run(("paplay", "-d", "room", QUESTION), check=True)
        played.append((start, time.monotonic()))
        until(lambda: is_answered(turn), PATIENCE)
        if len(played) % 5:  # else the next one talks over the answer
            until(lambda: len(listen.all("turn_done")) == len(listen.all("speech_start")), PATIENCE)
            time.sleep(1)
        if time.monotonic() > begin + 60 * minute:
            show(minute=minute, resident_kb=daemon.resident_kb(), asked=len(played),
                 answered=len(listen.all("audio_start")))
            minute += 1


def not_asked(listen, played):
    return sum(not any(start < e["usec"] / 1e6 < end + 1 for start, end in played)
               for e in listen.all("interrupted"))


def events_lost(listen):
    turns = {e["turn"] for e in listen.events if "turn" in e}
    lost = max(turns, default=0) - len(turns)
    for turn in turns - {max(turns, default=0)}:  # the last one may have been cut off
        mine = [e["event"] for e in listen.events if e.get("turn") == turn]
        lost += sum(mine.count(kind) != 1 for kind in ("speech_start", "speech_end", "turn_done"))
        lost += mine.count("audio_start") != mine.count("audio_end") + mine.count("interrupted")
    return lost


def main():
    server = Server()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(CALLBACKS=folder + "/callbacks",
                          LD_PRELOAD=BUILD + "/bench/libcallbacks.so")
        daemon = Daemon(folder)
        del os.environ["LD_PRELOAD"]
        subprocess.run((LFMCTL, "permissions", "allow", os.path.realpath(LFMCTL)), check=True)
        load = [
            subprocess.Popen((sys.executable, "-c", "while True: pass")) for _ in range(int(LOAD))
        ]
        before, played = used(), []
        listen = Listen()
        listen.have("listening", condition=lambda e: e["on"])
        converse(listen, daemon, played)
        after = used()
        listen.stop()
        for process in load:
            process.kill()
        daemon.stop()
        server.stop()
        with open(folder + "/callbacks") as file:
            print(file.read(), end="")
        show(asked=len(played), heard=len(listen.all("speech_end")),
             answered=len(listen.all("audio_start")), interrupted=len(listen.all("interrupted")),
             not_asked=not_asked(listen, played), events=len(listen.events),
             events_lost=events_lost(listen),
             overruns=sum(e["overruns"] for e in listen.all("xrun")),
             underruns=sum(e["underruns"] for e in listen.all("xrun")),
             busy=round((after[0] - before[0]) / (after[1] - before[1]), 2))


if __name__ == "__main__":
    main()
