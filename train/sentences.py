# SPDX-License-Identifier: MIT
"""Sentences to be spoken: lower-case words alone, numbers spelled out.

Half of them are requests and answers of `data`; a grammar puts every common word into many
neighbourhoods, since a recogniser that knows a word from one phrase only does not know it at all;
the rest are words, numbers and invented words in any order. A sentence of four words or more whose
checksum says so is never drawn for training: split "test" is made of those. The splits of `data`
go through, too.
"""

import random
import re

import data
import words as lists
from words import bucket, in_words, invented

HELD_OUT = 16  # one sentence in so many


def numeral(n):
    """English numeral of 0..999999."""
    if n < 100:
        return in_words(n)
    if n < 1000:
        return in_words(n // 100) + " hundred" + (" " + in_words(n % 100) if n % 100 else "")
    return numeral(n // 1000) + " thousand" + (" " + numeral(n % 1000) if n % 1000 else "")


def number_said(text):
    if len(text) > 6 or (len(text) > 1 and text[0] == "0"):
        return " ".join(in_words(int(digit)) for digit in text)
    n = int(text)
    if 2000 < n < 2100 and len(text) == 4:
        return "twenty " + ("oh " if n % 100 < 10 else "") + in_words(n % 100)
    return numeral(n)


def time_said(match):
    hour, minute = in_words(int(match[1])), int(match[2])
    if minute:
        return f"{hour} {'oh ' if minute < 10 else ''}{in_words(minute)} "
    return hour + (" " if match[3] else " o'clock ")


NUMERALS = "|".join(lists.UNITS + lists.TENS[2:])


def spoken(text):
    """The words that a person says for a written text."""
    text = text.lower()
    text = re.sub(r"\b(\d{1,2}):(\d\d)\b *([ap]m\b)?",
                  lambda m: time_said(m) + (m[3] or ""), text)
    text = re.sub(rf"(\d|\b(?:{NUMERALS})\b) *([ap])m\b", r"\1 \2 m", text)
    text = text.replace("%", " percent ").replace("+", " plus ")
    text = re.sub(r"(?<=\d) ?[*x] ?(?=\d)", " times ", text)
    text = re.sub(r"(?<=\w) - (?=\w)|(?<=\d)-(?=\d)", " minus ", text)
    text = re.sub(r"(?<=\w) ?/ ?(?=\w)", " divided by ", text)
    text = re.sub(r"(?<=\d)\.(\d+)", lambda m: " point " + " ".join(m[1]), text)
    text = re.sub(r"\d+", lambda m: f" {number_said(m[0])} ", text)
    return " ".join(re.sub(r"[^a-z' ]", " ", text).split())


# --- the grammar --------------------------------------------------------------------------------

RULES = {name: [form.strip() for form in forms.split("|")] for name, forms in {
    "sentence": """{who} {can} {do} {where}|{who} {can} not {do} {when}|{can} {who} {do} {when}
        |{who} {did} {np} {where}|{who} {did} it {when}|did {who} {act} {np} {when}
        |{who} {want} to {do} {when}|{who} {want} {np} {when}|{please} {do} {where}
        |{do} and {do}|do not {do} {where}|let us {do} {when}|{np} {be} {where}
        |{np} {be} {adverb} {quality}|{np} {be} {quality} {because} {who} {did} it
        |there {be} {many} {nouns} {where}|{be} there {np} {where}|{be} {np} {quality} {when}
        |how many {nouns} {be} {where}|how much {stuff} {can} {who} {act} {when}|where {be} {np}
        |where can {who} {act} {np}|what {be} {np} made of|what {can} {who} {do2} {when}
        |why {be} {np} so {quality}|why did {who} {act} {np}|when {can} {who} {do}
        |when {be} {event}|who {did} {np} {when}|who {be} {where}|which {noun} {be} {quality}
        |which {nouns} do {who} {like} {when}|whose {noun} {be} this|how do {who} {do}
        |how {quality} {be} {np}|if {who} {did} it {who} {can} {do}
        |{who} {think} that {np} {be} {quality}|{who} {think} {who} {can} {do}
        |{who} {be} going to {do} {when}|{who} {be} {doing} {np} {where}
        |{who} {have} {never} {been} {where}|{person} and {person} {did} {np} {when}
        |tell {person} that {who} {can} {do}|ask {person} to {do} {when}
        |remind {whom} to {do} {when}|show {whom} {np}|give {whom} {np} {when}
        |wake {whom} up {when}|{event} {be} {when}|{event} {be} at {hour}|it {be} {hour}
        |it {be} {adverb} {quality} {when}|{hour} {when} please|yes {who} {can} {do}
        |no {who} {can} not {do}|thank you for {np}|well {sentence}
        |oh {who} {did} not {act} {np}|sorry {who} {can} not {do}
        |{who} {like} {stuff} and {stuff}|{who} {like} {nouns} more than {nouns}|{np} or {np}
        |{np} with {np}|{np} of {whom}|{who} {did} {np} for {number} {units}
        |in {number} {units} {who} {can} {do}|{number} {nouns} and {number} {nouns}
        |{number} {op} {number}|from {hour} to {hour}|set {it} to {number}|turn {it} {updown}
        |turn {updown} {np}|put {np} {where}|every {day} {who} {do}|on {day} {who} {can} {do}
        |{event} {be} on {day}|{number} {month}|on the {ordinal} of {month}|{name} {did} {np}
        |hello {name} {sentence}|{who} {call} {name} {when}|is this {quality} or {quality}
        |both {nouns} {be} {quality}""",
    "who": """i|i|i|you|you|we|they|he|she|it|{person}|{person}|{np}|someone|everyone|nobody
        |my {kin}|your {kin}|our {people}|the {people}""",
    "whom": "me|me|me|you|us|him|her|them|{person}|my {kin}|the {people}",
    "person": "{name}|{name}|my {kin}|his {kin}|her {kin}|a friend|the {role}",
    "kin": """mother|father|sister|brother|friend|wife|husband|son|daughter|uncle|aunt|boss
        |family|neighbour|cousin|mum|dad|grandma|grandpa""",
    "role": "doctor|teacher|driver|dentist|plumber|manager|student|child|man|woman|boy|girl|police",
    "people": "people|children|men|women|friends|parents|kids|others|guests|team|students",
    "can": """can|could|will|would|should|must|may|might|do|did|have to|used to|do not|will not
        |would not""",
    "be": "is|is|are|was|were|will be|is not|are not|was not|may be|must be|can be",
    "been": "been|lived|worked|stayed|waited",
    "have": "have|has|had",
    "never": "never|always|often|already|just|not|only",
    "want": """want|need|like|have|would like|am going|are going|forgot|decided|hope|plan|try
        |started|wanted|needed|wants|needs|do not want|used""",
    "like": "like|love|want|need|prefer|hate|know|buy|use|see|remember|do not like",
    "think": "think|know|believe|hope|say|said|thought|feel|heard|guess|am sure|do not think",
    "call": "call|called|will call|can call|meet|met|saw|want to see|talk to|talked with|asked",
    "because": "because|when|if|but|and|so|before|after|while|until|since|although",
    "adverb": "very|really|too|quite|so|not|still|almost|always|never|often|more|much more|rather",
    "please": "please|now|can you|could you|i want you to|would you|you should|just|then|first",
    "do": """{act} {np}|{act} {np}|{act} {it}|{act} {stuff}|{do2}|{do2} {where}|talk to {person}
        |wait for {whom}|look at {np}|listen to {stuff}|think about {np}|go to {place}
        |come {where}|speak with {person}|help {whom}|ask {whom} about {np}|tell {whom} {when}
        |give {whom} {np}|make sure {who} {can} {do2}|pick up {np}|turn {updown} {np}
        |write down {np}|be {quality}|get up {when}|sit down|stand up|wake up {when}
        |work on {np}|play with {np}|pay for {np}|remind {whom} {when}|let {whom} {do2}
        |keep {np} {quality}|read about {topic}""",
    "do2": """go|come|wait|sleep|eat|drink|work|read|write|run|walk|sing|play|rest|stop|start
        |leave|help|learn|travel|drive|cook|dance|listen|talk|speak|think|stay|begin|finish|swim
        |move|try|go home|come back|go out|come in|hurry|stay here""",
    "act": """open|close|start|stop|find|get|give|take|make|put|keep|hold|bring|buy|sell|send
        |show|call|need|want|like|know|see|hear|read|write|play|watch|learn|use|try|move|change
        |set|check|clean|cook|eat|drink|wash|fix|build|break|cut|draw|paint|count|pay|save|win
        |lose|choose|carry|drop|pull|push|throw|catch|follow|leave|meet|visit|join|remember
        |forget|understand|explain|answer|repeat|finish|copy|print|share|delete|search|book
        |order|order|return|collect|pack|feed|water|charge|record|launch|run|load|switch|create
        |cancel|add|remove|raise|lower|adjust|compute|solve|note|mute|phone|ring|dial|contact
        |reach|remind|convert|lock|fill|hide|test""",
    "did": """opened|closed|started|stopped|found|got|gave|took|made|put|kept|brought|bought
        |sold|sent|showed|told|asked|called|needed|wanted|liked|loved|knew|saw|heard|read|wrote
        |played|watched|learned|used|tried|moved|changed|set|checked|cleaned|cooked|ate|drank
        |washed|fixed|built|broke|cut|drew|painted|counted|paid|saved|won|lost|chose|carried
        |dropped|left|met|visited|forgot|remembered|finished|has|had|have|has seen|have taken
        |does not have|did not see|knows|wants""",
    "doing": """opening|closing|looking for|talking about|waiting for|making|reading|writing
        |playing|watching|using|cleaning|cooking|eating|drinking|fixing|building|buying
        |working on|thinking of|listening to|trying|learning|counting|moving|calling|leaving""",
    "np": """{det} {noun}|{det} {noun}|{det} {quality} {noun}|{det} {quality} {noun}
        |{many} {nouns}|{det} {colour} {noun}|{noun} {number}|{det} {noun} {where}|all {nouns}
        |{det} {event}|{det} {room}|it|this|that|something|everything|nothing|one of the {nouns}
        |{app}""",
    "it": """it|it|this|that|them|the volume|the sound|the light|the timer|the alarm|the music
        |the radio""",
    "det": "the|the|the|a|a|my|your|his|her|our|their|this|that|another|each|every|some|any|no",
    "many": """many|some|two|three|four|five|six|seven|eight|nine|ten|no|these|those|few|more
        |several|a lot of""",
    "noun": """{thing}|{thing}|{item}|house|door|window|table|bed|wall|floor|garden|street|road
        |city|town|school|office|shop|train|bus|plane|boat|bike|car|computer|screen|picture
        |photo|video|song|movie|music|story|word|letter|email|message|number|name|list|note|page
        |paper|question|answer|idea|problem|reason|way|day|week|month|year|hour|minute|time
        |morning|evening|night|dog|cat|bird|horse|animal|tree|flower|garden|river|lake|mountain
        |sea|sun|moon|star|rain|snow|wind|weather|world|country|language|game|job|money|price
        |bill|ticket|passport|meal|breakfast|lunch|dinner|kitchen|head|hand|face|eye|foot|heart
        |body|dress|coat|shirt|file|app|program|button|battery|network|camera|printer|calendar
        |map|alarm|timer|volume|circle|square|triangle|point|line|side|part|place|end|call
        |meeting|report|plan|test|class|code|thing|joke|poem|mistake|contact|device""",
    "nouns": """{item}|keys|lamps|bags|phones|rings|coins|hats|cups|boxes|pens|maps|watches
        |shoes|bottles|clocks|chairs|houses|doors|windows|tables|cars|trains|pictures|songs
        |movies|stories|words|letters|messages|numbers|names|lists|notes|pages|questions|answers
        |ideas|problems|days|weeks|months|years|hours|minutes|dogs|cats|birds|trees|flowers
        |games|jobs|tickets|files|apps|shapes|circles|squares|triangles|stars|people|children
        |things|places|calls|meetings|friends|hands|eyes""",
    "stuff": """{item}|{item}|{topic}|{topic}|water|food|music|money|time|news|paper|help|work
        |nothing""",
    "quality": """good|bad|big|small|new|old|long|short|high|low|hot|cold|warm|fast|slow|early
        |late|easy|hard|heavy|light|dark|bright|clean|dirty|full|empty|open|closed|free|busy
        |ready|right|wrong|happy|sad|tired|hungry|young|strong|weak|rich|poor|cheap|safe|nice
        |great|fine|beautiful|important|different|same|other|next|last|first|best|better|worse
        |loud|quiet|wet|dry|soft|sweet|strange|simple|special|funny|serious|clear|round|deep
        |wide|whole|real|true|sure|possible|{colour}""",
    "where": """||{prep} the {room}|{prep} the {room}|{prep} {det} {noun}|at home|at work
        |at school|here|there|outside|inside|upstairs|in {city}|in {country}|from {city}
        |to {place}|on the left|on the right|at the top|at the bottom|top left|bottom right
        |everywhere|with {person}|for {person}|from {person}|next to {np}""",
    "prep": """in|in|on|at|under|behind|near|from|to|into|with|without|by|over|around|through
        |against|between""",
    "place": """the {room}|school|work|bed|{city}|{country}|the shop|the doctor|the station|town
        |the {noun}""",
    "when": """||today|tomorrow|tonight|yesterday|now|soon|later|again|this {part}|next {period}
        |last {period}|on {day}|every {period}|in {number} {units}|for {number} {units}
        |at {hour}|at noon|in {month}|in the {part}|before {event}|after {event}|all day
        |right now|at once|once|twice""",
    "part": "morning|afternoon|evening|night|weekend|time|summer|winter",
    "period": "week|month|year|day|time|{day}|night|morning|summer",
    "event": """lunch|dinner|breakfast|the meeting|the party|school|work|the game|the trip|class
        |the call""",
    "hour": """{small}|{small} o'clock|{small} thirty|{small} fifteen|{small} {number}
        |half past {small}|quarter past {small}|quarter to {small}|{small} a m|{small} p m
        |{small} {number} a m|{small} {number} p m|{number} {number}|{small} oh {small}|noon
        |midnight""",
    "units": """seconds|seconds|minutes|minutes|hours|hours|days|weeks|months|years|percent
        |meters|grams""",
    "op": "plus|minus|times|divided by|and|or|percent of|point",
    "updown": "on|off|up|down|left|right|over|around",
    "ordinal": "first|second|third|fourth|fifth|sixth|seventh|tenth|twelfth|twentieth",
}.items()}
CLOSED = {
    "name": lists.NAMES + lists.PEOPLE, "thing": lists.THINGS, "item": lists.ITEMS,
    "colour": lists.COLOURS, "room": lists.ROOMS, "city": lists.CITIES, "app": lists.APPS,
    "country": lists.COUNTRIES, "topic": lists.TOPICS + lists.LANGUAGES, "day": lists.DAYS,
    "month": lists.MONTHS, "small": lists.UNITS[1:13]}


def grown(rng, name="sentence"):
    """A text of the grammar."""
    if name == "number":
        return numeral(rng.randint(0, rng.choice([12, 20, 59, 99, 99, 99, 999])))
    if name in CLOSED:
        return rng.choice(CLOSED[name]).lower()
    return re.sub(r"{(\w+)}", lambda m: grown(rng, m[1]), rng.choice(RULES[name]))


def known_words():
    """Words that sentences are made of, besides invented ones and the kept ones of the lists."""
    texts = [form for forms in RULES.values() for form in forms]
    texts += [word for closed in CLOSED.values() for word in closed]
    texts += [form for known, kept in data.PHRASES.values() for form in known + kept]
    texts += [form for forms in data.WIDER.values() for form in forms]
    texts += data.PREFIXES + data.SUFFIXES + data.ASKED + data.ASKED_KEPT + data.ORDERED + \
        data.ORDERED_KEPT + data.CONVERT + data.CONVERT_KEPT + data.CONVERT_WIDER
    texts += [word for asked, answer in data.SMALL_TALK for word in asked + [answer]]
    texts += data.KNOWN_WORDS + lists.WHEN + lists.THINGS_OF_NATURE + lists.QUALITIES
    texts += [unit for pair in data.CONVERSIONS for unit in pair[:2]]
    texts += [data.REFUSE_ANSWER, data.REFUSE_ACTION, data.REFUSE_TOOL, "that did not work"]
    texts += lists.UNITS + lists.TENS[2:] + ["hundred", "thousand", "oh", "a", "m", "p", "o'clock"]
    texts += ["half a quarter an hour maximum silence full all the way"]
    return frozenset(spoken(re.sub(r"{\w*}", " ", " ".join(texts))).split())


KNOWN = known_words()
MANY = sorted(KNOWN)
FIXED = frozenset(map(spoken, [data.REFUSE_ANSWER, data.REFUSE_ACTION, data.REFUSE_TOOL] + [
    text for asked, answer in data.SMALL_TALK for text in asked + [answer]]))
FOCUS = {"value": ["alarm", "timer", "volume", "calc", "units"], "word": ["app", "phone", "note"]}
DOMAIN = list(data.TOOL_INTENTS) + ["small talk", "clock", "refusal", "copy"]


def dialogue(rng, split, answer):
    """The request, or the last answer, of one exchange of `data`."""
    intent = rng.choices(DOMAIN, [data.WEIGHTS[i] for i in DOMAIN])[0]
    if split in FOCUS:
        intent = rng.choice(FOCUS[split])
    where = data.setting(rng, None, now=True, tools=False)
    messages = data.exchange(rng, intent, split, where,
                             **({"wider": not split} if intent in data.TOOL_INTENTS else {}))
    return spoken(messages[-1 if answer else 0]["content"])


def loose(rng):
    """Words in any order: common ones, numbers, some invented."""
    style, out = rng.random(), []
    for _ in range(rng.randint(1, 6)):
        if style < 0.2:
            out.append(grown(rng, "number"))
        elif style < 0.35:
            out.append(invented(rng, False, False, 1, 2))
        else:
            out.append(rng.choice(MANY))
    return " ".join(out)


def draw(rng, split):
    if split not in (None, "test"):
        return dialogue(rng, split, False)
    kind = rng.choices(["request", "answer", "grammar", "loose"], [40, 10, 35, 15])[0]
    if kind == "loose":
        return loose(rng)
    if kind == "grammar":
        return spoken(grown(rng))
    text = dialogue(rng, None, kind == "answer")
    while rng.random() < 0.7 and not KNOWN.issuperset(text.split()):
        text = dialogue(rng, None, kind == "answer")
    return text


def is_held_out(text):
    return text.count(" ") > 2 and text not in FIXED and bucket(text, HELD_OUT) == 0


def sentence(rng, split=None, longest=16):
    """One sentence of at most `longest` words."""
    while True:
        text = draw(rng, split)
        if 0 < text.count(" ") + 1 <= longest and (split not in (None, "test") or
                                                   is_held_out(text) == (split == "test")):
            return text


if __name__ == "__main__":
    for seed in range(40):
        print(sentence(random.Random(seed)))
