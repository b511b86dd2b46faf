# SPDX-License-Identifier: MIT
"""Closed word lists and the generator of invented words.

An invented word is a chain of syllables. Whether it may occur in training or is kept for the test
of unseen words is decided by its checksum, so the two sets cannot meet whatever the seed is.
"""

import zlib

NAMES = """Anna Ben Clara David Emma Frank Grace Henry Ivy Jack Kate Leo Maria Noah Olivia Paul
Quinn Rosa Sam Tina Uma Victor Wendy Xavier Yara Zoe Adam Bella Carl Diana Eric Fiona Peter Julia
Thomas Lena Max Sarah Tom Lucy mum dad grandma grandpa""".split()
APPS = """Firefox Files Terminal Calculator Calendar Music Photos Settings Mail Maps Camera Notes
Clock Contacts Weather Videos Downloads Editor Browser Chat Games Monitor Printer Radio""".split()
# Real words that the training data never contains.
NEVER = """Paint Recorder Podcasts Blender Krita Inkscape Kevin Laura Nadia Oscar Sophie Martin
Helga Igor Skype Zoom Spotify Thunderbird Evolution Builder Stefan Marta Ingrid Walter""".split()
ITEMS = """milk bread eggs apples cheese coffee tea rice pasta soap paper batteries flowers honey
butter tomatoes potatoes onions carrots bananas oranges juice water salt sugar flour fish chicken
shoes shirts books candles plates""".split()
VERBS = "buy get find bring sell collect order return take check pick wash pack".split()
TASKS = """call the doctor|pay the rent|water the plants|feed the cat|walk the dog|send the report
|book the train|clean the kitchen|wash the car|visit grandma|read the book|fix the bike
|write the letter|return the parcel|meet Anna|pick up the children|go to the dentist|do the laundry
|finish the homework|charge the phone|change the bed|renew the passport|bake a cake
|ask Ben about the trip|take out the rubbish|call mum|check the heating|print the tickets
|practice the piano|back up the computer""".replace("\n", "").split("|")
WHEN = ["", "", "", " today", " tomorrow", " tonight", " this evening", " next week"]
COLOURS = "red green blue yellow orange purple black white".split()
SHAPES = "circle square triangle star".split()
PLACES = ["top left", "top right", "bottom left", "bottom right"]
UNITS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
fifteen sixteen seventeen eighteen nineteen""".split()
TENS = "x x twenty thirty forty fifty sixty seventy eighty ninety".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = """January February March April May June July August September October November
December""".split()
ROOMS = "kitchen garden office cellar garage bedroom bathroom hall attic balcony".split()
THINGS = """key lamp bag book phone ring coin ball hat cup box pen map watch shoe bottle knife rope
clock chair""".split()
COUNTRIES = """France Spain Italy Germany Poland Norway Japan China India Brazil Canada Egypt Kenya
Peru Chile Cuba Greece Turkey Iran Mexico""".split()
CITIES = """Paris Rome Berlin London Madrid Vienna Tokyo Oslo Lisbon Dublin Athens Cairo Lima Boston
Moscow Prague""".split()
PEOPLE = """Einstein Newton Mozart Beethoven Picasso Shakespeare Napoleon Darwin Galileo Bach
Cleopatra Caesar Goethe Gandhi Tesla Curie""".split()
TOPICS = """football|history|chess|art|physics|chemistry|biology|philosophy|politics|economics
|love|war|money|dinosaurs|volcanoes|planets|whales|dragons|robots|poetry|opera|evolution|electricity
|gravity|the moon|the sun|the sea|black holes|ancient Rome|the climate|medicine|cooking|religion
|the stock market|bees|wine|jazz|computers|cars|trees""".replace("\n", "").split("|")
THINGS_OF_NATURE = """sky sea grass snow fire moon sun rain wind ice desert forest mountain river
sand gold iron glass blood""".split()
QUALITIES = "blue green cold hot white dark deep high old big small round heavy hard fast".split()
LANGUAGES = "French German Spanish Italian Russian Latin Greek Polish Dutch Turkish".split()

ONSET = "b c d f g h j k l m n p r s t v w z br ch cl dr fl gr kl pr sh st tr th".split()
NUCLEUS = "a e i o u a e i o ai ea oo ou ie".split()
CODA = ["", "", "", "n", "r", "s", "l", "m", "t", "k", "nd", "rt", "x", "ck", "st"]


def bucket(value, of):
    """Stable hash of a value: the same on every machine and in every run."""
    return zlib.crc32(repr(value).encode()) % of


def invented(rng, unseen, capital=False, low=1, high=3):
    """A word of low..high syllables from the training or from the test set."""
    while True:
        word = "".join(rng.choice(ONSET) + rng.choice(NUCLEUS) + rng.choice(CODA)
                       for _ in range(rng.randint(low, high)))
        if len(word) > 2 and (bucket(word, 10) == 0) == unseen:
            return word.capitalize() if capital else word


def in_words(n):
    """English numeral below one hundred, digits above."""
    if n < 20:
        return UNITS[n]
    if n < 100:
        return TENS[n // 10] + ("" if n % 10 == 0 else " " + UNITS[n % 10])
    return str(n)
