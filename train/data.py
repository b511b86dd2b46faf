# SPDX-License-Identifier: MIT
"""Generator of the dialogues that the default text model is trained and tested on.

Everything is made from a random number generator and a split:

  None      training; also the "fresh" test, i.e. new draws from the same distribution
  "value"   a value (time, number, note, list ...) whose checksum keeps it out of training
  "frame"   a phrasing known from training with a prefix and suffix never seen around it
  "phrase"  a phrasing never seen in training, built from known words
  "word"    a name, app or word that never occurs in training
  "wider"   training again, with the phrasings of WIDER as well

A dialogue is a list of messages, as a client of the daemon would send them. `render` turns it into
the text of the LFM2.5 chat form, cut into parts that are learnt and parts that are only read.
"""

import json
import pathlib
import random

from words import (APPS, CITIES, COLOURS, COUNTRIES, DAYS, ITEMS, LANGUAGES, MONTHS, NAMES, NEVER,
                   PEOPLE, PLACES, QUALITIES, ROOMS, SHAPES, TASKS, THINGS, THINGS_OF_NATURE,
                   TOPICS, VERBS, WHEN, bucket, in_words, invented)

TOOLS_FILE = pathlib.Path(__file__).resolve().parent.parent / "models" / "tools.json"
TOOLS = json.loads(TOOLS_FILE.read_text())
TOOL_NAMES = [tool["name"] for tool in TOOLS]

CALL_START, CALL_END = "<|tool_call_start|>", "<|tool_call_end|>"
REFUSE_ANSWER = "I do not know that."
REFUSE_ACTION = "I cannot do that."
REFUSE_TOOL = "I have no tool for that."

# --- phrasings ----------------------------------------------------------------------------------

PREFIXES = ["", "", "", "", "please ", "can you ", "could you ", "I want you to ", "hey, ", "now ",
            "would you ", "you should ", "I need you to ", "computer, ", "hi, ", "ok, ",
            "can you please ", "I would like you to "]
SHORT_PREFIXES = ["", "", "", "please ", "now ", "hey, ", "computer, ", "ok, "]
SUFFIXES = ["", "", "", ".", ".", "!", " please.", " now.", " for me.", " right now.", " please",
            " for me", ", please.", ", thank you."]

# Per tool: phrasings of the training, then the ones kept for the "phrase" split. The kept ones use
# known words only. A leading "-" marks a phrasing that is no imperative and takes short prefixes.
PHRASES = {
    "alarm": ([
        "set an alarm for {}", "wake me up at {}", "make an alarm at {}", "start an alarm for {}",
        "give me an alarm at {}", "put an alarm at {}", "set the alarm to {}", "-alarm at {}",
        "wake me at {}", "set my alarm for {}", "create an alarm for {}", "-alarm {}",
        "-I need an alarm at {}", "-I want to get up at {}", "-I have to get up at {}",
        "-an alarm for {}", "set up an alarm at {}", "get me up at {}", "ring at {}",
        "-I must wake up at {}"],
        ["set me an alarm at {}", "make the alarm for {}", "create the alarm at {}",
         "-I want an alarm for {}", "-I need to get up at {}"]),
    "timer": ([
        "set a timer for {}", "start a timer of {}", "count down {}", "make a timer for {}",
        "give me a timer for {}", "put a timer at {}", "start a {} timer", "-timer {}",
        "start the timer for {}", "-I need a timer for {}", "set the timer to {}",
        "-a timer for {}", "create a timer of {}", "tell me when {} are over", "ring in {}",
        "wake me up in {}", "-timer for {}", "count {}", "start counting down {}",
        "let me know in {}"],
        ["set a {} timer", "make me a timer of {}", "create a {} timer", "-I want a timer for {}",
         "tell me in {}"]),
    "volume": ([
        "set the volume to {}", "turn the volume to {}", "change the volume to {}",
        "make the volume {}", "put the sound at {}", "set the sound to {} percent",
        "turn the sound to {} percent", "-volume {}", "-volume at {}", "-volume to {} percent",
        "set volume to {}", "turn it to {} percent", "-I want the volume at {}", "-sound {}",
        "turn the volume down to {}", "turn the volume up to {}", "lower the volume to {}",
        "raise the volume to {} percent", "adjust the volume to {}", "bring the sound to {}"],
        ["change the sound to {}", "put the volume at {} percent", "raise the sound to {}",
         "-I want the sound at {} percent", "turn the sound down to {}"]),
    "app": ([
        "open {}", "start {}", "launch {}", "run {}", "bring up {}", "open the {} app",
        "start the {} app", "open the app {}", "show me {}", "use {}", "go to {}",
        "open {} on this computer", "-I want to use {}", "-I need {}", "switch to {}",
        "start up {}", "-I would like to open {}", "let me see {}", "load {}", "-open up {}"],
        ["launch the {} app", "run the app {}", "bring up the {} app", "-I want to open {}",
         "switch to the {} app"]),
    "note": ([
        "add a note: {}", "remind me to {}", "write down: {}", "make a note to {}",
        "remember to {}", "take a note: {}", "note that I must {}", "put on my list: {}",
        "-note: {}", "make a note: {}", "note down: {}", "save a note: {}", "-I have to {}",
        "write down that I must {}", "add to my notes: {}", "-new note: {}", "note: {}",
        "do not let me forget to {}", "-I must not forget to {}", "create a note: {}"],
        ["write a note: {}", "add to my list: {}", "save to my notes: {}",
         "-I must remember to {}", "put down that I have to {}"]),
    "phone": ([
        "call {}", "phone {}", "ring {}", "dial {}", "make a call to {}", "start a call with {}",
        "get {} on the phone", "call my friend {}", "start a phone call to {}",
        "-I want to talk to {}", "-I need to speak to {}", "call {} on the phone",
        "give {} a call", "-I would like to speak with {}", "reach {}", "-let me talk to {}",
        "contact {}", "connect me with {}", "-I would like to call {}", "get me {} on the line"],
        ["phone my friend {}", "start a phone call with {}", "-I want to call {}",
         "-I need to talk with {}", "give my friend {} a call"]),
    "calc": ([
        "-what is {}", "calculate {}", "-how much is {}", "compute {}", "tell me {}", "-{}",
        "work out {}", "give me {}", "-what do I get for {}", "-what does {} make", "find {}",
        "-what is the result of {}", "-do you know {}", "solve {}", "-I need {}",
        "-how much does {} make"],
        ["tell me how much is {}", "give me the result of {}", "-what do you get for {}",
         "find the result of {}"]),
    "clock": (["-what time is it", "-time please", "tell me the time", "-what's the time",
               "-do you have the time", "-what is the time now", "-how late is it",
               "give me the time", "say the time", "-what is the time"],
              ["tell me what time it is", "-do you have the time now", "say what time it is"]),
    "weekday": (["-what day is it", "-which day is today", "-what day of the week is it",
                 "-what day do we have", "tell me the day", "-what day is today",
                 "say the day of the week", "-which day is it"],
                ["tell me what day it is", "-which day do we have today"]),
    "date": (["-what is the date", "-date please", "-what's today's date", "tell me the date",
              "-which date is it today", "give me the date", "-what date do we have",
              "say the date"],
             ["-what is the date today", "tell me today's date", "-which date do we have"]),
    "tomorrow": (["-what day is tomorrow", "-which day comes tomorrow", "tell me the day tomorrow",
                  "-tomorrow is which day", "-what day will it be tomorrow"],
                 ["-which day is tomorrow", "-which day will it be tomorrow"]),
    "yesterday": (["-what day was yesterday", "-which day was it yesterday",
                   "tell me the day yesterday", "-yesterday was which day"],
                  ["-what day was it yesterday", "-which day was yesterday"]),
}
# More phrasings, for the focused mixture alone; none is among the kept ones.
WIDER = {
    "timer": ["make a {} timer", "give me a {} timer", "set me a timer for {}",
              "start me a timer of {}", "-I need a {} timer", "make me a timer for {}"],
    "app": ["use the {} app", "load the {} app", "start the app {}", "go to the {} app",
            "-I want to start {}", "-I need the {} app", "show me the {} app", "use the app {}"],
    "phone": ["ring my friend {}", "make a phone call to {}", "-I need to call {}",
              "-I want to speak with {}", "dial my friend {}", "give {} a phone call"],
}
QUESTION_WORDS = ("what", "which", "how", "do ", "tomorrow is", "yesterday was")


def say(rng, kind, text, split):
    """One request of a kind about a text, in a phrasing that the split allows."""
    known, kept = PHRASES[kind]
    if split == "wider":
        known = known + WIDER.get(kind, [])
    while True:
        core = rng.choice(kept if split == "phrase" else known)
        prefix = rng.choice(SHORT_PREFIXES if core[0] == "-" else PREFIXES)
        core = core.lstrip("-")
        if kind == "note":
            suffix = rng.choice(["", "", "."])
        elif core.startswith(QUESTION_WORDS):
            suffix = rng.choice(["", "?", "?", "?", " please?"])
        else:
            suffix = rng.choice(SUFFIXES)
        is_held_out = bucket((kind, core, prefix, suffix), 5) == 0

        if split == "phrase" or is_held_out == (split == "frame"):
            break
    said = prefix + core.format(text) + suffix
    return said[0].upper() + said[1:] if rng.random() < 0.65 else said


def drawn(rng, make, split):
    """A value by `make` from the part of the values that the split may see."""
    while True:
        value = make()
        if (bucket(value, 10) == 0) == (split == "value"):
            return value


def number(rng, n):
    """A number as a person types or says it."""
    return in_words(n) if rng.random() < 0.3 and 0 <= n < 100 else str(n)


def strange(rng, split, capital):
    """An invented word; sometimes in the odd spellings that names of programs have."""
    unseen = split == "word"
    style = rng.random() if capital else 1
    if style < 0.07:
        return invented(rng, unseen, False, 1, 1).upper()
    if style < 0.14:
        return invented(rng, unseen, True, 1, 2) + invented(rng, unseen, True, 1, 1)
    return invented(rng, unseen, capital)


def name_like(rng, split, closed, surnames=False):
    """A name: from the closed list, or invented."""
    if split == "word":
        name = rng.choice(NEVER) if rng.random() < 0.3 else strange(rng, split, True)
    else:
        name = rng.choice(closed) if rng.random() < 0.4 else strange(rng, split, True)
    if surnames and name[0].isupper() and rng.random() < 0.2:
        name += " " + strange(rng, split, True)
    return name.lower() if rng.random() < 0.08 else name


# --- tools: request, call, result, confirmation -------------------------------------------------

def call(text):
    return CALL_START + "[" + text + "]" + CALL_END


def alarm(rng, split):
    h, m = drawn(rng, lambda: (rng.randint(0, 23), rng.choice([0, 0, 15, 30, 45,
                                                               rng.randint(0, 59)])), split)
    form = rng.randrange(7)
    half = "am" if h < 12 else "pm"
    hour12 = h % 12 or 12
    if form == 0:
        text = f"{h:02d}:{m:02d}"
    elif form == 1:
        text = f"{h}:{m:02d}"
    elif form == 2 and m == 0:
        text = number(rng, h) + rng.choice(["", " o'clock"])
    elif form == 3 and m == 30 and h < 13 and h > 0:
        text = "half past " + number(rng, h)
    elif form == 4 and m == 15 and h < 13 and h > 0:
        text = "quarter past " + number(rng, h)
    elif form == 5 and m == 45 and h < 12:
        text = "quarter to " + number(rng, h + 1)
    else:
        text = f"{number(rng, hour12)} {half}" if m == 0 else f"{hour12}:{m:02d} {half}"
    return say(rng, "alarm", text, split), f'set_alarm(time="{h:02d}:{m:02d}")', \
        f"Your alarm is set for {h:02d}:{m:02d}."


def amount(n, unit):
    return f"{n} {unit if n != 1 else unit[:-1]}"


def timer(rng, split):
    style = rng.random()
    if style < 0.1 and split not in ("value", "word"):
        text, parts = rng.choice([
            ("half an hour", [(30, "minutes")]), ("an hour", [(1, "hours")]),
            ("a minute", [(1, "minutes")]), ("a quarter of an hour", [(15, "minutes")]),
            ("an hour and a half", [(1, "hours"), (30, "minutes")]),
            ("half a minute", [(30, "seconds")])])
    elif style < 0.3:
        parts = drawn(rng, lambda: rng.choice([
            [(rng.randint(1, 12), "hours"), (rng.randint(1, 59), "minutes")],
            [(rng.randint(1, 90), "minutes"), (rng.randint(1, 59), "seconds")]]), split)
        text = rng.choice([" and ", " "]).join(
            f"{number(rng, n)} {unit if n != 1 else unit[:-1]}" for n, unit in parts)
    else:
        parts = [drawn(rng, lambda: (rng.randint(1, rng.choice([12, 60, 99])),
                                     rng.choice(["minutes", "minutes", "seconds", "hours"])),
                       split)]
        n, unit = parts[0]
        text = f"{number(rng, n)} {unit if n != 1 else unit[:-1]}"
    spoken = " and ".join(amount(n, unit) for n, unit in parts)
    arguments = ", ".join(f"{unit}={n}" for n, unit in parts)
    return say(rng, "timer", text, split), f"set_timer({arguments})", \
        f"I started a timer for {spoken}."


def volume(rng, split):
    if rng.random() < 0.12 and split not in ("value", "frame", "phrase"):
        said, n = rng.choice([
            ("Mute the sound.", 0), ("mute", 0), ("Turn the sound off.", 0), ("Silence please", 0),
            ("Full volume", 100), ("Turn the volume all the way up.", 100), ("Half volume", 50),
            ("maximum volume please", 100), ("Set the volume to half.", 50),
            ("Turn off the volume.", 0), ("Set the volume to maximum.", 100)])
    else:
        n, = drawn(rng, lambda: (rng.randint(0, 100),), split)
        said = say(rng, "volume", number(rng, n) + ("%" if rng.random() < 0.08 else ""), split)
        said = said.replace("% percent", " percent")
    return said, f"set_volume(level={n})", f"The volume is now {n} percent."


def app(rng, split):
    name = name_like(rng, split, APPS)
    if rng.random() < 0.1:
        name += " " + name_like(rng, split, APPS)
    return say(rng, "app", name, split), f'open_app(name="{name}")', f"I opened {name}."


KNOWN_WORDS = sorted(set(ITEMS + THINGS + ROOMS + VERBS + COLOURS + SHAPES + [
    w for task in TASKS for w in task.split()] + "is are my your has the a in on at with from "
    "for new old meeting party lunch dinner number door code week".split()))


def note(rng, split):
    def text():
        style = rng.random()
        if split == "word" or style < 0.25:
            words = [invented(rng, split == "word", False, 1, 2) for _ in range(rng.randint(1, 3))]
            if split != "word" or rng.random() < 0.5:
                words.insert(0, rng.choice(VERBS))
            return " ".join(words)
        if style < 0.45:
            return " ".join(rng.choice(KNOWN_WORDS) for _ in range(rng.randint(2, 6)))
        if style < 0.75:
            items = rng.sample(ITEMS, rng.choice([1, 1, 2, 3]))
            listed = items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]
            return rng.choice(VERBS) + " " + listed + rng.choice(WHEN)
        return rng.choice(TASKS) + rng.choice(WHEN + [" on " + rng.choice(DAYS),
                                                      f" at {rng.randint(1, 12)}"])

    text = drawn(rng, text, split)
    return say(rng, "note", text, split), f'add_note(text="{text}")', f"Noted: {text}."


def phone(rng, split):
    name = name_like(rng, split, NAMES, surnames=True)
    return say(rng, "phone", name, split), f'call_contact(name="{name}")', f"Calling {name}."


def plain(value):
    """A number as the calculator prints it."""
    return "%d" % value if value == int(value) else ("%.4f" % value).rstrip("0").rstrip(".")


SPOKEN = {"+": ["plus", "+", "+"], "-": ["minus", "-", "-"], "*": ["times", "*", "x"],
          "/": ["divided by", "/", "/"]}
OPERATION = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b,
             "/": lambda a, b: a / b}


def calculate(rng, split):
    """Arithmetic, copied into an expression: the daemon's tool does the sum."""
    def values():
        a, b = (rng.randint(0, rng.choice([9, 20, 99, 99, 999])) for _ in range(2))
        op = rng.choice("+-*/")
        return a, (b or 1) if op == "/" else b, op

    a, b, op = drawn(rng, values, split)
    result, tail_said, tail = OPERATION[op](a, b), "", ""
    word = rng.choice(SPOKEN[op])
    tight = not word.isalpha() and " " not in word and rng.random() < 0.4
    said = f"{a}{word}{b}" if tight else f"{number(rng, a)} {word} {number(rng, b)}"
    if rng.random() < 0.12 and op != "/":
        c, op2 = rng.randint(1, 99), rng.choice("+-")
        result = OPERATION[op2](result, c)
        tail_said = f"{op2}{c}" if tight else f" {rng.choice(SPOKEN[op2])} {c}"
        tail = f"{op2}{c}"
    return say(rng, "calc", said + tail_said, split), f'calculate(expr="{a}{op}{b}{tail}")', \
        plain(result)


CONVERSIONS = [("kilometers", "meters", 1000), ("meters", "centimeters", 100),
               ("hours", "minutes", 60), ("minutes", "seconds", 60), ("days", "hours", 24),
               ("weeks", "days", 7), ("kilograms", "grams", 1000), ("liters", "milliliters", 1000),
               ("years", "months", 12), ("centimeters", "millimeters", 10)]
CONVERT = ["How many {to} are {n} {of}?", "Convert {n} {of} to {to}.", "{n} {of} in {to}",
           "What is {n} {of} in {to}?", "how many {to} in {n} {of}", "{n} {of} are how many {to}?",
           "please convert {n} {of} to {to}", "How many {to} do {n} {of} have?"]
CONVERT_KEPT = ["how many {to} are there in {n} {of}", "Tell me {n} {of} in {to}.",
                "Convert to {to}: {n} {of}"]
CONVERT_WIDER = ["how many {to} are {n} {of}", "Give me {n} {of} in {to}.", "{n} {of} to {to}",
                 "Tell me how many {to} are {n} {of}.", "Make {to} of {n} {of}.",
                 "Change to {to}: {n} {of}", "how many {to} do I have in {n} {of}"]


def units(rng, split):
    """Returns the words of the answer, too, with room for the tool's result."""
    def values():
        i, back = rng.randrange(len(CONVERSIONS)), rng.random() < 0.35
        factor = CONVERSIONS[i][2]
        return (rng.randint(1, 60) * factor if back and rng.random() < 0.5
                else rng.randint(2, 500 if back else 99)), i, back

    n, i, back = drawn(rng, values, split)
    big, small, factor = CONVERSIONS[i]
    of, to, op = (small, big, "/") if back else (big, small, "*")
    forms = {"phrase": CONVERT_KEPT, "wider": CONVERT + CONVERT_WIDER}.get(split, CONVERT)
    said = rng.choice(forms).format(n=number(rng, n), of=of, to=to)
    result = plain(OPERATION[op](n, factor))
    return said, f'calculate(expr="{n}{op}{factor}")', result, f"{n} {of} are {result} {to}."


TOOL_INTENTS = {"alarm": (alarm, "set_alarm"), "timer": (timer, "set_timer"),
                "volume": (volume, "set_volume"), "app": (app, "open_app"),
                "note": (note, "add_note"), "phone": (phone, "call_contact"),
                "calc": (calculate, "calculate"), "units": (units, "calculate")}
FAILURES = ["not found", "not allowed", "no network", "busy", "no such contact", "no such app",
            "no sound device", "invalid time", "out of memory", "disk full"]


def tool_exchange(rng, intent, split, setting, wider=False):
    """Messages of one request: call, tool result and the spoken confirmation."""
    make, tool = TOOL_INTENTS[intent]
    said, command, *rest = make(rng, "wider" if wider else split)
    if setting.tools is not None and tool not in setting.tools:
        return [user(said), assistant(REFUSE_TOOL)]
    if rng.random() < 0.1 and split is None:
        why = rng.choice(FAILURES) if rng.random() < 0.5 else invented(rng, False) + " " + \
            rng.choice(KNOWN_WORDS)
        result, spoken = json.dumps({"error": why}), f"That did not work: {why}."
    elif tool == "calculate":
        spoken = f"The result is {rest[0]}." if intent == "calc" else rest[1]
        result = rest[0] if rng.random() < 0.25 else '{"result": %s}' % rest[0]
    else:
        spoken = rest[0]
        result = rng.choice(['{"ok": true}', '{"ok": true}', '{"ok": true}', "ok", "done",
                             '{"result": "ok"}'])
    return [user(said), assistant(call(command)), {"role": "tool", "content": result},
            assistant(spoken)]


# --- talk without tools -------------------------------------------------------------------------

SMALL_TALK = [
    (["Hello!", "Hi", "Hey there", "Good morning", "Good evening", "hello assistant", "Hi there!",
      "hello", "Good afternoon", "hey"], "Hello! How can I help you?"),
    (["Who are you?", "What is your name?", "what are you", "Tell me who you are.",
      "Introduce yourself.", "what's your name", "Are you a robot?"],
     "I am lfmd, a small assistant that runs on this computer."),
    (["Thank you!", "Thanks", "thanks a lot", "Thank you very much.", "Many thanks!", "thank you",
      "Great, thanks!"], "You are welcome."),
    (["Goodbye", "Bye", "See you later.", "Good night", "bye bye", "Goodbye!", "See you tomorrow."],
     "Goodbye! Have a nice day."),
    (["How are you?", "how are you doing", "How do you feel today?", "Are you well?",
      "How is it going?", "how are you today"], "I am fine, thank you."),
    (["What can you do?", "help", "How can you help me?", "What are your skills?",
      "What do you know?", "what can you help me with", "Help me."],
     "I can tell the time, calculate, convert units, set alarms and timers, change the volume, "
     "open apps, call people and take notes."),
    (["Where do you run?", "Are you in the cloud?", "Do you need the internet?", "Are you offline?",
      "Is my data private?", "Do you send my data away?"],
     "I run on your computer and need no network."),
    (["Tell me a joke.", "a joke please", "Do you know a joke?", "make me laugh", "Say something "
      "funny."], "Why did the computer sneeze? It had a virus."),
    (["How old are you?", "When were you made?", "Are you young?", "What is your age?"],
     "I am very young."),
    (["Who made you?", "Who built you?", "Where do you come from?", "Who created you?"],
     "I was trained from scratch by the lfmd project."),
    (["Are you big?", "How big are you?", "How many parameters do you have?", "Are you a large "
      "model?", "How large are you?"], "I am very small: about five million parameters."),
    (["Well done!", "You are great.", "I like you.", "Good job!", "Nice work", "good"],
     "Thank you! I am happy to help."),
    (["That was wrong.", "That is not right.", "no, that is wrong", "You made a mistake.",
      "Wrong!"], "I am sorry. Please tell me again."),
    (["ok", "okay", "All right.", "I see.", "Fine."], "What else can I do for you?"),
]


def small_talk(rng, split, setting):
    asked, answer = rng.choice(SMALL_TALK)
    return [user(rng.choice(asked)), assistant(answer)]


def clock(rng, split, setting):
    """Questions about the clock line of the system text; without one there is no answer."""
    kind = rng.choice(["clock", "clock", "weekday", "date", "tomorrow", "yesterday"])
    said = say(rng, kind, "", split)
    if setting.now is None:
        return [user(said), assistant(REFUSE_ANSWER)]
    day, date, month, year, hour, minute = setting.now
    answer = {"clock": f"It is {hour:02d}:{minute:02d}.", "weekday": f"Today is {DAYS[day]}.",
              "date": f"It is {date} {MONTHS[month]} {year}.",
              "tomorrow": f"Tomorrow is {DAYS[(day + 1) % 7]}.",
              "yesterday": f"Yesterday was {DAYS[(day - 1) % 7]}."}[kind]
    return [user(said), assistant(answer)]


ASKED = [  # questions outside the domain; the last ones are kept for the "phrase" split
    "Who was {person}?", "When was {person} born?", "What is the capital of {country}?",
    "How many people live in {city}?", "Why is the {nature} {quality}?", "Explain {topic}.",
    "Tell me about {topic}.", "What is the weather in {city}?", "What do you think about {topic}?",
    "Who is the president of {country}?", "How far is it to {city}?", "How does {topic} work?",
    "What is {topic}?", "Why do people like {topic}?", "How high is the {nature}?",
    "Where is {city}?", "Is {topic} important?", "What did {person} do?", "Who invented {topic}?",
    "What language do they speak in {country}?", "How old is {person}?", "When did {person} die?",
    "Will it rain in {city} tomorrow?", "What is the meaning of {topic}?",
    "How do I get to {city}?", "Is the {nature} {quality}?", "What happened in {country}?",
    "Do you like {topic}?", "Who is {person}?", "What is the best book about {topic}?",
    "Where does the {nature} come from?", "How is the weather?", "Will it rain tomorrow?",
    "What is the news today?", "Who won the game?", "What should I wear today?",
    "what is a {thing} made of", "how much does a {thing} cost", "Where can I buy a {thing}?"]
ASKED_KEPT = [
    "How many people speak the language of {country}?", "What do people in {city} like?",
    "Why does {person} like {topic}?", "When was {city} built?", "Where was {person} born?",
    "Who lives in {city}?", "How does the {nature} work?", "What is the best {thing}?"]
ORDERED = [
    "Write a poem about {topic}.", "Book a flight to {city}.", "Send an email to {name}.",
    "Translate this to {language}.", "Order a pizza.", "Write a story about {topic}.",
    "Draw a {thing}.", "Sing a song about {topic}.", "Buy me a {thing}.", "Play some {topic}.",
    "Turn on the light in the {room}.", "Close the door of the {room}.", "Teach me {language}.",
    "Make me a coffee.", "Clean the {room}.", "Delete all my files.", "Drive me to {city}.",
    "Write a letter to {name}.", "Send a message to {name}.", "Paint the {room} {colour}.",
    "Search for {topic}.", "Find a restaurant in {city}.", "Speak {language}.",
    "Book a room in {city}.", "Play the next song.", "Take a picture.", "Turn off the computer."]
ORDERED_KEPT = [
    "Book a table in {city}.", "Send a {thing} to {name}.", "Write an email about {topic}.",
    "Turn off the light in the {room}.", "Order a {thing} for me.", "Sing me a song."]
POLITE = ["", "", "", "", "please ", "can you ", "could you ", "hey, "]


def refusal(rng, split, setting):
    ask = rng.random() < 0.6
    forms = (ASKED_KEPT if split == "phrase" else ASKED) if ask else \
        (ORDERED_KEPT if split == "phrase" else ORDERED)

    def slot(closed, capital):
        if split == "word" or rng.random() < 0.3:
            return strange(rng, split, capital)
        return rng.choice(closed)

    while True:
        form = rng.choice(forms)
        if split != "word" or "{" in form:
            break
    said = form.format(
        person=slot(PEOPLE + NAMES, True), country=slot(COUNTRIES, True), city=slot(CITIES, True),
        topic=slot(TOPICS, False), nature=slot(THINGS_OF_NATURE, False), thing=slot(THINGS, False),
        quality=rng.choice(QUALITIES), name=slot(NAMES, True), language=slot(LANGUAGES, True),
        room=rng.choice(ROOMS), colour=rng.choice(COLOURS))
    polite = "" if ask else rng.choice(POLITE)
    if polite:
        said = polite + said[0].lower() + said[1:]
    if rng.random() < 0.3:
        said = (said[0].lower() if rng.random() < 0.7 else said[0]) + said[1:].rstrip(".?")
    return [user(said), assistant(REFUSE_ANSWER if ask else REFUSE_ACTION)]


def shapes(rng, split, setting):
    """A list of shapes and questions about it: the text form of the family's pictures."""
    def scene():
        return tuple((rng.choice(COLOURS), rng.choice(SHAPES), place)
                     for place in rng.sample(PLACES, rng.randint(1, 4)))

    listed = drawn(rng, scene, split)
    turns = []
    for _ in range(1 if split else rng.randint(1, 4)):
        colour, shape, place = rng.choice(listed)
        kind = rng.choice(["at", "at", "count", "colour", "where", "describe"])
        if kind == "where" and sum(s[:2] == (colour, shape) for s in listed) > 1:
            kind = "count"
        if kind == "at":
            asked = rng.choice(["What is in the {}?", "What do you see in the {}?",
                                "Which shape is in the {}?", "What colour is the shape in the {}?",
                                "{}?"]).format(place)
            answer = f"{place}: {colour} {shape}."
        elif kind == "count":
            asked = rng.choice(["How many shapes are there?", "Count the shapes."])
            answer = f"{len(listed)} shapes." if len(listed) > 1 else "1 shape."
        elif kind == "colour":
            n = sum(s[0] == colour for s in listed)
            asked = f"How many {colour} shapes are there?"
            answer = f"{n} {colour} shape{'s' if n > 1 else ''}."
        elif kind == "where":
            asked, answer = f"Where is the {colour} {shape}?", f"{colour} {shape}: {place}."
        else:
            ordered = sorted(listed, key=lambda s: PLACES.index(s[2]))
            asked = rng.choice(["Describe the picture.", "What do you see?"])
            answer = "; ".join(f"{p}: {c} {s}" for c, s, p in ordered) + "."
        turns += [user(asked), assistant(answer)]
    picture = "Picture: " + "; ".join(f"{p}: {c} {s}" for c, s, p in listed) + ". "
    turns[0]["content"] = picture + turns[0]["content"]
    return turns


# statement of one pair, joint between statements, opening, questions; the answer is the statement
RECALL_FORMS = {
    "price": ("{k} costs {v}", ", ", "Prices: ", [
        "How much is the {k}?", "What does {k} cost?", "What is the price of {k}?", "{k}?",
        "Tell me the price of {k}."
    ]),
    "phone": ("{k} has number {v}", ". ", "",
              ["What is the number of {k}?", "Which number has {k}?",
               "What number does {k} have?"]),
    "pair": ("{k}: {v}", "; ", "", ["{k}?", "What is {k}?", "Tell me {k}.",
                                    "What belongs to {k}?"]),
    "place": ("the {k} is in the {v}", ". ", "", [
        "Where is the {k}?", "In which room is the {k}?", "Where did I put the {k}?",
        "Where can I find the {k}?"
    ]),
    "owner": ("{k} has the {v}", ". ", "",
              ["What does {k} have?", "Which thing has {k}?", "What has {k}?"]),
}


def recall(rng, split, setting, pairs=None, questions=None, closed_words=0.55,
           forms=RECALL_FORMS):
    """A list of facts and questions about it; the answer repeats the fact that was asked for."""
    kind = rng.choice(list(forms))
    statement, joint, opening, asked = RECALL_FORMS[kind]
    n = pairs or rng.choice([1, 2, 2, 3, 3, 4, 4, 5, 6, 8])

    def pick(closed, capital=False):
        if split != "word" and rng.random() < closed_words:
            return rng.choice(closed)
        return invented(rng, split == "word", capital, 1, 2)

    def distinct(make):
        found = []
        while len(found) < n + 1:
            one = make()
            if one not in found:
                found.append(one)
        return found

    def digits():
        return str(rng.randint(0, rng.choice([9, 99, 999])))

    def facts():
        if kind == "price":
            keys, values = distinct(lambda: pick(ITEMS)), [digits() for _ in range(n)]
        elif kind == "phone":
            keys, values = distinct(lambda: pick(NAMES[:-4], True)), distinct(digits)
        elif kind == "pair":
            pool = COLOURS + SHAPES + THINGS + ITEMS
            keys, values = distinct(lambda: pick(pool)), [pick(pool) for _ in range(n)]
        elif kind == "place":
            keys, values = distinct(lambda: pick(THINGS)), [pick(ROOMS) for _ in range(n)]
        else:
            keys, values = distinct(lambda: pick(NAMES[:-4], True)), distinct(lambda: pick(THINGS))
        return tuple(keys), tuple(values[:n])

    keys, values = drawn(rng, facts, split)

    def sentence(text):
        return text[0].upper() + text[1:] if joint == ". " else text

    known = opening + joint.join(sentence(statement.format(k=k, v=v))
                                 for k, v in zip(keys, values)) + ". "
    turns = []
    for i in rng.sample(range(n), min(n, questions or (1 if split else rng.randint(1, 5)))):
        said = rng.choice(asked).format(k=keys[i])
        if rng.random() < 0.15:
            said = said.rstrip("?.")
        turns += [user(said), assistant(sentence(statement.format(k=keys[i], v=values[i])) + ".")]
    if split is None and rng.random() < 0.12:
        turns += [user(rng.choice(asked).format(k=keys[n])), assistant(REFUSE_ANSWER)]
    turns[0]["content"] = known + turns[0]["content"]
    return turns


def copy(rng, split, setting):
    def one():
        if split == "word" or rng.random() < 0.7:
            return strange(rng, split, rng.random() < 0.35)
        return rng.choice([rng.choice(KNOWN_WORDS), rng.choice(NAMES), str(rng.randint(0, 999))])

    turns = []
    for _ in range(1 if split else rng.randint(1, 3)):
        text = " ".join(one() for _ in range(rng.randint(1, 6)))
        turns += [user(rng.choice(["Repeat: {}", "Say {}", "Repeat after me: {}", "Say this: {}",
                                   "Please repeat: {}"]).format(text)), assistant(text)]
    return turns


TALK_INTENTS = {"small talk": small_talk, "clock": clock, "refusal": refusal, "shapes": shapes,
                "recall": recall, "copy": copy}
INTENTS = list(TOOL_INTENTS) + list(TALK_INTENTS)
WEIGHTS = {"alarm": 2, "timer": 2, "volume": 1.3, "app": 1.5, "note": 2, "phone": 1.5, "calc": 2.5,
           "units": 1.5, "small talk": 1, "clock": 2, "refusal": 2.2, "shapes": 1.5, "recall": 2.5,
           "copy": 1.2}


# --- conversations ------------------------------------------------------------------------------

def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


class Setting:
    """What the system turn of a conversation holds: the time, the tools, a free text.

    The tools stand in the order of the file unless `as_named` keeps that of their names.
    """

    def __init__(self, now=None, tools=None, text="", as_named=False):
        self.now, self.tools, self.text, self.as_named = now, tools, text, as_named

    def system(self):
        parts = [self.text] if self.text else []
        if self.now:
            day, date, month, year, hour, minute = self.now
            parts.append(f"Now: {DAYS[day]}, {date} {MONTHS[month]} {year}, "
                         f"{hour:02d}:{minute:02d}.")
        return "\n".join(parts)

    def tool_list(self):
        if self.as_named:
            return [TOOLS[TOOL_NAMES.index(name)] for name in self.tools]
        return [t for t in TOOLS if self.tools is not None and t["name"] in self.tools]


SYSTEM_TEXTS = ["You are a helpful assistant.", "You are a small assistant.", "Be brief.",
                "You are a voice assistant on a computer.", "Answer the user.",
                "You are lfmd, a small assistant that runs on this computer."]


def setting(rng, split=None, now=None, tools=None):
    """A random system turn; `now` and `tools` force or forbid a part of it."""
    def moment():
        return (rng.randrange(7), rng.randint(1, 31), rng.randrange(12), rng.randint(2024, 2035),
                rng.randint(0, 23), rng.randint(0, 59))

    if now is None:
        now = rng.random() < 0.6
    listed = None
    if tools or (tools is None and rng.random() < 0.18):
        listed = TOOL_NAMES if rng.random() < 0.7 else \
            rng.sample(TOOL_NAMES, rng.randint(1, len(TOOL_NAMES) - 1))
    text = rng.choice(SYSTEM_TEXTS) if rng.random() < 0.15 else ""
    return Setting(drawn(rng, moment, split) if now else None, listed, text)


def exchange(rng, intent, split, where, **options):
    if intent in TOOL_INTENTS:
        return tool_exchange(rng, intent, split, where, **options)
    return TALK_INTENTS[intent](rng, split, where, **options)


def conversation(rng):
    """One training conversation: intents, messages, setting."""
    where = setting(rng)
    if where.tools is not None:
        turns = rng.choice([1, 2, 3, 4, 5, 6, 8])  # a long system turn pays for several exchanges
    else:
        turns = rng.choices([1, 2, 3, 4, 5], [40, 25, 15, 12, 8])[0]
    intents = rng.choices(INTENTS, [WEIGHTS[i] for i in INTENTS], k=turns)
    messages = [m for intent in intents for m in exchange(rng, intent, None, where)]
    return intents, messages, where


def twins(rng):
    """The same requests under a list of tools and under the list of all others.

    What one of the two conversations answers by a call, the other declines. No tool is asked for
    twice, so that no reply can be taken from an earlier one.
    """
    names = rng.sample(TOOL_NAMES, len(TOOL_NAMES))
    cut, as_named = rng.randint(1, len(names)), rng.random() < 0.5
    intents = [rng.choice([i for i, (_, tool) in TOOL_INTENTS.items() if tool == name])
               for name in rng.sample(names, rng.randint(2, len(names)))]
    seeds = [rng.random() for _ in intents]
    base = setting(rng, tools=False)
    pair = []
    for listed in filter(None, (names[:cut], names[cut:])):
        where = Setting(base.now, listed, base.text, as_named)
        pair.append((intents, [m for intent, seed in zip(intents, seeds) for m in exchange(
            random.Random(seed), intent, None, where, wider=True)], where))
    return pair


LONG_FORMS = ["place", "phone", "place", "phone", "price", "pair", "owner"]  # hard ones twice


def long_recall(rng):
    """A list of up to twelve facts, mostly of invented words, and several questions about it."""
    where = setting(rng, tools=False)
    before = rng.choices(INTENTS, [WEIGHTS[i] for i in INTENTS], k=rng.choice([0, 0, 0, 1]))
    messages = [m for intent in before for m in exchange(rng, intent, None, where)]
    messages += recall(rng, None, where, pairs=rng.randint(2, 12), questions=rng.randint(3, 8),
                       closed_words=rng.choice([0.0, 0.3, 0.55]), forms=LONG_FORMS)
    return before + ["recall"], messages, where


WEAK = ["app", "units", "shapes", "phone", "timer", "note"]  # least sure with the broad mixture


def weak_intents(rng):
    where = setting(rng, tools=False)
    intents = rng.choices(WEAK, [3, 3, 3, 1, 1, 1], k=rng.randint(1, 3))
    return intents, [m for intent in intents for m in exchange(
        rng, intent, None, where, **({"wider": True} if intent in TOOL_INTENTS else {}))], where


def focused(rng):
    """Conversations of the second mixture: what the broad one teaches too little of."""
    kind = rng.choices(["broad", "tools", "recall", "weak"], [20, 28, 42, 10])[0]
    if kind == "tools":
        return twins(rng)
    return [{"broad": conversation, "recall": long_recall, "weak": weak_intents}[kind](rng)]


MIXTURES = {"broad": lambda rng: [conversation(rng)], "focused": focused}


def render(messages, where):
    """The LFM2.5 chat form as (text, is_learnt) parts."""
    system = where.system()
    if where.tools is not None and where.tool_list():
        listed = ", ".join(json.dumps(t, ensure_ascii=False) for t in where.tool_list())
        system += ("\n" if system else "") + f"List of tools: [{listed}]"
    parts = ["<|startoftext|>"]
    if system:
        parts[0] += f"<|im_start|>system\n{system}<|im_end|>\n"
    learnt = [False]
    for m in messages:
        if m["role"] == "assistant":
            parts[-1] += "<|im_start|>assistant\n"
            parts += [m["content"] + "<|im_end|>", "\n"]
            learnt += [True, False]
        else:
            parts[-1] += f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n"
    return list(zip(parts, learnt))
