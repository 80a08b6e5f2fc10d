#!/usr/bin/env python3
"""A worker for Kapelle, of the standard library alone: it does the work of the agent `shout`.

    worker.py [URL]

KAPELLE_KEY is its key, where the server asks for one; LEASE says how long it may be silent.
"""
import http.client, json, os, sys, threading, time, urllib.error, urllib.request

URL = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:4700"
HEADERS = {"Content-Type": "application/json"}
if "KAPELLE_KEY" in os.environ:
    HEADERS["Authorization"] = "Bearer " + os.environ["KAPELLE_KEY"]


class Gone(Exception):
    """The attempt is not this worker's any more."""


def ask(method, path, body=None):
    """A request, made again while the server is away or asks for a moment: all of them may be repeated."""
    data = None if body is None else json.dumps(body).encode()
    while True:
        try:
            request = urllib.request.Request(URL + path, data, HEADERS, method=method)
            with urllib.request.urlopen(request, timeout=90) as answer:
                return json.loads(answer.read() or "null")
        except urllib.error.HTTPError as error:
            if error.code == 409:
                raise Gone(json.load(error)["detail"])
            if error.code not in (429, 503):
                raise
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.1)


def beat(work, over, unwanted):
    """Says that the worker lives, until the work is over."""
    while not over.wait(work["lease_ms"] / 3000):
        try:
            if ask("POST", f"/attempts/{work['attempt']}/heartbeat", {})["cancel"]:
                unwanted.set()
        except Gone:
            return unwanted.set()


def perform(work, unwanted):
    """The work itself; `work["key"]` is for whoever takes one outside."""
    unwanted.wait(work["input"].get("seconds", 0))
    return work["input"]["text"].upper()


def main():
    lease = os.environ.get("LEASE", "30s")
    ask("POST", "/agents", {"name": "shout", "description": "says it loudly", "lease": lease})
    while True:
        work = ask("GET", "/agents/shout/work?wait=30s")
        if work is None:
            continue
        print("working on", work["attempt"], flush=True)
        over, unwanted = threading.Event(), threading.Event()
        threading.Thread(target=beat, args=(work, over, unwanted), daemon=True).start()
        try:
            output = perform(work, unwanted)
            if unwanted.is_set():
                word, body = "fail", {"kind": "cancelled", "message": "it is not wanted any more"}
            else:
                word, body = "complete", {"output": output}
            ask("POST", f"/attempts/{work['attempt']}/{word}", body)
            print(word, work["attempt"], flush=True)
        except Gone as why:
            print("dropped", work["attempt"], why, flush=True)
        finally:
            over.set()


main()
