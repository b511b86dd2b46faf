# SPDX-License-Identifier: MIT
"""An MCP server over stdio for the tests: `add` and `whoami`, on two pages. As `python3
mcp_server.py HOW` it misbehaves in the way of that name.
"""
import json
import os
import random
import sys
import threading
import time

how = sys.argv[1] if len(sys.argv) > 1 else ""
out = sys.stdout.buffer
chance = random.Random(os.environ.get("SEED"))


def send(message):
    line = bytearray(json.dumps(dict(message, jsonrpc="2.0")).encode() + b"\n")
    for _ in range(chance.randint(0, 2) if how == "changes bytes" else 0):
        at = chance.randrange(len(line))
        line[at:at + chance.choice((0, 1, 1, 4))] = chance.choice(
            (b"", b"{", b"]", b'"', b"\n", b"\\u0000", b"\xff", b"\0", b"1e999", b"null", b":",
             b"9" * 30, b"[" * 50, b"-1"))
    out.write(line)
    out.flush()


def forever(data):
    while True:
        out.write(data)


complained = 0  # bytes


def complain():
    global complained
    while True:
        complained += os.write(2, b"oh dear\n" * 512)


def tool(name, description, **properties):
    return {"name": name, "description": description,
            "inputSchema": {"type": "object", "properties": properties,
                            "required": list(properties)}}


ADD = tool("add", "Add two numbers.", a={"type": "number"}, b={"type": "number"})
WHOAMI = tool("who.am-i", "Tell the environment.")


def initialize(params):
    if how == "hangs":
        time.sleep(3600)
    if how == "dies":
        sys.exit("the disk is on fire")
    if how == "sends empty lines":
        forever(b"\n" * 65536)
    if how == "floods":
        forever(b'{"jsonrpc": "2.0", "method": "notifications/message", "params": {}}\n' * 100)
    if how == "never ends a line":
        forever(b"x" * 65536)
    if how == "speaks rubbish":
        out.write(bytes(range(256)) * 10 + b"\n{}\n[]\n1\n\"x\"\n{\"id\": 999}\n" + b"[" * 5000 +
                  b"\n")
        out.flush()
    if how == "closes":
        os.close(1)
        time.sleep(3600)
    assert params["clientInfo"]["name"] == "lfmd" and params["protocolVersion"]
    return {"protocolVersion": "1999-01-01" if how == "is old" else "2025-06-18",
            "capabilities": {} if how == "has no tools" else {"tools": {"listChanged": True}},
            "serverInfo": {"name": "test", "version": "1"}}


def tools_list(params):
    if how == "lists nothing":
        return {"tools": "none"}
    if how == "lists without end":
        return {"tools": [tool("t%d" % int(params.get("cursor", 0)), "x")],
                "nextCursor": str(int(params.get("cursor", 0)) + 1)}
    if how == "lists oddly":
        return {"tools": [None, 7, {}, {"name": "a" * 500}, {"name": "../x"}, {"name": "ok"},
                          {"name": "ok"},
                          {"name": "arr", "inputSchema": []},
                          {"name": "str", "inputSchema": {"type": "string"}},
                          tool("dash", "x", **{"max-results": {}}),
                          tool("big", "\x1b[31m\u202ered", a={"enum": ["x" * 9000]}),
                          {"name": "self", "description": "\x1b[31m\u202ered", "inputSchema": {
                              "type": "object", "properties": {"a": {"$ref": "#"},
                                                               "b": {"$ref": "#/properties/b"}}}}]}
    if how == "changes":
        return {"tools": [dict(ADD, description="Add two numbers. Now differently: %s" %
                               os.environ["TAG"])]}
    if "cursor" in params:
        return {"tools": [WHOAMI]}
    return {"tools": [ADD], "nextCursor": "2"}


def tools_call(params):
    if how == "hangs in a call":
        time.sleep(3600)
    if how == "dies in a call":
        os.kill(os.getpid(), 9)
    if how == "answers in too long a line":
        return {"content": [{"type": "text", "text": "x" * (2 << 20)}]}
    if how == "answers much":
        return {"content": [{"type": "text", "text": "\u00e4" * 100000}]}
    if how == "answers others":
        for number in (0, -1, 99, "1", None, [], 2**70):
            send({"id": number, "result": {"content": [{"type": "text", "text": "wrong"}]}})
    if how == "answers oddly":
        return {"content": [None, 1, {}, {"type": "image", "data": "AAAA"}, {"type": 3},
                            {"type": "text"},
                            {"type": "resource", "resource": {"text": "\x07bell"}}]}
    if how == "answers with text":
        return "text"
    if how == "complains without end":
        threading.Thread(target=complain, daemon=True).start()
        time.sleep(0.5)
        return {"content": [{"type": "text", "text": str(complained)}]}
    if how == "fails":
        return {"isError": True, "content": [{"type": "text", "text": "no such number"}]}
    if params["name"] == "who.am-i":
        return {"content": [{"type": "text", "text": json.dumps(dict(os.environ))}]}
    return {"content": [{"type": "text",
                         "text": str(params["arguments"]["a"] + params["arguments"]["b"])}]}


def main():
    print("ready for you", file=sys.stderr)
    if not how:
        send({"id": "mine", "method": "ping"})
        send({"id": 2, "method": "sampling/createMessage", "params": {}})
        send({"method": "notifications/message", "params": {"level": "info", "data": "hello"}})
    for line in sys.stdin:
        message = json.loads(line)
        if "method" not in message:  # answers to our own requests
            if message["id"] == "mine":
                assert message["result"] == {}, message
            else:
                assert message["error"]["code"] == -32601, message
        elif "id" in message:
            run = {"initialize": initialize, "tools/list": tools_list,
                   "tools/call": tools_call}[message["method"]]
            result = run(message["params"])
            if how == "refuses" and run is tools_call:
                send({"id": message["id"], "error": {"code": -32000, "message": "not today"}})
            else:
                send({"id": message["id"], "result": result})


main()
